"""Saved chains through the API, how routes do as the API shows it, and the receipt of a request."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from adapters.settings import Settings
from adapters.wiring import App, build
from api.app import build as build_web
from api.schemas.request import request_record
from domain.kernel.clock import SECOND
from domain.kernel.events import Recorded
from domain.keys.service import KeyTerms
from domain.ledger.events import CreditHeld, HoldReleased
from domain.routing.health import LocalHealth, Outcome
from domain.routing.ranking import Figures
from tests.api.client import Client, minted, started
from tests.fakes import FakeClock
from tests.given import Minted, given_org

MODEL, OTHER = "sarvam-105b", "gpt-oss-120b"


def test_a_chain_is_saved_shown_replaced_and_cleared(client: Client, key: Minted) -> None:
    saved = client("PUT", f"/me/routing/{MODEL}", key.secret, {"fallbacks": [{"model": OTHER}]})
    assert saved.status_code == 200, saved.text
    row = saved.json()
    assert (row["object"], row["model"], row["updated_by"]) == ("routing_chain", MODEL, f"key:{key.key}")
    assert row["fallbacks"] == [{"model": OTHER, "provider": None}]
    assert client("GET", f"/me/routing/{MODEL}", key.secret).json() == row
    assert client("GET", "/me/routing", key.secret).json() == {"object": "list", "data": [row]}
    steps = [{"model": "byoe:ours"}, {"model": OTHER, "provider": "byoe:ours"}]
    assert client("PUT", f"/me/routing/{MODEL}", key.secret, {"fallbacks": steps}).status_code == 200
    assert len(client("GET", "/me/routing", key.secret).json()["data"][0]["fallbacks"]) == 2
    for _ in range(2):
        gone = client("DELETE", f"/me/routing/{MODEL}", key.secret)
        assert (gone.status_code, gone.json()) == (200, {"model": MODEL, "deleted": True})
    assert client.code("GET", f"/me/routing/{MODEL}", key.secret) == (404, "not_found")


def test_model_ids_may_hold_slashes(client: Client, key: Minted) -> None:
    provider = next(iter(client.services.catalog.providers))
    model = f"{provider}/their/model"
    assert client("PUT", f"/me/routing/{model}", key.secret, {"fallbacks": [{"model": OTHER}]}).status_code == 200
    assert client("GET", f"/me/routing/{model}", key.secret).json()["model"] == model


def test_slips_are_refused_and_chains_of_others_are_not_there(client: Client, key: Minted) -> None:
    path = f"/me/routing/{MODEL}"
    good = {"model": OTHER}
    assert client.code("PUT", path, key.secret, {"fallbacks": []}) == (400, "invalid_request")
    assert client.code("PUT", path, key.secret, {"fallbacks": [good] * 11}) == (400, "invalid_request")
    assert client.code("PUT", path, key.secret, {"fallbacks": [good | {"key": "x"}]}) == (400, "invalid_request")
    assert client.code("PUT", path, key.secret, {"fallbacks": [good | {"provider": "nobody"}]}) == (
        400,
        "invalid_request",
    )
    assert client.code("PUT", path, key.secret, {"fallbacks": [{"model": "nothing"}]}) == (404, "model_not_found")
    assert client.code("PUT", "/me/routing/nothing", key.secret, {"fallbacks": [good]}) == (404, "model_not_found")
    given_org(client.services.store, "org_b", at=client.services.clock())
    stranger = minted(client, "org_b", KeyTerms(name="theirs"))
    assert client("PUT", path, key.secret, {"fallbacks": [good]}).status_code == 200
    assert client("GET", "/me/routing", stranger.secret).json()["data"] == []
    assert client.code("GET", path, stranger.secret) == (404, "not_found")


def test_a_chain_is_in_force_in_another_process_within_a_second(client: Client, key: Minted, tmp_path: Path) -> None:
    with started(Settings(home=tmp_path), client.services.database_url) as there:
        for change, wanted in (({"fallbacks": [{"model": OTHER}]}, 1), (None, 0)):
            client("PUT" if change else "DELETE", f"/me/routing/{MODEL}", key.secret, change)
            acknowledged = time.monotonic()
            while len(there.directory.directory.chains("org_a").steps(MODEL)) != wanted:
                time.sleep(0.01)
                assert time.monotonic() - acknowledged < 1


# How routes do


class Watched:
    """The application beside a process that has seen calls."""

    def __init__(self, services: App) -> None:
        clock = FakeClock()
        self.health = LocalHealth(clock)
        self.clock = clock
        rates = SimpleNamespace(degraded=False)
        gateway: Any = SimpleNamespace(services=SimpleNamespace(health=self.health, ledger=None), rates=rates)
        self._web = build_web(services, gateway=gateway)

    def happens(self, route: str, *, failures: int = 0, latency_micros: int = 0) -> None:
        if latency_micros:
            self.health.observe(Outcome(route=route, at=self.clock(), latency_micros=latency_micros))
        for _ in range(failures):
            self.health.observe(Outcome(route=route, at=self.clock(), failed=True))
        self.health.refresh()

    def get(self, path: str) -> Any:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._web)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.get(path)

        return asyncio.run(call()).json()


@pytest.fixture
def unconnected(tmp_path: Path) -> App:
    """Never connected; every provider has a simulator behind it."""
    return build(
        Settings(home=tmp_path, simulator_url="http://simulator"), database_url="postgresql://nowhere", pepper=b"p"
    )


def test_health_is_that_of_each_route_in_every_list(unconnected: App) -> None:
    watched = Watched(unconnected)
    routes = unconnected.catalog.routes_of(MODEL)
    provider = routes[0].provider
    theirs = [each.model for each in (route for all in unconnected.catalog.routes.values() for route in all)]
    assert theirs
    unknown = {"state": "unknown", "latency_ms": None, "failure_rate": None}
    assert watched.get(f"/v1/models/{MODEL}")["routes"][0]["health"] == unknown

    watched.happens(f"{provider}/{MODEL}", latency_micros=250_000, failures=1)
    row = watched.get(f"/v1/models/{MODEL}")["routes"][0]
    assert row["health"] == {"state": "up", "latency_ms": 250, "failure_rate": 0.1}
    listed = next(each for each in watched.get("/v1/models")["data"] if each["id"] == MODEL)
    assert listed["routes"][0] == row
    watched.happens(f"{provider}/{MODEL}", failures=2)
    assert watched.get(f"/v1/models/{MODEL}")["routes"][0]["health"]["state"] == "down"
    watched.clock.forward(seconds=30)
    assert watched.get(f"/v1/models/{MODEL}")["routes"][0]["health"]["state"] == "recovering"


def test_a_provider_is_degraded_while_some_of_its_circuits_are_open_and_down_while_all_are(unconnected: App) -> None:
    watched = Watched(unconnected)
    of = {id: unconnected.catalog.routes_at(id) for id in unconnected.catalog.providers}
    provider, routes = next((id, routes) for id, routes in of.items() if len(routes) > 1)

    def told() -> tuple[Any, Any]:
        health = next(each for each in watched.get("/health")["providers"] if each["id"] == provider)
        row = next(each for each in watched.get("/v1/providers")["data"] if each["id"] == provider)
        return (health["state"], health["routes_open"], health["routes_total"]), row["health"]["state"]

    total = len(routes)
    assert told() == (("up", 0, total), "unknown")
    watched.happens(f"{provider}/{routes[0].model}", failures=3)
    assert told() == (("degraded", 1, total), "degraded")
    for route in routes[1:]:
        watched.happens(f"{provider}/{route.model}", failures=3)
    assert told() == (("down", total, total), "down")


# The receipt


def record_of(observed: dict[str, Figures], *candidates: str) -> Any:
    held = CreditHeld(
        at=SECOND,
        org="org_a",
        key="key_a",
        workspace="ws_a",
        amount=1,
        expires=2 * SECOND,
        endpoint="chat",
        model="m",
        candidates=candidates,
        excluded={"c/m": "residency,not_configured"},
        constraints=("data_policy:india_only", "optimize:latency"),
        optimize="latency",
        observed=observed,
    )
    released = HoldReleased(
        at=SECOND,
        org="org_a",
        key="key_a",
        workspace="ws_a",
        endpoint="chat",
        model="m",
        held=1,
        code="all_routes_failed",
    )
    story = [Recorded(1, "request:r", 1, held), Recorded(2, "request:r", 2, released)]
    return request_record("r", story)["routing"]


def test_the_receipt_shows_figures_circuits_and_that_the_order_follows_from_them() -> None:
    observed = {
        "a/m": Figures(price=100, latency_micros=900_000),
        "b/m": Figures(price=200, latency_micros=300_000),
        "d/m": Figures(price=50, latency_micros=100_000, circuit="open"),
    }
    routing = record_of(observed, "b/m", "a/m", "d/m")
    assert routing["optimize"] == "latency"
    assert routing["candidates"] == ["b/m", "a/m", "d/m"]
    assert routing["excluded"] == {"c/m": ["residency", "not_configured"]}
    assert routing["observed"]["d/m"] == {"step": 0, "circuit": "open", "price_nanos": 50, "latency_micros": 100_000}
    assert routing["replays"] is True
    assert record_of(observed, "a/m", "b/m", "d/m")["replays"] is False
    assert record_of({}, "a/m")["replays"] is True
