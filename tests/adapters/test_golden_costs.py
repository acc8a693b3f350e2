"""Golden costs: what providers report, as it stands on their wires, and the rupees it makes, to the nano.

Each sample is a way in which gateways have got a bill wrong. `rule` numbers are those of the normaliser (where usage is
reported, and what its figures include), `trap` numbers those of known wrong costs. All at 96 rupees to the dollar and
5 per cent, so that a dollar per million tokens is 100,800 nano-rupees a token.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from adapters.catalog_files import PACKAGED, load
from adapters.simulators.native import event_message
from domain.catalog.catalog import Catalog, assemble
from domain.catalog.price import Fx, cost, explain
from domain.inference.metering import Usage
from domain.kernel.money import format_inr
from tests.domain.inference.scene import Scene
from tests.fakes import Play

SHIPPED, _ = load([PACKAGED], fx=Fx(inr_per_usd=Decimal(96), on=date(2026, 7, 1), margin=Decimal("0.05")))

Json = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A reply whole and streamed, None where the trap is in one of them only, and what it must cost."""

    trap: str
    route: str
    whole: Json | None
    stream: bytes | None
    usage: Usage
    nanos: int
    body: Json = field(default_factory=dict)
    hours: int = 0


# Whole replies and streams of each wire


def sse(*events: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def openai_whole(usage: Json | None, **more: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Ganga"}, "finish_reason": "stop"}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    return reply if usage is None else {**reply, "usage": usage}


def openai_stream(usage: Json | None, **more: Any) -> bytes:
    """Usage in a last chunk without choices, as it comes when it was asked for."""
    last = [] if usage is None else [{**_chunk([]), "usage": usage, **more}]
    return sse(_chunk([_choice("Ganga")]), _chunk([_choice(None, finish="stop")]), *last) + b"data: [DONE]\n\n"


def _chunk(choices: list[Json]) -> Json:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def _choice(text: str | None, *, finish: str | None = None) -> Json:
    return {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}


def anthropic_whole(usage: Json) -> Json:
    content = [{"type": "text", "text": "Ganga"}]
    return {"id": "m", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"} | {
        "usage": usage
    }


def anthropic_stream(usage: Json) -> bytes:
    """The prompt's half of the usage comes first, with an output that is not the last word; the other at the end."""
    return sse(
        {"type": "message_start", "message": {"id": "m", "usage": usage | {"output_tokens": 2}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ganga"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    )


def gemini_whole(usage: Json) -> Json:
    candidate = {"content": {"role": "model", "parts": [{"text": "Ganga"}]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": usage, "responseId": "r"}


def gemini_stream(usage: Json) -> bytes:
    """Every frame has usage, cumulative: only the last may count."""
    first = {"promptTokenCount": usage["promptTokenCount"], "totalTokenCount": usage["promptTokenCount"]}
    parts = {"content": {"role": "model", "parts": [{"text": "Ganga"}]}}
    return sse({"candidates": [parts], "usageMetadata": first}, gemini_whole(usage))


def cohere_whole(usage: Json) -> Json:
    message = {"role": "assistant", "content": [{"type": "text", "text": "Ganga"}]}
    return {"id": "c", "finish_reason": "COMPLETE", "message": message, "usage": usage}


def cohere_stream(usage: Json) -> bytes:
    return sse(
        {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Ganga"}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}},
    )


def bedrock_whole(usage: Json) -> Json:
    message = {"role": "assistant", "content": [{"text": "Ganga"}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}


def bedrock_stream(usage: Json) -> bytes:
    events: list[tuple[str, Json]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": "Ganga"}, "contentBlockIndex": 0}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": usage}),
    ]
    return b"".join(event_message(name, json.dumps(body).encode()) for name, body in events)


SAY: dict[str, tuple[Callable[[Json], Json], Callable[[Json], bytes]]] = {
    "openai": (openai_whole, openai_stream),
    "anthropic": (anthropic_whole, anthropic_stream),
    "gemini": (gemini_whole, gemini_stream),
    "cohere": (cohere_whole, cohere_stream),
    "bedrock": (bedrock_whole, bedrock_stream),
}


def both(trap: str, route: str, report: Json, usage: Usage, nanos: int, **more: Any) -> Sample:
    """The same report in a whole reply and in a stream."""
    whole, stream = SAY[SHIPPED.providers[route.split("/")[0]].wire]
    return Sample(trap, route, whole(report), stream(report), usage, nanos, **more)


def streamed(trap: str, route: str, stream: bytes, usage: Usage, nanos: int) -> Sample:
    return Sample(trap, route, None, stream, usage, nanos)


PLAIN = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
KEPT_FOR_AN_HOUR = {
    "type": "text",
    "text": "river " * 14_000,
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
}
STALE = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}

SAMPLES = [
    both(
        "rule 1: usage comes in a last chunk of no choices, which is asked for and not passed on",
        "together/gpt-oss-120b",
        PLAIN,
        Usage(input=1000, output=100),
        1000 * 15_120 + 100 * 60_480,
    ),
    streamed(
        "rule 2: usage in the last chunk with content, unasked",
        "mistral/mistral-small",
        sse(_chunk([_choice("Ganga")]), _chunk([_choice("!", finish="stop")]) | {"usage": PLAIN}) + b"data: [DONE]\n\n",
        Usage(input=1000, output=100),
        1000 * 15_120 + 100 * 60_480,
    ),
    streamed(
        "rule 2: usage in every chunk, of which the last counts and never the sum",
        "nebius/gpt-oss-120b",
        sse(
            _chunk([_choice("Gan")]) | {"usage": STALE},
            _chunk([_choice("ga")]) | {"usage": STALE},
            _chunk([_choice(None, finish="stop")]) | {"usage": PLAIN},
        ),
        Usage(input=1000, output=100),
        1000 * 15_120 + 100 * 60_480,
    ),
    streamed(
        "rule 2: usage in x_groq of the last chunk",
        "groq/gpt-oss-120b",
        sse(_chunk([_choice("Ganga")]), _chunk([_choice(None, finish="stop")]) | {"x_groq": {"usage": PLAIN}}),
        Usage(input=1000, output=100),
        1000 * 15_120 + 100 * 60_480,
    ),
    streamed(
        "rule 2: usage in the choice",
        "moonshot/kimi-k3",
        sse(_chunk([_choice("Ganga")]), _chunk([_choice(None, finish="stop") | {"usage": PLAIN}])),
        Usage(input=1000, output=100),
        1000 * 302_400 + 100 * 1_512_000,
    ),
    both(
        "rule 2: usage nowhere is counted and marked",
        "groq/gpt-oss-20b",
        {},
        Usage(input=3, output=1, source="counted"),
        3 * 7_560 + 1 * 30_240,
    ),
    both(
        "rule 3: cached tokens in the details, inside the prompt",
        "openai/gpt-5",
        PLAIN | {"prompt_tokens_details": {"cached_tokens": 400}},
        Usage(input=600, cached_input=400, output=100),
        600 * 126_000 + 400 * 12_600 + 100 * 1_008_000,
    ),
    both(
        "rule 3: cached tokens at the top level",
        "moonshot/kimi-k3",
        PLAIN | {"cached_tokens": 400},
        Usage(input=600, cached_input=400, output=100),
        600 * 302_400 + 400 * 30_240 + 100 * 1_512_000,
    ),
    both(
        "rule 3: cached tokens as cache hits, at the peak of the day",
        "deepseek/deepseek-v4-pro",
        PLAIN | {"prompt_cache_hit_tokens": 400, "prompt_cache_miss_tokens": 600},
        Usage(input=600, cached_input=400, output=100),
        600 * 133_056 + 400 * 4_436 + 100 * 399_168,
    ),
    both(
        "time of day: the same off the peak costs half",
        "deepseek/deepseek-v4-pro",
        PLAIN | {"prompt_cache_hit_tokens": 400, "prompt_cache_miss_tokens": 600},
        Usage(input=600, cached_input=400, output=100),
        600 * 66_528 + 400 * 2_218 + 100 * 199_584,
        hours=5,
    ),
    both(
        "rule 3: cache reads beside the input",
        "anthropic/claude-sonnet-5.5",
        {"input_tokens": 600, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 0, "output_tokens": 100},
        Usage(input=600, cached_input=400, output=100),
        600 * 201_600 + 400 * 10_080 + 100 * 1_008_000,
    ),
    both(
        "rule 3 and trap 1: Gemini's cached tokens are charged at one rate, not at both",
        "gemini/gemini-2.5-flash",
        {
            "promptTokenCount": 10_000,
            "cachedContentTokenCount": 8_000,
            "candidatesTokenCount": 150,
            "totalTokenCount": 10_150,
        },
        Usage(input=2_000, cached_input=8_000, output=150),
        2_000 * 30_240 + 8_000 * 3_024 + 150 * 252_000,
    ),
    both(
        "rule 4: Gemini's thoughts stand beside the candidates",
        "gemini/gemini-2.5-flash",
        {"promptTokenCount": 1_000, "candidatesTokenCount": 60, "thoughtsTokenCount": 40, "totalTokenCount": 1_100},
        Usage(input=1_000, output=100, reasoning=40),
        1_000 * 30_240 + 100 * 252_000,
    ),
    both(
        "rule 4: Gemini's tool prompts are input that the prompt does not include",
        "gemini/gemini-2.5-flash",
        {
            "promptTokenCount": 900,
            "toolUsePromptTokenCount": 100,
            "candidatesTokenCount": 100,
            "totalTokenCount": 1_100,
        },
        Usage(input=1_000, output=100),
        1_000 * 30_240 + 100 * 252_000,
    ),
    both(
        "rule 4 and trap 3: xAI's reasoning is added, and its cached image tokens are billed once",
        "xai/grok-4.7",
        {
            "prompt_tokens": 3_000,
            "completion_tokens": 10,
            "total_tokens": 3_100,
            "prompt_tokens_details": {"text_tokens": 1_000, "image_tokens": 2_000, "cached_tokens": 2_500},
            "completion_tokens_details": {"reasoning_tokens": 90},
        },
        Usage(input=500, cached_input=2_500, output=100, reasoning=90),
        500 * 201_600 + 2_500 * 50_400 + 100 * 604_800,
    ),
    both(
        "rule 6: null details of a cache miss are no fault",
        "sarvam/sarvam-105b",
        PLAIN | {"prompt_tokens_details": None, "completion_tokens_details": None},
        Usage(input=1_000, output=100),
        1_000 * 29_280 + 100 * 73_200,
    ),
    both(
        "traps 2 and 4: Anthropic's cache writes are charged once, at the rate of how long they are kept",
        "anthropic/claude-haiku-4.5",
        {
            "input_tokens": 100,
            "cache_creation_input_tokens": 5_000,
            "cache_read_input_tokens": 20_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 4_000, "ephemeral_1h_input_tokens": 1_000},
            "output_tokens": 300,
        },
        Usage(input=100, cached_input=20_000, cache_write=4_000, cache_write_hour=1_000, output=300),
        1_068_480_000,
        body={"messages": [{"role": "user", "content": [KEPT_FOR_AN_HOUR]}]},
    ),
    both(
        "traps 5 and 6: reasoning is part of the output: neither all of it, nor on top of it",
        "openai/gpt-5",
        {
            "prompt_tokens": 100,
            "completion_tokens": 1_000,
            "total_tokens": 1_100,
            "completion_tokens_details": {"reasoning_tokens": 790},
        },
        Usage(input=100, output=1_000, reasoning=790),
        100 * 126_000 + 1_000 * 1_008_000,
    ),
    both(
        "trap 7: reasoning nested in the text tokens is counted once",
        "azure/gpt-5-mini",
        {
            "prompt_tokens": 40,
            "completion_tokens": 500,
            "total_tokens": 540,
            "completion_tokens_details": {"text_tokens": 500, "reasoning_tokens": 400, "audio_tokens": 0},
        },
        Usage(input=40, output=500, reasoning=400),
        40 * 25_200 + 500 * 201_600,
    ),
    both(
        "trap 8: what Bedrock bills for its cache is not left out, where the total has it",
        "bedrock/claude-haiku-4.5",
        {
            "inputTokens": 14,
            "outputTokens": 200,
            "cacheReadInputTokens": 1_500,
            "cacheWriteInputTokens": 600,
            "totalTokens": 2_314,
        },
        Usage(input=14, cached_input=1_500, cache_write=600, output=200),
        14 * 100_800 + 1_500 * 10_080 + 600 * 126_000 + 200 * 504_000,
    ),
    both(
        "trap 8: nor where the total leaves it out",
        "bedrock/claude-haiku-4.5",
        {
            "inputTokens": 2_100,
            "outputTokens": 200,
            "cacheReadInputTokens": 1_500,
            "cacheWriteInputTokens": 600,
            "totalTokens": 2_300,
        },
        Usage(input=2_100, cached_input=1_500, cache_write=600, output=200),
        2_100 * 100_800 + 1_500 * 10_080 + 600 * 126_000 + 200 * 504_000,
    ),
    both(
        "trap 8: a total beyond the classes is recorded as unknown, and not priced",
        "cerebras/gpt-oss-120b",
        {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_177},
        Usage(input=1_000, output=100, unknown=77),
        1_000 * 35_280 + 100 * 75_600,
    ),
    both(
        "trap 9: a prompt without the cache under a total with it; what we show adds up",
        "groq/gpt-oss-120b",
        {
            "prompt_tokens": 200,
            "completion_tokens": 50,
            "total_tokens": 1_050,
            "prompt_tokens_details": {"cached_tokens": 800},
        },
        Usage(input=200, cached_input=800, output=50),
        200 * 15_120 + 800 * 7_560 + 50 * 60_480,
    ),
    Sample(
        "trap 11: the flex tier is billed at its own price",
        "openai/gpt-5",
        openai_whole(PLAIN, service_tier="flex"),
        openai_stream(PLAIN, service_tier="flex"),
        Usage(input=1_000, output=100),
        1_000 * 63_000 + 100 * 504_000,
        body={"service_tier": "flex"},
    ),
    Sample(
        "trap 11: priority that was asked for and not given is billed as standard",
        "openai/gpt-5",
        openai_whole(PLAIN, service_tier="default"),
        openai_stream(PLAIN, service_tier="default"),
        Usage(input=1_000, output=100),
        1_000 * 126_000 + 100 * 1_008_000,
        body={"service_tier": "priority"},
    ),
    Sample(
        "trap 11: priority that nobody asked for is not billed",
        "openai/gpt-5",
        openai_whole(PLAIN, service_tier="priority"),
        openai_stream(PLAIN, service_tier="priority"),
        Usage(input=1_000, output=100),
        1_000 * 126_000 + 100 * 1_008_000,
        body={"service_tier": "auto"},
    ),
    both(
        "trap 12: above its step all of a long prompt is dearer, and was held at that",
        "openai/gpt-6.1-sol",
        {"prompt_tokens": 300_000, "completion_tokens": 10, "total_tokens": 300_010},
        Usage(input=300_000, output=10),
        300_000 * 403_200 + 10 * 1_512_000,
        body={"messages": [{"role": "user", "content": "river " * 160_000}], "max_tokens": 64},
    ),
    both(
        "trap 12: at the step itself it is not",
        "anthropic/claude-haiku-5.5",
        {"input_tokens": 60_000, "cache_read_input_tokens": 40_000, "output_tokens": 10},
        Usage(input=60_000, cached_input=40_000, output=10),
        60_000 * 10_080 + 40_000 * 1_008 + 10 * 50_400,
        body={"messages": [{"role": "user", "content": "river " * 60_000}], "max_tokens": 64},
    ),
    both(
        "Cohere's billed units, not the tokens of its own prompt",
        "cohere/command-a",
        {
            "billed_units": {"input_tokens": 1_000.0, "output_tokens": 100.0},
            "tokens": {"input_tokens": 1_561, "output_tokens": 103},
        },
        Usage(input=1_000, output=100),
        1_000 * 252_000 + 100 * 1_008_000,
    ),
    both(
        "Perplexity's fee for each request, beside the tokens",
        "perplexity/sonar",
        PLAIN,
        Usage(input=1_000, output=100),
        504_000_000 + 1_000 * 100_800 + 100 * 100_800,
    ),
    both(
        "audio in a prompt has a price of its own, cached or not",
        "gemini/gemini-2.5-flash",
        {
            "promptTokenCount": 1_000,
            "cachedContentTokenCount": 300,
            "candidatesTokenCount": 100,
            "totalTokenCount": 1_100,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 400},
                {"modality": "AUDIO", "tokenCount": 600},
            ],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 100}, {"modality": "AUDIO", "tokenCount": 200}],
        },
        Usage(input=300, cached_input=100, audio_input=400, cached_audio_input=200, output=100),
        300 * 30_240 + 100 * 3_024 + 400 * 100_800 + 200 * 10_080 + 100 * 252_000,
    ),
]


def only(*routes: str) -> Catalog:
    """A catalog of these routes."""
    pairs = [(provider, model) for provider, _, model in (route.partition("/") for route in routes)]
    found = [SHIPPED.route(provider=provider, model=model) for provider, model in pairs]
    return assemble(
        providers={provider: SHIPPED.providers[provider] for provider, _ in pairs}.values(),
        models={model: SHIPPED.models[model] for _, model in pairs}.values(),
        routes=[route for route in found if route is not None],
    )


def served(sample: Sample, *, stream: bool) -> Scene:
    provider, _, model = sample.route.partition("/")
    scene = Scene(inr="100000", catalog=only(sample.route))
    scene.clock.forward(seconds=sample.hours * 3600)
    said = sample.stream if stream else json.dumps(sample.whole).encode()
    assert said is not None
    return scene.plays(**{provider: Play(steps=[said])}).call(model=model, stream=stream, **sample.body)


WHOLE = [pytest.param(each, False, id=f"{each.trap}, whole") for each in SAMPLES if each.whole is not None]
STREAMED = [pytest.param(each, True, id=f"{each.trap}, streamed") for each in SAMPLES if each.stream is not None]


@pytest.mark.parametrize(("sample", "stream"), WHOLE + STREAMED)
def test_the_bill_is_right_to_the_nano(sample: Sample, *, stream: bool) -> None:
    scene = served(sample, stream=stream)
    settled = scene.settled
    assert settled.usage == sample.usage
    assert (settled.cost, settled.shortfall) == (sample.nanos, 0)
    # traps 15 and 16: whoever has the record comes to the same figure, and so does the client
    assert cost(settled.rates, settled.usage) == sample.nanos
    assert sum(line.nanos for line in explain(settled.rates, settled.usage)) == sample.nanos
    assert not settled.rates.variants
    shown = scene.seen.usage if stream else scene.answer["usage"]
    assert shown["prompt_tokens"] + shown["completion_tokens"] == shown["total_tokens"]
    assert shown["total_tokens"] == sample.usage.total_tokens
    assert shown["cost_inr"] == format_inr(sample.nanos)


def test_rule_5_reasoning_under_either_name_is_counted_where_nothing_is_reported() -> None:
    for name in ("reasoning_content", "reasoning"):
        thought = {"index": 0, "delta": {name: "one two three "}, "finish_reason": None}
        stream = sse(_chunk([thought]), _chunk([_choice("four")]), _chunk([_choice(None, finish="stop")]))
        scene = Scene(catalog=only("groq/gpt-oss-20b")).plays(groq=Play(steps=[stream]))
        assert scene.call(model="gpt-oss-20b", stream=True).settled.usage.output == 4


@pytest.mark.parametrize(
    ("route", "reply"),
    [
        ("zai/glm-4.6", {"error": {"code": "1113", "message": "no balance"}}),
        ("openrouter/gpt-oss-120b", {"error": {"code": 502, "message": "upstream"}, "choices": []}),
        ("anthropic/claude-haiku-4.5", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
        ("gemini/gemini-2.5-flash", {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}),
        ("cohere/command-a", {"message": "busy"}),
        ("bedrock/claude-haiku-4.5", {"message": "busy"}),
    ],
)
def test_rule_7_an_error_inside_a_200_costs_nothing(route: str, reply: Json) -> None:
    provider, _, model = route.partition("/")
    catalog = only(route)
    (found,) = catalog.routes_of(model)
    if found.rates is None:
        priced = msgspec.structs.replace(found, rates=SHIPPED.routes_of("gpt-oss-120b")[0].rates)
        catalog = assemble(providers=catalog.providers.values(), models=catalog.models.values(), routes=[priced])
    scene = Scene(catalog=catalog).plays(**{provider: Play(steps=[json.dumps(reply).encode()])}).call(model=model)
    assert scene.refusal is not None
    assert scene.refusal.code == "all_routes_failed"
    assert (scene.spent, scene.released.attempts[0].end) == (0, "unusable")


def test_rule_8_our_own_bad_key_or_empty_purse_is_never_the_callers() -> None:
    key = json.dumps(
        {"error": {"code": 400, "message": "API key not valid", "details": [{"reason": "API_KEY_INVALID"}]}}
    )
    for route, status, body in (
        ("sarvam/sarvam-105b", 403, '{"error":{"message":"bad key","code":"invalid_api_key_error"}}'),
        ("deepseek/deepseek-flash", 402, '{"error":{"message":"Insufficient Balance"}}'),
        ("gemini/gemini-2.5-flash", 400, key),
    ):
        provider, _, model = route.partition("/")
        play = Play(status=status, steps=[body.encode()])
        scene = Scene(catalog=only(route)).plays(**{provider: play}).call(model=model)
        assert scene.refusal is not None
        assert scene.refusal.code == "all_routes_failed"
        assert "key" not in scene.refusal.message.lower().replace("key error", "")
        assert scene.spent == 0


def test_trap_10_a_fallback_is_priced_at_the_model_that_served() -> None:
    catalog = only("openai/gpt-5", "anthropic/claude-haiku-4.5")
    used = {"input_tokens": 1_000, "output_tokens": 100}
    scene = Scene(catalog=catalog).plays(
        openai=Play(status=500, steps=[b"{}"]),
        anthropic=Play(steps=[json.dumps(anthropic_whole(used)).encode()]),
    )
    scene.call(model="gpt-5", fallbacks=[{"model": "claude-haiku-4.5"}])
    assert (scene.settled.model, scene.settled.provider) == ("claude-haiku-4.5", "anthropic")
    assert scene.settled.cost == 1_000 * 100_800 + 100 * 504_000


def test_trap_14_a_model_without_a_price_is_refused_and_never_free() -> None:
    scene = Scene(catalog=only("krutrim/krutrim-2")).call(model="krutrim-2")
    assert scene.refusal is not None
    assert scene.refusal.code == "no_route"
    assert "no price" in scene.refusal.message


def test_a_tier_that_a_route_does_not_price_is_not_served_there() -> None:
    scene = Scene(catalog=only("openai/gpt-6-luna")).call(model="gpt-6-luna", service_tier="flex")
    assert scene.refusal is not None
    assert scene.refusal.code == "no_route"
