"""Asks the payment gateway what was disputed or sent back without us: webhooks get lost, and the money is gone all the
same."""

import logging
from collections.abc import Callable

from adapters.wiring import App
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Refusal, Unavailable
from domain.payments.chargebacks import outcome_of
from projections.refunds import chargeback_outcomes, known_refunds
from workers.each import each
from workers.jobs import Job

DISPUTES_WATCHED = 240 * DAY
REFUNDS_WATCHED = 7 * DAY
"""How old each is when it is last asked about; banks decide disputes within months."""

SILENCES_MAX = 3
"""So many in a row of which nothing is heard mean that the gateway is away."""

BY = "worker:watch_reversals"

News = list[tuple[str, Callable[[str], None]]]
"""What to look at, by the gateway's ids, and how."""

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Looks at whatever the gateway lists otherwise than we know it; answers how much was taken in."""
    if app.payments is None:
        return 0
    news: News = []
    for listed in (_disputes, _refunds):
        try:
            news += listed(app)
        except Refusal as refusal:
            _log.warning("disputes or refunds by other hands are asked about later: %s", refusal)

    def take_in(one: tuple[str, Callable[[str], None]]) -> bool:
        id, look = one
        look(id)
        return True

    return each(news, take_in, named=lambda one: one[0], away=Unavailable, silences_max=SILENCES_MAX)


def _disputes(app: App) -> News:
    listed = app.payment_gateway.disputes(since_seconds=(app.clock() - DISPUTES_WATCHED) // SECOND)
    with app.reading() as connection:
        known = chargeback_outcomes(connection)

    def look(id: str) -> None:
        app.chargebacks.look(id, at=app.clock(), by=BY)

    return [(dispute.id, look) for dispute in listed if known.get(dispute.id) != outcome_of(dispute)]


def _refunds(app: App) -> News:
    listed = app.payment_gateway.refunds(since_seconds=(app.clock() - REFUNDS_WATCHED) // SECOND)
    payments = {refund.id: refund.payment for refund in listed if refund.status == "processed"}
    with app.reading() as connection:
        known = known_refunds(connection, [*payments])

    def look(id: str) -> None:
        order = app.payment_gateway.payment(payments[id]).order
        app.refunds.note_found(order, id, at=app.clock(), by=BY)
        app.returns.note(order, payments[id], id, at=app.clock(), by=BY)

    return [(id, look) for id in payments if id not in known]


JOB = Job("watch_reversals", 3_600, run)
