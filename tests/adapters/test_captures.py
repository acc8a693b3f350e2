"""Captures on a real PostgreSQL, many at once from several processes: every payment once, and no number missing."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader, decode
from adapters.postgres import make_pool
from domain.kernel.clock import SECOND
from domain.kernel.money import rupees
from domain.payments.events import DocumentIssued, PromoCreated
from domain.payments.promo import create_promo
from domain.payments.topup import Till
from projections.runner import Runner
from projections.verify import verify
from tests.domain.payments.till import FakeGateway, given_order, make_till
from tests.given import NOON, given_org

YEAR_END = 1_774_981_800 * SECOND
"""1 April 2026, 0:00 in India."""


@pytest.fixture
def new_till(database_url: str) -> Iterator[Callable[[FakeGateway], Till]]:
    pool = make_pool(database_url, size=8)
    stores: list[EventStore] = []

    def make(gateway: FakeGateway) -> Till:
        stores.append(EventStore(database_url, LogReader(pool)))
        return make_till(stores[-1], gateway)

    yield make
    for store in stores:
        store.close()
    pool.close()


def issued_in(url: str) -> list[DocumentIssued]:
    """Every document in the order of the log."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select topic, state from events where topic = %s order by notification_id", [DocumentIssued.NAME]
        ).fetchall()
    return [decode(name, bytes(state)) for name, state in rows]


def available(url: str, org: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute("select available from balance where org = %s", [org]).fetchone()
    assert row is not None
    return row[0]


def test_fifty_captures_at_once_across_the_end_of_the_financial_year(
    database_url: str, new_till: Callable[[FakeGateway], Till]
) -> None:
    gateway = FakeGateway()
    tills = [new_till(gateway), new_till(gateway)]
    for org in ("org_a", "org_b"):
        given_org(tills[0].store, org, inr=0, at=NOON)
    promo = PromoCreated(code="FIRST5", fixed=rupees(1), uses_max=1)
    create_promo(tills[0].store, promo, at=NOON, by="operator")
    orders = [given_order(tills[0], f"org_{'ab'[n % 2]}", promo="FIRST5", at=NOON).order for n in range(50)]
    payments = [gateway.pays(order).id for order in orders]
    # Each payment is heard of three times, by two processes, at moments before and after midnight.
    heard = [(payment, tills[n % 2], YEAR_END + (n // 50 + n % 2) % 2 - 1) for n, payment in enumerate(payments * 3)]
    random.Random(7).shuffle(heard)

    def look(told: tuple[str, Till, int]) -> str:
        payment, till, at = told
        return till.look(payment, learned="webhook", at=at, by="webhook").status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(look, heard)) == {"captured"}

    documents = issued_in(database_url)
    assert sorted(document.payment for document in documents) == sorted(payments)
    by_year: dict[str, list[int]] = {"25-26": [], "26-27": []}
    for document in documents:
        series, year, number = document.number.split("/")
        assert (series, year) == ("RV", "25-26" if document.at < YEAR_END else "26-27")
        by_year[year].append(int(number))
    assert all(numbers == [*range(1, len(numbers) + 1)] for numbers in by_year.values())
    assert all(by_year.values()), "the clock was to cross midnight"
    assert available(database_url, "org_a") + available(database_url, "org_b") == 50 * rupees(100) + rupees(1)
    runner = Runner(database_url)
    runner.prepare()
    with psycopg.connect(database_url, autocommit=True) as connection:
        runner.step(connection)
    assert verify(database_url).findings == []


def test_a_batch_is_one_transaction_or_none(database_url: str, new_till: Callable[[FakeGateway], Till]) -> None:
    gateway = FakeGateway()
    till = new_till(gateway)
    given_org(till.store, "org_a", inr=0, at=NOON)
    payments = [gateway.pays(given_order(till, at=NOON).order) for _ in range(3)]
    said = [till.hear(payment, till.find(payment.order), learned="webhook") for payment in payments]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("alter table balance add constraint poor check (available < 250000000000)")
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the database says, it is all or nothing
            till.record(said, at=NOON, by="webhook")
        assert available(database_url, "org_a") == 0
        assert issued_in(database_url) == []
        connection.execute("alter table balance drop constraint poor")
    till.record(said, at=NOON, by="webhook")
    till.record(said, at=NOON, by="webhook")
    assert available(database_url, "org_a") == rupees(300)
    assert [document.number for document in issued_in(database_url)] == [f"RV/24-25/{n:06d}" for n in (1, 2, 3)]
