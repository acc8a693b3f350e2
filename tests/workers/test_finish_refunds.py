"""Refunds that a crash or a silent gateway left half done are finished by the job, and none is made twice."""

import inspect
import runpy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from adapters.wiring import App
from domain.kernel.errors import Unavailable
from domain.kernel.money import rupees
from domain.payments.refunds import Refund
from projections.verify import verify
from tests.domain.payments.refund_scene import RefundingGateway
from tests.domain.payments.till import given_order, make_till
from tests.workers.scene import paid, project
from workers.finish_refunds import run as finish_refunds
from workers.jobs import find_jobs


def requested(app: App, gateway: RefundingGateway, id: str) -> Refund:
    """A payment of ₹100 of which all is asked back."""
    refund = app.refunds.request(
        org="org_a", refund=id, payment=paid(app, gateway), credit=None, reason="", at=app.clock(), by="test"
    )
    project(app)
    return refund


def now(app: App, refund: Refund) -> Refund:
    return app.refunds.find(refund.order).refunds[refund.id]


def test_the_job_is_found() -> None:
    assert find_jobs()["finish_refunds"].run is finish_refunds


def test_a_refund_that_nobody_asked_the_gateway_for_is_asked_for(app: App, gateway: RefundingGateway) -> None:
    refund = requested(app, gateway, "refund_0001")
    assert finish_refunds(app) == 1
    assert now(app, refund).state == "pending"


def test_a_refund_that_the_gateway_made_but_never_confirmed_is_made_once(app: App, gateway: RefundingGateway) -> None:
    refund = requested(app, gateway, "refund_0001")
    gateway.trouble = "after"
    assert finish_refunds(app) == 0
    assert now(app, refund).state == "requested"
    assert len(gateway.by_key) == 1
    gateway.trouble = ""
    assert finish_refunds(app) == 1
    assert now(app, refund).state == "pending"
    assert len(gateway.by_key) == 1


@pytest.mark.parametrize(("ending", "available"), [("processed", 0), ("failed", rupees(100))])
def test_what_became_of_a_refund_is_heard_without_any_webhook(
    app: App, gateway: RefundingGateway, ending: str, available: int
) -> None:
    refund = requested(app, gateway, "refund_0001")
    finish_refunds(app)
    gateway.ends(refund.id, ending)
    finish_refunds(app)
    assert now(app, refund).state == ending
    assert app.available("org_a") == available
    project(app)
    assert finish_refunds(app) == 0
    assert verify(app.database_url).ok


def test_a_refund_that_the_gateway_has_lost_does_not_keep_the_others(app: App, gateway: RefundingGateway) -> None:
    stuck, other = requested(app, gateway, "refund_0001"), requested(app, gateway, "refund_0002")
    finish_refunds(app)
    del gateway.by_key[stuck.id]
    gateway.ends(other.id, "processed")
    project(app)
    assert finish_refunds(app) == 2
    assert (now(app, stuck).state, now(app, other).state) == ("failed", "processed")


@pytest.mark.parametrize("fault", [Unavailable("payments_unavailable", "not understood"), ValueError("a fault")])
def test_a_refund_that_nothing_is_heard_of_does_not_keep_the_others(
    app: App, gateway: RefundingGateway, fault: Exception
) -> None:
    mute, other = requested(app, gateway, "refund_0001"), requested(app, gateway, "refund_0002")
    finish_refunds(app)

    class Mute:
        def __getattr__(self, name: str) -> Any:
            return getattr(gateway, name)

        def refund_status(self, id: str) -> Any:
            if id == gateway.by_key[mute.id].id:
                raise fault
            return gateway.refund_status(id)

    for refund in (mute, other):
        gateway.ends(refund.id, "processed")
    project(app)
    finish_refunds(replace(app, payments=Mute()))
    assert (now(app, mute).state, now(app, other).state) == ("pending", "processed")


def test_what_was_set_aside_is_followed_until_it_has_gone_back(app: App, gateway: RefundingGateway) -> None:
    till = make_till(app.store, gateway)
    order = given_order(till, at=app.clock()).order
    for payment in (gateway.pays(order).id, gateway.pays(order).id):
        till.look(payment, learned="webhook", at=app.clock(), by="test")
    assert app.returns.send(payment, at=app.clock(), by="operator").under_way
    project(app)
    assert finish_refunds(app) == 1
    gateway.ends(f"return_{payment}_0", "processed")
    finish_refunds(app)
    project(app)
    assert finish_refunds(app) == 0
    assert verify(app.database_url).ok


def test_one_run_is_under_way_at_a_time_of_all_processes(app: App, gateway: RefundingGateway) -> None:
    requested(app, gateway, "refund_0001")
    elsewhere = runpy.run_path(inspect.getfile(finish_refunds))["run"]  # it shares no memory with the first
    looked_at = []

    class Again:
        def __getattr__(self, name: str) -> Any:
            return getattr(gateway, name)

        def refund(self, payment: str, **asked: Any) -> Any:
            looked_at.extend([finish_refunds(app), elsewhere(app)])
            return gateway.refund(payment, **asked)

    assert finish_refunds(replace(app, payments=Again())) == 1
    assert looked_at == [0, 0]
    assert elsewhere(app) == 1


def test_without_refunds_no_gateway_is_needed(make_app: Callable[..., App]) -> None:
    assert finish_refunds(make_app()) == 0
