"""Calls and the routes they take: what is observed of them, circuits that open, saved chains, and the receipt."""

from dataclasses import replace
from typing import Any

import pytest

from domain.inference.ports import UpstreamFault
from domain.kernel.clock import SECOND
from domain.keys.directory import Caller
from domain.routing.breaker import REST_SECONDS
from domain.routing.health import LocalHealth
from domain.routing.needs import Step
from domain.routing.ranking import order_of
from tests.domain.inference.scene import OPENING, Scene, a_refusal, a_stream, a_whole, chunk, frames, usage
from tests.fakes import Play

REPORT = usage(10, 20)


def watched(**given: Any) -> tuple[Scene, LocalHealth]:
    """A scene whose routes are watched; the providers' calls take 100 ms each."""
    scene = Scene(**given)
    health = LocalHealth(scene.clock)
    scene.services = replace(scene.services, health=health)
    scene.upstream.on_call = lambda route: scene.clock.forward(seconds=0.1)
    return scene, health


def again(scene: Scene) -> None:
    """Forgets what was seen of the calls before, so that one more can be made."""
    fresh = type(scene.outlet)()
    scene.outlet = fresh
    scene.upstream.calls.clear()
    scene.refusal = None


def failures(health: LocalHealth, route: str) -> int:
    health.refresh()
    standing = health.health().get(route)
    return 0 if standing is None else standing.failures_ppm or 0


def circuit_of(scene: Scene) -> str:
    """What the receipt of the last call says of the cheapest route."""
    return scene.held.observed["cheap/org/model"].circuit


BROKEN = UpstreamFault("cut", "The provider closed the connection.", started=True)


@pytest.mark.parametrize(
    "play",
    [
        Play(fault=UpstreamFault("connect", "no", started=False)),
        Play(fault=UpstreamFault("timeout", "no", started=False)),
        *[a_refusal(status) for status in (401, 402, 403, 404, 408, 425, 429, 500, 503)],
        a_whole("", report=None, choices=[]),
        Play(steps=[b"null"]),
        Play(steps=[BROKEN]),
    ],
    ids=str,
)
def test_what_the_provider_is_at_fault_for_counts_against_its_route(play: Play) -> None:
    scene, health = watched()
    scene.plays(cheap=play, middle=a_whole(report=REPORT)).call()
    assert scene.upstream.asked == ["cheap", "middle"]
    assert failures(health, "cheap/org/model") == 100_000
    assert failures(health, "middle/org/model") == 0
    assert "middle/org/model" in health.health()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_caller_is_at_fault_for_does_not(status: int) -> None:
    scene, health = watched()
    scene.plays(cheap=a_refusal(status, "too long")).call()
    assert scene.refusal is not None
    assert (scene.refusal.code, "too long" in scene.refusal.message) == ("invalid_request", True)
    assert scene.upstream.asked == ["cheap"]
    assert health.health() == {}


def test_a_stream_that_breaks_after_content_counts_and_one_that_its_client_left_does_not() -> None:
    scene, health = watched()
    opened = frames(OPENING, chunk("one "), done=False)
    scene.plays(cheap=Play(steps=[opened, BROKEN])).call(stream=True)
    assert scene.seen.errors[0]["code"] == "provider_broke"
    assert failures(health, "cheap/org/model") == 100_000
    again(scene)
    scene.plays(cheap=Play(steps=[frames(OPENING, done=False), scene.outlet.leave, 5.0])).call(stream=True)
    assert scene.upstream.asked == ["cheap"]
    assert failures(health, "cheap/org/model") == 100_000


def test_the_time_to_the_first_token_and_the_pace_are_observed() -> None:
    scene, health = watched()

    def think() -> None:
        scene.clock.forward(seconds=0.4)

    words = a_stream("one ", "two ", report=REPORT)
    opening, first, *rest = words.steps
    # The head comes after 100 ms, a frame without content then, the first word after 500, all of it after 900.
    scene.plays(cheap=Play(steps=[opening, think, first, think, *rest])).call(stream=True)
    health.refresh()
    standing = health.health()["cheap/org/model"]
    assert standing.latency_micros == 500_000
    assert standing.tokens_per_kilosecond == 20 * 1_000_000 // 900
    assert standing.failures_ppm == 0


def test_an_open_circuit_is_not_asked_while_others_answer_and_is_tried_once_when_it_has_rested() -> None:
    scene, _health = watched()
    scene.plays(cheap=a_refusal(500), middle=a_whole(report=REPORT))
    for _ in range(3):
        scene.call()
        assert scene.upstream.asked == ["cheap", "middle"]
        again(scene)
    for _ in range(5):
        scene.call()
        assert scene.upstream.asked == ["middle"]
        again(scene)
    assert scene.held.candidates == ("middle/org/model", "dear/org/model", "cheap/org/model")
    assert circuit_of(scene) == "open"

    scene.clock.forward(seconds=REST_SECONDS)
    scene.call()
    assert scene.upstream.asked == ["cheap", "middle"]
    assert circuit_of(scene) == "probe"
    again(scene)
    scene.call()
    assert scene.upstream.asked == ["middle"]
    again(scene)

    scene.clock.forward(seconds=REST_SECONDS)
    scene.plays(cheap=a_whole(report=REPORT))
    for _ in range(2):
        scene.call()
        assert scene.upstream.asked == ["cheap"]
        again(scene)


