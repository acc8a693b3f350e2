"""Who pays in each ending, who is tried next, and how much is held: the published rules, one test each."""

import asyncio
import json
from typing import Any

import pytest

from domain.catalog.catalog import Catalog, assemble
from domain.inference.metering import Usage, UsageSemantics
from domain.inference.outlet import Patience
from domain.inference.ports import FaultKind, UpstreamFault
from domain.kernel.errors import Conflict, Invalid, NotFound, OutOfCredit, TooMany, Unavailable, UpstreamFailed
from domain.kernel.money import format_inr, parse_inr
from domain.ledger.events import CreditHeld, HoldExtended
from tests.domain.inference.scene import (
    MAX_OUTPUT,
    OPENING,
    ORG,
    Scene,
    a_catalog,
    a_model,
    a_refusal,
    a_route,
    a_stream,
    a_whole,
    chunk,
    frames,
    rates_of,
    strictly,
    usage,
    whole_answer,
)
from tests.fakes import Play

REPORT = usage(7, 3)
WORDS = ("one ", "two ", "three ")
CUT = UpstreamFault("cut", "The provider closed the connection before the end of its reply.", started=True)
SILENT = UpstreamFault("timeout", "The provider stopped in the middle of its reply.", started=True)


def price(prompt: int, completion: int, provider: str = "cheap") -> int:
    rates = rates_of(provider)
    return prompt * rates.input + completion * rates.output


def blocks(*texts: str) -> list[bytes]:
    return [frames(OPENING, done=False), *[frames(chunk(text), done=False) for text in texts]]


# Who pays: the answer was finished


def test_a_finished_stream_costs_its_usage() -> None:
    scene = Scene().plays(cheap=a_stream(*WORDS, report=REPORT)).call(stream=True)
    assert scene.happened == ["credit_held", "request_settled"]
    assert scene.settled.cost == price(7, 3) == parse_inr(scene.seen.usage["cost_inr"])
    assert scene.settled.ending == "finished"
    assert scene.settled.shortfall == 0
    assert scene.available == parse_inr("100") - price(7, 3)
    assert scene.seen.text == "one two three "
    assert "estimated" not in scene.seen.usage


def test_a_finished_answer_costs_its_usage() -> None:
    scene = Scene().plays(cheap=a_whole(report=REPORT)).call()
    assert scene.happened == ["credit_held", "request_settled"]
    assert scene.settled.cost == price(7, 3)
    assert scene.answer["model"] == "org/model"
    assert scene.answer["usage"]["cost_inr"] == format_inr(price(7, 3))
    assert scene.answer["usage"]["total_tokens"] == 10
    assert scene.outlet.served is not None
    assert scene.outlet.served.cost_nanos == price(7, 3)


def test_a_finished_stream_without_usage_costs_what_we_count() -> None:
    scene = Scene().plays(cheap=a_stream(*WORDS)).call(stream=True)
    used = scene.settled.usage
    assert (used.output, used.source) == (3, "counted")
    assert used.input > 0
    assert scene.settled.cost == price(used.input, 3) == parse_inr(scene.seen.usage["cost_inr"])
    assert scene.seen.usage["estimated"] is True


def test_a_finished_answer_without_usage_costs_what_we_count() -> None:
    scene = Scene().plays(cheap=a_whole("one two three")).call()
    used = scene.settled.usage
    assert (used.output, used.source) == (3, "counted")
    assert scene.settled.cost == price(used.input, 3)
    assert scene.answer["usage"]["estimated"] is True


def test_embeddings_cost_their_input() -> None:
    body = json.dumps(
        {"object": "list", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    )
    scene = Scene().plays(cheap=Play(steps=[body.encode()])).call("embeddings")
    assert scene.settled.cost == 9_000
    assert scene.answer["model"] == "embed"
    assert scene.answer["usage"] == {
        "prompt_tokens": 9,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 0},
        "cost_inr": "0.000009",
    }


def test_embeddings_of_token_numbers_without_usage_cost_their_numbers() -> None:
    scene = Scene().plays(cheap=Play(steps=[b'{"data":[{"embedding":[1]}]}'])).call("embeddings", input=[[1, 2], [3]])
    assert scene.settled.usage == Usage(input=3, source="counted")


# Who pays: refused, or nothing came


def test_a_refused_call_costs_nothing() -> None:
    scene = Scene().plays(cheap=a_refusal(400, "top_p is out of range")).call(stream=True)
    assert isinstance(scene.refusal, Invalid)
    assert scene.refusal.code == "invalid_request"
    assert "top_p is out of range" in scene.refusal.message
    assert scene.happened == ["credit_held", "hold_released"]
    assert scene.released.code == "invalid_request"
    assert scene.available == parse_inr("100")
    assert not scene.outlet.opened


