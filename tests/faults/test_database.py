"""A database that dies, freezes or will not be written to: nobody is called on credit that is not held, and what was
acknowledged stays."""

import asyncio
import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from tests.faults.books import balanced_books, provider_saw, wait_until
from tests.faults.callers import Call, Caller, calls_at_once, codes, under_load
from tests.faults.models import BRISK, SLOW, STEADY
from tests.faults.processes import kill, pid_of, signal_all, with_children
from tests.product import Product

pytestmark = pytest.mark.faults

OUTAGE_SECONDS = 1.5
RECOVERY_SECONDS_MAX = 10
HOLD_ANSWER_SECONDS_MAX = 11.5


def answers_queries(product: Product) -> bool:
    try:
        with psycopg.connect(product.database_url, connect_timeout=2) as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def serves(product: Product, key: str) -> bool:
    return product.chat(key, BRISK).status_code == 200


def status_of(product: Product, path: str) -> tuple[int, str]:
    response = httpx.get(product.url + path, trust_env=False)
    return response.status_code, response.json().get("status", "")


def refused_for_the_ledger(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.code == "ledger_unavailable"]


def test_postgres_killed_under_load_loses_nothing_and_calls_nobody_unheld(product: Product, key: str) -> None:
    refused: list[Call] = []
    back_after: list[float] = []

    def keep_it_down() -> None:
        """Killed again whenever it has come back, also in the middle of its recovery."""
        time.sleep(1.5)
        kill(product, "postgres")
        end = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < end:
            refused.extend(asyncio.run(calls_at_once(product.url, key, [BRISK] * 3)))
            kill(product, "postgres")
        wait_until(lambda: answers_queries(product), "PostgreSQL answers", seconds_max=30)
        back_after.append(
            wait_until(lambda: serves(product, key), "calls are served", seconds_max=RECOVERY_SECONDS_MAX)
        )

    calls = under_load(product.url, key, [STEADY], keep_it_down, callers=30)
    assert back_after[0] < RECOVERY_SECONDS_MAX
    assert codes(refused) == {"ledger_unavailable": len(refused)}
    assert codes(calls).keys() <= {"complete", "ledger_unavailable"}
    refused += refused_for_the_ledger(calls)
    assert not {call.mark for call in refused} & provider_saw(product)
    assert [call for call in calls if call.complete and call.began < refused[0].began < call.ended]  # they waited
    balanced_books(product, [*calls, *refused])


@contextmanager
def frozen_database(product: Product) -> Iterator[None]:
    processes = with_children(pid_of(product, "postgres"))
    signal_all(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(processes, signal.SIGCONT)


def test_a_frozen_postgres_is_told_in_bounded_time_and_nobody_is_called(product: Product, key: str) -> None:
    async def run() -> tuple[list[Call], list[Call], list[Call]]:
        running = asyncio.create_task(calls_at_once(product.url, key, [SLOW] * 3))
        await asyncio.to_thread(wait_until, lambda: len(provider_saw(product)) == 6, "calls arrive", seconds_max=10)
        with frozen_database(product):
            at_once = asyncio.create_task(calls_at_once(product.url, key, [BRISK] * 3))
            await asyncio.sleep(1.5)
            stale = await calls_at_once(product.url, key, [BRISK] * 3)
            assert (await asyncio.to_thread(status_of, product, "/readyz"))[0] == 503
            assert await asyncio.to_thread(status_of, product, "/health") == (200, "down")
            waiting = await at_once
        await asyncio.to_thread(
            wait_until, lambda: serves(product, key), "calls are served", seconds_max=RECOVERY_SECONDS_MAX
        )
        return await running, waiting, stale

    running, waiting, stale = asyncio.run(run())
    refused = refused_for_the_ledger([*waiting, *stale])
    assert [call.status for call in refused] == [503] * 12
    assert not {call.mark for call in refused} & provider_saw(product)
    assert max(call.ended - call.began for call in waiting) < HOLD_ANSWER_SECONDS_MAX
    assert max(call.ended - call.began for call in stale) < 1
    assert codes(running) == {"complete": 6}  # what was served is recorded as soon as that can be
    balanced_books(product, [*running, *waiting, *stale])


@contextmanager
def read_only_database(product: Product) -> Iterator[None]:
    """As PostgreSQL is on a standby, or as an operator makes it when its disk is full."""
    with psycopg.connect(product.database_url, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only to off")
        connection.execute("alter system set default_transaction_read_only to on")
        connection.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("alter system reset default_transaction_read_only")
            connection.execute("select pg_reload_conf()")


def test_a_database_that_cannot_be_written_to_serves_nobody_and_loses_no_call_in_flight(
    product: Product, key: str
) -> None:
    async def run() -> tuple[list[Call], list[Call]]:
        running = asyncio.create_task(calls_at_once(product.url, key, [SLOW] * 3))
        await asyncio.to_thread(wait_until, lambda: len(provider_saw(product)) == 6, "calls arrive", seconds_max=10)
        with read_only_database(product):
            await asyncio.sleep(0.1)
            refused: list[Call] = []
            async with Caller(product.url, key) as caller:
                end = time.monotonic() + 2.5
                for count in itertools.count():
                    if time.monotonic() > end:
                        break
                    refused.append(await caller.call(BRISK, stream=bool(count % 2)))
        await asyncio.to_thread(
            wait_until, lambda: serves(product, key), "calls are served", seconds_max=RECOVERY_SECONDS_MAX
        )
        return await running, refused

    running, refused = asyncio.run(run())
    assert len(refused) >= 5
    assert codes(refused).keys() == {"ledger_unavailable"}
    assert max(call.ended - call.began for call in refused) < 1
    assert not {call.mark for call in refused} & provider_saw(product)
    assert codes(running) == {"complete": 6}
    endings = balanced_books(product, [*running, *refused])
    assert {endings[call.request].how for call in running} == {"settled"}
