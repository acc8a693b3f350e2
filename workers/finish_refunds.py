"""Finishes refunds that a crash or a silent gateway left half done, and hears what became of those under way."""

import logging

from adapters.wiring import App
from domain.kernel.errors import Refusal, Unavailable
from projections.refunds import unfinished_orders
from workers.jobs import Job

REFUNDS_MAX = 50
"""In one run, so that it ends within its minute; what is left has its turn in the next."""

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Goes on with unfinished refunds and answers how many it looked at. While the gateway or the ledger cannot be
    reached, the rest waits for the next run."""
    with app.reading() as connection:
        orders = unfinished_orders(connection, limit=REFUNDS_MAX)
    desk = app.refunds if orders else None
    for looked_at, order in enumerate(orders):
        assert desk is not None
        try:
            desk.pursue(order, at=app.clock(), by="worker:finish_refunds")
        except Unavailable as silence:
            _log.warning("refunds wait: %s", silence)
            return looked_at
        except Refusal as refusal:
            _log.error("the refund of order %s is stuck: %s", order, refusal)
    return len(orders)


JOB = Job("finish_refunds", 30, run)
