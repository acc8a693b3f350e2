"""Providers that break off at any point, hang, or die in the middle of everything."""

import asyncio

import pytest

from tests.faults.books import balanced_books, provider_counts, wait_until
from tests.faults.callers import Call, calls_at_once, codes
from tests.faults.models import BRISK, BROKEN_AFTER_CONTENT, BROKEN_BEFORE_CONTENT, LONG, SLOW
from tests.faults.processes import kill_and_wait
from tests.product import Product

pytestmark = pytest.mark.faults


def test_an_answer_that_breaks_off_is_never_paid_for(product: Product, key: str) -> None:
    calls = asyncio.run(calls_at_once(product.url, key, [*BROKEN_BEFORE_CONTENT, *BROKEN_AFTER_CONTENT]))
    before, after = calls[: 2 * len(BROKEN_BEFORE_CONTENT)], calls[2 * len(BROKEN_BEFORE_CONTENT) :]

    assert {(call.status, call.code) for call in before} == {(502, "all_routes_failed")}
    streams = [call for call in after if call.streamed]
    broken = [call for call in streams if not call.complete]
    assert {(call.status, call.code) for call in broken} == {(200, "provider_broke")}
    assert len(broken) == len(streams)
    endings = balanced_books(product, calls)
    for call in [*before, *broken]:
        assert endings[call.request].how == "released", call


def test_providers_killed_in_the_middle_cost_nothing_and_are_called_again_when_they_are_back(
    product: Product, key: str
) -> None:
    async def run() -> list[Call]:
        running = asyncio.create_task(calls_at_once(product.url, key, [LONG, SLOW] * 8))
        await asyncio.to_thread(
            wait_until, lambda: provider_counts(product)["pieces"] >= 16, "streams run", seconds_max=10
        )
        await asyncio.to_thread(kill_and_wait, product, "simulator")
        return await running

    calls = asyncio.run(run())
    assert codes(calls).keys() <= {"complete", "provider_broke", "all_routes_failed"}
    broken = [call for call in calls if call.code == "provider_broke"]
    assert len(broken) >= 8
    assert all(call.text for call in broken)
    endings = balanced_books(product, calls)
    for call in calls:
        assert call.complete or endings[call.request].how == "released", call

    wait_until(lambda: product.chat(key, BRISK).status_code == 200, "providers are called again", seconds_max=10)
