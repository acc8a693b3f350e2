"""Clients that hang up: at random moments, by the hundred, and on purpose just before the bill."""

import asyncio
import random
from typing import Any

import pytest

from tests.faults.books import Ending, balanced_books, endings_of, provider_counts, wait_until, whole_price
from tests.faults.callers import Call, Caller
from tests.faults.models import BRISK, BRISK_PIECES, ENDLESS, SLOW, SLOW_PIECES, STEADY
from tests.product import Product

pytestmark = pytest.mark.faults

CLIENTS = 20
HANG_UPS = 200
AT_ONCE = 40
GRACE_SECONDS_MAX = 4
"""The grace of one second, and what a busy machine adds."""


def all_ended(product: Product, model: str = "") -> bool:
    """Whether no provider's connection carries a call any more."""
    counts = provider_counts(product, model)
    return bool(counts["requests"] == counts["finished"] + counts["aborted"])


def test_two_hundred_hang_ups_at_random_moments_end_as_the_table_says(product: Product, key: str) -> None:
    moments = random.Random(20261123)

    async def run() -> list[Call]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def hang_up(number: int) -> Call:
            stream, model = bool(number % 2), (BRISK, STEADY, SLOW)[number % 3]
            async with gate, Caller(product.url, key) as caller:
                return await caller.call(model, stream=stream, leave_after=moments.uniform(0, 1.2))

        return await asyncio.gather(*(hang_up(number) for number in range(HANG_UPS)))

    calls = asyncio.run(run())
    left = [call for call in calls if not call.complete]
    assert len(left) > HANG_UPS / 4
    wait_until(lambda: all_ended(product), "providers are let go", seconds_max=GRACE_SECONDS_MAX)
    endings = balanced_books(product, calls)
    for call in calls:
        assert not call.code, call
        if not call.complete and call.text:
            ending = endings[call.request]
            assert ending.how == "settled", (call, ending)
            assert ending.cost == whole_price(ending) > 0
            assert ending.state["usage"]["output"] >= 1


def leave_together(product: Product, key: str, model: str, **options: Any) -> list[Ending]:
    """Twenty clients make the same call and hang up in the same way; how their calls ended."""
    before = endings_of(product)

    async def run() -> list[Call]:
        async def leave() -> Call:
            async with Caller(product.url, key) as caller:
                return await caller.call(model, **options)

        return await asyncio.gather(*(leave() for _ in range(CLIENTS)))

    calls = asyncio.run(run())
    assert not any(call.complete for call in calls)
    wait_until(lambda: all_ended(product), "providers are let go", seconds_max=GRACE_SECONDS_MAX)
    endings = balanced_books(product, calls)
    return [ending for request, ending in endings.items() if request not in before]


def has_content(chunk: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def is_finished(chunk: dict[str, Any]) -> bool:
    return any(choice["finish_reason"] for choice in chunk["choices"])


def test_a_stream_whose_client_left_is_let_go_after_the_grace_and_charged_for_what_was_sent(
    product: Product, key: str
) -> None:
    endings = leave_together(product, key, ENDLESS, stream=True, leave_at=has_content)
    assert len(endings) == CLIENTS
    for ending in endings:
        assert (ending.how, ending.state["ending"]) == ("settled", "client_gone")
        assert ending.state["usage"]["source"] == "counted"
        assert ending.cost == whole_price(ending) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_to_take_the_answer_and_drop_the_bill_costs_the_whole_price(product: Product, key: str, stream: bool) -> None:
    if stream:  # every word has come, and what is still to come is the bill
        endings = leave_together(product, key, BRISK, stream=True, leave_at=is_finished)
    else:  # the provider is at work
        endings = leave_together(product, key, SLOW, leave_after=0.5)
    assert len(endings) == CLIENTS
    for ending in endings:
        assert ending.how == "settled"
        assert "source" not in ending.state["usage"]  # it is the provider's own
        assert ending.state["usage"]["output"] == (BRISK_PIECES if stream else SLOW_PIECES)
        assert ending.cost == whole_price(ending)
