"""Given money that was set aside, when it is sent back by whomever, then so much of it is gone, once."""

from dataclasses import replace
from typing import Any

import pytest

from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, NotFound, Unavailable
from domain.payments.events import PaymentReturned, ReturnAccepted, ReturnFailed
from domain.payments.ports import GatewayPayment
from domain.payments.returns import Aside, ReturnDesk
from tests.domain.payments.refund_scene import RefundingGateway, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def desk(scene: Scene) -> ReturnDesk:
    return ReturnDesk(store=scene.store, gateway=scene.gateway)


def aside(scene: Scene, **fields: Any) -> GatewayPayment:
    """A second payment of an order, which nobody can credit."""
    first = scene.gateway.payments[scene.pay(100)]
    made = scene.gateway.pays(first.order, **fields)
    scene.till.look(made.id, learned="webhook", at=scene.at, by="test")
    return made


def send(scene: Scene, desk: ReturnDesk, payment: GatewayPayment) -> Aside:
    return desk.send(payment.id, at=scene.at, by="operator")


def end(gateway: RefundingGateway, status: str) -> None:
    """What becomes of the newest refund."""
    key = list(gateway.by_key)[-1]
    back = gateway.by_key[key]
    gateway.by_key[key] = replace(back, status=status, reference="arn1")
    paid = gateway.payments[back.payment]
    gone = sum(other.amount_paise for other in gateway.refunds_of(paid.id) if other.status != "failed")
    gateway.payments[paid.id] = replace(paid, refunded_paise=gone)


def test_it_is_sent_back_once_however_often_it_is_asked_for(scene: Scene, desk: ReturnDesk) -> None:
    payment = aside(scene)
    before = len(scene.store.facts)
    for _ in range(3):
        assert send(scene, desk, payment).under_way
    assert [refund.amount_paise for refund in scene.gateway.refunds_of(payment.id)] == [11_800]
    end(scene.gateway, "processed")
    for _ in range(2):
        desk.pursue(payment.order, at=scene.at, by="worker")
    assert scene.store.names(before) == ["ReturnAccepted", "PaymentReturned"]
    [returned] = scene.facts(PaymentReturned)
    assert (returned.amount_paise, returned.reference, returned.lost_paise) == (11_800, "arn1", 0)
    with pytest.raises(Conflict, match="All of"):
        send(scene, desk, payment)
    scene.check()


def test_what_the_bank_did_not_take_can_be_sent_again(scene: Scene, desk: ReturnDesk) -> None:
    payment = aside(scene)
    send(scene, desk, payment)
    end(scene.gateway, "failed")
    desk.pursue(payment.order, at=scene.at, by="worker")
    assert len(scene.facts(ReturnFailed)) == 1
    again = send(scene, desk, payment)
    assert (again.under_way, again.left_paise) == (scene.gateway.refunds_of(payment.id)[-1].id, 11_800)
    end(scene.gateway, "processed")
    assert send_is_over(scene, desk, payment)


def send_is_over(scene: Scene, desk: ReturnDesk, payment: GatewayPayment) -> bool:
    with pytest.raises(Conflict):
        send(scene, desk, payment)
    return len(scene.facts(PaymentReturned)) == 1


def test_an_answer_that_is_lost_is_found_when_it_is_asked_for_again(scene: Scene, desk: ReturnDesk) -> None:
    payment = aside(scene)
    scene.gateway.trouble = "after"
    with pytest.raises(Unavailable):
        send(scene, desk, payment)
    scene.gateway.trouble = ""
    assert send(scene, desk, payment).under_way
    assert len(scene.gateway.refunds_of(payment.id)) == 1


def test_a_refund_that_the_gateway_has_lost_is_made_again_unless_its_money_is_gone(
    scene: Scene, desk: ReturnDesk
) -> None:
    payment = aside(scene)
    lost = send(scene, desk, payment).under_way
    [(key, made)] = scene.gateway.by_key.items()
    scene.gateway.by_key = {"another": replace(made, id="rfnd_another", payment="pay_another")}
    scene.gateway.move(payment.id, "captured", refunded_paise=11_800)
    with pytest.raises(NotFound):
        send(scene, desk, payment)
    scene.gateway.move(payment.id, "captured", refunded_paise=0)
    again = send(scene, desk, payment)
    assert [fact.gateway_refund for fact in scene.facts(ReturnFailed)] == [lost]
    assert again.under_way not in ("", lost)
    assert key not in scene.gateway.by_key


