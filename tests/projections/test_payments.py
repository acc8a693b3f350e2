"""Orders, payments and promo codes as read models: whatever happened, they say what the facts say."""

from collections import Counter, defaultdict

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.kernel.events import Event
from domain.kernel.money import rupees
from domain.payments.events import (
    PaymentReturned,
    PromoCreated,
    PromoDisabled,
    PromoRedeemed,
    ReturnAccepted,
    ReturnFailed,
)
from domain.payments.payment import Order
from projections import payments as view
from projections.runner import Runner
from projections.verify import verify
from tests.domain.payments.till import FakeGateway, given_order, make_till
from tests.given import NOON, given_org
from tests.memory_store import MemoryStore
from tests.projections.copies import filled, history_in
from tests.projections.history import append, write_guards
from tests.projections.payment_history import STEPS, Step, play


def tables_of(url: str, lines: list, ends: list[int]) -> dict[str, list[tuple]]:
    """All rows of the read model over this history, with batches that end there."""
    with history_in(url, lines) as (cursor, before, head):
        stops = sorted({before, *(min(before + end, head) for end in ends), head})
        filled(cursor, [view.PROJECTION], "__live", stops=stops).use(cursor)
        rows = {}
        for table in ("orders", "payments", "promos"):
            cursor.execute(f"select * from {table} order by 1".encode())
            names = [column.name for column in cursor.description or ()]
            rows[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return rows


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ends=st.lists(st.integers(1, 80), max_size=6))
def test_tables_say_what_the_facts_say_wherever_batches_end(
    database_url: str, steps: list[Step], ends: list[int]
) -> None:
    lines = play(steps)
    tables = tables_of(database_url, lines, ends)
    assert tables == tables_of(database_url, lines, [])
    orders: defaultdict[str, Order] = defaultdict(Order)
    uses: Counter[str] = Counter()
    promo_credit: Counter[str] = Counter()
    for stream, event in lines:
        orders[stream] = orders[stream].evolve(stream, event)
        if isinstance(event, PromoRedeemed):
            uses[event.code] += 1
            promo_credit[event.payment] += event.amount
    ours = {stream.removeprefix("payment:"): order for stream, order in orders.items() if order.ordered}
    assert {row["id"]: view.PROGRESS[row["progress"]] for row in tables["orders"]} == {
        id: order.status for id, order in ours.items()
    }
    assert {row["id"]: (row["payment"], row["promo_missed"], row["promo_credit"]) for row in tables["orders"]} == {
        id: (order.captured or None, order.promo_missed, promo_credit[order.captured]) for id, order in ours.items()
    }
    assert {row["id"]: row["status"] for row in tables["payments"]} == {
        payment: status for order in orders.values() for payment, status in order.attempts.items()
    }
    assert {row["code"]: row["uses"] for row in tables["promos"]} == {
        event.code: uses[event.code] for _, event in lines if isinstance(event, PromoCreated)
    }
    disabled = {event.code for _, event in lines if isinstance(event, PromoDisabled)}
    assert {row["code"] for row in tables["promos"] if row["disabled_at"]} == disabled


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_verify_finds_nothing_in_what_the_product_decided(database_url: str, steps: list[Step]) -> None:
    from projections.verify_payments import MoneyIn

    checks, versions = MoneyIn(), Counter[str]()
    for position, (stream, event) in enumerate(play(steps), 1):
        versions[stream] += 1
        assert list(checks.enter(position, stream, versions[stream], event)) == []
    assert list(checks.finish()) == []


# Queries


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for org in ("org_a", "org_b"):
        given_org(store, org, inr=0)
    return store


def test_orders_are_listed_in_pages_and_looked_up(database_url: str, store: MemoryStore) -> None:
    gateway = FakeGateway()
    till = make_till(store, gateway)
    orders = [given_order(till, at=NOON + n).order for n in range(5)]
    given_order(till, "org_b")
    paid = gateway.pays(orders[1])
    aside = gateway.pays(orders[1])
    failed = gateway.pays(orders[2], "failed", error_description="no money")
    for n, payment in enumerate((paid, aside, failed)):
        till.look(payment.id, learned="webhook", at=NOON + 10 + n, by="webhook")
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, store.facts)
        runner = Runner(database_url)
        runner.prepare()
        runner.step(connection)
        first = view.orders_of(connection, "org_a", limit=3)
        rest = view.orders_of(connection, "org_a", limit=3, before=(first[-1]["created_at"], first[-1]["id"]))
        assert [row["id"] for row in first + rest] == orders[::-1]
        row = rest[0]
        assert (row["status"], row["payment"], row["credit"]) == ("captured", paid.id, rupees(100))
        assert [(each["id"], each["status"]) for each in row["payments"]] == [
            (paid.id, "captured"),
            (aside.id, "set_aside"),
        ]
        assert first[2]["payments"][0]["reason"] == "no money"
        everything = view.open_orders(connection, created_after=0, created_before=NOON + 4)
        assert {id for id, _ in everything} >= {orders[0], orders[2], orders[3], orders[4]}
        assert orders[1] not in {id for id, _ in everything}
        assert view.open_orders(connection, created_after=NOON + 3, created_before=NOON + 9) == [(orders[4], NOON + 4)]
        found = view.payment(connection, paid.id)
        assert found is not None
        assert (found["order_id"], found["org"], found["learned"]) == (orders[1], "org_a", "webhook")
        assert view.payment(connection, "pay_nobody") is None
        assert [row["id"] for row in view.payments_set_aside(connection, limit=9)] == [aside.id]


