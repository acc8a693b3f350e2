"""Finishes refunds that a crash or a silent gateway left half done, and hears what became of those under way."""

import logging
import threading

from adapters.wiring import App
from domain.kernel.errors import Refusal, Unavailable
from projections.refunds import unfinished_orders
from workers.jobs import Job

REFUNDS_MAX = 50
"""In one run, so that it ends within its minute; what is left has its turn in the next."""

SILENCES_MAX = 3
"""So many refunds in a row that nothing is heard of mean that the gateway is away, and not that one of them is at
fault."""

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


def run(app: App) -> int:
    """Goes on with unfinished refunds and answers how many it looked at. While the gateway or the ledger cannot be
    reached, the rest waits for the next run; while another run of this process is under way, all do."""
    if not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        return _finish(app)
    finally:
        _one_at_a_time.release()


def _finish(app: App) -> int:
    with app.reading() as connection:
        orders = unfinished_orders(connection, limit=REFUNDS_MAX)
    desk = app.refunds if orders else None
    looked_at = silences = 0
    for order in orders:
        assert desk is not None
        try:
            desk.pursue(order, at=app.clock(), by="worker:finish_refunds")
        except Unavailable as silence:
            _log.warning("the refund of order %s waits: %s", order, silence)
            silences += 1
            if silences == SILENCES_MAX:
                break
            continue
        except Refusal as refusal:
            _log.error("the refund of order %s is stuck: %s", order, refusal)
        except Exception:
            _log.exception("the refund of order %s is stuck, the others go on", order)
        silences = 0
        looked_at += 1
    return looked_at


JOB = Job("finish_refunds", 30, run)
