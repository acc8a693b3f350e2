"""`india_only` is kept at the socket: real calls through the spine, each provider at an address of its own. Whatever
the catalog, the chains, the circuits and the faults are, nobody is connected to who is not in India.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from hypothesis import event, given, settings
from hypothesis import strategies as st

from adapters.egress import Egress
from adapters.http import HttpPool
from adapters.own_calls import OwnCalls
from adapters.simulators import wire
from adapters.simulators.provider import Provider as Simulator
from adapters.simulators.provider import Rule
from adapters.upstream import ProviderCalls
from domain.byo.own import Own, OwnEndpoint, OwnKey
from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import INDIA, Provider, Route
from domain.catalog.price import make_rates
from domain.inference.messages import parse
from domain.inference.outlet import Patience
from domain.inference.serve import serve
from domain.kernel.errors import Refusal
from domain.routing.health import LocalHealth, Outcome
from domain.routing.needs import Step
from tests.domain.inference.scene import Scene, a_model
from tests.fakes import FakeOutlet
from tests.sockets import Address, connections

PROVIDERS = ["p0", "p1", "p2", "p3", "p4"]
ENDPOINTS = ["e0", "e1"]
HOSTS = [*PROVIDERS, *ENDPOINTS]
THEIRS = "their-model"
"""What a provider lists for an org's own key, and no catalog knows."""
MODELS = ["m0", "m1", "m2"]
RESIDENCIES = [INDIA, INDIA, INDIA, INDIA, "US", "SG", "", "in", "INDIA", "IN-KA"]
FAULTS = ["", "", "err400", "err401", "err404", "err429", "err500", "err503", "reset", "close", "notjson", "null"]
FAULTS += ["empty", "errframe0", "errframe2", "erropened", "2c-cut1", "2c-junk1", "role3"]


@dataclass(frozen=True)
class World:
    """What is there: where providers and the org's own endpoints are, routes with their residency and price, how each
    host behaves, at which of them nobody listens, which circuits are open, the chain that the org has saved, which
    providers the platform has a key for, and those that the org has one for, perhaps always to be used."""

    residency: Mapping[str, str]
    configured: frozenset[str]
    own_keys: Mapping[str, bool]
    endpoints: Mapping[str, str]
    routes: Mapping[tuple[str, str], tuple[str, int]]
    scripts: Mapping[str, list[str]]
    silent: frozenset[str]
    failing: frozenset[tuple[str, str]]
    saved: Mapping[str, tuple[Step, ...]]

    def is_indian(self, host: str, model: str) -> bool:
        """Whether the host may be asked for its model of this name. One that is in no catalog is where its host is."""
        residency, _ = self.routes.get((host, model), (self.residency[host], 0))
        return residency == INDIA

    def own(self, addresses: Mapping[str, Address]) -> Own:
        """What the org has brought."""
        keys = [
            OwnKey(id, addresses[id][0], "sealed", "", "", always, True, (THEIRS,), 0, 0)
            for id, always in self.own_keys.items()
        ]
        endpoints = [
            OwnEndpoint(
                id=id,
                slug=id,
                name=id,
                model=model,
                base_url=f"http://{addresses[id][0]}:{addresses[id][1]}/{id}/v1",
                upstream=f"{id}/{model}",
                residency=self.residency[id],
                sealed="",
                mask="",
                added_at=0,
            )
            for id, model in self.endpoints.items()
        ]
        return Own({key.provider: key for key in keys}, {endpoint.slug: endpoint for endpoint in endpoints})

    def catalog(self, addresses: Mapping[str, Address]) -> Catalog:
        def rates(provider: str, model: str, nanos: int) -> Any:
            return make_rates(provider=provider, model=model, priced_on="2026-01-01", input=nanos, output=nanos)

        return assemble(
            providers=[
                Provider(
                    id=id,
                    name=id,
                    base_url="http://{}:{}/{}/v1".format(*addresses[id], id),
                    residency=self.residency[id],
                    auth="bearer",
                    key_env=f"KEY_{id}",
                )
                for id in PROVIDERS
            ],
            models=[a_model(id) for id in MODELS],
            routes=[
                Route(
                    provider=provider,
                    model=model,
                    upstream=f"{provider}/{model}",
                    residency=residency,
                    rates=rates(provider, model, nanos),
                    context_length=100_000,
                    max_output_tokens=8_192,
                )
                for (provider, model), (residency, nanos) in self.routes.items()
            ],
        )


