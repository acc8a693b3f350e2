"""Circuits and averages are the same in all processes while Valkey is there, and each process goes on without it."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import uvloop

from adapters.embedded import Valkey, running
from adapters.route_health import FORGOTTEN_SECONDS, STATES, STREAM, SharedRouteHealth
from domain.kernel.clock import SECOND
from domain.routing.health import Outcome
from tests.machine import kill

ROUTE = "p/m"
TURN_SECONDS = 0.02


def now() -> int:
    return time.time_ns() // 1000


@asynccontextmanager
async def process(
    url: str, name: str, *, rest_seconds: float = 30, clock: Callable[[], int] = now
) -> AsyncIterator[SharedRouteHealth]:
    """What one process knows; it takes a turn every 20 ms."""
    health = SharedRouteHealth(url, clock=clock, process=name, rest_seconds=rest_seconds, turn_seconds=TURN_SECONDS)
    await health.start()
    try:
        yield health
    finally:
        await health.close()


def run(test: Coroutine[object, object, None]) -> None:
    uvloop.run(test)


def outcome(route: str = ROUTE, *, failed: bool = False, latency_micros: int = 0) -> Outcome:
    return Outcome(route=route, at=now(), failed=failed, latency_micros=latency_micros)


def circuit(health: SharedRouteHealth, route: str = ROUTE) -> str:
    standing = health.health().get(route)
    return "unknown" if standing is None else standing.circuit


async def until(condition: Callable[[], bool], what: str, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # it may be anything
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def test_what_one_process_sees_all_know_and_failures_of_several_count_together(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url, "a") as a, process(redis_url, "b") as b:
            a.observe(outcome(latency_micros=5_000))
            await until(lambda: circuit(b) == "closed", "b hears of the route")
            a.observe(outcome(failed=True))
            await until(lambda: b.health()[ROUTE].failures_ppm == 100_000, "b hears of the failure")
            b.observe(outcome(failed=True))
            await until(lambda: a.health()[ROUTE].failures_ppm == 190_000, "a hears of the failure")
            assert (circuit(a), circuit(b)) == ("closed", "closed")
            a.observe(outcome(failed=True))
            assert circuit(a) == "open"  # at once where it is seen
            await until(lambda: circuit(b) == "open", "it opens everywhere")
            await until(lambda: a.health() == b.health(), "both know the same")
            assert a.health()[ROUTE].latency_micros == 5_000

    run(test())


def test_who_starts_later_knows_what_was_seen_before(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url, "a") as a:
            for latency in (1_000, 2_000, 3_000):
                a.observe(outcome(latency_micros=latency))
                await asyncio.sleep(3 * TURN_SECONDS)
            for _ in range(3):
                a.observe(outcome("q/m", failed=True))
        # The stream may have been cut meanwhile: what was in it is in the states.
        async with process(redis_url, "b") as b:
            before = dict(b.health())
        with redis.Redis.from_url(redis_url) as client:
            client.xtrim(STREAM, maxlen=0, approximate=False)
        async with process(redis_url, "c") as c:
            assert dict(c.health()) == before == dict(a.health())
            assert circuit(c, "q/m") == "open"
            assert c.health()[ROUTE].latency_micros == (1_200 * 4 + 3_000) // 5

    run(test())


def test_many_outcomes_travel_in_few_batches(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url, "a") as a, process(redis_url, "b") as b:
            for _ in range(5_000):
                a.observe(outcome(latency_micros=1_000))
            await until(lambda: circuit(b) == "closed", "b hears of it")
            with redis.Redis.from_url(redis_url) as client:
                [(_, fields)] = client.xrange(STREAM)
            [batch] = json.loads(fields[b"o"])
            assert batch["count"] == 5_000

    run(test())


def test_one_process_alone_may_try_a_circuit_that_has_rested(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url, "a", rest_seconds=0.3) as a, process(redis_url, "b", rest_seconds=0.3) as b:
            both = (a, b)
            for _ in range(3):
                a.observe(outcome(failed=True))
            await until(lambda: circuit(b) == "open", "it opens everywhere")
            await until(lambda: "probe" in {circuit(each) for each in both}, "it has rested")
            await asyncio.sleep(5 * TURN_SECONDS)
            assert sorted(circuit(each) for each in both) == ["half_open", "probe"]
            taken = [each.take_probe(ROUTE) for each in both for _ in range(2)]
            assert sum(taken) == 1
            await asyncio.sleep(5 * TURN_SECONDS)
            assert [circuit(each) for each in both] == ["half_open", "half_open"]  # while that call runs
            prober = a if taken[0] else b
            prober.observe(outcome())
            prober.end_probe(ROUTE)
            await until(lambda: {circuit(each) for each in both} == {"closed"}, "it closes everywhere")

    run(test())


PROBER = textwrap.dedent("""
    import asyncio, json, sys, time, uvloop
    from adapters.route_health import SharedRouteHealth
    from domain.routing.health import Outcome

    ROUTE = "p/m"

    async def main(url, name):
        now = lambda: time.time_ns() // 1000
        health = SharedRouteHealth(url, clock=now, process=name, rest_seconds=1, turn_seconds=0.02)
        await health.start()
        print("ready", flush=True)
        sys.stdin.readline()
        tries = 0
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            standing = health.health().get(ROUTE)
            if standing is not None and standing.circuit == "probe" and health.take_probe(ROUTE):
                tries += 1
                await asyncio.sleep(0.3)
                health.observe(Outcome(route=ROUTE, at=now(), failed=True))
                health.end_probe(ROUTE)
            await asyncio.sleep(0.001)
        print(json.dumps(tries), health.degraded, flush=True)
        await health.close()

    uvloop.run(main(*sys.argv[1:]))