@pytest.mark.parametrize("streamed", [True, False])
def test_when_every_route_failed_nothing_is_charged(streamed: bool) -> None:
    broken = Play(steps=[frames(OPENING, done=False), CUT] if streamed else [CUT])
    scene = Scene().plays(cheap=a_refusal(500), middle=broken, dear=a_refusal(429, "slow down")).call(stream=streamed)
    assert isinstance(scene.refusal, UpstreamFailed)
    assert scene.refusal.code == "all_routes_failed"
    assert "slow down" in scene.refusal.message
    assert scene.happened == ["credit_held", "hold_released"]
    assert [(each.route, each.end, each.status) for each in scene.released.attempts] == [
        ("cheap/org/model", "status", 500),
        ("middle/org/model", "cut", 200),
        ("dear/org/model", "status", 429),
    ]
    assert scene.released.attempts[1].cost_unknown
    assert scene.available == parse_inr("100")


def test_what_was_never_held_is_noted_and_nobody_is_called() -> None:
    scene = Scene().call(model="unheard/of")
    assert isinstance(scene.refusal, NotFound)
    assert scene.happened == ["request_refused"]
    assert scene.refused.code == "model_not_found"
    assert scene.upstream.calls == []


def test_with_the_ledger_down_nobody_is_called() -> None:
    scene = Scene().plays(cheap=a_whole())
    scene.ledger.writable = False
    scene.call()
    assert isinstance(scene.refusal, Unavailable)
    assert scene.refusal.code == "ledger_unavailable"
    assert scene.upstream.calls == []
    assert scene.events == []


def test_a_refusal_is_told_even_when_it_cannot_be_noted() -> None:
    scene = Scene()
    scene.ledger.writable = False
    scene.call(model="unheard/of")
    assert isinstance(scene.refusal, NotFound)


def test_a_request_id_is_served_once() -> None:
    scene = Scene().plays(cheap=a_whole(report=REPORT)).call()
    scene.call_again()
    assert isinstance(scene.refusal, Conflict)
    assert len(scene.upstream.calls) == 1
    assert scene.spent == price(7, 3)


# Who pays: the client hung up


def test_after_a_hang_up_the_usage_is_waited_for() -> None:
    scene = Scene(patience=Patience(disconnect_grace=5))
    rest = [frames(chunk(finish="stop"), done=False), frames(chunk(choices=[], usage=REPORT))]
    scene.plays(cheap=Play(steps=[*blocks("one ", "two "), scene.outlet.leave, 0.01, *blocks("three"), *rest]))
    scene.call(stream=True)
    assert scene.happened == ["credit_held", "request_settled"]
    assert scene.settled.ending == "client_gone"
    assert scene.settled.cost == price(7, 3)
    assert b"two" in scene.outlet.frames
    assert b"three" not in scene.outlet.frames


def test_when_the_grace_is_over_what_came_is_counted() -> None:
    scene = Scene(patience=Patience(disconnect_grace=0.02))
    scene.plays(
        cheap=Play(steps=[*blocks("one ", "two "), scene.outlet.leave, *blocks("three "), 30.0, *blocks("four")])
    )
    scene.call(stream=True)
    assert scene.settled.ending == "client_gone"
    assert scene.settled.usage.output == 3
    assert scene.settled.usage.source == "counted"
    assert scene.settled.cost == price(scene.settled.usage.input, 3)
    assert scene.upstream.replies[0].closed.is_set()


def test_an_early_report_of_nothing_does_not_make_a_hang_up_free() -> None:
    first = frames(chunk("one ", usage=usage(7, 0)), done=False)
    scene = Scene()
    scene.plays(cheap=Play(steps=[first, *blocks("two ", "three "), scene.outlet.leave, 30.0])).call(stream=True)
    assert scene.settled.usage.output == 3
    assert scene.settled.cost > 0


def test_a_provider_that_breaks_after_the_client_left_ends_it_like_the_grace() -> None:
    scene = Scene(patience=Patience(disconnect_grace=5))
    scene.plays(cheap=Play(steps=[*blocks("one "), scene.outlet.leave, CUT])).call(stream=True)
    assert scene.settled.ending == "client_gone"
    assert scene.settled.usage.output == 1


def test_a_client_that_left_before_anything_came_pays_nothing_and_nobody_else_is_asked() -> None:
    scene = Scene()
    scene.plays(cheap=Play(steps=[frames(OPENING, done=False), scene.outlet.leave, 30.0]), middle=a_stream("one"))
    scene.call(stream=True)
    assert scene.refusal is None
    assert scene.released.code == "client_gone"
    assert scene.upstream.asked == ["cheap"]
    assert scene.available == parse_inr("100")


