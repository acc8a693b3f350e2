"""Calls over routes of different wires: who has no words for a request is passed over, and what is held covers every
condition of a price that the call can meet.
"""

from typing import Any

import msgspec

from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Provider
from domain.catalog.price import Variant, make_rates
from domain.inference.wires.registry import WIRES
from tests.domain.inference.scene import Scene, a_model, a_route, a_stream, a_whole, usage
from tests.fakes import Play

BROKEN_CALL = [
    {"role": "user", "content": "say it"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{broken"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "x"},
]


def mixed(*wires: tuple[str, str]) -> Catalog:
    """A catalog of one model at these providers, each with its wire."""
    return assemble(
        providers=[Provider(id=id, name=id, base_url="https://example.invalid", wire=wire) for id, wire in wires],
        models=[a_model("org/model")],
        routes=[a_route(id, takes=WIRES[wire].takes) for id, wire in wires],
    )


def test_a_route_without_words_for_a_message_is_passed_over_and_not_called() -> None:
    scene = Scene(catalog=mixed(("cheap", "anthropic"), ("middle", "openai"))).plays(middle=a_whole("yes"))
    scene.call(messages=BROKEN_CALL)
    assert scene.upstream.asked == ["middle"]
    assert [(attempt.route, attempt.end) for attempt in scene.settled.attempts] == [
        ("cheap/org/model", "parameters"),
        ("middle/org/model", "served"),
    ]
    assert not scene.settled.attempts[0].cost_unknown


def test_a_request_that_no_route_has_words_for_is_the_callers_to_change() -> None:
    scene = Scene(catalog=mixed(("cheap", "anthropic"), ("middle", "gemini"))).call(messages=BROKEN_CALL)
    assert scene.refusal is not None
    assert scene.refusal.code == "no_route"
    assert "arguments are not a JSON object" in scene.refusal.message
    assert scene.upstream.asked == []
    assert scene.released.code == "no_route"


def test_an_answer_of_another_wire_is_passed_on_in_openais() -> None:
    reply: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
    }
    reply["usage"] = {"input_tokens": 7, "output_tokens": 3}
    scene = Scene(catalog=mixed(("cheap", "anthropic")))
    scene.plays(cheap=Play(steps=[msgspec.json.encode(reply)])).call()
    assert scene.answer["choices"][0]["message"]["content"] == "yes"
    assert scene.answer["model"] == "org/model"
    assert (scene.settled.usage.input, scene.settled.usage.output) == (7, 3)


def tiered() -> Catalog:
    """A model with a dearer tier and a dearer step."""

    def rates(input: int, **variants: Any) -> Any:
        return make_rates(
            provider="cheap", model="org/model", priced_on="2026-11-23", input=input, output=4 * input, **variants
        )

    priced = rates(
        1_000,
        variants=(
            Variant(rates=rates(9_000), tier="priority", above_tokens=200),
            Variant(rates=rates(2_000), above_tokens=200),
            Variant(rates=rates(5_000), tier="priority"),
        ),
    )
    return assemble(
        providers=[Provider(id="cheap", name="Cheap", base_url="https://example.invalid")],
        models=[a_model("org/model")],
        routes=[a_route("cheap", rates=priced)],
    )


def test_the_hold_covers_the_dearest_that_the_call_can_meet_and_no_more() -> None:
    short = Scene(catalog=tiered()).plays(cheap=a_whole(report=usage(7, 3))).call(max_tokens=10)
    tokens = short.held.input_tokens
    assert short.held.amount == 1_000 * (tokens + 40)
    prior = Scene(catalog=tiered()).plays(cheap=a_whole(report=usage(7, 3)))
    prior.call(max_tokens=10, service_tier="priority")
    assert prior.held.amount == 5_000 * (prior.held.input_tokens + 40)
    long = Scene(catalog=tiered()).plays(cheap=a_whole(report=usage(7, 3)))
    long.call(max_tokens=10, messages=[{"role": "user", "content": "x" * 600}])
    assert long.held.amount == 2_000 * (long.held.input_tokens + 40)
    assert long.settled.cost == 1_000 * (7 + 4 * 3)  # its prompt turned out to be short


def test_a_tier_that_served_is_settled_and_named_in_the_record() -> None:
    scene = Scene(catalog=tiered()).plays(cheap=a_whole(report=usage(7, 3)))
    scene.call(max_tokens=10, service_tier="priority")
    assert scene.settled.cost == 5_000 * (7 + 4 * 3)
    assert scene.settled.rates.id.endswith("+priority")
    assert not scene.settled.rates.variants


def test_a_stream_extends_its_hold_at_the_rates_that_it_may_meet() -> None:
    words = ["word "] * 3_000
    scene = Scene(catalog=tiered()).plays(cheap=a_stream(*words, report=usage(7, 3_000)))
    scene.call(stream=True, service_tier="priority")
    assert scene.settled.cost == 5_000 * (7 + 4 * 3_000)
    assert scene.settled.shortfall == 0