def test_who_comes_while_a_circuit_is_tried_finds_it_last() -> None:
    scene, health = watched()
    scene.plays(cheap=a_refusal(500), middle=a_refusal(500), dear=a_whole(report=REPORT))
    for _ in range(3):
        scene.call()
        again(scene)
    scene.clock.forward(seconds=REST_SECONDS)
    health.refresh()
    # Both were planned as routes that may be tried; another call takes one of them before this call comes to it.
    scene.ledger.before_hold = lambda: health.take_probe("cheap/org/model")
    scene.call()
    assert scene.held.candidates == ("cheap/org/model", "middle/org/model", "dear/org/model")
    assert scene.upstream.asked == ["middle", "dear"]


def test_a_probe_that_the_request_itself_spoils_is_left_to_the_next_call() -> None:
    scene, _health = watched()
    scene.plays(cheap=a_refusal(500), middle=a_whole(report=REPORT))
    for _ in range(3):
        scene.call()
        again(scene)
    scene.clock.forward(seconds=REST_SECONDS)
    scene.plays(cheap=a_refusal(400)).call()
    assert scene.upstream.asked == ["cheap"]
    again(scene)
    scene.plays(cheap=a_whole(report=REPORT)).call()
    assert scene.upstream.asked == ["cheap"]


def test_when_every_circuit_is_open_all_are_tried_and_a_pin_is_refused() -> None:
    scene, _ = watched()
    scene.plays(cheap=a_refusal(500), middle=a_refusal(500), dear=a_refusal(500))
    for _ in range(4):
        scene.call()
        assert scene.refusal is not None
        assert scene.refusal.code == "all_routes_failed"
        assert scene.upstream.asked == ["cheap", "middle", "dear"]
        again(scene)
    scene.call(provider="middle")
    assert scene.refusal is not None
    assert scene.refusal.code == "no_route"
    assert scene.refused.code == "no_route"
    assert scene.upstream.asked == []


def test_the_receipt_has_what_the_order_followed_from() -> None:
    scene, _health = watched()
    slow = a_stream("one ", report=REPORT)
    slow = Play(steps=[lambda: scene.clock.forward(seconds=2), *slow.steps])
    scene.plays(cheap=slow, middle=a_stream("one ", report=REPORT), dear=a_stream("one ", report=REPORT))
    for provider in ("cheap", "middle", "dear"):
        scene.call(stream=True, provider=provider)
        again(scene)
    scene.clock.forward(seconds=1)
    scene.call(stream=True, optimize="latency")
    held = scene.held
    assert held.optimize == "latency"
    assert held.candidates == ("middle/org/model", "dear/org/model", "cheap/org/model")
    assert held.observed["cheap/org/model"].latency_micros == 2_100_000
    assert tuple(order_of(held.optimize, held.observed)) == held.candidates


# Saved chains

CHAIN = (Step(model="byoe:ours", saved=True), Step(model="org/other", saved=True), Step(model="gone", saved=True))


def chained(**given: Any) -> Scene:
    scene, _ = watched(**given)
    scene.services = replace(scene.services, chain=lambda org, model: CHAIN if model == "org/model" else ())
    scene.plays(cheap=a_refusal(500), middle=a_refusal(500), dear=[a_refusal(500), a_whole(report=REPORT)])
    return scene


def test_a_saved_chain_comes_after_the_primary_and_skips_what_is_missing() -> None:
    scene = chained().call()
    assert scene.answer["model"] == "org/other"
    assert [called.route.model for called in scene.upstream.calls] == ["org/model"] * 3 + ["org/other"]
    assert "chain:saved" in scene.held.constraints
    assert scene.held.observed["dear/org/other"].step == 2
    assert scene.held.excluded == {"any/byoe:ours": "not_configured", "any/gone": "not_configured"}


@pytest.mark.parametrize("own", [{"fallbacks": [{"model": "thinker"}]}, {"fallbacks": []}, {"provider": "cheap"}])
def test_a_request_with_fallbacks_or_a_provider_of_its_own_ignores_the_saved_chain(own: dict[str, Any]) -> None:
    scene = chained().call(**own)
    assert "org/other" not in {called.route.model for called in scene.upstream.calls}
    assert "chain:saved" not in scene.held.constraints


def test_the_conditions_of_a_request_bind_every_step_of_a_saved_chain() -> None:
    scene = chained().call(data_policy="india_only")
    assert {called.route.residency for called in scene.upstream.calls} == {"IN"}


def test_a_key_that_may_not_use_a_model_skips_its_step() -> None:
    scene = chained()
    scene.caller = _limited(scene.caller, "org/model")
    scene.call()
    assert scene.refusal is not None
    assert scene.refusal.code == "all_routes_failed"
    assert len(scene.upstream.calls) == 3


def _limited(caller: Caller, *models: str) -> Caller:
    return replace(caller, models=frozenset(models))


def test_at_most_ten_routes_are_tried() -> None:
    from tests.domain.inference.scene import a_catalog

    names = [f"extra{number}" for number in range(12)]
    scene, _ = watched(catalog=a_catalog(extra_providers=names))
    scene.plays(**dict.fromkeys([*names, "cheap", "middle", "dear"], a_refusal(503))).call()
    assert len(scene.upstream.asked) == 10
    assert len(set(scene.upstream.asked)) == 10
    assert len(scene.held.observed) == 15
    assert scene.clock() > SECOND