def test_a_client_that_left_before_the_call_costs_nobody_anything() -> None:
    scene = Scene().plays(cheap=a_whole())
    scene.outlet.leave()
    scene.call()
    assert scene.happened == ["credit_held", "hold_released"]
    assert scene.upstream.calls == []


def test_hanging_up_on_a_whole_answer_does_not_make_it_free() -> None:
    scene = Scene()
    scene.plays(cheap=Play(steps=[scene.outlet.leave, whole_answer(report=REPORT)])).call()
    assert scene.settled.cost == price(7, 3)
    assert scene.settled.ending == "client_gone"


# Who pays: the provider broke


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([CUT], "cut"),
        ([SILENT], "timeout"),
        ([], "cut"),
        ([frames(b'{"error":{"message":"out of memory"}}')], "error_frame"),
        ([b"data: <html>\n\n"], "protocol"),
        ([frames(chunk(finish="error"))], "error_frame"),
    ],
)
def test_a_stream_that_breaks_after_content_costs_nothing(end: list[Any], kind: str) -> None:
    scene = Scene().plays(cheap=Play(steps=[*blocks("one ", "two "), *end]), middle=a_stream("x")).call(stream=True)
    assert scene.refusal is None
    assert scene.happened == ["credit_held", "hold_released"]
    assert scene.released.code == "provider_broke"
    (attempt,) = scene.released.attempts
    assert (attempt.end, attempt.cost_unknown) == (kind, True)
    assert scene.available == parse_inr("100")
    assert scene.upstream.asked == ["cheap"]
    assert scene.seen.text == "one two "
    (error,) = scene.seen.errors
    assert (error["type"], error["code"]) == ("api_error", "provider_broke")


def test_usage_in_every_chunk_does_not_make_a_cut_stream_a_finished_one() -> None:
    said = [chunk("one ", usage=usage(7, 1)), chunk("two ", usage=usage(7, 2))]
    scene = Scene().plays(cheap=Play(steps=[frames(*said, done=False)])).call(stream=True)
    assert scene.released.code == "provider_broke"


@pytest.mark.parametrize("end", [CUT, SILENT])
def test_a_stream_that_breaks_once_every_choice_was_finished_is_finished(end: UpstreamFault) -> None:
    steps = [*blocks("one "), frames(chunk(finish="stop"), done=False), end]
    scene = Scene().plays(cheap=Play(steps=steps)).call(stream=True)
    assert scene.settled.usage.output == 1
    assert scene.seen.finish == "stop"


def test_one_finished_choice_of_two_is_not_a_finished_answer() -> None:
    steps = [*blocks("one "), frames(chunk("two ", index=1), chunk(finish="stop"), done=False), CUT]
    scene = Scene().plays(cheap=Play(steps=steps)).call(stream=True, n=2)
    assert scene.released.code == "provider_broke"


# Who pays: the money ran out


def test_a_stream_whose_hold_cannot_grow_ends_cleanly_at_the_ceiling() -> None:
    words = [f"w{number} " * 100 for number in range(40)]  # 100 tokens in each block
    scene = Scene(inr="0.01").plays(cheap=Play(steps=[*blocks(*words), 30.0]), middle=a_stream(), dear=a_stream())
    scene.call(stream=True)
    assert scene.settled.ending == "ceiling"
    assert scene.seen.finish == "length"
    assert scene.seen.errors == []
    assert scene.settled.cost <= scene.settled.held <= parse_inr("0.01")
    assert scene.settled.shortfall == 0
    left = parse_inr("0.01") - scene.settled.cost
    assert left < 101 * rates_of("cheap").output + scene.held.input_tokens * rates_of("dear").input
    assert scene.settled.usage.output == len(scene.seen.text.split())
    assert scene.upstream.replies[0].closed.is_set()


def test_nobody_is_cut_off_by_an_estimate() -> None:
    word = "अन्तर्राष्ट्रीयकरण "  # one token, by the tokenizer of these tests; 18 by its bytes
    scene = Scene(inr="0.02").plays(cheap=a_stream(*[word] * 900)).call(stream=True, max_tokens=1_000)
    assert scene.settled.ending == "finished"
    assert scene.settled.usage.output == 900


def test_the_ceiling_ends_only_the_choices_that_are_still_open() -> None:
    steps: list[Any] = [
        frames(chunk("one ", index=1), chunk(finish="stop", index=1), done=False),
        *blocks("word " * 9_000),
    ]
    scene = Scene(inr="0.03").plays(cheap=Play(steps=steps)).call(stream=True, n=2)
    assert scene.settled.ending == "ceiling"
    ends = [(choice["index"], choice["finish_reason"]) for each in scene.seen.chunks for choice in each["choices"]]
    assert [end for end in ends if end[1]] == [(1, "stop"), (0, "length")]


