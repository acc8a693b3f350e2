"""Asks the payment gateway about orders that nobody paid as far as we have heard: browsers are closed and webhooks get
lost, but money that came must be credited."""

import logging
from dataclasses import dataclass

from adapters.wiring import App
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import NotFound, Unavailable
from domain.payments.payment import Order
from domain.payments.topup import Learned
from projections.payments import open_orders
from workers.each import each
from workers.jobs import Job

FIRST_ASKED = 900 * SECOND
LAST_ASKED = 5 * DAY
"""How old an order is when it is first and last asked about: banks authorise up to three days late, and what nobody
captures goes back to the payer after five."""

ORDERS_MAX = 200
SILENCES_MAX = 3
"""So many orders in a row that nothing is heard of mean that the gateway is away, and not that one is at fault."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The order after asking. `complete` is False where the gateway has the money but does not show the payment yet:
    its lists lag behind by minutes."""

    order: Order
    complete: bool = True


def ask(app: App, order: str, *, learned: Learned, by: str) -> Answer:
    """Asks about one order: what was authorised is captured, and what was captured is credited. Raises Unavailable."""
    till = app.till
    try:
        told = till.gateway.order(order)
    except NotFound:
        _log.error("Razorpay does not know the order %s: was the key changed?", order)
        return Answer(till.find(order))
    if told.status == "created" and told.attempts == 0:
        return Answer(till.find(order))
    known = till.look_at_order(order, learned=learned, at=app.clock(), by=by)
    return Answer(known, complete=told.status != "paid" or any(map(known.is_settled, known.attempts)))


class Sweep:
    """The job. When it asked about which order is kept in memory alone: whoever forgets it asks once more."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def run(self, app: App) -> int:
        """Asks about every order that is due, with pauses that grow with its age; answers how many were credited. While
        another run is under way, anywhere, it does nothing."""
        if app.payments is None:
            return 0
        with app.claimed("open orders") as ours:
            return self._ask_due(app) if ours else 0

    def _ask_due(self, app: App) -> int:
        now = app.clock()
        with app.reading() as connection:
            found = dict(open_orders(connection, created_after=now - LAST_ASKED, created_before=now - FIRST_ASKED))
        self._next = {order: at for order, at in self._next.items() if order in found}
        turns = {order: self._next.get(order, 0) for order in found}
        due = sorted((order for order, turn in turns.items() if turn <= now), key=turns.__getitem__)

        def ask_about(order: str) -> bool:
            self._next[order] = now + (now - found[order]) // 2
            try:
                answer = ask(app, order, learned="sweep", by="worker:reconcile_payments")
            except Unavailable:
                self._next[order] = now
                raise
            if not answer.complete:
                self._next[order] = now
            return answer.order.status == "captured"

        asked = due[:ORDERS_MAX]
        return each(asked, ask_about, named="order {}".format, away=Unavailable, silences_max=SILENCES_MAX)


JOB = Job("reconcile_payments", 60, Sweep().run)