def steps() -> st.SearchStrategy[dict[str, str]]:
    pinned = st.fixed_dictionaries({"model": st.sampled_from(MODELS), "provider": st.sampled_from(PROVIDERS)})
    own = st.sampled_from(
        [{"model": f"byoe:{id}"} for id in ENDPOINTS] * 4
        + [{"model": model, "provider": f"byoe:{id}"} for id in ENDPOINTS for model in MODELS]
        + [{"model": f"{id}/{model}"} for id in PROVIDERS for model in (THEIRS, "m0")]
    )
    return st.one_of(st.fixed_dictionaries({"model": st.sampled_from(MODELS)}), pinned, own)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    every = [(provider, model) for provider in PROVIDERS for model in MODELS]
    there = draw(st.sets(st.sampled_from(every), min_size=6))
    chains = st.lists(steps(), min_size=1, max_size=3).map(
        lambda given: tuple(Step(**one, saved=True) for one in given)
    )
    ids = st.sets(st.sampled_from(PROVIDERS))
    return World(
        residency={id: draw(st.sampled_from(RESIDENCIES)) for id in HOSTS},
        configured=frozenset(draw(st.one_of(st.just(set(PROVIDERS)), ids))),
        own_keys={id: draw(st.booleans()) for id in sorted(draw(ids))},
        endpoints={id: draw(st.sampled_from(MODELS)) for id in ENDPOINTS},
        routes={pair: (draw(st.sampled_from(RESIDENCIES)), draw(st.integers(1, 9)) * 1_000) for pair in sorted(there)},
        scripts={id: draw(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3)) for id in HOSTS},
        silent=frozenset(draw(st.sets(st.sampled_from(HOSTS), max_size=2))),
        failing=frozenset(draw(st.sets(st.sampled_from(every), max_size=5))),
        saved=draw(st.dictionaries(st.sampled_from(MODELS), chains)),
    )


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "say it"}], "data_policy": "india_only"}
    body |= draw(steps()) if draw(st.booleans()) else {"model": draw(st.sampled_from(MODELS))}
    body["stream"] = draw(st.booleans())
    body["optimize"] = draw(st.sampled_from(["price", "latency", "uptime", "throughput", "auto"]))
    if draw(st.booleans()):
        body["fallbacks"] = draw(st.lists(steps(), min_size=1, max_size=3))
    if draw(st.integers(0, 3)) == 0:
        body["provider"] = draw(st.sampled_from(PROVIDERS))
    if draw(st.integers(0, 3)) == 0:
        body["upstream_key"] = "given-with-the-request"
    return body


@dataclass
class Seen:
    """What came of a call, to whom sockets were opened, and what each provider was asked for, as it says itself."""

    code: str
    connected: list[Address]
    asked: list[tuple[str, str]]


async def make_call(world: World, body: dict[str, Any], *, calls: int) -> Seen:
    """The same call some times in a row, so that later ones find what earlier ones left: circuits, connections."""
    async with simulators(world) as (addresses, playing):
        scene = Scene()
        catalog, own = world.catalog(addresses), world.own(addresses)
        pool = HttpPool(connect_seconds=2, idle_seconds=2)
        health = LocalHealth(scene.clock)
        for provider, model in world.failing:
            for _ in range(10):
                health.observe(Outcome(route=f"{provider}/{model}", at=scene.clock(), failed=True))
        keys = {f"KEY_{id}": "platform" for id in world.configured}
        own_calls = OwnCalls(
            pool,
            catalog=lambda: catalog,
            own=lambda org: own,
            open_seal=lambda org, sealed, host: "own",
            resolve=Egress(http=True, allowed=["127.0.1.0/24"]).resolve,
            environment=keys,
        )
        upstream = ProviderCalls(pool, catalog=lambda: catalog, environment=keys, own=own_calls)
        scene.services = replace(
            scene.services,
            catalog=lambda: catalog,
            configured=upstream.configured,
            upstream=upstream,
            patience=Patience(first_byte=2, reasoning_first_byte=2, disconnect_grace=0.02),
            health=health,
            chain=lambda org, model: world.saved.get(model, ()),
            own=lambda org: own,
        )
        code = ""
        try:
            with connections() as connected:
                for number in range(calls):
                    code = await one(scene, body, request=f"req_{number}")
        finally:
            await pool.close()
        asked = [(id, received.model) for id, simulator in playing.items() for received in simulator.received]
        return Seen(code, [address[:2] for address in connected], asked)


async def one(scene: Scene, body: dict[str, Any], *, request: str) -> str:
    """Makes one call to its end; the code by which it was refused."""
    outlet = FakeOutlet()
    try:
        await serve(request, parse("chat", json.dumps(body).encode()), scene.caller, outlet, scene.services)
    except Refusal as refusal:
        return refusal.code
    return "broken" if b"provider_broke" in outlet.frames else "served"


@contextlib.asynccontextmanager
async def simulators(world: World) -> AsyncIterator[tuple[dict[str, Address], dict[str, Simulator]]]:
    """Each provider at a host and port of its own; nobody listens at those of the silent ones."""
    playing = {id: Simulator() for id in HOSTS}
    servers: dict[str, wire.Server] = {}
    addresses: dict[str, Address] = {}
    for number, (id, simulator) in enumerate(playing.items()):
        host = f"127.0.1.{number + 1}"
        servers[id] = await wire.serve(simulator.handle, host=host, port=0)
        addresses[id] = (host, servers[id].port)
        *first, last = world.scripts[id]
        simulator.rules = [Rule(script=script, times=1) for script in first] + [Rule(script=last)]
    for id in world.silent:
        await servers.pop(id).close()
    try:
        yield addresses, playing
    finally:
        for server in servers.values():
            await server.close()