def test_what_was_sent_back_in_the_dashboard_counts(scene: Scene, desk: ReturnDesk) -> None:
    payment = aside(scene)
    by_hand = scene.gateway.refund(payment.id, amount_paise=1_800, key="by_hand_000", notes={})
    end(scene.gateway, "processed")
    desk.note(payment.order, payment.id, by_hand.id, at=scene.at, by="webhook")
    desk.note(payment.order, payment.id, by_hand.id, at=scene.at, by="webhook")
    assert [fact.amount_paise for fact in scene.facts(PaymentReturned)] == [1_800]
    send(scene, desk, payment)
    assert scene.gateway.refunds_of(payment.id)[-1].amount_paise == 10_000


def test_what_had_gone_back_before_it_was_set_aside_does_not_count(scene: Scene, desk: ReturnDesk) -> None:
    first = scene.gateway.payments[scene.pay(100)]
    payment = scene.gateway.pays(first.order)
    scene.gateway.refund(payment.id, amount_paise=1_800, key="by_hand_000", notes={})
    end(scene.gateway, "processed")
    scene.at += 5 * SECOND
    scene.gateway.now_seconds += 5
    scene.till.look(payment.id, learned="webhook", at=scene.at, by="test")
    send(scene, desk, payment)
    end(scene.gateway, "processed")
    desk.pursue(payment.order, at=scene.at, by="worker")
    assert [fact.amount_paise for fact in scene.facts(PaymentReturned)] == [10_000]


def test_a_payment_without_an_order_goes_back_too(scene: Scene, desk: ReturnDesk) -> None:
    payment = scene.gateway.pays("", amount_paise=700)
    scene.till.look(payment.id, learned="webhook", at=scene.at, by="test")
    scene.gateway.first_status = "processed"
    assert send(scene, desk, payment).left_paise == 0
    assert [(fact.org, fact.amount_paise) for fact in scene.facts(PaymentReturned)] == [("", 700)]


def test_what_was_credited_is_not_returned(scene: Scene, desk: ReturnDesk) -> None:
    payment = scene.gateway.payments[scene.pay(100)]
    with pytest.raises(NotFound, match="was not set aside"):
        send(scene, desk, payment)
    refund = scene.gateway.refund(payment.id, amount_paise=100, key="by_hand_000", notes={})
    desk.note(payment.order, payment.id, refund.id, at=scene.at, by="webhook")
    assert scene.facts(ReturnAccepted) == []


def test_nothing_is_sent_while_the_gateway_has_it_no_more_but_does_not_say_how(scene: Scene, desk: ReturnDesk) -> None:
    payment = aside(scene)
    scene.gateway.move(payment.id, "refunded", refunded_paise=11_800)
    with pytest.raises(Unavailable, match="does not list"):
        send(scene, desk, payment)
    assert scene.gateway.by_key == {}


@pytest.mark.parametrize(("returned_before", "taken", "lost"), [(False, 11_800, 0), (True, 0, 11_800)])
def test_what_a_bank_takes_back_is_gone_too(
    scene: Scene, desk: ReturnDesk, returned_before: bool, taken: int, lost: int
) -> None:
    payment = aside(scene)
    if returned_before:
        send(scene, desk, payment)
        end(scene.gateway, "processed")
        desk.pursue(payment.order, at=scene.at, by="worker")
    for status in ("open", "lost", "lost"):
        scene.dispute(payment.id, status, deducted=11_800)
    newest = scene.facts(PaymentReturned)[-1]
    assert (newest.chargeback, newest.amount_paise, newest.lost_paise) == ("disp_1", taken, lost)
    assert len(scene.facts(PaymentReturned)) == 1 + returned_before
    with pytest.raises(Conflict):
        send(scene, desk, payment)
