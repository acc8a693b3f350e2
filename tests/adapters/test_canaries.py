"""Calls of one token outside of a gateway: routed by what all processes know of routes, and telling them nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from adapters.canaries import NoLedger, StandingHealth, run_checks
from adapters.route_health import STATES, STREAM, SharedRouteHealth, read_health
from adapters.wiring import App, build
from domain.monitoring.checks import Wanted
from domain.routing.health import NOTHING_OBSERVED, Outcome
from domain.routing.needs import Step
from tests.fakes import FakeClock
from tests.given import PEPPER
from tests.simulated_providers import Simulated

ROUTE = "sim-india/steady"
EITHER, PINNED = Step(model="steady"), Step(model="steady", provider="sim-india")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(database_url: str, redis_url: str, tmp_path: Path, providers: Simulated, clock: FakeClock) -> Iterator[App]:
    settings = providers.settings(tmp_path, redis_url=redis_url)
    with closing(build(settings, database_url=database_url, environment={}, pepper=PEPPER, clock=clock)) as app:
        yield app


def fails(url: str, clock: FakeClock) -> None:
    """A gateway has seen the route fail again and again."""

    async def tell() -> None:
        health = SharedRouteHealth(url, clock=clock, process="gateway")
        await health.start()
        for _ in range(3):
            health.observe(Outcome(route=ROUTE, at=clock(), failed=True))
        await health.close()

    asyncio.run(tell())


def asked(app: App, *steps: Step) -> list[tuple[str, str]]:
    (found,) = run_checks(app, [Wanted(steps, 10**9)])
    return [(ping.provider, ping.end) for ping in found.pings]


def test_a_circuit_that_is_open_turns_canaries_away_as_it_does_requests(
    app: App, redis_url: str, clock: FakeClock
) -> None:
    assert asked(app, EITHER, PINNED) == [("sim-india", "answered")] * 2
    fails(redis_url, clock)
    assert read_health(redis_url, at=clock(), rest_seconds=30)[ROUTE].circuit == "open"
    assert asked(app, EITHER, PINNED) == [("sim-abroad", "answered"), ("sim-india", "no_route")]
    clock.forward(seconds=31)
    assert read_health(redis_url, at=clock(), rest_seconds=30)[ROUTE].circuit == "probe"
    assert asked(app, EITHER, PINNED) == [("sim-india", "answered")] * 2


def test_what_canaries_find_closes_no_circuit_and_moves_no_average(
    app: App, redis_url: str, clock: FakeClock, providers: Simulated
) -> None:
    fails(redis_url, clock)
    clock.forward(seconds=31)
    with redis.Redis.from_url(redis_url) as client:
        before = client.hgetall(STATES), client.xlen(STREAM), client.keys("*")
        for script in ("", "err503"):
            providers.play(script, provider="sim-india")
            asked(app, PINNED)
        assert (client.hgetall(STATES), client.xlen(STREAM), client.keys("*")) == before


def test_without_valkey_routes_are_taken_for_unobserved() -> None:
    assert read_health("", at=0, rest_seconds=30) == NOTHING_OBSERVED
    assert read_health("redis://127.0.0.1:1/0", at=0, rest_seconds=30) == NOTHING_OBSERVED


def test_there_is_no_way_from_a_canary_to_the_ledger_or_to_a_circuit() -> None:
    for call in ("hold", "extend", "end", "note"):
        with pytest.raises(AssertionError):
            getattr(NoLedger(), call)("req_1", None)
    health = StandingHealth(NOTHING_OBSERVED)
    with pytest.raises(AssertionError):
        health.observe(Outcome(route=ROUTE, at=0))
    assert not health.take_probe(ROUTE)
