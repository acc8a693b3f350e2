"""Given what happened to payments and refunds, when one fact of it is missing, twice there or false, it is found."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.errors import Conflict, Invalid, Unavailable
from domain.kernel.events import Event
from domain.kernel.money import rupees
from domain.ledger.chart import entry_of
from domain.ledger.events import CreditReturned, CreditWithdrawn
from domain.payments.events import (
    DocumentIssued,
    PaymentReturned,
    PaymentSetAside,
    RefundFailed,
    RefundProcessed,
    RefundRequested,
    Tax,
)
from projections.verify_payments import MoneyIn
from tests.domain.payments.refund_scene import ORG, Scene
from tests.domain.payments.test_refunds import STEPS, happen
from tests.domain.payments.till import TERMS

Facts = list[tuple[str, Event]]


def problems(facts: Sequence[tuple[str, Event]]) -> list[str]:
    money, versions = MoneyIn(), defaultdict[str, int](int)
    found = []
    for position, (stream, event) in enumerate(facts, 1):
        versions[stream] += 1
        found += [text for _, text in money.enter(position, stream, versions[stream], event)]
    return found + [text for _, _, (_, text) in money.finish()]


@pytest.mark.parametrize(
    ("back", "found"),
    [
        ([{"amount_paise": 700}], False),
        ([{"amount_paise": 300}, {"amount_paise": 400, "gateway_refund": "rfnd_2"}], False),
        ([{"amount_paise": 701}], True),
        ([{"amount_paise": 400}, {"amount_paise": 400, "gateway_refund": "rfnd_2"}], True),
        ([{"amount_paise": 300}, {"amount_paise": 300}], True),
        ([{"amount_paise": 700, "currency": "USD"}], True),
        ([{"amount_paise": 700, "payment": "pay_2"}], True),
    ],
)
def test_no_more_goes_back_than_was_set_aside(back: Sequence[dict[str, Any]], found: bool) -> None:
    aside = PaymentSetAside(org="", order="", payment="pay_1", amount_paise=700, reason="unknown_order")
    returned: list[Event] = [
        PaymentReturned(**{"org": "", "payment": "pay_1", "gateway_refund": "rfnd_1"} | each) for each in back
    ]
    assert bool(problems([("payment:pay_1", fact) for fact in [aside, *returned]])) is found


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


def lost_in_part() -> Facts:
    """A payment of which half was spent when the bank took all of it back."""
    scene = Scene()
    payment = scene.pay(100)
    scene.spend(rupees(50))
    scene.dispute(payment, "lost")
    return scene.store.facts


def test_a_lost_chargeback_has_the_document_of_what_was_not_used() -> None:
    facts = lost_in_part()
    assert problems(facts) == []
    place = at(facts, DocumentIssued)
    stream, voucher = facts[place]
    assert any("has no document" in problem for problem in problems(facts[:place]))
    false = msgspec.structs.replace(voucher, tax=Tax(taxable=1, percent=18))
    assert any("not the one document" in problem for problem in problems([*facts[:place], (stream, false)]))
    assert any("not the one document" in problem for problem in problems([*facts, facts[place]]))


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


@given(steps=STEPS, included=st.booleans(), state=st.sampled_from(["29", "32", "04"]))
def test_whatever_happens_to_payments_is_in_order(
    steps: list[tuple[str, int, int]], included: bool, state: str
) -> None:
    """Found wrong is only what is wrong, and nothing is left undivided in the books."""
    scene = Scene(replace(TERMS, mode="included" if included else "on_top"), state)
    scene.pay(300)
    for kind, one, two in steps:
        with contextlib.suppress(Conflict, Invalid, Unavailable):
            happen(scene, kind, one, two)
    assert problems(scene.store.facts) == []
    undivided = [
        (debit == "payment_clearing") * amount - (credit == "payment_clearing") * amount
        for _, fact in scene.store.facts
        for debit, credit, amount in entry_of(fact)
    ]
    assert sum(undivided) == 0
