"""The windows are exact over processes while Valkey is there, and never over the limit in a process when it is not."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from adapters.embedded import Valkey, running
from adapters.rates import PATIENCE_SECONDS, SCRIPT, SharedRateWindows
from domain.inference.rates import RollingWindows, Taken, Window


@asynccontextmanager
async def windows(url: str, *, window_seconds: float = 60) -> AsyncIterator[SharedRateWindows]:
    rates = SharedRateWindows(url, window_seconds=window_seconds)
    await rates.start()
    try:
        yield rates
    finally:
        await rates.close()


def run(test: Coroutine[object, object, None]) -> None:
    uvloop.run(test)


async def take_many(rates: SharedRateWindows, scope: str, limit: int, *, times: int) -> list[Window]:
    return await asyncio.gather(*(rates.take(scope, limit) for _ in range(times)))


async def passed(rates: SharedRateWindows, scope: str, limit: int, *, times: int) -> int:
    return sum(window.allowed for window in await take_many(rates, scope, limit, times=times))


async def becomes(rates: SharedRateWindows, *, degraded: bool, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while rates.degraded is not degraded:
            await asyncio.sleep(0.02)


@pytest.fixture
def killable(servers_home: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, with the append-only file that the product runs with."""
    server = Valkey(servers_home.with_name("killable"))
    with running(server) as url:
        redis.Redis.from_url(url).flushall()
        yield server


def kill(server: Valkey) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


# What the script, the window of one process and the plainest possible model answer

LENGTH = 100

Step = tuple[int, int, int]  # microseconds since the one before, limit, requests
steps = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 250)), st.integers(0, 12), st.integers(0, 9)),
    max_size=60,
)


def model(history: list[Step]) -> list[Taken]:
    """Every request that passed, by its time, and no cleverness."""
    now, times, answers = 0, list[int](), list[Taken]()
    for pause, limit, wanted in history:
        now += pause
        counting = [at for at in times if at > now - LENGTH]
        before = len(counting)
        while wanted and len(counting) < limit:
            counting.append(now)
            wanted -= 1
        times += counting[before:]
        retry = 0
        if len(counting) >= limit:
            retry = counting[-limit] + LENGTH - now if limit else LENGTH
        reset = counting[-1] + LENGTH - now if counting else 0
        answers.append(Taken(before, len(counting) - before, retry, reset))
    return answers


@given(steps)
def test_one_process_counts_as_the_plain_model_does(history: list[Step]) -> None:
    rolling, now = RollingWindows(LENGTH), 0
    answers = []
    for pause, limit, wanted in history:
        now += pause
        answers.append(rolling.take("scope", limit=limit, wanted=wanted, now=now))
    assert answers == model(history)


class ScriptAtTime:
    """The script with a clock of the test's own in place of Valkey's."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        source = SCRIPT.decode()
        assert source.count("redis.call('TIME')") == 1
        self.script = self.client.register_script(source.replace("redis.call('TIME')", "{0, ARGV[3]}"))

    def take(self, scope: str, *, limit: int, wanted: int, now: int) -> Taken:
        packed = self.script(keys=[f"rate:{scope}"], args=[LENGTH, struct.pack("<2q", limit, wanted), now])
        return Taken(*struct.unpack("<4q", packed))


def test_the_script_counts_as_the_plain_model_does(redis_url: str) -> None:
    script = ScriptAtTime(redis_url)
    numbers = iter(range(1_000_000))

    @given(steps)
    def check(history: list[Step]) -> None:
        scope, now = f"history-{next(numbers)}", 1_700_000_000_000_000
        # Keys must not end by Valkey's clock while the test's stands still.
        script.client.config_set("active-expire-effort", 1)
        answers = []
        for pause, limit, wanted in history:
            now += pause
            answers.append(script.take(scope, limit=limit, wanted=wanted, now=now))
            script.client.persist(f"rate:{scope}")
        assert answers == model(history)

    check()
    script.client.close()
