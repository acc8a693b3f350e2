"""The projector, the worker and the scheduler die in the middle of their work: the read models come out as a replay
gives them, and credit that is to come back does."""

import asyncio
import time

import pytest

from tests.faults.books import balanced_books, endings_of, wait_until
from tests.faults.callers import Call, Caller, codes, under_load
from tests.faults.models import BRISK, LONG
from tests.faults.processes import gateway_of, kill, kill_and_wait, pid_of
from tests.product import Product

pytestmark = pytest.mark.faults

BACKGROUND = ("projector", "worker", "scheduler")


def test_what_works_in_the_background_may_die_at_any_moment(product: Product, key: str) -> None:
    before = endings_of(product)
    first = {name: pid_of(product, name) for name in BACKGROUND}

    def kill_them() -> None:
        abandon_a_call()
        for _ in range(3):
            time.sleep(0.7)
            for name in BACKGROUND:
                kill(product, name)
        for name in BACKGROUND:
            kill_and_wait(product, name)

    def abandon_a_call() -> None:
        """So that a hold is left for them to give back."""

        async def run() -> None:
            async with Caller(product.url, key) as caller:
                gateway = gateway_of(product, await caller.address())
                call = Call("abandoned", True)
                running = asyncio.create_task(caller.call(LONG, stream=True, into=call))
                await asyncio.to_thread(wait_until, lambda: call.text != "", "content comes", seconds_max=10)
                kill(product, gateway)
                await running

        asyncio.run(run())

    calls = under_load(product.url, key, [BRISK], kill_them, callers=15)
    assert codes(calls).get("complete", 0) > 20
    endings = balanced_books(product, calls)
    assert "expired" in {ending.how for request, ending in endings.items() if request not in before}
    assert not [name for name in BACKGROUND if pid_of(product, name) == first[name]]