def test_the_cost_that_was_allowed_ends_a_stream_too() -> None:
    most = price(0, 3_000) + 100_000
    scene = Scene().plays(cheap=Play(steps=blocks(*["w " * 100] * 60)))
    scene.catalog = only("cheap")
    scene.call(stream=True, max_tokens=3_000, max_cost_inr=format_inr(most))
    assert scene.settled.ending == "ceiling"
    assert scene.settled.held <= most
    assert scene.seen.finish == "length"


def test_a_call_that_can_cost_more_than_allowed_is_refused() -> None:
    scene = Scene().plays(cheap=a_whole()).call(max_tokens=1_000, max_cost_inr=0.005)
    assert isinstance(scene.refusal, OutOfCredit)
    assert (scene.refusal.code, scene.refusal.param) == ("max_cost_exceeded", "max_cost_inr")
    assert scene.happened == ["request_refused"]
    assert scene.upstream.calls == []


# Failover


def only(*providers: str) -> Catalog:
    whole = a_catalog()
    return assemble(
        providers=whole.providers.values(),
        models=whole.models.values(),
        routes=[a_route(provider) for provider in providers],
    )


FAULTS: list[FaultKind] = ["connect", "timeout", "cut", "protocol"]


@pytest.mark.parametrize(
    "first",
    [
        *[a_refusal(status) for status in (401, 402, 403, 404, 408, 425, 429, 500, 502, 503, 504, 529)],
        *[a_refusal(status) for status in (204, 302, 304)],
        *[Play(fault=UpstreamFault(kind, "broken", started=False)) for kind in FAULTS],
        Play(steps=[CUT]),
        Play(steps=[b"null"]),
        Play(steps=[b"<html>busy</html>"]),
        Play(steps=[b'{"error":{"message":"overloaded"}}']),
        Play(steps=[b'{"choices":[]}']),
        Play(steps=[]),
    ],
)
def test_a_whole_answer_comes_from_the_next_route(first: Play) -> None:
    scene = Scene().plays(cheap=first, middle=a_whole(report=REPORT)).call()
    assert scene.refusal is None
    assert scene.upstream.asked == ["cheap", "middle"]
    assert scene.settled.provider == "middle"
    assert scene.settled.cost == price(7, 3, "middle")
    assert scene.answer["model"] == "org/model"
    failed, served = scene.settled.attempts
    assert (failed.route, served.route, served.end) == ("cheap/org/model", "middle/org/model", "served")
    assert failed.cost_unknown is (failed.end != "connect" and failed.end != "status")
    assert all(reply.closed.is_set() for reply in scene.upstream.replies)


@pytest.mark.parametrize(
    "first",
    [
        a_refusal(503),
        Play(fault=UpstreamFault("timeout", "late", started=False)),
        Play(steps=[CUT]),
        Play(steps=[frames(OPENING, done=False), CUT]),
        Play(steps=[frames(OPENING, done=False), SILENT]),
        Play(steps=[frames(OPENING)]),
        Play(steps=[frames()]),
        Play(steps=[]),
        Play(steps=[b": keep-alive\n\n: keep-alive\n\n"]),
        Play(steps=[frames(OPENING, b'{"error":{"message":"overloaded"}}')]),
        Play(steps=[frames(b'{"detail":"overloaded"}')]),
        Play(steps=[b'{"error":{"message":"overloaded"}}']),
        Play(steps=[b"<html>busy</html>"]),
        Play(steps=[b"null"]),
    ],
)
def test_a_stream_comes_from_the_next_route_as_long_as_there_was_no_content(first: Play) -> None:
    scene = Scene().plays(cheap=first, middle=a_stream(*WORDS, report=REPORT)).call(stream=True)
    assert scene.upstream.asked == ["cheap", "middle"]
    assert scene.settled.provider == "middle"
    assert scene.settled.cost == price(7, 3, "middle")
    assert strictly(scene.outlet.frames, model="org/model").text == "one two three "
    assert scene.outlet.served is not None
    assert scene.outlet.served.provider == "middle"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_wrong_is_tried_once(status: int) -> None:
    scene = Scene().plays(cheap=a_refusal(status, "too long by half"), middle=a_whole()).call()
    assert isinstance(scene.refusal, Invalid)
    assert "too long by half" in scene.refusal.message
    assert scene.upstream.asked == ["cheap"]
    assert scene.available == parse_inr("100")


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_a_provider_says_about_our_account_is_not_repeated(status: int) -> None:
    secret = a_refusal(status, "Incorrect API key provided: sk-secret")
    scene = Scene().plays(cheap=secret, middle=secret, dear=secret).call()
    assert isinstance(scene.refusal, UpstreamFailed)
    assert "secret" not in scene.refusal.message


