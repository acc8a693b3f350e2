"""Disputes and refunds whose webhooks were all lost are found all the same; one that is at fault keeps no other."""

from dataclasses import replace
from typing import Any

import pytest

from adapters.wiring import App
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Refusal, Unavailable
from domain.kernel.money import rupees
from domain.payments.ports import DisputeStatus, GatewayDispute
from projections.payments import payments_set_aside
from projections.verify import verify
from tests.domain.payments.refund_scene import RefundingGateway
from tests.domain.payments.till import make_till
from tests.workers.scene import paid, project
from workers.jobs import find_jobs
from workers.watch_reversals import DISPUTES_WATCHED
from workers.watch_reversals import run as watch_reversals


def disputed(
    app: App, gateway: RefundingGateway, payment: str, status: DisputeStatus, *, age: int = 0, deducted: int = 0
) -> None:
    gateway.by_dispute[f"disp_{payment}"] = GatewayDispute(
        id=f"disp_{payment}",
        payment=payment,
        amount_paise=11_800,
        deducted_paise=deducted,
        currency="INR",
        status=status,
        created_seconds=(app.clock() - age) // SECOND,
    )


@pytest.mark.parametrize(("deducted", "left"), [(0, 0), (5_900, rupees(50))])
def test_what_no_webhook_told_is_found_step_by_step(
    app: App, gateway: RefundingGateway, deducted: int, left: int
) -> None:
    assert find_jobs()["watch_reversals"].run is watch_reversals
    payment = paid(app, gateway)
    assert watch_reversals(app) == 0
    steps: list[tuple[DisputeStatus, int, int]] = [("open", 1, 0), ("under_review", 0, 0), ("lost", 1, left)]
    for status, news, available in steps:
        disputed(app, gateway, payment, status, deducted=deducted)
        assert watch_reversals(app) == news
        project(app)
        assert watch_reversals(app) == 0
        assert app.available("org_a") == available
    assert verify(app.database_url).findings == []


def test_a_refund_by_other_hands_that_no_webhook_told_is_found_once(app: App, gateway: RefundingGateway) -> None:
    gateway.now_seconds, gateway.first_status = app.clock() // SECOND, "processed"
    credited, other = paid(app, gateway), paid(app, gateway)
    twice = gateway.pays(gateway.payments[credited].order).id
    make_till(app.store, gateway).look(twice, learned="webhook", at=app.clock(), by="test")
    nobodys = gateway.pays("order_of_another_shop00").id
    for payment in (credited, twice, nobodys):
        gateway.refund(payment, amount_paise=5_900, key=f"by_hand_{payment}", notes={})
    app.refunds.request(org="org_a", refund="refund_1", payment=other, credit=None, reason="", at=app.clock(), by="t")
    app.refunds.pursue(gateway.payments[other].order, at=app.clock(), by="t")
    project(app)
    for _ in range(2):
        assert watch_reversals(app) == 3, "all but our own"
        project(app)
    assert app.available("org_a") == rupees(50)
    with app.reading() as connection:
        row = next(row for row in payments_set_aside(connection, limit=9) if row["id"] == twice)
    assert (row["amount_paise"], row["returned_paise"]) == (11_800, 5_900)
    assert verify(app.database_url).findings == []


def test_one_that_is_old_or_cannot_be_taken_in_keeps_no_other(app: App, gateway: RefundingGateway) -> None:
    old, broken, other = (paid(app, gateway) for _ in range(3))
    disputed(app, gateway, old, "lost", age=DISPUTES_WATCHED + 60 * SECOND)
    disputed(app, gateway, broken, "open")
    disputed(app, gateway, other, "open")
    look = gateway.dispute

    def fails(id: str) -> Any:
        if id == f"disp_{broken}":
            raise ValueError("a fault")
        return look(id)

    gateway.dispute = fails
    assert watch_reversals(app) == 1
    assert app.available("org_a") == rupees(200)


@pytest.mark.parametrize(
    "refusal", [Unavailable("payments_unavailable", "no answer"), Conflict("payment_refused", "not for this account")]
)
def test_a_list_that_is_not_to_be_had_keeps_no_other(app: App, gateway: RefundingGateway, refusal: Refusal) -> None:
    def refuses(*, since_seconds: int) -> Any:
        raise refusal

    gateway.disputes = refuses
    gateway.now_seconds, gateway.first_status = app.clock() // SECOND, "processed"
    gateway.refund(paid(app, gateway), amount_paise=11_800, key="by_hand_000", notes={})
    assert watch_reversals(app) == 1
    assert app.available("org_a") == 0
    assert watch_reversals(replace(app, payments=None)) == 0
