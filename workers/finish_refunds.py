"""Finishes refunds that a crash or a silent gateway left half done, and hears what became of those under way, and of
money under way that had been set aside."""

from collections.abc import Callable

from adapters.wiring import App
from domain.kernel.errors import Unavailable
from projections.payments import returns_under_way
from projections.refunds import unfinished_orders
from workers.each import each
from workers.jobs import Job

REFUNDS_MAX = 50
"""In one run, so that it ends within its minute; what is left has its turn in the next."""

SILENCES_MAX = 3
"""So many refunds in a row that nothing is heard of mean that the gateway is away, and not that one of them is at
fault."""

Pursuit = tuple[str, Callable[..., object]]
"""An order, and how to go on with what is under way of it."""


def run(app: App) -> int:
    """Goes on with unfinished refunds and answers with how many. While the gateway or the ledger cannot be
    reached, the rest waits for the next run; while another run is under way, anywhere, all do."""
    with app.claimed("refunds") as ours:
        return _finish(app) if ours else 0


def _finish(app: App) -> int:
    with app.reading() as connection:
        refunds = unfinished_orders(connection, limit=REFUNDS_MAX)
        returns = returns_under_way(connection, limit=REFUNDS_MAX)
    pursuits: list[Pursuit] = [(order, app.refunds.pursue) for order in refunds]
    pursuits += [(order, app.returns.pursue) for order in returns]

    def go_on(pursuit: Pursuit) -> bool:
        order, pursue = pursuit
        pursue(order, at=app.clock(), by="worker:finish_refunds")
        return True

    return each(
        pursuits,
        go_on,
        named=lambda pursuit: f"the refund of order {pursuit[0]}",
        away=Unavailable,
        silences_max=SILENCES_MAX,
    )


JOB = Job("finish_refunds", 30, run)