@settings(max_examples=150)
@given(worlds(), requests(), st.integers(1, 3))
def test_an_india_only_call_opens_no_socket_outside_india(world: World, body: dict[str, Any], calls: int) -> None:
    seen = uvloop.run(make_call(world, body, calls=calls))
    in_india = {host for host, residency in world.residency.items() if residency == INDIA}
    in_india |= {provider for provider, model in world.routes if world.is_indian(provider, model)}
    allowed = {f"127.0.1.{HOSTS.index(host) + 1}" for host in in_india}
    assert {address for address, _ in seen.connected} <= allowed
    for host, upstream in seen.asked:
        assert upstream == THEIRS or upstream.startswith(f"{host}/")
        assert world.is_indian(host, upstream.removeprefix(f"{host}/"))
    event("asked on an own endpoint", any(host in ENDPOINTS for host, _ in seen.asked))
    if seen.code == "no_route":
        assert not seen.connected
    event(seen.code)


STEADY = {id: [""] for id in HOSTS}
BODY = {"model": "m0", "messages": [{"role": "user", "content": "say it"}], "fallbacks": [{"model": "m1"}]}


def a_world(routes: Mapping[tuple[str, str], str], **given: Any) -> World:
    """The dearer the later a route is named."""
    priced = {pair: (residency, 1_000 * (1 + n)) for n, (pair, residency) in enumerate(routes.items())}
    fields: dict[str, Any] = {"scripts": STEADY, "silent": frozenset(), "failing": frozenset(), "saved": {}}
    fields |= {"residency": dict.fromkeys(HOSTS, ""), "configured": frozenset(PROVIDERS)}
    fields |= {"own_keys": {}, "endpoints": {}}
    return World(routes=priced, **fields | given)


def test_without_an_indian_route_nothing_is_connected_to() -> None:
    world = a_world({("p0", "m0"): "US", ("p1", "m0"): "", ("p2", "m1"): "SG"})
    seen = uvloop.run(make_call(world, {**BODY, "data_policy": "india_only"}, calls=1))
    assert (seen.code, seen.connected, seen.asked) == ("no_route", [], [])


def test_the_same_call_without_the_policy_goes_abroad() -> None:
    """Else the proof above would prove nothing."""
    world = a_world({("p0", "m0"): "US", ("p1", "m0"): INDIA}, scripts={**STEADY, "p0": ["err500"]})
    free = uvloop.run(make_call(world, BODY, calls=1))
    assert (free.code, free.asked) == ("served", [("p0", "p0/m0"), ("p1", "p1/m0")])
    assert {host for host, _ in free.connected} == {"127.0.1.1", "127.0.1.2"}
    bound = uvloop.run(make_call(world, {**BODY, "data_policy": "india_only"}, calls=1))
    assert (bound.code, bound.asked) == ("served", [("p1", "p1/m0")])
    assert {host for host, _ in bound.connected} == {"127.0.1.2"}


def test_when_all_indian_routes_fail_the_call_fails_and_goes_nowhere_else() -> None:
    world = a_world(
        {("p0", "m0"): INDIA, ("p1", "m0"): "US", ("p2", "m1"): INDIA, ("p3", "m1"): "US"},
        scripts={**STEADY, "p0": ["err503"]},
        silent=frozenset({"p2"}),
        saved={"m0": (Step(model="m0", provider="p1", saved=True),)},
    )
    seen = uvloop.run(make_call(world, {**BODY, "data_policy": "india_only"}, calls=2))
    assert seen.code == "all_routes_failed"
    assert {host for host, _ in seen.connected} == {"127.0.1.1", "127.0.1.3"}
    assert {provider for provider, _ in seen.asked} == {"p0"}


def test_what_an_org_brings_is_bound_too() -> None:
    world = a_world(
        {("p0", "m0"): "US", ("p1", "m0"): INDIA},
        residency={**dict.fromkeys(HOSTS, "US"), "e0": INDIA},
        own_keys={"p0": True},
        endpoints={"e0": "m0", "e1": "m0"},
        scripts={**STEADY, "p1": ["err500"]},
    )
    own_steps = [{"model": "byoe:e1"}, {"model": f"p0/{THEIRS}"}, {"model": "byoe:e0"}]
    body = {**BODY, "data_policy": "india_only", "fallbacks": own_steps}
    seen = uvloop.run(make_call(world, body, calls=1))
    assert (seen.code, seen.asked) == ("served", [("p1", "p1/m0"), ("e0", "e0/m0")])
    assert {host for host, _ in seen.connected} == {"127.0.1.2", "127.0.1.6"}
    free = uvloop.run(make_call(world, {**body, "data_policy": None}, calls=1))
    assert ("p0", "p0/m0") in free.asked
