"""Given an order, when the gateway says this of its payments, in whatever order, then there is one credit, or none."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts.events import OrgDeleted
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.money import NANOS_PER_PAISA, rupees
from domain.ledger.events import CreditAdded, CreditGranted
from domain.payments.events import (
    DocumentIssued,
    PaymentCaptured,
    PaymentFailed,
    PaymentSetAside,
    PromoCreated,
    PromoMissed,
    PromoRedeemed,
    TopUpOrdered,
)
from domain.payments.issue import as_issued
from domain.payments.promo import create_promo, disable_promo
from domain.payments.topup import Till
from tests.domain.payments.till import KERALA, TERMS, FakeGateway, given_order, make_till, profile
from tests.fakes import PlainSeals
from tests.given import NOON, given_org
from tests.memory_store import MemoryStore

YEAR_END = 1_774_981_800 * SECOND
"""1 April 2026, 0:00 in India."""


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store, inr=0)
    return store


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def till(store: MemoryStore, gateway: FakeGateway) -> Till:
    return make_till(store, gateway)


def facts(store: MemoryStore, kind: type) -> list[Any]:
    return [event for _, event in store.facts if isinstance(event, kind)]


def look(till: Till, payment: str, at: int = NOON, learned: Any = "webhook") -> Any:
    return till.look(payment, learned=learned, at=at, by="test")


# Ordering


@pytest.mark.parametrize(
    ("mode", "state", "credit_paise", "heads"),
    [
        ("on_top", "29", 10_000, {"cgst": 900, "sgst": 900}),
        ("on_top", KERALA, 10_000, {"igst": 1_800}),
        ("included", "29", 8_474, {"cgst": 763, "sgst": 763}),
    ],
)
def test_an_order_fixes_credit_and_tax(
    store: MemoryStore, gateway: FakeGateway, mode: Any, state: str, credit_paise: int, heads: dict[str, int]
) -> None:
    ordered = given_order(make_till(store, gateway, replace(TERMS, mode=mode)), state=state)
    assert ordered.credit == credit_paise * NANOS_PER_PAISA == ordered.tax.taxable * NANOS_PER_PAISA
    assert {head: getattr(ordered.tax, head) for head in heads} == heads
    assert gateway.orders[ordered.order].amount_paise == ordered.tax.total
    assert facts(store, TopUpOrdered) == [replace_at(ordered)]


def test_a_special_economic_zone_pays_integrated_tax_within_the_state(till: Till) -> None:
    zone = replace(profile(), special_zone=True)
    ordered, _ = till.order(org="org_a", profile=zone, rupees=100, promo="", receipt="top_1", at=NOON, by="test")
    assert (ordered.tax.igst, ordered.tax.heads, ordered.special_zone) == (1_800, 1_800, True)


def replace_at(ordered: TopUpOrdered) -> TopUpOrdered:
    from msgspec.structs import replace as changed

    return changed(ordered, at=NOON, by="test")


@pytest.mark.parametrize("amount", [-100, 0, 99, 1_001, 10**9])
def test_an_amount_out_of_bounds_is_refused_before_the_gateway_is_asked(
    till: Till, gateway: FakeGateway, amount: int
) -> None:
    with pytest.raises(Invalid, match="₹100") as refused:
        given_order(till, rupees=amount)
    assert refused.value.code == "invalid_amount"
    assert gateway.orders == {}


def test_without_a_state_nothing_can_be_ordered(till: Till, gateway: FakeGateway) -> None:
    with pytest.raises(Invalid) as refused:
        given_order(till, state="")
    assert refused.value.code == "billing_address_required"
    assert gateway.orders == {}


# Credit


def test_a_captured_payment_is_credit_and_a_document_at_once(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    ordered = given_order(till)
    before = len(store.facts)
    order = look(till, gateway.pays(ordered.order).id, learned="handler")
    assert store.names(before) == ["PaymentCaptured", "CreditAdded", "DocumentIssued"]
    assert (order.status, order.captured) == ("captured", "pay_00000000000002")
    captured, credit, issued = (event for _, event in store.facts[before:])
    assert (captured.amount_paise, captured.fee_paise, captured.fee_tax_paise) == (11_800, 236, 36)
    assert (captured.learned, captured.method, captured.paid, captured.reference) == ("handler", "upi", NOON, "rrn1")
    assert (credit.org, credit.amount, credit.order) == ("org_a", rupees(100), ordered.order)
    assert store.balance("org_a").available == rupees(100)
    assert (issued.number, issued.tax, issued.place_of_supply) == ("RV/24-25/000001", ordered.tax, "29")
    document = as_issued(issued, PlainSeals().open("books:org_a", issued.facts) or "")
    assert (document.number, document.issued_at, document.buyer.name) == (issued.number, NOON, "Asha")
    assert (document.payment_id, document.credit) == (captured.payment, rupees(100))


def test_failed_then_authorised_then_captured_days_later_is_credited(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    payment = gateway.pays(given_order(till).order, "failed", error_description="the bank did not answer").id
    assert look(till, payment).status == "failed"
    assert facts(store, PaymentFailed)[0].reason == "the bank did not answer"
    gateway.move(payment, "authorized")
    assert look(till, payment, NOON + 3 * 86_400 * SECOND).status == "captured"
    assert gateway.payments[payment].status == "captured"
    assert store.balance("org_a").available == rupees(100)


def test_nothing_goes_back_after_the_credit(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    payment = gateway.pays(given_order(till).order).id
    look(till, payment)
    known = len(store.facts)
    for status in ("failed", "authorized", "created", "captured", "refunded"):
        gateway.move(payment, status)
        assert look(till, payment).status == "captured"
    assert len(store.facts) == known


def test_a_capture_that_somebody_else_was_quicker_with_is_credited(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    payment = gateway.pays(given_order(till).order, "authorized")
    gateway.move(payment.id, "captured")
    assert till.take(payment, learned="sweep", at=NOON, by="test").status == "captured"
    assert store.balance("org_a").available == rupees(100)


# What does not fit


@pytest.mark.parametrize(
    ("fields", "reason", "left"),
    [
        ({"amount_paise": 11_799}, "wrong_amount", 11_799),
        ({"amount_paise": 1_180_000}, "wrong_amount", 1_180_000),
        ({"currency": "USD"}, "wrong_currency", 11_800),
        ({"refunded_paise": 800}, "sent_back", 11_000),
        ({"refunded_paise": 11_800, "status": "refunded"}, "sent_back", 0),
        ({"order": "order_of_somebody_else"}, "unknown_order", 11_800),
        ({"order": ""}, "unknown_order", 11_800),
    ],
)
def test_what_does_not_fit_its_order_is_set_aside_once(
    store: MemoryStore, till: Till, gateway: FakeGateway, fields: dict[str, Any], reason: str, left: int
) -> None:
    payment = gateway.pays(**({"order": given_order(till).order} | fields))
    for _ in range(2):
        look(till, payment.id)
    (aside,) = facts(store, PaymentSetAside)
    assert (aside.reason, aside.amount_paise, aside.payment) == (reason, left, payment.id)
    assert aside.org == ("" if reason == "unknown_order" else "org_a")
    assert store.balance("org_a").available == 0
    assert facts(store, DocumentIssued) == []


def test_money_for_an_org_that_is_deleted_is_set_aside(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    payment = gateway.pays(given_order(till).order)
    store.facts.append(("org:org_a", OrgDeleted(org="org_a", at=NOON)))
    for _ in range(2):
        look(till, payment.id)
    (aside,) = facts(store, PaymentSetAside)
    assert (aside.reason, aside.amount_paise, aside.org) == ("org_deleted", 11_800, "org_a")
    assert facts(store, CreditAdded) == facts(store, DocumentIssued) == []


def test_a_second_payment_of_one_order_is_set_aside(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    order = given_order(till).order
    look(till, gateway.pays(order).id)
    second = look(till, gateway.pays(order).id)
    assert second.status == "captured"
    assert [aside.reason for aside in facts(store, PaymentSetAside)] == ["order_paid_already"]
    assert store.balance("org_a").available == rupees(100)


def test_another_method_than_the_authorised_is_set_aside(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    payment = gateway.pays(given_order(till).order, "failed").id
    look(till, payment)
    gateway.move(payment, "captured", method="card")
    look(till, payment)
    assert [aside.reason for aside in facts(store, PaymentSetAside)] == ["wrong_method"]


def test_an_authorised_payment_that_does_not_fit_is_not_taken(till: Till, gateway: FakeGateway) -> None:
    payment = gateway.pays(given_order(till).order, "authorized", amount_paise=100).id
    assert look(till, payment).status == "authorized"
    assert gateway.payments[payment].status == "authorized"


def test_a_payment_that_the_gateway_does_not_know_adds_nothing(store: MemoryStore, till: Till) -> None:
    with pytest.raises(NotFound):
        look(till, "pay_forged")
    assert facts(store, CreditAdded) == []


# Promo codes


def promo(store: MemoryStore, **terms: Any) -> None:
    given = {"percent": 10, "cap": rupees(50)} | terms
    create_promo(store, PromoCreated(code="DIWALI26", **given), at=NOON, by="operator")


def test_the_promo_credit_comes_with_the_capture(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    promo(store, credit_days=30)
    payment = gateway.pays(given_order(till, rupees=333, promo="DIWALI26").order).id
    assert facts(store, PromoRedeemed) == []
    before = len(store.facts)
    look(till, payment)
    assert store.names(before) == ["PaymentCaptured", "CreditAdded", "CreditGranted", "PromoRedeemed", "DocumentIssued"]
    (granted,) = facts(store, CreditGranted)
    assert (granted.grant, granted.payment, granted.amount) == ("promo:DIWALI26", payment, 3_330 * NANOS_PER_PAISA)
    assert granted.expires == NOON + 30 * 86_400 * SECOND
    with pytest.raises(Conflict) as refused:
        given_order(till, promo="DIWALI26")
    assert refused.value.code == "promo_redeemed"


def test_a_code_comes_with_its_least_purchase_only(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    promo(store, bought_min=rupees(200))
    with pytest.raises(Invalid) as refused:
        given_order(till, rupees=199, promo="DIWALI26")
    assert refused.value.code == "promo_invalid"
    look(till, gateway.pays(given_order(till, rupees=200, promo="DIWALI26").order).id)
    assert len(facts(store, PromoRedeemed)) == 1


def test_a_code_that_was_used_up_meanwhile_is_missed_and_the_payment_credited(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    promo(store, uses_max=1)
    given_org(store, "org_b", inr=0)
    orders = [given_order(till, org, promo="DIWALI26") for org in ("org_a", "org_b")]
    late = [look(till, gateway.pays(ordered.order).id) for ordered in orders]
    assert [order.promo_missed for order in late] == ["", "used_up"]
    assert [(missed.org, missed.code) for missed in facts(store, PromoMissed)] == [("org_b", "DIWALI26")]
    assert store.balance("org_a").available == rupees(110)
    assert store.balance("org_b").available == rupees(100)


def test_two_orders_of_one_org_redeem_a_code_once(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    promo(store)
    orders = [given_order(till, promo="DIWALI26") for _ in range(2)]
    late = [look(till, gateway.pays(ordered.order).id).promo_missed for ordered in orders]
    assert late == ["", "redeemed"]
    assert store.balance("org_a").available == rupees(210)


def test_dates_of_a_code_are_held_against_the_moment_of_paying(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    promo(store, ends=NOON + SECOND)
    in_time = gateway.pays(given_order(till, promo="DIWALI26").order).id
    assert look(till, in_time, NOON + 86_400 * SECOND).promo_missed == ""


def test_a_disabled_code_is_missed(store: MemoryStore, till: Till, gateway: FakeGateway) -> None:
    promo(store)
    ordered = given_order(till, promo="DIWALI26")
    disable_promo(store, code="DIWALI26", at=NOON, by="operator")
    assert look(till, gateway.pays(ordered.order).id).promo_missed == "disabled"


# Numbers


def test_numbers_have_no_gap_and_begin_anew_with_the_financial_year(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    orders = [given_order(till).order for _ in range(4)]
    for order, at in zip(orders, (-2 * SECOND, -1, 0, 1), strict=True):
        look(till, gateway.pays(order).id, YEAR_END + at)
    assert [issued.number for issued in facts(store, DocumentIssued)] == [
        "RV/25-26/000001",
        "RV/25-26/000002",
        "RV/26-27/000001",
        "RV/26-27/000002",
    ]


def test_many_payments_in_one_transaction_are_what_they_are_one_by_one(
    store: MemoryStore, till: Till, gateway: FakeGateway
) -> None:
    promo(store, uses_max=2)
    given_org(store, "org_b", inr=0)
    orders = [given_order(till, org, promo="DIWALI26").order for org in ("org_a", "org_a", "org_b", "org_b")]
    payments = [gateway.pays(order) for order in [*orders, orders[0]]] * 2
    heard = [till.hear(payment, till.find(payment.order), learned="webhook") for payment in payments]
    after = till.record(heard, at=NOON, by="webhook")
    assert [order.promo_missed for order in after[:4]] == ["", "redeemed", "", "redeemed"]
    numbers = [issued.number for issued in facts(store, DocumentIssued)]
    assert numbers == [f"RV/24-25/{n:06d}" for n in (1, 2, 3, 4)]
    assert [aside.payment for aside in facts(store, PaymentSetAside)] == [payments[4].id]
    assert store.balance("org_a").available == store.balance("org_b").available == rupees(210)
    assert all(event.at == NOON for _, event in store.facts[-5:])


# Any order, any number of times, any loss

WAYS = st.lists(
    st.tuples(
        st.sampled_from(["handler", "captured webhook", "order.paid webhook", "failed webhook", "sweep", "operator"]),
        st.integers(0, 3),
    ),
    max_size=20,
)
MOVES = st.lists(st.sampled_from(["failed", "authorized", "captured"]), max_size=4)


@given(
    ways=WAYS,
    moves=st.lists(st.tuples(st.integers(0, 3), MOVES), max_size=4),
    mode=st.sampled_from(["on_top", "included"]),
    amount=st.integers(100, 1_000),
    with_promo=st.booleans(),
)
def test_whatever_is_heard_in_whatever_order_there_is_one_credit_and_no_paisa_is_lost(
    ways: list[tuple[str, int]],
    moves: list[tuple[int, list[str]]],
    mode: Any,
    amount: int,
    with_promo: bool,
) -> None:
    store, gateway = MemoryStore(), FakeGateway()
    given_org(store, inr=0)
    till = make_till(store, gateway, replace(TERMS, mode=mode))
    promo(store, uses_max=1)
    orders = [given_order(till, rupees=amount, promo="DIWALI26" if with_promo else "") for _ in range(2)]
    # The third and fourth payments are second ones of the orders, the fourth of another amount.
    payments = [gateway.pays(orders[n % 2].order, "created").id for n in range(4)]
    gateway.move(payments[3], "created", amount_paise=100)
    pending = [(n, status) for n, statuses in moves for status in statuses]
    for way, n in ways:
        if pending:
            which, status = pending.pop(0)
            if gateway.payments[payments[which]].status != "captured":
                gateway.move(payments[which], status)
        if way == "sweep":
            till.look_at_order(orders[n % 2].order, learned="sweep", at=NOON, by="worker")
        else:
            look(till, payments[n])
    for ordered in orders:  # at last the sweep finds what all others missed
        till.look_at_order(ordered.order, learned="sweep", at=NOON, by="worker")
    captured, asides = facts(store, PaymentCaptured), facts(store, PaymentSetAside)
    credits = facts(store, CreditAdded)
    assert [credit.payment for credit in credits] == [each.payment for each in captured]
    assert len({each.order for each in captured}) == len(captured) == len(facts(store, DocumentIssued))
    held = [payment for payment in gateway.payments.values() if payment.status == "captured"]
    assert {payment.id for payment in held} == {each.payment for each in [*captured, *asides]}
    money_in = sum(payment.amount_paise for payment in held)
    tax = sum(issued.tax.heads for issued in facts(store, DocumentIssued))
    aside = sum(each.amount_paise for each in asides)
    assert money_in * NANOS_PER_PAISA == sum(credit.amount for credit in credits) + (tax + aside) * NANOS_PER_PAISA
    assert len(facts(store, PromoRedeemed)) == (1 if with_promo and captured else 0)
    assert store.balance("org_a").available == sum(each.amount for each in [*credits, *facts(store, CreditGranted)])
