import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.inference.messages import Ask, parse
from domain.inference.quote import quote
from domain.inference.sizes import OutputSizes
from domain.kernel.errors import Invalid
from domain.kernel.money import parse_inr
from domain.routing.plan import plan
from tests.domain.inference.scene import MAX_OUTPUT, Scene, a_catalog, a_stream, a_whole, rates_of, usage


def ask_of(**body: Any) -> Ask:
    return parse("chat", json.dumps({"model": "org/model", "messages": "say it", **body}).encode())


def quoted(**body: Any) -> dict[str, Any]:
    ask, catalog = ask_of(**body), a_catalog()
    return quote(ask, plan(ask.needs, catalog, catalog.providers.keys()), OutputSizes())


def test_every_eligible_route_is_quoted_in_the_order_of_trying() -> None:
    shown = quoted(max_tokens=1_000)
    assert [route["provider"] for route in shown["routes"]] == ["cheap", "middle", "dear"]
    for route in shown["routes"]:
        rates = rates_of(route["provider"])
        assert route["price_version"] == rates.id
        assert parse_inr(route["ceiling_inr"]) == shown["input_tokens_max"] * rates.input + 1_000 * rates.output
    assert shown["output_tokens_max"] == 1_000
    assert shown["excluded"] == []


def test_what_is_excluded_is_told_with_its_reasons() -> None:
    shown = quoted(data_policy="india_only")
    assert [route["provider"] for route in shown["routes"]] == ["cheap", "dear"]
    assert shown["excluded"] == [{"provider": "middle", "model": "org/model", "reasons": ["residency"]}]


def test_nothing_eligible_is_refused_as_in_a_call() -> None:
    with pytest.raises(Invalid) as refused:
        quoted(provider="nobody")
    assert refused.value.code == "no_route"


@given(
    limit=st.none() | st.integers(1, MAX_OUTPUT),
    choices=st.integers(1, 5),
    text=st.text(max_size=200),
    stream=st.booleans(),
)
def test_expected_is_at_most_the_ceiling_and_the_hold_at_most_the_highest(
    limit: int | None, choices: int, text: str, stream: bool
) -> None:
    shown = quoted(max_tokens=limit, n=choices, messages=text, stream=stream)
    ceilings = [parse_inr(route["ceiling_inr"]) for route in shown["routes"]]
    for route, ceiling in zip(shown["routes"], ceilings, strict=True):
        assert 0 < parse_inr(route["expected_inr"]) <= ceiling
    assert 0 < parse_inr(shown["hold_inr"]) <= max(ceilings)
    assert shown["output_tokens_max"] == (MAX_OUTPUT if limit is None else limit) * choices


@pytest.mark.parametrize("body", [{}, {"max_tokens": 300}, {"stream": True}, {"stream": True, "n": 3}])
def test_what_is_quoted_as_the_hold_is_what_the_call_holds(body: dict[str, Any]) -> None:
    play = a_stream("x", report=usage(1, 1)) if body.get("stream") else a_whole(report=usage(1, 1))
    scene = Scene().plays(cheap=play).call(messages="say it", **body)
    assert scene.held.amount == parse_inr(quoted(**body)["hold_inr"])