def test_what_was_set_aside_is_listed_until_it_has_gone_back(database_url: str, store: MemoryStore) -> None:
    gateway = FakeGateway()
    till = make_till(store, gateway)
    order = given_order(till, at=NOON).order
    gateway.pays(order)
    aside = gateway.pays(order)
    nothing = gateway.pays(order, "refunded", refunded_paise=11_800)
    for payment in list(gateway.payments):
        till.look(payment, learned="webhook", at=NOON, by="webhook")
    common = {"org": "org_a", "payment": aside.id}
    accepted = ReturnAccepted(**common, gateway_refund="rfnd_1")
    steps: list[tuple[Event | None, list[tuple[str, str]], str]] = [
        (None, [(aside.id, "")], "set_aside"),
        (accepted, [(aside.id, "rfnd_1")], "set_aside"),
        (ReturnFailed(**common, gateway_refund="rfnd_1"), [(aside.id, "")], "set_aside"),
        (ReturnAccepted(**common, gateway_refund="rfnd_2"), [(aside.id, "rfnd_2")], "set_aside"),
        (PaymentReturned(**common, gateway_refund="by_hand", amount_paise=800), [(aside.id, "rfnd_2")], "set_aside"),
        (PaymentReturned(**common, gateway_refund="rfnd_2", amount_paise=11_000), [], "returned"),
    ]
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, store.facts)
        runner = Runner(database_url)
        runner.prepare()
        for fact, listed, status in steps:
            if fact is not None:
                append(connection, [(f"payment:{order}", fact)])
            runner.step(connection)
            rows = view.payments_set_aside(connection, limit=9)
            assert [(row["id"], row["under_way"]) for row in rows] == listed
            assert view.returns_under_way(connection, limit=9) == [order for _, refund in listed if refund]
            known = [view.payment(connection, payment) or {} for payment in (aside.id, nothing.id)]
            assert [row["status"] for row in known] == [status, "set_aside"]


# Verify


def report_of(url: str, lines: list) -> list[tuple[str, str]]:
    with psycopg.connect(url, autocommit=True) as connection:
        write_guards(connection, lines)
        append(connection, lines)
        runner = Runner(url)
        runner.prepare()
        runner.step(connection)
    return [(finding.check, finding.message) for finding in verify(url).findings]


def paid_history(store: MemoryStore) -> list:
    gateway = FakeGateway()
    till = make_till(store, gateway)
    for _ in range(2):
        till.look(gateway.pays(given_order(till).order).id, learned="webhook", at=NOON, by="webhook")
    return store.facts


def test_a_paid_history_is_clean(database_url: str, store: MemoryStore) -> None:
    assert report_of(database_url, paid_history(store)) == []


@pytest.mark.parametrize(
    ("gone", "check", "text"),
    [
        ("CreditAdded", "payment", "captured, but not credited"),
        ("PaymentCaptured", "payment", "without having been captured"),
        ("DocumentIssued", "document", "has no receipt"),
    ],
)
def test_a_missing_fact_of_a_capture_is_found(
    database_url: str, store: MemoryStore, gone: str, check: str, text: str
) -> None:
    lines = paid_history(store)
    last = max(n for n, (_, event) in enumerate(lines) if type(event).__name__ == gone)
    findings = report_of(database_url, lines[:last] + lines[last + 1 :])
    assert any(found == check and text in message for found, message in findings), findings


def test_a_number_out_of_place_is_found(database_url: str, store: MemoryStore) -> None:
    from msgspec.structs import replace

    lines = paid_history(store)
    stream, event = lines[-1]
    lines[-1] = (stream, replace(event, number="RV/24-25/000003"))
    findings = report_of(database_url, lines)
    assert any(found == "document" and "in the place of" in message for found, message in findings), findings
