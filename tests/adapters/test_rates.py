"""The windows are exact over processes while Valkey is there, and never over the limit in a process when it is not."""

import asyncio
import itertools
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from adapters.embedded import Valkey, running
from adapters.rates import PATIENCE_SECONDS, RECOVERY_SECONDS, SCRIPT, SharedRateWindows
from domain.inference.rates import SECOND_MICROS, Limit, RollingWindows, Taken, Window
from tests.machine import kill


@asynccontextmanager
async def windows(
    url: str, *, window_seconds: float = 60, patience_seconds: float = 10
) -> AsyncIterator[SharedRateWindows]:
    """Patient, unless told otherwise: a busy machine is no outage."""
    rates = SharedRateWindows(url, window_seconds=window_seconds, patience_seconds=patience_seconds)
    await rates.start()
    try:
        yield rates
    finally:
        await rates.close()


def run(test: Coroutine[object, object, None]) -> None:
    uvloop.run(test)


async def take_many(rates: SharedRateWindows, scope: str, limit: int, *, times: int) -> list[Window]:
    return await asyncio.gather(*(rates.take((scope, limit)) for _ in range(times)))


async def passed(rates: SharedRateWindows, scope: str, limit: int, *, times: int) -> int:
    return sum(window.allowed for window in await take_many(rates, scope, limit, times=times))


async def recovered(rates: SharedRateWindows) -> None:
    deadline = time.monotonic() + 20
    while rates.degraded:
        assert time.monotonic() < deadline, "it did not find Valkey again"
        await asyncio.sleep(0.02)