""")


def test_two_processes_try_a_dead_route_once_for_each_time_that_it_has_rested(redis_url: str) -> None:
    async def break_it() -> None:
        async with process(redis_url, "breaker", rest_seconds=1) as health:
            for _ in range(3):
                health.observe(outcome(failed=True))

    probers = [
        subprocess.Popen(
            [sys.executable, "-c", PROBER, redis_url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for prober in probers:
        assert prober.stdout is not None
        assert prober.stdout.readline() == "ready\n"
    run(break_it())
    for prober in probers:
        assert prober.stdin is not None
        prober.stdin.write("go\n")
        prober.stdin.flush()
    results = [prober.communicate(timeout=30)[0].split() for prober in probers]
    assert [degraded for _, degraded in results] == ["False", "False"]
    # It rests for a second after each try of 0.3 s: in 4.5 s there is time for three.
    assert 2 <= sum(int(tries) for tries, _ in results) <= 3


def test_a_route_that_was_not_called_for_a_day_is_forgotten(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url, "a") as a:
            a.observe(outcome())
            await until(lambda: circuit(a) == "closed", "it is known")
        later = now() + FORGOTTEN_SECONDS * SECOND + SECOND
        async with process(redis_url, "b", clock=lambda: later) as b:
            assert circuit(b) == "unknown"
            with redis.Redis.from_url(redis_url) as client:
                assert client.hlen(STATES) == 0

    run(test())


# Without Valkey


@pytest.fixture
def killable(servers_home: Path) -> Iterator[tuple[Valkey, str]]:
    """A Valkey of the test's own that forgets everything when it dies, and its URL."""
    server = Valkey(servers_home.with_name("killable-health"), durable=False)
    with running(server) as url:
        yield server, url


def test_a_process_goes_on_alone_while_valkey_is_away_and_tells_afterwards(killable: tuple[Valkey, str]) -> None:
    server, url = killable

    async def test() -> None:
        async with process(url, "a", rest_seconds=1) as a:
            a.observe(outcome("q/m", latency_micros=7_000))
            await until(lambda: circuit(a, "q/m") == "closed", "it is known")
            kill(server)
            await until(lambda: a.degraded, "it notices")
            for _ in range(3):
                a.observe(outcome(failed=True))
            assert circuit(a) == "open"
            await until(lambda: circuit(a) == "probe", "it has rested", seconds=5)
            assert a.take_probe(ROUTE)
            assert not a.take_probe(ROUTE)
            a.observe(outcome(failed=True))
            a.end_probe(ROUTE)
            assert circuit(a) == "open"

            server.start()
            await until(lambda: not a.degraded, "it finds Valkey again", seconds=20)
            assert circuit(a, "q/m") == "closed"
            async with process(url, "b") as b:
                assert circuit(b) == "open"
                a.observe(outcome("r/m"))
                await until(lambda: circuit(b, "r/m") == "closed", "they share again")

    run(test())


def test_a_valkey_that_hangs_holds_nobody_up(killable: tuple[Valkey, str]) -> None:
    server, url = killable

    async def test() -> None:
        async with process(url, "a") as a:
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            try:
                began = time.monotonic()
                for _ in range(1_000):
                    a.observe(outcome(latency_micros=1_000))
                for _ in range(3):
                    a.observe(outcome("q/m", failed=True))
                assert circuit(a, "q/m") == "open"
                assert time.monotonic() - began < 1
                await until(lambda: a.degraded, "it notices")
            finally:
                server.process.send_signal(signal.SIGCONT)
            await until(lambda: not a.degraded, "it finds Valkey again", seconds=20)
            assert circuit(a, "q/m") == "open"

    run(test())
