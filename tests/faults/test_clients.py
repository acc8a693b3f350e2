"""Clients that hang up: at random moments, by the hundred, and on purpose just before the bill."""

import asyncio
import random

import pytest

from tests.faults.books import Ending, balanced_books, provider_counts, wait_until
from tests.faults.callers import Call, Caller
from tests.faults.models import BRISK, ENDLESS, SLOW, STEADY
from tests.product import INPUT_NANOS, OUTPUT_NANOS, Product

pytestmark = pytest.mark.faults

HANG_UPS = 200
AT_ONCE = 40
GRACE_SECONDS_MAX = 4
"""The grace of one second, and what a busy machine adds."""


def whole_price(ending: Ending) -> int:
    """What the usage is worth at the first provider's rates."""
    usage = ending.state["usage"]
    return int(usage["input"] * INPUT_NANOS + usage["output"] * OUTPUT_NANOS)


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


def test_a_stream_whose_client_left_is_let_go_after_the_grace_and_charged_for_what_was_sent(
    product: Product, key: str
) -> None:
    calls = leave_together(product, key, ENDLESS, stream=True, leave_at=has_content)
    wait_until(lambda: all_ended(product, ENDLESS), "providers are let go", seconds_max=GRACE_SECONDS_MAX)
    endings = balanced_books(product, calls)
    for call in calls:
        ending = endings[call.request]
        assert (ending.how, ending.state["ending"]) == ("settled", "client_gone"), ending
        assert ending.state["usage"]["source"] == "counted"
        assert ending.cost == whole_price(ending) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_to_read_the_answer_and_drop_the_bill_pays_the_whole_price(product: Product, key: str, stream: bool) -> None:
    leaving = {"leave_at": is_finished} if stream else {"leave_after": 0.4}
    calls = leave_together(product, key, BRISK if stream else SLOW, stream=stream, **leaving)
    wait_until(lambda: all_ended(product), "providers are let go", seconds_max=GRACE_SECONDS_MAX)
    before = endings_of(product)
