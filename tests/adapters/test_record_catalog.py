"""The catalog's way into the log, over a real database."""

import psycopg
import pytest

from adapters.eventstore import EventStore
from domain.catalog.service import record_catalog
from domain.kernel.errors import Conflict
from tests.at_once import at_once
from tests.domain.catalog.test_catalog import ABROAD, HOME, LARGE, SMALL, catalog, route


def positions(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from events where topic like 'catalog.%'").fetchone()
    assert row is not None
    return int(row[0])


def test_the_catalog_is_recorded_once_however_many_start_at_once(store: EventStore, database_url: str) -> None:
    at_once(*[lambda: record_catalog(store, catalog(), at=5, by="test")] * 4)
    assert positions(database_url) == 8  # two models, three routes, three prices
    assert record_catalog(store, catalog(), at=6, by="test") is None


def test_a_price_that_leapt_waits_for_a_person(store: EventStore, database_url: str) -> None:
    record_catalog(store, catalog(), at=5, by="test")
    slipped = catalog(routes=[route(HOME, SMALL, output=200_000), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    with pytest.raises(Conflict) as refused:
        record_catalog(store, slipped, at=6, by="test")
    assert refused.value.code == "price_leaped"
    assert positions(database_url) == 8
    assert record_catalog(store, slipped, leaps_accepted=True, at=7, by="test")
    assert positions(database_url) == 9
