"""The supervisor itself dies, or is told to stop, under load."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.faults.books import balanced_books, endings_of, new_key, open_holds, provider_saw, wait_until
from tests.faults.callers import Call, Caller, codes, new_mark, under_load
from tests.faults.models import ENDLESS, LONG, STEADY
from tests.faults.processes import with_children
from tests.machine import is_alive
from tests.product import Product

pytestmark = pytest.mark.faults

STOP_SECONDS = 5


@pytest.fixture(scope="module")
def own_product(new_product: Callable[[], Product]) -> Product:
    return new_product()


@pytest.fixture
def own_key(own_product: Product) -> str:
    return new_key(own_product.start())


def test_a_supervisor_killed_under_load_leaves_nothing_running_and_loses_nothing(
    own_product: Product, own_key: str
) -> None:
    product = own_product
    processes: list[int] = []

    def kill_supervisor() -> None:
        time.sleep(1.5)
        assert product.process is not None
        processes.extend(with_children(product.process.pid))
        product.process.kill()
        product.process.communicate()

    calls = under_load(product.url, own_key, [STEADY, LONG], kill_supervisor, callers=30)
    assert len(processes) > 12  # the servers have children of their own
    wait_until(lambda: not any(map(is_alive, processes)), "everything has ended", seconds_max=10)
    product.process = None

    product.start()
    assert open_holds(product) > 0 or any(ending.how == "expired" for ending in endings_of(product).values())
    balanced_books(product, calls)
    assert codes(calls).get("cut")
    assert product.stop() == 0


def test_a_stop_under_load_lets_calls_in_flight_finish_and_takes_no_new_ones(
    own_product: Product, own_key: str
) -> None:
    product = own_product
    before = endings_of(product)
    reached: set[str] = set()
    exit_codes: list[int] = []

    def stop() -> None:
        time.sleep(1.5)
        reached.update(provider_saw(product))
        exit_codes.append(product.stop())

    calls = under_load(product.url, own_key, [STEADY], stop, callers=30)
    assert exit_codes == [0]
    assert codes(calls).keys() <= {"complete", "no reply"}
    assert not [call for call in calls if call.mark in reached and not call.complete]

    product.start()
    endings = balanced_books(product, calls)
    assert "expired" not in {ending.how for request, ending in endings.items() if request not in before}
    assert product.stop() == 0


def test_a_stream_too_long_to_wait_for_is_ended_in_order_and_costs_nothing(own_product: Product, own_key: str) -> None:
    product = own_product

    async def run() -> tuple[Call, int, float]:
        async with Caller(product.url, own_key) as caller:
            call = Call(new_mark(), True)
            running = asyncio.create_task(caller.call(ENDLESS, stream=True, into=call))
            await asyncio.to_thread(wait_until, lambda: call.text != "", "content comes", seconds_max=10)
            began = time.monotonic()
            code = await asyncio.to_thread(product.stop)
            took = time.monotonic() - began
            return await running, code, took

    call, code, took = asyncio.run(run())
    assert code == 0
    assert STOP_SECONDS <= took < STOP_SECONDS + 5
    assert call.code == "overloaded"
    product.start()
    assert balanced_books(product, [call])[call.request].how == "released"
