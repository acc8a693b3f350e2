"""The store of facts on a real PostgreSQL, as the tests of several adapters use it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader
from adapters.postgres import make_pool


@pytest.fixture
def log(database_url: str) -> Iterator[LogReader]:
    with closing(make_pool(database_url, size=8)) as pool:
        yield LogReader(pool)


@pytest.fixture
def store(database_url: str, log: LogReader) -> Iterator[EventStore]:
    with closing(EventStore(database_url, log)) as store:
        yield store


@pytest.fixture
def stores(database_url: str, log: LogReader) -> Iterator[list[EventStore]]:
    """As many processes would have them, each with connections of its own."""
    with ExitStack() as made:
        yield [made.enter_context(closing(EventStore(database_url, log))) for _ in range(6)]
