"""What the tests of several adapters use: the store of facts on a real PostgreSQL, and a simulated Razorpay."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader
from adapters.postgres import make_pool
from tests.simulated_razorpay import WEBHOOK_SECRET, Hook, Simulated, simulated_razorpay, webhook_endpoint


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


@pytest.fixture(scope="module")
def _simulated_razorpay() -> Iterator[Simulated]:
    with simulated_razorpay() as simulated:
        yield simulated


@pytest.fixture
def simulated(_simulated_razorpay: Simulated) -> Simulated:
    """A Razorpay without orders."""
    _simulated_razorpay.tell("reset")
    return _simulated_razorpay


@pytest.fixture
def hook(simulated: Simulated) -> Iterator[Hook]:
    """Where it sends its webhooks."""
    with webhook_endpoint() as hook:
        endpoint = {"url": hook.url, "secret": WEBHOOK_SECRET, "old_secret": "the-one-before"}
        simulated.tell("webhook", endpoint, "PUT")
        yield hook