@pytest.fixture
def killable(servers_home: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, with the append-only file that the product runs with."""
    server = Valkey(servers_home.with_name("killable"))
    with running(server) as url:
        with redis.Redis.from_url(url) as client:
            client.flushall()
        yield server


# What the plainest possible model, the window of one process and the script answer

LENGTH = 100 * SECOND_MICROS

Step = tuple[int, tuple[Limit, ...], int]  # seconds since the step before, limits, requests
seconds = st.one_of(st.just(0), st.integers(0, 40), st.integers(90, 250))
limit = st.tuples(st.sampled_from(["child", "parent", "gateway"]), st.integers(0, 12))
limits = st.lists(limit, min_size=1, max_size=3, unique_by=lambda each: each[0]).map(tuple)
steps = st.lists(st.tuples(seconds, limits, st.integers(0, 9)), max_size=60)


def model(history: list[Step]) -> list[list[Taken]]:
    """Every request that passed, by its scope and time, and no cleverness."""
    now, times, answers = 0, defaultdict[str, list[int]](list), list[list[Taken]]()
    for pause, limits, wanted in history:
        now += pause * SECOND_MICROS
        before = {scope: sum(at > now - LENGTH for at in times[scope]) for scope, _ in limits}
        granted = max(0, min(wanted, *(limit - before[scope] for scope, limit in limits)))
        answers.append([])
        for scope, limit in limits:
            times[scope] += [now] * granted
            counting = [at for at in times[scope] if at > now - LENGTH]
            retry = 0
            if len(counting) >= limit:
                retry = counting[-limit] + LENGTH - now if limit else LENGTH
            reset = counting[-1] + LENGTH - now if counting else 0
            answers[-1].append(Taken(limit, before[scope], granted, retry, reset))
    return answers


@given(steps)
def test_one_process_counts_as_the_plain_model_does(history: list[Step]) -> None:
    rolling, now, answers = RollingWindows(LENGTH), 0, []
    for pause, limits, wanted in history:
        now += pause * SECOND_MICROS
        answers.append(rolling.take(limits, wanted=wanted, now=now))
    assert answers == model(history)


class ScriptAtTime:
    """The script with a clock of the test's own in place of Valkey's."""

    def __init__(self, client: redis.Redis) -> None:
        source = SCRIPT.decode()
        assert source.count("redis.call('TIME')") == 1
        self.script = client.register_script(source.replace("redis.call('TIME')", "{0, ARGV[3]}"))

    def take(self, groups: Sequence[tuple[tuple[Limit, ...], int]], *, now: int) -> list[list[Taken]]:
        keys = [f"rate:{scope}" for limits, _ in groups for scope, _ in limits]
        asked = [n for limits, wanted in groups for n in (len(limits), wanted, *(limit for _, limit in limits))]
        answers = struct.iter_unpack(
            "<4q", self.script(keys=keys, args=[LENGTH, struct.pack(f"<{len(asked)}q", *asked), now])
        )
        return [[Taken(limit, *next(answers)) for _, limit in limits] for limits, _ in groups]


@given(steps)
def test_the_script_counts_as_the_plain_model_does(valkey: str, history: list[Step]) -> None:
    now, answers = 1_700_000_000 * SECOND_MICROS, []
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
        script = ScriptAtTime(client)
        for pause, group in itertools.groupby(history, key=lambda step: step[0]):
            together = [(limits, wanted) for _, limits, wanted in group]
            batches = [together] if pause == 0 else [[each] for each in together]  # what comes at once goes in one
            for batch in batches:
                now += pause * SECOND_MICROS
                answers += script.take(batch, now=now)
    assert answers == model(history)


@pytest.mark.parametrize(("back", "passes"), [(1, 0), (99, 0), (3_600, 2)])
def test_a_clock_that_is_set_back_locks_nobody_out_for_longer_than_a_window(
    redis_url: str, back: int, passes: int
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        script, now = ScriptAtTime(client), 1_700_000_000 * SECOND_MICROS
        twice = [((("scope", 2),), 2)]
        assert script.take(twice, now=now)[0][0].granted == 2
        [[after]] = script.take(twice, now=now - back * SECOND_MICROS)
    assert (after.granted, after.retry) == (passes, LENGTH)


def test_a_scope_that_is_idle_for_a_window_is_forgotten() -> None:
    rolling = RollingWindows(LENGTH)
    rolling.take([("busy", 10_000)], wanted=1, now=0)
    for number in range(10_000):
        rolling.take([(f"early {number}", 1)], wanted=1, now=number)
    assert len(rolling) == 10_001
    for number in range(5_000):
        rolling.take([("busy", 10_000)], wanted=1, now=2 * LENGTH + number)
    assert len(rolling) == 1


# One process


def test_the_answers_count_down_to_a_refusal_that_says_when_to_come_back(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url) as rates:
            answers = [await rates.take(("key_1", 3)) for _ in range(4)]
        assert [(answer.allowed, answer.limit, answer.remaining) for answer in answers] == [
            (True, 3, 2),
            (True, 3, 1),
            (True, 3, 0),
            (False, 3, 0),
        ]
        assert [answer.retry_seconds for answer in answers[:3]] == [0, 0, 0]
        assert 50 < answers[3].retry_seconds <= answers[3].reset_seconds <= 60
        with redis.Redis.from_url(redis_url) as client:
            assert 50_000 < client.pttl("rate:key_1") <= 60_000

    run(test())


def test_all_requests_of_one_turn_go_in_one_script_and_pass_in_the_order_they_came(redis_url: str) -> None:
    async def test() -> None:
        with redis.Redis.from_url(redis_url) as client:
            async with windows(redis_url) as rates:
                client.config_resetstat()
                hot = [rates.take(("hot", 60)) for _ in range(100)]
                others = [rates.take((f"other {number}", 1)) for number in range(100)]
                allowed = [window.allowed for window in await asyncio.gather(*hot)]
                assert allowed == [True] * 60 + [False] * 40
                assert all(window.allowed for window in await asyncio.gather(*others))
                assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
                assert await passed(rates, "hot", 60, times=100) == 0  # its own count says so
                assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1

    run(test())


def test_a_refused_request_counts_nothing_and_passes_when_it_was_told_to_come_back(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url, window_seconds=0.6) as rates:
            assert await passed(rates, "key_1", 2, times=1) == 1
            await asyncio.sleep(0.2)
            assert await passed(rates, "key_1", 2, times=50) == 1
            refused = await rates.take(("key_1", 2))
            assert not refused.allowed
            await asyncio.sleep(refused.retry_seconds)
            assert await passed(rates, "key_1", 2, times=50) == 1
            await asyncio.sleep(0.61)
            assert await passed(rates, "key_1", 2, times=50) == 2

    run(test())


def test_no_window_anywhere_in_time_holds_more_than_the_limit(redis_url: str) -> None:
    limit, length = 20, 0.4

    async def test() -> None:
        passes: list[tuple[float, float]] = []  # when it was asked, when it was answered

        async def caller(rates: SharedRateWindows, until: float) -> None:
            while (asked := time.monotonic()) < until:
                if (await rates.take(("key_1", limit))).allowed:
                    passes.append((asked, time.monotonic()))
                await asyncio.sleep(0.003)

        async with (
            windows(redis_url, window_seconds=length) as one,
            windows(redis_url, window_seconds=length) as other,
        ):
            until = time.monotonic() + 2
            await asyncio.gather(*(caller(rates, until) for rates in (one, other) for _ in range(5)))
            assert not one.degraded
            assert not other.degraded
        passes.sort(key=lambda times: times[1])
        assert len(passes) >= 4 * limit
        for first in range(len(passes) - limit):
            one_too_many = passes[first : first + limit + 1]
            assert one_too_many[-1][1] - min(asked for asked, _ in one_too_many) >= length

    run(test())


def test_a_lower_limit_is_in_force_at_once_and_a_higher_one_too(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url) as rates:
            assert await passed(rates, "key_1", 50, times=30) == 30
            assert await passed(rates, "key_1", 20, times=30) == 0
            assert await passed(rates, "key_1", 35, times=30) == 5
            assert await passed(rates, "key_1", 0, times=1) == 0
            assert await passed(rates, "key_1", 10**30, times=30) == 30
            assert not rates.degraded

    run(test())


def test_a_request_counts_for_all_of_its_limits_or_for_none(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url) as one, windows(redis_url) as other:
            children = [(f"child {number}", 3) for number in range(10)]
            asked = [rates.take(child, ("parent", 20)) for rates in (one, other) for child in children for _ in "1234"]
            answers = await asyncio.gather(*asked)
            assert sum(window.allowed for window in answers) == 20
            assert {window.limit for window in answers if not window.allowed} == {3, 20}
            assert await passed(one, "parent", 25, times=20) == 5  # what a child's limit refused, it did not count
            left = [await passed(other, *child, times=4) for child in children]
            assert sum(left) == 10 * 3 - 20

    run(test())


def test_the_answer_is_that_of_the_tightest_limit(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url) as rates:
            answers = [await rates.take(("a", 2), ("b", 9)), await rates.take(("b", 9)), await rates.take(("b", 9))]
            assert [(window.limit, window.remaining) for window in answers] == [(2, 1), (9, 7), (9, 6)]
            assert (await rates.take(("a", 9), ("b", 5))).remaining == 1
            refused = await rates.take(("a", 2), ("b", 4))
            assert (refused.allowed, refused.remaining) == (False, 0)

    run(test())


def test_waiters_that_were_cancelled_disturb_nobody(redis_url: str) -> None:
    async def test() -> None:
        async with windows(redis_url) as rates:
            early = [rates.take(("key_1", 10)) for _ in range(10)]
            for waiter in early[:5]:
                waiter.cancel()  # before it was sent: it takes nothing
            assert all(window.allowed for window in await asyncio.gather(*early[5:]))
            late = [rates.take(("key_1", 10)) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            late[0].cancel()  # it is on its way
            assert all(window.allowed for window in await asyncio.gather(*late[1:]))
            assert not (await rates.take(("key_1", 10))).allowed

    run(test())


# Several processes

HAMMER = textwrap.dedent("""
    import asyncio, sys
    import uvloop
    from adapters.rates import SharedRateWindows

    async def main(url):
        rates = SharedRateWindows(url, patience_seconds=10)
        await rates.start()
        print("ready", flush=True)
        sys.stdin.readline()
        async def caller():
            return sum([(await rates.take(("hot", 777))).allowed for _ in range(20)])
        counts = await asyncio.gather(*(caller() for _ in range(100)))
        print(sum(counts), rates.degraded, flush=True)
        await rates.close()

    uvloop.run(main(sys.argv[1]))
""")


def test_two_processes_with_200_callers_pass_exactly_the_limit(redis_url: str) -> None:
    hammers = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, redis_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for hammer in hammers:
        assert hammer.stdout is not None
        assert hammer.stdout.readline() == "ready\n"
    for hammer in hammers:
        assert hammer.stdin is not None
        hammer.stdin.write("go\n")
        hammer.stdin.flush()
    results = [hammer.communicate(timeout=30)[0].split() for hammer in hammers]
    assert [degraded for _, degraded in results] == ["False", "False"]
    assert sum(int(count) for count, _ in results) == 777


# Without Valkey


@pytest.mark.parametrize("command", [["SCRIPT", "FLUSH"], ["CLIENT", "KILL", "SKIPME", "yes"]])
def test_a_lost_script_or_connection_is_no_outage(redis_url: str, command: list[str]) -> None:
    async def test() -> None:
        async with windows(redis_url) as rates:
            assert await passed(rates, "key_1", 10, times=4) == 4
            with redis.Redis.from_url(redis_url) as client:
                client.execute_command(*command)
            assert await passed(rates, "key_1", 10, times=20) == 6
            assert not rates.degraded

    run(test())


def test_nobody_notices_at_the_start_that_there_is_no_valkey(tmp_path: Path) -> None:
    async def test() -> None:
        async with windows(f"unix://{tmp_path}/none.sock", window_seconds=0.4) as rates:
            assert rates.degraded
            assert await passed(rates, "key_1", 10, times=20) == 10
            refused = await rates.take(("key_1", 10))
            assert 0 < refused.retry_seconds <= 0.4
            await asyncio.sleep(0.41)
            assert await passed(rates, "key_1", 10, times=20) == 10

    run(test())


@pytest.mark.faults
def test_a_killed_valkey_lets_no_process_pass_more_than_the_limit_and_comes_back_with_its_windows(
    killable: Valkey,
) -> None:
    async def test() -> None:
        async with windows(killable.url) as rates:
            assert await passed(rates, "key_1", 100, times=30) == 30
            callers = [asyncio.create_task(passed(rates, "busy", 500, times=1)) for _ in range(50)]
            await asyncio.sleep(0)
            kill(killable)
            callers += [asyncio.create_task(passed(rates, "busy", 500, times=10)) for _ in range(100)]
            assert sum(await asyncio.gather(*callers)) == 500
            assert await passed(rates, "key_1", 100, times=100) == 70
            assert rates.degraded

            killable.start()
            await recovered(rates)
            assert await passed(rates, "key_1", 100, times=10) == 0  # by its own memory
            assert await passed(rates, "key_2", 5, times=10) == 5
            async with windows(killable.url) as newcomer:
                answer = await newcomer.take(("key_1", 100))
                assert answer.remaining == 100 - 30 - 1  # by Valkey's

    run(test())


@pytest.mark.faults
def test_a_valkey_that_hangs_holds_nobody_up(killable: Valkey) -> None:
    async def test() -> None:
        assert killable.process is not None
        async with windows(killable.url, patience_seconds=PATIENCE_SECONDS) as rates:
            assert await passed(rates, "key_1", 10, times=4) == 4
            os.kill(killable.process.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                assert await passed(rates, "key_1", 10, times=20) == 6
                assert PATIENCE_SECONDS <= time.monotonic() - began < PATIENCE_SECONDS + 0.5
                assert rates.degraded
                began = time.monotonic()
                assert await passed(rates, "key_2", 10, times=20) == 10
                assert time.monotonic() - began < PATIENCE_SECONDS
            finally:
                os.kill(killable.process.pid, signal.SIGCONT)
            await recovered(rates)
            assert await passed(rates, "key_3", 10, times=20) == 10

    run(test())


@pytest.mark.faults
def test_a_valkey_that_answers_but_cannot_write_is_an_outage_until_it_can(killable: Valkey) -> None:
    async def test() -> None:
        async with windows(killable.url) as rates:
            with redis.Redis.from_url(killable.url) as client:
                client.config_set("maxmemory", 1)
                assert await passed(rates, "key_1", 10, times=20) == 10
                await asyncio.sleep(RECOVERY_SECONDS + 0.5)
                assert rates.degraded
                client.config_set("maxmemory", 0)
            await recovered(rates)
            assert await passed(rates, "key_2", 10, times=20) == 10

    run(test())
