"""One contract for every provider file: each is called over HTTP on its own wire, played by the simulator, whole and
streamed, with tools and errors, and costs what its usage and its price make.
"""

import asyncio
import dataclasses
import json
import ssl
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from adapters.catalog_files import PACKAGED, load
from adapters.http import HttpPool
from adapters.simulators import wire
from adapters.simulators.provider import Provider as Simulator
from adapters.simulators.provider import Rule
from adapters.upstream import ProviderCalls, address_of, path_of
from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Provider, Route
from domain.catalog.price import Fx, applied, cost, make_rates
from domain.inference.metering import Usage
from tests.domain.inference.scene import Scene

FX = Fx(inr_per_usd=Decimal(96), on=date(2026, 7, 1), margin=Decimal("0.05"))
SHIPPED, _ = load([PACKAGED], fx=FX)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # making a usual one takes longer than a call
ASKED = "Namaste, tell me of rivers"
TOOL = {
    "type": "function",
    "function": {
        "name": "river_length",
        "description": "Length of a river",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}
NATIVE = sorted(id for id, provider in SHIPPED.providers.items() if provider.wire != "openai")

# What is peculiar about a provider's replies, in the simulator's words; `cached` says where it puts cache reads.
QUIRKS = {
    "azure": "azure",
    "deepinfra": "withcost",
    "groq": "usagegroq",
    "huggingface": "errlean",
    "mistral": "usagecontent",
    "moonshot": "usagechoice",
    "openrouter": "comments-errnumber-withcost",
    "sambanova": "usagelast",
    "sarvam": "nulldetails",
    "xai": "reasonoutside",
}
CACHED = {"deepseek": "cachedhit", "moonshot": "cachedtop"}

every_provider = pytest.mark.parametrize("provider", sorted(SHIPPED.providers))
every_wire = pytest.mark.parametrize("provider", [*NATIVE, "azure", "sarvam"])


def chat_route(provider: str) -> Route:
    """The first chat route of a provider, with a price even where we have none, so that it can be called."""
    found = next(route for route in SHIPPED.routes_at(provider) if SHIPPED.models[route.model].modality == "chat")
    if found.rates is not None:
        return found
    made_up = make_rates(provider=provider, model=found.model, priced_on="2026-11-23", input=1_000, output=3_000)
    return msgspec.structs.replace(found, rates=made_up)


def only(route: Route) -> Catalog:
    """A catalog of this route alone."""
    return assemble(providers=[SHIPPED.providers[route.provider]], models=[SHIPPED.models[route.model]], routes=[route])


@dataclasses.dataclass
class Called:
    """A call that was made, with all that both ends know of it."""

    scene: Scene
    route: Route
    received: Mapping[str, Any]

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = self.scene.answer["choices"][0]["message"]
        return message

    @property
    def cost(self) -> int:
        """What the recorded usage is worth by the catalog, computed anew."""
        settled = self.scene.settled
        assert self.route.rates is not None
        rates = applied(self.route.rates, prompt_tokens=settled.usage.prompt_tokens, tier="", at=settled.at)
        return cost(rates, settled.usage)


def call(provider: str, *, script: str = "", inr: str = "1000", **body: Any) -> Called:
    """Makes one call of a provider's first chat route, through our own client to the simulator."""
    route = chat_route(provider)
    scene = Scene(inr=inr, catalog=only(route))
    simulator = Simulator()
    quirk = QUIRKS.get(provider, "")
    simulator.rules.append(Rule(provider=provider, script=f"{quirk}-{script}"))

    async def calling() -> None:
        server = await wire.serve(simulator.handle, host="127.0.0.1", port=0)
        pool = HttpPool(connect_seconds=5, idle_seconds=5, tls=NO_TLS)
        upstream = ProviderCalls(
            pool,
            catalog=lambda: scene.catalog,
            environment={},
            simulator_url=f"http://127.0.0.1:{server.port}",
        )
        scene.services = dataclasses.replace(
            scene.services, upstream=upstream, configured=lambda: scene.catalog.providers.keys()
        )
        asked = {"model": route.model, "messages": [{"role": "user", "content": ASKED}], **body}
        try:
            await scene.calling(json.dumps(asked).encode())
        finally:
            await pool.close()
            await server.close()

    asyncio.run(calling())
    received = simulator.received[-1].shown() if simulator.received else {}
    return Called(scene, route, received)


def test_there_are_at_least_thirty_two_providers() -> None:
    assert len(SHIPPED.providers) >= 32


@every_provider
def test_a_whole_answer_comes_back_in_openais_words(provider: str) -> None:
    called = call(provider)
    answer = called.scene.answer
    assert answer["object"] == "chat.completion"
    assert isinstance(answer["id"], str)
    assert isinstance(answer["created"], int)
    assert answer["model"] == called.route.model
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert ASKED in called.message["content"]
    assert called.received["provider"] == provider
    assert called.received["model"] == called.route.upstream


@every_provider
def test_a_stream_comes_back_in_openais_words(provider: str) -> None:
    called = call(provider, stream=True)
    seen = called.scene.seen
    assert ASKED in seen.text
    assert seen.finish == "stop"
    assert called.scene.settled.usage.source == "provider"


@every_provider
def test_a_tool_call_goes_through(provider: str) -> None:
    if "tools" in chat_route(provider).refuses:
        called = call(provider, tools=[TOOL])
        assert called.scene.refusal is not None
        assert called.scene.refusal.code == "no_route"
        return
    whole = call(provider, tools=[TOOL], tool_choice="required")
    (made,) = whole.message["tool_calls"]
    assert (made["type"], made["function"]["name"]) == ("function", "river_length")
    assert json.loads(made["function"]["arguments"]) == {"name": "rivers"}
    assert whole.scene.answer["choices"][0]["finish_reason"] == "tool_calls"

    streamed = call(provider, stream=True, tools=[TOOL], tool_choice="required")
    deltas = [
        part
        for chunk in streamed.scene.seen.chunks
        for choice in chunk["choices"]
        for part in choice["delta"].get("tool_calls") or ()
    ]
    assert deltas[0]["id"]
    assert deltas[0]["function"]["name"] == "river_length"
    assert {part["index"] for part in deltas} == {0}
    told = "".join(part["function"].get("arguments") or "" for part in deltas)
    assert json.loads(told) == {"name": "rivers"}
    assert streamed.scene.seen.finish == "tool_calls"


@every_provider
def test_usage_is_the_providers_own_whole_and_streamed(provider: str) -> None:
    for stream in (False, True):
        usage = call(provider, script="in120-out45", stream=stream).scene.settled.usage
        assert usage == Usage(input=120, output=45, reasoning=usage.reasoning)


@every_provider
def test_the_cost_is_usage_times_rates_to_the_nano(provider: str) -> None:
    for stream in (False, True):
        cached = CACHED.get(provider, "cached")
        called = call(provider, script=f"in1000-out77-{cached}200", stream=stream)
        settled = called.scene.settled
        assert settled.usage.prompt_tokens == 1000
        assert settled.shortfall == 0
        assert settled.cost == called.cost == cost(settled.rates, settled.usage) > 0


@every_provider
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_fails_over_or_is_told_and_costs_nothing(provider: str, *, stream: bool) -> None:
    for status in (401, 429, 500):
        scene = call(provider, script=f"err{status}", stream=stream).scene
        assert scene.refusal is not None
        assert scene.refusal.code == "all_routes_failed"
        assert scene.released.attempts[0].end == "status"
    scene = call(provider, script="err422", stream=stream).scene
    assert scene.refusal is not None
    assert scene.refusal.code == "invalid_request"
    assert "Simulated 422" in scene.refusal.message
    assert scene.available == scene.ledger.guards.balances["org_a"].available
    assert scene.spent == 0


@every_wire
@pytest.mark.parametrize("script", ["errframe2", "cut2", "junk2"])
def test_a_stream_that_breaks_costs_nothing(provider: str, script: str) -> None:
    scene = call(provider, script=f"9c-{script}", stream=True).scene
    assert scene.released.code == "provider_broke"
    assert scene.spent == 0


@every_wire
@pytest.mark.parametrize("script", ["null", "empty", "notjson", "cut1"])
def test_a_whole_answer_that_is_none_is_a_failed_route(provider: str, script: str) -> None:
    scene = call(provider, script=script).scene
    assert scene.refusal is not None
    assert scene.refusal.code == "all_routes_failed"


@every_wire
@pytest.mark.parametrize("script", ["split1", "split7", "wire3", "crlf", "comments", "bom"])
def test_a_stream_may_be_split_anywhere(provider: str, script: str) -> None:
    called = call(provider, script=f"6c-reason2-{script}", stream=True)
    plain = call(provider, script="6c-reason2", stream=True)
    assert called.scene.seen.text == plain.scene.seen.text
    assert called.scene.settled.usage == plain.scene.settled.usage


@every_wire
def test_reasoning_is_told_apart_and_counted_once(provider: str) -> None:
    usage = call(provider, script="5c-reason3-in50").scene.settled.usage
    assert (usage.input, usage.output) == (50, 8)
    streamed = call(provider, script="5c-reason3-in50", stream=True).scene
    assert streamed.settled.usage.output == 8
    thoughts = [c["choices"][0]["delta"].get("reasoning_content") for c in streamed.seen.chunks if c["choices"]]
    assert [thought for thought in thoughts if thought] == [" thought 1", " thought 2", " thought 3"]


@every_wire
def test_a_limit_ends_the_answer_by_length(provider: str) -> None:
    for stream in (False, True):
        scene = call(provider, script="50c", stream=stream, max_tokens=4).scene
        finish = scene.seen.finish if stream else scene.answer["choices"][0]["finish_reason"]
        assert finish == "length"
        assert scene.settled.usage.output == 4


@every_wire
def test_stop_sequences_and_json_schemas_reach_the_provider(provider: str) -> None:
    assert call(provider, stop=["sample"]).message["content"].endswith("simulator's ")
    schema = {"type": "object", "properties": {"river": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    called = call(provider, response_format=wanted)
    if SHIPPED.providers[provider].wire in ("anthropic", "bedrock"):
        # The simulator of Anthropic does not know of schemas; Converse has no words for them.
        asked = called.received.get("body") or {}
        excluded = called.scene.refusal is not None and called.scene.refusal.code == "no_route"
        assert excluded or asked["output_config"]["format"]["schema"] == schema
        return
    assert list(json.loads(called.message["content"])) == ["river"]


@every_wire
def test_a_whole_conversation_with_tools_and_pictures_is_understood(provider: str) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
        {
            "role": "assistant",
            "content": "A river.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "river_length", "arguments": '{"name":"Ganga"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2525 km"},
    ]
    called = call(provider, messages=messages, tools=[TOOL])
    assert called.message["content"].startswith("The tool says: 2525 km.")


@every_wire
def test_without_a_report_the_gateway_counts_and_says_so(provider: str) -> None:
    for stream in (False, True):
        usage = call(provider, script="4c-nousage", stream=stream).scene.settled.usage
        assert usage.source == "counted"
        assert usage.output == 4


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_writing_the_cache_has_rates_of_its_own_by_how_long_it_is_kept(provider: str) -> None:
    cached = {"type": "text", "text": ASKED, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [{"role": "user", "content": [cached]}]
    for stream in (False, True):
        called = call(
            provider, script="in1000-out10-cached300-written200-writtenhour100", stream=stream, messages=messages
        )
        settled = called.scene.settled
        assert settled.usage == Usage(input=400, cached_input=300, cache_write=200, cache_write_hour=100, output=10)
        # Claude Haiku 4.5: 1 / 0.10 / 1.25 / 2 / 5 dollars per million, at 96 rupees and 5 per cent.
        assert settled.cost == 100_800 * 400 + 10_080 * 300 + 126_000 * 200 + 201_600 * 100 + 504_000 * 10
        assert settled.shortfall == 0


def address(provider: Provider, **environment: str) -> tuple[str, dict[str, str]] | None:
    return address_of(provider, environment=environment, simulator_url=None)


def test_keys_travel_in_the_form_that_each_provider_wants() -> None:
    assert address(SHIPPED.providers["anthropic"], BR_KEY_ANTHROPIC="k") == (
        "https://api.anthropic.com/v1",
        {"anthropic-version": "2023-06-01", "x-api-key": "k"},
    )
    assert address(SHIPPED.providers["gemini"], BR_KEY_GEMINI="k") == (
        "https://generativelanguage.googleapis.com/v1beta",
        {"x-goog-api-key": "k"},
    )
    assert address(SHIPPED.providers["bedrock"], BR_KEY_BEDROCK="k") == (
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        {"Authorization": "Bearer k"},
    )


def test_an_address_is_made_of_what_the_operator_names_and_of_nothing_that_bends_it() -> None:
    azure = SHIPPED.providers["azure"]
    assert address(azure, BR_KEY_AZURE="k", BR_AZURE_RESOURCE="acme-in") == (
        "https://acme-in.openai.azure.com/openai",
        {"api-key": "k"},
    )
    assert address(azure, BR_KEY_AZURE="k") is None
    for bent in ("evil.example#", "evil.example/", "a.b", "a@b", "a b", "", "-a"):
        assert address(azure, BR_KEY_AZURE="k", BR_AZURE_RESOURCE=bent) is None


@pytest.mark.parametrize(
    ("provider", "streamed", "path"),
    [
        ("openai", True, "/chat/completions"),
        ("azure", True, "/deployments/my%20model%3A1/chat/completions?api-version=2024-10-21"),
        ("e2e", False, "/my%20model%3A1/v1/chat/completions"),
        ("gemini", False, "/models/my%20model%3A1:generateContent"),
        ("gemini", True, "/models/my%20model%3A1:streamGenerateContent?alt=sse"),
        ("bedrock", False, "/model/my%20model%3A1/converse"),
        ("bedrock", True, "/model/my%20model%3A1/converse-stream"),
    ],
)
def test_paths_are_the_wires_or_the_files(provider: str, path: str, *, streamed: bool) -> None:
    assert path_of(SHIPPED.providers[provider], "my model:1", "chat", streamed=streamed) == path