def test_fallback_steps_follow_the_primary_and_name_the_model_that_served() -> None:
    catalog = assemble(
        providers=a_catalog().providers.values(),
        models=a_catalog().models.values(),
        routes=[a_route("cheap"), a_route("middle", "org/other"), a_route("dear", "org/other")],
    )
    scene = Scene(catalog=catalog).plays(cheap=a_refusal(500), middle=a_refusal(500), dear=a_stream("x", report=REPORT))
    scene.call(stream=True, fallbacks=[{"model": "org/other"}])
    assert scene.upstream.asked == ["cheap", "middle", "dear"]
    assert [called.sent["model"] for called in scene.upstream.calls] == [
        "cheap-org/model",
        "middle-org/other",
        "dear-org/other",
    ]
    assert strictly(scene.outlet.frames, model="org/other").text == "x"
    assert (scene.settled.model, scene.settled.provider) == ("org/other", "dear")


def test_a_pin_is_kept_and_binds_the_primary_only() -> None:
    scene = Scene().plays(dear=a_refusal(500), cheap=a_whole()).call(provider="dear")
    assert scene.upstream.asked == ["dear"]
    scene = Scene().plays(dear=a_refusal(500), cheap=a_whole())
    scene.call(provider="dear", fallbacks=[{"model": "org/model"}])
    assert scene.upstream.asked == ["dear", "cheap"]


def test_a_pin_to_nobody_is_no_route() -> None:
    scene = Scene().call(provider="nobody")
    assert scene.refusal is not None
    assert scene.refusal.code == "no_route"
    assert scene.refused.code == "no_route"


def test_india_only_binds_every_attempt() -> None:
    scene = Scene().plays(cheap=a_refusal(500), dear=a_refusal(500), middle=a_whole())
    scene.call(data_policy="india_only", fallbacks=[{"model": "thinker"}, {"model": "org/model", "provider": "middle"}])
    assert scene.upstream.asked == ["cheap", "dear"]
    assert isinstance(scene.refusal, UpstreamFailed)
    assert scene.held.excluded["middle/org/model"].startswith("residency")
    assert "data_policy:india_only" in scene.held.constraints


def test_at_most_ten_routes_are_tried() -> None:
    scene = Scene(catalog=a_catalog(extra_providers=[f"more{number}" for number in range(20)]))
    scene.plays(**dict.fromkeys(scene.catalog.providers, a_refusal(500))).call()
    assert len(scene.upstream.calls) == len(set(scene.upstream.asked)) == 10
    assert len(scene.released.attempts) == 10


def test_a_catalog_that_changes_on_the_way_does_not_disturb_a_call() -> None:
    scene = Scene().plays(cheap=a_refusal(500), middle=a_whole(report=REPORT))

    def withdraw(_: Any) -> None:
        scene.catalog = assemble(providers=[], models=[], routes=[])

    scene.upstream.on_call = withdraw
    scene.call()
    assert scene.settled.provider == "middle"


@pytest.mark.parametrize(("model", "seconds"), [("org/model", 60), ("thinker", 300)])
def test_a_reasoning_model_is_waited_for_longer(model: str, seconds: float) -> None:
    patience = Patience(first_byte=60, reasoning_first_byte=300)
    scene = Scene(patience=patience).plays(cheap=a_whole(), middle=a_whole()).call(model=model)
    assert [called.first_byte_seconds for called in scene.upstream.calls] == [seconds]


def test_the_providers_own_way_of_reporting_decides_what_is_asked_of_it() -> None:
    for semantics, asked in ((UsageSemantics(stream="last_chunk"), True), (UsageSemantics(stream="unasked"), False)):
        scene = Scene(catalog=a_catalog(semantics=semantics)).plays(cheap=a_stream("x")).call(stream=True)
        assert ("stream_options" in scene.upstream.calls[0].sent) is asked


# The hold


def test_the_hold_covers_the_dearest_of_the_planned_routes() -> None:
    scene = Scene().plays(cheap=a_whole(report=REPORT)).call(max_tokens=100)
    tokens = scene.held.input_tokens
    assert scene.held.amount == price(tokens, 100, "dear")
    assert scene.held.candidates == ("cheap/org/model", "middle/org/model", "dear/org/model")
    assert "max_tokens" in scene.upstream.calls[0].sent
    assert scene.upstream.calls[0].sent["max_tokens"] == 100


