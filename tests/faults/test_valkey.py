"""Valkey hangs, dies and comes back: calls go on, and no process lets more through than a limit allows."""

import asyncio
import signal
import time
from collections.abc import Callable

import httpx
import pytest

from tests.faults.books import KNOWN_SECONDS_MAX, balanced_books, wait_until
from tests.faults.callers import Call, Caller, codes, under_load
from tests.faults.models import BRISK
from tests.faults.processes import kill_and_wait, pid_of, signal_all
from tests.product import Product

pytestmark = pytest.mark.faults

RPM_MAX = 8
GATEWAYS = 2


def status_of(product: Product) -> str:
    """What `/health` says, which gives a reason for whatever is not well."""
    health = httpx.get(f"{product.url}/health", trust_env=False).json()
    assert any("Valkey" in reason for reason in health["reasons"]) == (health["status"] == "degraded")
    return str(health["status"])


def test_calls_go_on_and_limits_hold_while_valkey_hangs_dies_and_returns(product: Product, key: str) -> None:
    with product.client(key) as client:
        limited = str(client.post("/me/keys", json={"name": "limited", "rpm_limit": RPM_MAX}).json()["key"])
    time.sleep(KNOWN_SECONDS_MAX)
    told: list[str] = []

    def hang_then_die() -> None:
        time.sleep(1)
        told.append(status_of(product))
        signal_all([pid_of(product, "valkey")], signal.SIGSTOP)
        time.sleep(1.5)
        told.append(status_of(product))
        kill_and_wait(product, "valkey")
        wait_until(lambda: status_of(product) == "ok", "Valkey is back", seconds_max=10)
        time.sleep(1.5)
        told.append(status_of(product))

    async def all_calls() -> tuple[list[Call], list[Call]]:
        return await asyncio.gather(
            asyncio.to_thread(under_load, product.url, key, [BRISK], hang_then_die, callers=20),
            ask_steadily(product, limited, until=lambda: len(told) == 3),
        )

    calls, limited_calls = asyncio.run(all_calls())
    assert told == ["ok", "degraded", "ok"]
    assert codes(calls).keys() == {"complete"}
    assert codes(limited_calls).keys() == {"complete", "rate_limit_exceeded"}
    passed = sum(call.complete for call in limited_calls)
    assert RPM_MAX <= passed <= GATEWAYS * RPM_MAX  # all within one minute
    assert limited_calls[-1].ended - limited_calls[0].began < 60
    balanced_books(product, [*calls, *limited_calls])


def test_a_full_window_is_still_full_when_valkey_and_all_gateways_were_killed(product: Product, key: str) -> None:
    with product.client(key) as client:
        limited = str(client.post("/me/keys", json={"name": "full", "rpm_limit": RPM_MAX}).json()["key"])
    time.sleep(KNOWN_SECONDS_MAX)
    filled = asyncio.run(ask(product, limited, times=2 * RPM_MAX))
    assert [call.complete for call in filled] == [True] * RPM_MAX + [False] * RPM_MAX

    kill_and_wait(product, "valkey")  # nobody is left who remembers, but its append-only file
    for name in [name for name in product.running["pids"] if name.startswith("gateway-")]:
        kill_and_wait(product, name)
    wait_until(lambda: is_served(product), "the gateways are back", seconds_max=20)
    wait_until(lambda: status_of(product) == "ok", "Valkey is back", seconds_max=10)
    after = asyncio.run(ask(product, limited, times=RPM_MAX))
    assert after[-1].ended - filled[0].began < 60
    assert codes(after).keys() == {"rate_limit_exceeded"}
    balanced_books(product, [*filled, *after])


def is_served(product: Product) -> bool:
    try:
        return status_of(product) != "down"
    except httpx.TransportError:
        return False


async def ask(product: Product, key: str, *, times: int) -> list[Call]:
    """Calls one after the other, each over a connection of its own, so that both gateways get some."""
    made = []
    for _ in range(times):
        async with Caller(product.url, key) as caller:
            made.append(await caller.call(BRISK))
    return made


async def ask_steadily(product: Product, key: str, *, until: Callable[[], bool]) -> list[Call]:
    """Calls over new connections, so that both gateways get some: well over the limit in all."""
    made: list[Call] = []
    while not until():
        async with Caller(product.url, key) as one, Caller(product.url, key) as other:
            made += await asyncio.gather(one.call(BRISK), other.call(BRISK, stream=True))
    return made
