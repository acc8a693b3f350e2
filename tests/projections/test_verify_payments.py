"""Given what happened to payments and refunds, when one fact of it is missing, twice there or false, it is found."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

from domain.kernel.events import Event
from domain.ledger.events import CreditReturned, CreditWithdrawn
from domain.payments.events import DocumentIssued, RefundFailed, RefundProcessed, RefundRequested
from projections.verify_payments import MoneyIn
from tests.domain.payments.refund_scene import ORG, Scene

Facts = list[tuple[str, Event]]


def problems(facts: Sequence[tuple[str, Event]]) -> list[str]:
    money, versions = MoneyIn(), defaultdict[str, int](int)
    found = []
    for position, (stream, event) in enumerate(facts, 1):
        versions[stream] += 1
        found += [text for _, text in money.enter(position, stream, versions[stream], event)]
    return found + [text for _, _, (_, text) in money.finish()]


@pytest.fixture
def facts() -> Facts:
    """A payment of which half goes back, then nothing by a refund that fails, then the rest; and a dispute."""
    scene = Scene()
    payment = scene.pay(100, promo=scene.promo(20))
    scene.refunded(payment, inr=50)
    failing = scene.request(payment, inr=10)
    scene.pursue(failing.id)
    scene.gateway.ends(failing.id, "failed")
    scene.pursue(failing.id)
    scene.refunded(payment)
    other = scene.pay(100)
    scene.request(other, inr=30)
    for status in ("open", "won"):
        scene.dispute(other, status)
    return scene.store.facts


def at(facts: Facts, kind: type) -> int:
    """Where the first fact of the kind stands; of documents the first of a refund."""
    return next(
        n
        for n, (_, event) in enumerate(facts)
        if isinstance(event, kind) and (kind is not DocumentIssued or event.refund)
    )


def test_refunds_that_ended_as_they_should_are_in_order(facts: Facts) -> None:
    assert problems(facts) == []


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (RefundRequested, "never asked for"),
        (RefundProcessed, "against how the refund ended"),
        (RefundFailed, "against how the refund ended"),
        (CreditReturned, "still withheld"),
        (CreditWithdrawn, "still withheld"),
        (DocumentIssued, "has no document"),
    ],
)
def test_a_missing_fact_of_a_refund_is_found(facts: Facts, kind: type, found: str) -> None:
    del facts[at(facts, kind)]
    assert any(found in problem for problem in problems(facts))


@pytest.mark.parametrize("kind", [RefundRequested, RefundProcessed, RefundFailed, CreditReturned, DocumentIssued])
def test_a_fact_of_a_refund_that_is_there_twice_is_found(facts: Facts, kind: type) -> None:
    n = at(facts, kind)
    facts.insert(n + 1, facts[n])
    assert problems(facts)


def test_credit_that_comes_back_though_the_money_went_is_found(facts: Facts) -> None:
    n = at(facts, CreditWithdrawn)
    gone = facts[n][1]
    assert isinstance(gone, CreditWithdrawn)
    facts[n] = (facts[n][0], CreditReturned(org=ORG, reference=gone.reference, amount=gone.amount))
    assert any("returned against" in problem for problem in problems(facts))


def test_more_than_came_does_not_go_back_unseen(facts: Facts) -> None:
    """The failed refund turns out processed in all its facts: each is in order, their sum is not."""
    n = at(facts, RefundFailed)
    asked = next(
        event for _, event in facts if isinstance(event, RefundRequested) and event.refund == facts[n][1].refund
    )
    facts[n] = (
        facts[n][0],
        RefundProcessed(org=ORG, refund=asked.refund, payment=asked.payment, tax=asked.tax, credit=asked.credit),
    )
    assert any("more than came" in problem for problem in problems(facts))


def test_a_refund_of_other_money_than_was_asked_for_is_found(facts: Facts) -> None:
    n = at(facts, RefundProcessed)
    facts[n] = (facts[n][0], msgspec.structs.replace(facts[n][1], credit=1))
    assert any("were asked for" in problem for problem in problems(facts))
