"""Takes credit whose time is over, so that nobody spends it, and the account says so."""

import logging

from adapters.wiring import App
from domain.ledger.credit import expire_credit
from projections.balances import lots_due
from workers.jobs import Job

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Expires what is left of every lot whose time is over; answers how many lots lost something or were closed.

    What calls in flight still need is taken by a later run.
    """
    at = app.clock()
    with app.reading() as connection:
        due = lots_due(connection, at=at)
    taken = 0
    for org, lot in due:
        try:
            taken += expire_credit(app.store, org=org, lot=lot, at=at, by="worker:expire_credit") is not None
        except Exception:
            _log.exception("the lot %s of %s cannot expire, the others go on", lot, org)
    return taken


JOB = Job("expire_credit", 60, run)
