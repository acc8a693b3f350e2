"""Routes are left out for what their wire cannot say, and for tiers that they do not price."""

from typing import Any

import msgspec

from domain.catalog.price import Variant, make_rates
from domain.inference.messages import parse
from domain.inference.wires.registry import WIRES
from domain.routing.eligibility import Reason, exclusions
from domain.routing.needs import Needs, Step
from tests.domain.inference.scene import a_model, a_route

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "say it"}]


def needs(**body: Any) -> Needs:
    return parse("chat", msgspec.json.encode({"model": "org/model", "messages": MESSAGES, **body})).needs


def against(wire: str, **body: Any) -> tuple[Reason, ...]:
    route = a_route("cheap", takes=WIRES[wire].takes)
    return exclusions(
        route, model=a_model("org/model"), step=Step(model="org/model"), needs=needs(**body), configured={"cheap"}
    )


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def test_openais_wire_says_everything() -> None:
    assert against("openai", n=4, logit_bias={"1": 2}, whatever=1) == ()


def test_a_field_without_words_excludes_the_route() -> None:
    for wire in ("anthropic", "gemini", "cohere", "bedrock"):
        assert against(wire, temperature=0.2, top_p=0.9, max_tokens=5, stop=["x"], user="u") == ()
        for field in ({"n": 2}, {"logprobs": True}, {"logit_bias": {"1": 2}}, {"whatever": 1}):
            assert against(wire, **field) == ("parameters",)


def test_a_field_that_asks_for_nothing_excludes_nobody() -> None:
    idle = {"n": 1, "logprobs": False, "frequency_penalty": 0, "logit_bias": {}, "tools": [], "seed": None}
    for wire in ("anthropic", "gemini", "cohere", "bedrock"):
        assert against(wire, **idle, service_tier="auto", response_format={"type": "text"}) == ()


def test_what_a_field_holds_counts_too() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    assert [against(wire, response_format=schema) for wire in ("anthropic", "gemini", "cohere")] == [(), (), ()]
    assert against("bedrock", response_format=schema) == ("parameters",)
    assert against("anthropic", response_format={"type": "json_object"}) == ("parameters",)
    assert against("gemini", response_format={"type": "grammar"}) == ("parameters",)
    assert against("anthropic", parallel_tool_calls=False) == ()
    assert against("gemini", parallel_tool_calls=False) == ("parameters",)


def test_pictures_are_taken_as_each_wire_takes_them() -> None:
    linked, embedded = image("https://example.com/a.png"), image("data:image/png;base64,iVBORw0KGgo=")
    for wire in ("anthropic", "gemini", "cohere", "bedrock"):
        assert against(wire, messages=embedded) == ()
    assert [against(wire, messages=linked) for wire in ("anthropic", "cohere")] == [(), ()]
    assert [against(wire, messages=linked) for wire in ("gemini", "bedrock")] == [("parameters",)] * 2
    heard = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]
    assert against("gemini", messages=heard) == ()
    assert against("anthropic", messages=heard) == ("parameters",)


def test_a_tier_is_served_where_it_is_priced() -> None:
    flex = make_rates(provider="cheap", model="org/model", priced_on="2026-11-23", input=1, output=2)
    rates = make_rates(
        provider="cheap",
        model="org/model",
        priced_on="2026-11-23",
        input=2,
        output=4,
        variants=(Variant(rates=flex, tier="flex"),),
    )
    route = a_route("cheap", rates=rates)

    def reasons(tier: str) -> tuple[Reason, ...]:
        asked = needs(service_tier=tier)
        step = Step(model="org/model")
        return exclusions(route, model=a_model("org/model"), step=step, needs=asked, configured={"cheap"})

    assert [reasons(tier) for tier in ("auto", "default", "flex", "priority")] == [(), (), (), ("service_tier",)]