def test_two_rupees_are_served_with_the_output_that_they_buy() -> None:
    model = a_model("gold", max_output_tokens=1_000_000)
    route = a_route("cheap", "gold", max_output_tokens=1_000_000)
    catalog = assemble(providers=a_catalog().providers.values(), models=[model], routes=[route])
    scene = Scene(inr="2", catalog=catalog).plays(cheap=a_whole(report=REPORT)).call(model="gold", max_tokens=900_000)
    assert scene.refusal is None
    cut = scene.upstream.calls[0].sent["max_tokens"]
    rates = rates_of("cheap")
    tokens = scene.held.input_tokens
    assert price(tokens, cut) == scene.held.amount <= parse_inr("2") < price(tokens, cut + 1)
    assert cut == (parse_inr("2") - tokens * rates.input) // rates.output
    assert scene.held.output_tokens == cut


def test_a_call_without_a_limit_takes_half_of_the_room() -> None:
    scene = Scene(inr="0.02", catalog=only("cheap")).plays(cheap=a_whole(report=REPORT)).call()
    assert parse_inr("0.0099") < scene.held.amount <= parse_inr("0.01")
    assert scene.upstream.calls[0].sent["max_tokens"] == scene.held.output_tokens
    assert scene.held.output_tokens < MAX_OUTPUT


def test_a_cut_limit_uses_the_providers_own_field() -> None:
    scene = Scene(inr="0.02", catalog=a_catalog(limit_field="max_completion_tokens"))
    scene.plays(cheap=a_whole(report=REPORT)).call()
    assert "max_tokens" not in scene.upstream.calls[0].sent
    assert scene.upstream.calls[0].sent["max_completion_tokens"] > 0


def test_the_floor_is_served_and_less_is_refused_with_the_numbers() -> None:
    probe = Scene().plays(cheap=a_whole(report=REPORT)).call(max_tokens=16)
    floor = probe.held.amount
    served = Scene(inr=format_inr(floor)).plays(cheap=a_whole(report=REPORT)).call(max_tokens=1_000)
    assert served.upstream.calls[0].sent["max_tokens"] == 16
    refused = Scene(inr=format_inr(floor - 1)).plays(cheap=a_whole(report=REPORT)).call(max_tokens=1_000)
    assert isinstance(refused.refusal, OutOfCredit)
    assert refused.refusal.code == "insufficient_credits"
    assert format_inr(floor) in refused.refusal.message
    assert format_inr(floor - 1) in refused.refusal.message
    assert refused.upstream.calls == []


@pytest.mark.parametrize("limit", ["key_budget", "workspace_budget"])
def test_a_budget_is_used_up_but_never_passed(limit: str) -> None:
    budget: dict[str, Any] = {limit: "0.001"}
    scene = Scene(**budget).plays(cheap=a_whole(report=REPORT)).call(max_tokens=1_000)
    assert scene.refusal is None
    assert scene.held.amount <= parse_inr("0.001")
    assert scene.upstream.calls[0].sent["max_tokens"] < 1_000
    scene = Scene(**{limit: "0.00001"}).plays(cheap=a_whole(report=REPORT)).call(max_tokens=1_000)
    assert isinstance(scene.refusal, TooMany)
    assert scene.refusal.code == "budget_exceeded"
    assert scene.refusal.message.startswith("This " + limit.split("_")[0])
    assert "₹0.00001" in scene.refusal.message
    assert (scene.refusal.retry_after or 0) > 86_400
    assert scene.refused.code == "budget_exceeded"
    assert scene.upstream.calls == []


def test_a_budget_of_nothing_serves_nothing() -> None:
    scene = Scene(key_budget="0").plays(cheap=a_whole()).call()
    assert scene.refusal is not None
    assert scene.refusal.code == "budget_exceeded"


def test_the_daily_limit_counts_held_calls_only() -> None:
    scene = Scene(daily=1).plays(cheap=a_whole(report=REPORT))
    scene.call(model="unheard/of")
    scene.refusal = None
    scene.call()
    assert scene.refusal is None
    scene.call()
    assert isinstance(scene.refusal, TooMany)
    assert scene.refusal.code == "daily_limit_reached"
    assert 0 < (scene.refusal.retry_after or 0) <= 86_401


def test_a_room_that_shrinks_between_two_tries_is_asked_for_again() -> None:
    scene = Scene(inr="0.02", catalog=only("cheap")).plays(cheap=a_whole(report=REPORT))
    tries: list[int] = []

    def others_take_some() -> None:
        tries.append(1)
        if len(tries) == 2:
            balance = scene.ledger.guards.balances[ORG]
            taken = parse_inr("0.015")
            other = CreditHeld(
                at=scene.clock(),
                org=ORG,
                key="key_a",
                workspace="ws_a",
                amount=taken,
                expires=0,
                endpoint="chat",
                model="m",
                candidates=(),
            )
            assert balance.available >= taken
            scene.ledger.record("request:other", other)

    scene.ledger.before_hold = others_take_some
    scene.call(max_tokens=8_000)
    assert len(tries) == 3
    assert scene.refusal is None
    assert scene.held.amount <= parse_inr("0.005")


