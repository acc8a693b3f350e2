"""Calls on what an org has brought: they hold and cost nothing, and a key that comes with a request goes to one
provider and nowhere else."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from domain.byo.own import Own
from domain.catalog.catalog import Catalog
from domain.inference.messages import body_digest, parse
from domain.inference.ports import UpstreamFault
from domain.kernel.errors import Invalid, NotFound, OutOfCredit, UpstreamFailed
from domain.routing.health import LocalHealth
from tests.domain.byo.test_routes import endpoint, key, own
from tests.domain.inference.scene import ORG, Scene, a_catalog, a_refusal, a_stream, a_whole, usage
from tests.fakes import Play

REPORT = usage(7, 3)
SECRET = "sk-of-the-caller-0123456789"
DOWN = Play(fault=UpstreamFault("connect", "The provider could not be connected to.", started=False))


def taking_keys(catalog: Catalog) -> Catalog:
    """The same, but everybody takes a key."""
    providers = {id: msgspec.structs.replace(each, auth="bearer") for id, each in catalog.providers.items()}
    return msgspec.structs.replace(catalog, providers=providers)


class OwnScene(Scene):
    """An org that has brought something."""

    def __init__(self, brought: Own | None = None, **given: Any) -> None:
        super().__init__(catalog=taking_keys(a_catalog()), **given)
        self.health = LocalHealth(self.clock)
        self.services = replace(self.services, own=lambda org: brought if org == ORG else None, health=self.health)
        everybody = a_whole(report=REPORT)
        self.plays(cheap=everybody, middle=everybody, dear=everybody)

    @property
    def tried(self) -> list[str]:
        ended = self.events[-1]
        return [attempt.route for attempt in ended.attempts]


def test_a_call_on_the_orgs_key_holds_and_costs_nothing_and_is_metered() -> None:
    scene = OwnScene(own(key("dear", always_use=True), key("cheap", always_use=True), key("middle", always_use=True)))
    before = scene.available
    scene.call()
    assert scene.held.amount == 0
    settled = scene.settled
    assert (settled.cost, settled.shortfall, settled.own, settled.provider) == (0, 0, True, "cheap")
    assert (settled.usage.input, settled.usage.output) == (7, 3)
    assert scene.answer["usage"]["cost_inr"] == "0"
    assert scene.available == before
    assert scene.tried == ["own:cheap/org/model"]


def test_the_platform_is_asked_and_paid_where_the_orgs_key_fails() -> None:
    scene = OwnScene(own(key("cheap"))).plays(cheap=[a_refusal(401), a_whole(report=REPORT)]).call()
    assert scene.tried == ["own:cheap/org/model", "cheap/org/model"]
    assert not scene.settled.own
    assert scene.settled.cost > 0
    assert scene.held.amount > 0, "it might have come to that"


def test_with_always_use_the_platforms_key_is_not_tried_and_other_providers_are() -> None:
    scene = OwnScene(own(key("cheap", always_use=True))).plays(cheap=a_refusal(401)).call()
    assert scene.tried == ["own:cheap/org/model", "middle/org/model"]


@pytest.mark.parametrize("given", [{"inr": "0"}, {"key_budget": "0"}, {"workspace_budget": "0"}])
def test_without_money_the_orgs_key_still_serves(given: dict[str, str]) -> None:
    scene = OwnScene(own(key("dear")), **given).call()
    assert scene.settled.own
    assert scene.held.amount == 0
    assert scene.held.candidates == ("own:dear/org/model",)
    assert scene.held.excluded == dict.fromkeys(("cheap/org/model", "middle/org/model", "dear/org/model"), "no_credit")


def test_without_money_nothing_but_what_is_the_orgs_own_is_tried() -> None:
    scene = OwnScene(own(key("dear")), inr="0").plays(dear=a_refusal(500)).call()
    assert scene.tried == ["own:dear/org/model"]
    assert isinstance(scene.refusal, UpstreamFailed)
    alone = OwnScene(None, inr="0").call()
    assert isinstance(alone.refusal, OutOfCredit)


def test_a_ceiling_of_cost_does_not_stop_what_is_free() -> None:
    scene = OwnScene(own(key("dear"))).call(max_cost_inr="0.000000001")
    assert scene.settled.own
    assert scene.held.candidates == ("own:dear/org/model",)


def test_limits_count_calls_on_the_orgs_key_too() -> None:
    scene = OwnScene(own(key("cheap")), daily=1).call()
    assert scene.settled.own
    scene.call()
    assert scene.refusal is not None
    assert scene.refusal.code == "daily_limit_reached"


def test_a_balance_that_is_short_does_not_shorten_an_answer_on_the_orgs_key() -> None:
    scene = OwnScene(own(key("cheap")), inr="0.05").call()
    assert scene.settled.own
    assert "max_tokens" not in scene.upstream.calls[0].sent


def test_streams_on_an_endpoint_cost_nothing_and_need_no_extension() -> None:
    scene = OwnScene(own(endpoints=(endpoint("box", "org/model"),)))
    scene.plays(**{"byoe:box": a_stream(*["word "] * 50, report=usage(7, 500_000))}).call(model="byoe:box", stream=True)
    assert scene.happened == ["credit_held", "request_settled"]
    assert (scene.settled.cost, scene.settled.provider, scene.settled.usage.output) == (0, "byoe:box", 500_000)
    assert scene.seen.usage["cost_inr"] == "0"


def test_a_chain_goes_from_the_platform_to_an_endpoint_and_on_to_a_key() -> None:
    brought = own(key("middle", discovered=("theirs",)), endpoints=(endpoint("box", "org/model"),))
    scene = OwnScene(brought).plays(cheap=DOWN, dear=DOWN, **{"byoe:box": DOWN})
    steps = [{"model": "byoe:box"}, {"model": "byoe:gone"}, {"model": "middle/theirs"}]
    scene.call(provider="cheap", fallbacks=steps)
    assert scene.tried == ["cheap/org/model", "byoe:box/org/model", "own:middle/theirs"]
    assert scene.upstream.calls[-1].sent["model"] == "theirs"
    assert scene.settled.cost == 0


def test_circuits_of_an_org_open_for_it_alone() -> None:
    scene = OwnScene(own(key("cheap"))).plays(cheap=[*[a_refusal(401), a_whole(report=REPORT)] * 3, a_whole()])
    for _ in range(3):
        scene.call()
        scene.outlet = type(scene.outlet)(scene.trouble)
    standings = scene.health.health()
    assert standings[f"{ORG}:cheap/org/model"].circuit == "open"
    assert standings["cheap/org/model"].circuit == "closed"
    scene.call()
    assert scene.tried == ["cheap/org/model"], "while it rests, others go first"


# A key that comes with the request


def test_a_given_key_goes_to_the_provider_that_is_named() -> None:
    scene = OwnScene().call(provider="dear", upstream_key=SECRET)
    (called,) = scene.upstream.calls
    assert called.route.provider == "dear"
    assert called.key is not None
    assert called.key.get_secret_value() == SECRET
    assert (scene.settled.cost, scene.settled.own, scene.held.amount) == (0, True, 0)


def test_without_a_provider_one_route_sees_it_and_there_is_no_other() -> None:
    steps = [{"model": "org/other"}]
    scene = OwnScene().plays(cheap=a_refusal(401)).call(upstream_key=SECRET, fallbacks=steps)
    assert scene.upstream.asked == ["cheap"]
    assert isinstance(scene.refusal, UpstreamFailed)
    assert "cheap" in scene.refusal.message
    assert scene.released.code == "all_routes_failed"


@pytest.mark.parametrize("status", [401, 403])
def test_a_given_key_that_is_refused_is_told_with_the_providers_name_and_counts_against_nobody(status: int) -> None:
    scene = (
        OwnScene(own(key("dear")))
        .plays(dear=a_refusal(status, f"Wrong key {SECRET}"))
        .call(provider="dear", upstream_key=SECRET)
    )
    assert isinstance(scene.refusal, UpstreamFailed)
    assert scene.refusal.code == "all_routes_failed"
    assert "dear" in scene.refusal.message
    assert SECRET not in scene.refusal.message
    assert scene.upstream.asked == ["dear"]
    assert scene.health.health() == {}


def test_later_steps_do_not_see_a_given_key() -> None:
    steps = [{"model": "org/model"}, {"model": "byoe:box"}]
    brought = own(key("middle"), endpoints=(endpoint("box", "org/model"),))
    scene = OwnScene(brought).plays(cheap=DOWN, middle=DOWN, dear=DOWN, **{"byoe:box": a_whole(report=REPORT)})
    scene.call(provider="dear", upstream_key=SECRET, fallbacks=steps)
    assert [(called.route.name, called.key is not None) for called in scene.upstream.calls] == [
        ("own:dear/org/model", True),
        ("own:middle/org/model", False),
        ("cheap/org/model", False),
        ("middle/org/model", False),
        ("dear/org/model", False),
        ("byoe:box/org/model", False),
    ]


def test_a_given_key_does_not_open_what_is_not_in_the_catalog() -> None:
    assert isinstance(OwnScene().call(model="dear/what", provider="dear", upstream_key=SECRET).refusal, NotFound)
    refusal = OwnScene().call(upstream_key="two words").refusal
    assert isinstance(refusal, Invalid)
    assert refusal.param == "upstream_key"


def test_a_given_key_is_in_no_fact_and_in_nothing_that_is_shown() -> None:
    for play in (a_whole(report=REPORT), a_refusal(401, SECRET), DOWN):
        scene = OwnScene().plays(cheap=play).call(provider="cheap", upstream_key=SECRET)
        told = msgspec.json.encode([msgspec.to_builtins(event) for event in scene.events]).decode()
        told += repr(scene.upstream.calls) + repr(scene.refusal) + str(scene.outlet.body)
        assert SECRET not in told
        assert all(SECRET.encode() not in called.body for called in scene.upstream.calls)
        assert "upstream_key" in scene.held.constraints
    assert SECRET not in repr(parse("chat", json.dumps(body(upstream_key=SECRET)).encode()))


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}


def test_bodies_that_differ_in_the_given_key_alone_have_one_digest() -> None:
    one, two = (json.dumps(body(upstream_key=key)).encode() for key in ("sk-1", "sk-2"))
    spelled = one.replace(b'"upstream_key"', rb'"upstream\u005fkey"')
    assert body_digest(one) == body_digest(two) == body_digest(spelled)
    assert body_digest(one) != body_digest(json.dumps(body(n=2, upstream_key="sk-1")).encode())
    assert len(body_digest(json.dumps(body()).encode())) == 32


def test_a_given_key_is_tried_whatever_became_of_others() -> None:
    scene = OwnScene(own(key("dear", always_use=True))).plays(dear=a_refusal(401))
    for _ in range(3):
        scene.call(provider="dear")
    assert scene.health.health()[f"{ORG}:dear/org/model"].circuit == "open"
    scene.plays(dear=a_whole(report=REPORT)).call(provider="dear", upstream_key=SECRET)
    assert scene.settled.own
    assert scene.health.health()[f"{ORG}:dear/org/model"].circuit == "open", "one good key says nothing of another"
