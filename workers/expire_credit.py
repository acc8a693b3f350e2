"""Takes credit whose time is over, so that nobody spends it, and the account says so."""

from adapters.wiring import App
from domain.ledger.credit import expire_credit
from projections.balances import lots_due
from workers.each import each
from workers.jobs import Job


def run(app: App) -> int:
    """Expires what is left of every lot whose time is over; answers how many lots lost something or were closed.

    What calls in flight still need is taken by a later run.
    """
    at = app.clock()
    with app.reading() as connection:
        due = lots_due(connection, at=at)

    def expire(due: tuple[str, str]) -> bool:
        org, lot = due
        return expire_credit(app.store, org=org, lot=lot, at=at, by="worker:expire_credit") is not None

    return each(due, expire, named=lambda due: f"the end of lot {due[1]} of {due[0]}")


JOB = Job("expire_credit", 60, run)