def test_a_stream_holds_little_at_first_and_more_as_it_grows() -> None:
    scene = Scene(catalog=only("cheap"))
    sent_at_extension: list[int] = []
    extend = scene.ledger.extend

    def watched(request: str, event: HoldExtended) -> Any:
        sent_at_extension.append(len(scene.outlet.frames))
        return extend(request, event)

    scene.ledger.extend = watched
    scene.plays(cheap=a_stream(*["word "] * 5_000, report=usage(7, 5_000))).call(stream=True)
    assert scene.held.amount == price(scene.held.input_tokens, 1_024)
    extensions = [event for event in scene.events if isinstance(event, HoldExtended)]
    assert 1 <= len(extensions) <= 4
    assert scene.settled.held == scene.held.amount + sum(event.amount for event in extensions)
    assert scene.settled.cost == price(7, 5_000)
    assert "max_tokens" not in scene.upstream.calls[0].sent


def test_a_hold_is_extended_before_the_text_beyond_it_is_passed_on() -> None:
    scene = Scene(catalog=only("cheap"))
    sent: list[int] = []
    extend = scene.ledger.extend

    def watched(request: str, event: HoldExtended) -> Any:
        sent.append(scene.outlet.frames.count(b"word "))
        return extend(request, event)

    scene.ledger.extend = watched
    everything = b"".join(block for block in a_stream(*["word "] * 3_000).steps if isinstance(block, bytes))
    scene.plays(cheap=Play(steps=[everything])).call(stream=True)
    assert scene.seen.text.count("word") == 3_000
    assert sent[0] <= 1_024


def test_a_long_stream_renews_its_hold_before_the_deadline() -> None:
    scene = Scene(patience=Patience(hold=900))
    step = lambda: scene.clock.forward(seconds=200)  # noqa: E731
    spread = [each for word in range(20) for each in (step, *blocks(f"w{word} "))]
    scene.plays(cheap=Play(steps=[*spread, frames(chunk(finish="stop"))]))
    expiries: list[bool] = []
    send = scene.outlet.send

    async def watched(frames: bytes) -> None:
        hold = scene.ledger.guards.holds[scene.request]
        expiries.append(hold.expires > scene.clock())
        await send(frames)

    scene.outlet.send = watched
    scene.call(stream=True)
    assert scene.settled.ending == "finished"
    assert len(expiries) >= 20
    assert all(expiries)


def test_slow_failovers_renew_the_hold_too() -> None:
    scene = Scene(patience=Patience(hold=900), catalog=a_catalog(extra_providers=["a", "b", "c"]))
    late = Play(fault=UpstreamFault("timeout", "late", started=False))
    scene.plays(**dict.fromkeys(scene.catalog.providers, late))
    scene.plays(dear=a_whole(report=REPORT))
    alive: list[bool] = []

    def slowly(_: Any) -> None:
        alive.append(scene.ledger.guards.holds[scene.request].expires > scene.clock())
        scene.clock.forward(seconds=300)

    scene.upstream.on_call = slowly
    scene.call()
    assert len(alive) == 6
    assert all(alive)
    assert scene.settled.cost == price(7, 3, "dear")


def test_without_its_hold_a_call_asks_nobody_else() -> None:
    scene = Scene(patience=Patience(hold=900)).plays(cheap=a_refusal(500), middle=a_whole(report=REPORT))

    def swept(_: Any) -> None:
        scene.clock.forward(seconds=901)
        scene.ledger.expire_all()

    scene.upstream.on_call = swept
    scene.call()
    assert scene.upstream.asked == ["cheap"]
    assert isinstance(scene.refusal, UpstreamFailed)
    assert scene.happened == ["credit_held", "hold_expired"]


def test_an_answer_after_the_hold_expired_is_free() -> None:
    scene = Scene()
    sweep = lambda: (scene.ledger.expire_all(), None)[1]  # noqa: E731
    scene.plays(cheap=Play(steps=[sweep, whole_answer(report=REPORT)])).call()
    assert scene.happened == ["credit_held", "hold_expired"]
    assert scene.answer["usage"]["cost_inr"] == "0"
    assert scene.available == parse_inr("100")


def test_usage_beyond_the_hold_is_debited_where_it_can_be_held() -> None:
    scene = Scene(catalog=only("cheap")).plays(cheap=a_whole(report=usage(7, 110))).call(max_tokens=100)
    assert scene.settled.cost == price(7, 110)
    assert scene.settled.shortfall == 0
    assert scene.happened == ["credit_held", "hold_extended", "request_settled"]


def test_of_usage_beyond_the_hold_only_what_is_there_is_taken() -> None:
    exact = Scene(catalog=only("cheap")).plays(cheap=a_whole()).call(max_tokens=100).held.amount
    there = exact + 5_000
    scene = Scene(inr=format_inr(there), catalog=only("cheap"))
    scene.plays(cheap=a_whole(report=usage(7, 110))).call(max_tokens=100)
    assert scene.settled.cost == there
    assert scene.settled.shortfall == price(7, 110) - there
    assert scene.available == 0


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("absurd", [usage(99_000_000, 3), usage(7, 99_000_000)])
def test_an_absurd_report_cannot_drain_the_balance(streamed: bool, absurd: Any) -> None:
    play = a_stream("x", report=absurd) if streamed else a_whole(report=absurd)
    scene = Scene().plays(cheap=play).call(stream=streamed, max_tokens=100)
    worth = price(absurd["prompt_tokens"], absurd["completion_tokens"])
    assert scene.settled.cost == scene.held.amount
    assert scene.settled.shortfall == worth - scene.settled.cost
    assert scene.available == parse_inr("100") - scene.settled.cost


def test_limits_beyond_all_reason_still_fit_the_ledger() -> None:
    scene = Scene().plays(cheap=a_whole(report=REPORT)).call(max_tokens=10**30, n=128)
    assert scene.refusal is None
    assert scene.held.amount < 2**63


def test_an_extension_whose_answer_was_lost_does_not_spoil_the_books() -> None:
    scene = Scene(catalog=only("cheap"))
    scene.trouble.how = "fail_after"
    scene.plays(cheap=a_stream(*["word "] * 1_200, report=usage(7, 1_200)))
    extend = scene.ledger.extend

    def lost(request: str, event: HoldExtended) -> Any:
        scene.trouble.at = len(scene.trouble.points) + 1
        scene.ledger.extend = extend
        return extend(request, event)

    scene.ledger.extend = lost
    scene.call(stream=True)
    extensions = [event for event in scene.events if isinstance(event, HoldExtended)]
    assert scene.settled.held == scene.held.amount + sum(event.amount for event in extensions)
    assert scene.settled.cost <= price(7, 1_200)
    assert scene.ledger.guards.holds == {}


def test_the_ledger_going_down_at_the_end_of_a_stream_is_told_in_a_frame() -> None:
    scene = Scene()
    down = lambda: setattr(scene.ledger, "writable", False)  # noqa: E731
    scene.plays(cheap=Play(steps=[*blocks("one "), down, frames(chunk(finish="stop"))])).call(stream=True)
    assert scene.refusal is None
    (error,) = scene.seen.errors
    assert error["code"] == "ledger_unavailable"
    assert scene.happened == ["credit_held"]
    scene.ledger.expire_all()
    assert scene.available == parse_inr("100")


def test_the_ledger_going_down_while_a_provider_breaks_is_told_in_a_frame() -> None:
    scene = Scene()
    down = lambda: setattr(scene.ledger, "writable", False)  # noqa: E731
    scene.plays(cheap=Play(steps=[*blocks("one "), down, CUT])).call(stream=True)
    assert scene.refusal is None
    assert [error["code"] for error in scene.seen.errors] == ["provider_broke"]


def test_what_answers_were_long_is_learned_from_finished_ones() -> None:
    scene = Scene()
    for _ in range(100):
        scene.sizes.observe("org/model", 3_000)
    scene.plays(cheap=a_stream("x", report=REPORT)).call(stream=True)
    assert scene.held.amount == price(scene.held.input_tokens, 4_096, "dear")


def test_calls_side_by_side_never_pass_the_balance() -> None:
    scene = Scene(inr="0.02", catalog=only("cheap"))
    scene.plays(cheap=a_whole(report=usage(7, 3)))

    async def all_at_once() -> None:
        async def one(number: int) -> None:
            other = Scene(inr="0", catalog=scene.catalog)
            other.ledger, other.upstream = scene.ledger, scene.upstream
            other.services = scene.services
            other._calls = 1_000 * number
            await other.calling(json.dumps({"model": "org/model", "messages": [], "max_tokens": 2_000}).encode())

        await asyncio.gather(*[one(number) for number in range(1, 20)])

    asyncio.run(all_at_once())
    assert scene.ledger.guards.holds == {}
    assert scene.spent + scene.available == parse_inr("0.02")
    assert scene.spent > 0
