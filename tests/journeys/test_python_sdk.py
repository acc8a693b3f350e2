"""OpenAI's own Python SDK against the running product. Its types are generated from OpenAI's published schema, so a
reply that they take strictly is a reply as published."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, nanos, until
from tests.journeys.models import PIECES, PROMPT_TOKENS, cost_nanos
from tests.product import INPUT_NANOS, chat_body

pytestmark = pytest.mark.journeys

ASK: dict[str, Any] = chat_body("sim-3c-split7")
THREE_PIECES = cost_nanos(PROMPT_TOKENS, PIECES)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_a_whole_answer_has_openais_shape_and_its_cost(customer: Customer) -> None:
    with customer.sdk() as sdk:
        answer = sdk.chat.completions.create(**ASK)
        raw = sdk.chat.completions.with_raw_response.create(**ASK)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert nanos(answer.usage.cost_inr) == THREE_PIECES
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    strict = ChatCompletion.model_validate_json(raw.content, strict=True)
    assert strict.model == "sim-3c-split7"
    assert raw.headers["x-br-provider"] == "sim-india"
    assert raw.headers["x-br-model"] == "sim-3c-split7"
    assert int(raw.headers["x-br-latency-ms"]) >= 0
    assert nanos(raw.headers["x-br-cost-inr"]) == THREE_PIECES
    assert raw.headers["x-br-request-id"] == raw.headers["x-request-id"]


@pytest.mark.parametrize("options", [None, {"include_usage": True}, {"include_usage": False}])
def test_a_stream_ends_with_usage_whatever_was_asked(customer: Customer, options: Any) -> None:
    asked = {} if options is None else {"stream_options": options}
    with customer.sdk() as sdk:
        with sdk.chat.completions.create(**ASK, stream=True, **asked) as stream:
            chunks = list(stream)
        with sdk.chat.completions.with_streaming_response.create(**ASK, stream=True, **asked) as raw:
            assert raw.headers["content-type"].startswith("text/event-stream")
            assert raw.headers["x-br-provider"] == "sim-india"
            lines = [line for line in raw.iter_lines() if line]
    *contents, last = chunks
    assert len({chunk.id for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in contents) == "You asked: “Say"
    assert all(chunk.usage is None for chunk in contents)
    assert [chunk.choices[0].finish_reason for chunk in contents][-1] == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert nanos(last.usage.cost_inr) == THREE_PIECES
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        ChatCompletionChunk.model_validate_json(line.removeprefix("data: "), strict=True)


def test_the_asynchronous_client_works_alike(customer: Customer) -> None:
    async def journey() -> tuple[ChatCompletion, list[ChatCompletionChunk], list[float]]:
        http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=False)
        url = f"{customer.product.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=customer.key, http_client=http) as sdk:
            whole = await sdk.chat.completions.create(**ASK)
            stream = await sdk.chat.completions.create(**ASK, stream=True)
            chunks = [chunk async for chunk in stream]
            embedded = await sdk.embeddings.create(model="steady-embedding", input="नमस्ते", dimensions=8)
        return whole, chunks, embedded.data[0].embedding

    whole, chunks, vector = asyncio.run(journey())
    assert whole.choices[0].message.content == "You asked: “Say"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == PROMPT_TOKENS + PIECES
    assert len(vector) == 8


def test_a_tool_is_called_and_its_result_is_answered(customer: Customer) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Pune"}]
    with customer.sdk() as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="steady", messages=messages, tools=[WEATHER])
        ChatCompletion.model_validate_json(raw.content, strict=True)
        first = raw.parse()
        assert first.choices[0].finish_reason == "tool_calls"
        calls = first.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert json.loads(calls[0].function.arguments) == {"city": "Pune"}
        messages += [
            first.choices[0].message,
            {"role": "tool", "tool_call_id": calls[0].id, "content": "31 °C"},
        ]
        second = sdk.chat.completions.create(model="steady", messages=messages, tools=[WEATHER])
        assert "31 °C" in (second.choices[0].message.content or "")
        chunks = list(sdk.chat.completions.create(model="steady", messages=messages[:1], tools=[WEATHER], stream=True))
    deltas = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or ()]
    told = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(told) == {"city": "Pune"}
    assert deltas[0].function is not None
    assert deltas[0].function.name == "get_weather"
    assert chunks[-1].usage is not None


def test_structured_answers_reasoning_and_several_choices_pass_through(customer: Customer) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    with customer.sdk() as sdk:
        formatted = sdk.chat.completions.create(
            **chat_body("steady"),
            response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}},
        )
        assert json.loads(formatted.choices[0].message.content or "") == {"sum": 1}
        several = sdk.chat.completions.with_raw_response.create(**ASK, n=3, logprobs=True, seed=7, max_tokens=2)
        parsed = ChatCompletion.model_validate_json(several.content, strict=True)
        thought = sdk.chat.completions.create(**chat_body("sim-3c-reason2"))
        chunks = list(sdk.chat.completions.create(**chat_body("sim-3c-reason2-reasonalias"), stream=True))
    assert [choice.index for choice in parsed.choices] == [0, 1, 2]
    assert all(choice.logprobs is not None for choice in parsed.choices)
    assert all(choice.finish_reason == "length" for choice in parsed.choices)
    assert parsed.usage is not None
    assert parsed.usage.completion_tokens == 6
    assert thought.choices[0].message.reasoning_content == " thought 1 thought 2"
    assert thought.usage is not None
    assert thought.usage.completion_tokens_details is not None
    assert thought.usage.completion_tokens_details.reasoning_tokens == 2
    reasons = [getattr(chunk.choices[0].delta, "reasoning", None) for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == [" thought 1", " thought 2"]


def test_embeddings_come_as_floats_and_as_the_sdks_base64(customer: Customer) -> None:
    given: dict[str, Any] = {"model": "steady-embedding", "dimensions": 16}
    with customer.sdk() as sdk:
        default = sdk.embeddings.create(input=["one", "two words"], **given)
        floats = sdk.embeddings.with_raw_response.create(input=["one", "two words"], encoding_format="float", **given)
        tokens = sdk.embeddings.create(input=[[1, 2, 3], [4, 5]], **given)
    with customer.http() as http:
        packed = http.post("/v1/embeddings", json={"input": "one", "encoding_format": "base64", **given}).json()
    strict = CreateEmbeddingResponse.model_validate_json(floats.content, strict=True)
    assert [row.index for row in strict.data] == [0, 1]
    assert default.data[0].embedding == pytest.approx(strict.data[0].embedding, abs=1e-7)
    in_base64 = struct.unpack("<16f", base64.b64decode(packed["data"][0]["embedding"]))
    assert list(in_base64) == pytest.approx(strict.data[0].embedding, abs=1e-7)
    assert strict.usage.prompt_tokens == strict.usage.total_tokens == 1 + 3
    assert nanos(strict.usage.cost_inr) == 4 * INPUT_NANOS
    assert tokens.usage.prompt_tokens == 5


def test_models_are_listed_and_found_by_ids_with_slashes(customer: Customer) -> None:
    with customer.sdk() as sdk:
        listed = list(sdk.models.list())
        raw = sdk.models.with_raw_response.retrieve("acme/steady-v1")
        answer = sdk.chat.completions.create(**chat_body("acme/steady-v1"))
    ids = {model.id for model in listed}
    assert {"steady", "acme/steady-v1", "sarvam-105b", "bge-m3"} <= ids
    assert listed[0].modality == "chat"
    assert Model.model_validate_json(raw.content, strict=True).id == "acme/steady-v1"
    assert answer.model == "acme/steady-v1"
    with customer.http() as http:
        for row in http.get("/v1/models").json()["data"]:
            Model.model_validate_json(json.dumps(row), strict=True)
        assert http.get("/v1/models/acme%2Fsteady-v1").json()["id"] == "acme/steady-v1"


def test_the_extensions_bind_the_routing_and_stay_with_the_gateway(customer: Customer) -> None:
    def served_by(**extensions: Any) -> str:
        raw = sdk.chat.completions.with_raw_response.create(**ASK, extra_body=extensions)
        return str(raw.headers["x-br-provider"])

    with customer.sdk() as sdk:
        assert served_by(data_policy="india_only") == "sim-india"
        assert served_by(provider="sim-abroad") == "sim-abroad"
        assert served_by(open_weights=True, permissive=True, optimize="latency") == "sim-india"
        assert served_by(max_cost_inr="0.5") == "sim-india"
        assert served_by(max_cost_inr=0.5) == "sim-india"
        fallen = sdk.chat.completions.with_raw_response.create(
            **chat_body("sim-err500"),
            extra_body={"fallbacks": [{"model": "sim-err503"}, {"model": "steady", "provider": "sim-abroad"}]},
        )
        with pytest.raises(openai.BadRequestError) as refused:
            served_by(data_policy="india_only", provider="sim-abroad")
        with pytest.raises(openai.APIStatusError) as too_dear:
            served_by(max_cost_inr="0.000001")
    assert fallen.headers["x-br-model"] == fallen.parse().model == "steady"
    assert fallen.headers["x-br-provider"] == "sim-abroad"
    assert refused.value.code == "no_route"
    assert (too_dear.value.status_code, too_dear.value.code) == (402, "max_cost_exceeded")
    record = customer.record(fallen.headers["x-br-request-id"])
    assert [attempt["end"] for attempt in record["attempts"]] == ["status"] * 4 + ["served"]
    simulator = f"{customer.product.simulator_url}/requests"
    seen = httpx.get(simulator, params={"limit": 20}, trust_env=False, verify=False).json()["requests"]
    bodies = [request["body"] for request in seen if request["model"] == "sim-3c-split7"]
    assert bodies
    assert not {"data_policy", "provider", "open_weights", "permissive", "optimize", "max_cost_inr"} & {
        name for body in bodies for name in body
    }


def test_every_record_of_one_call_says_the_same_cost(customer: Customer) -> None:
    with customer.sdk() as sdk:
        raw = sdk.chat.completions.with_raw_response.create(**ASK)
        *_, last = sdk.chat.completions.create(**ASK, stream=True)
        sdk.embeddings.create(model="steady-embedding", input="12345678", dimensions=4)
    embedding_nanos = 2 * INPUT_NANOS
    total = 2 * THREE_PIECES + embedding_nanos
    answer = raw.parse()
    assert answer.usage is not None
    assert last.usage is not None
    assert nanos(answer.usage.cost_inr) == THREE_PIECES
    assert nanos(last.usage.cost_inr) == THREE_PIECES

    record = customer.record(raw.headers["x-br-request-id"])
    assert record["state"] == "settled"
    assert (record["provider"], record["region"]) == ("sim-india", "IN")
    assert nanos(record["cost_inr"]) == THREE_PIECES
    lines = record["arithmetic"]["lines"]
    assert sum(line["quantity"] * line["nanos_each"] for line in lines) == record["arithmetic"]["sum_nanos"]
    assert record["arithmetic"]["sum_nanos"] == record["arithmetic"]["debited_nanos"] == THREE_PIECES
    per_token = record["price"]["nanos_per_token"]
    assert record["usage"]["input"] * per_token["input"] + record["usage"]["output"] * per_token["output"] == (
        THREE_PIECES
    )
    held, settle = record["hold"], record["settle"]
    assert nanos(settle["held_inr"]) == nanos(held["amount_inr"]) + nanos(held["extended_inr"])
    assert nanos(settle["returned_inr"]) == nanos(settle["held_inr"]) - THREE_PIECES

    until(lambda: len(customer.get("/me/activity/events")["events"]) == 3)
    until(lambda: customer.spent_nanos() == total)
    billing = customer.get("/me/billing")
    assert billing["held_inr"] == "0"
    assert nanos(billing["available_inr"]) == nanos(billing["balance_inr"]) == nanos("100") - total
    events = customer.get("/me/activity/events")["events"]
    assert [nanos(event["cost_inr"]) for event in events] == [embedding_nanos, THREE_PIECES, THREE_PIECES]
    usage = customer.get("/me/usage")
    assert nanos(usage["today"]) == nanos(usage["last_30d"]) == total
    assert [nanos(row["today"]) for row in usage["keys"]] == [total]
    assert sum(nanos(row["cost_inr"]) for row in customer.get("/me/usage/daily")["data"]) == total
    activity = customer.get("/me/activity")
    assert nanos(activity["totals"]["cost_inr"]) == total
    assert activity["totals"]["requests"] == 3
    assert nanos(customer.get("/v1/key")["spent_month_inr"]) == total
    assert nanos(customer.get("/v1/key")["left"]["balance_inr"]) == nanos("100") - total


Provoke = Callable[[openai.OpenAI], Any]


def ask(**changed: Any) -> Provoke:
    return lambda sdk: sdk.chat.completions.create(**ASK | changed)


ERRORS: list[tuple[type[openai.APIStatusError], int, str, Provoke]] = [
    (openai.AuthenticationError, 401, "invalid_api_key", lambda sdk: ask()(sdk.with_options(api_key="br-no"))),
    (openai.APIStatusError, 402, "max_cost_exceeded", ask(extra_body={"max_cost_inr": "0.0000001"})),
    (openai.NotFoundError, 404, "model_not_found", ask(model="nobody/knows")),
    (openai.NotFoundError, 404, "model_not_found", lambda sdk: sdk.models.retrieve("nobody/knows")),
    (openai.BadRequestError, 400, "invalid_request", ask(model="sim-err422")),
    (openai.BadRequestError, 400, "invalid_request", ask(messages=None)),
    (openai.BadRequestError, 400, "no_route", ask(extra_body={"provider": "sarvam"})),
    (openai.BadRequestError, 400, "unsupported_parameter", ask(extra_body={"sangam": {}})),
    (openai.InternalServerError, 502, "all_routes_failed", ask(model="sim-err500")),
    (openai.InternalServerError, 502, "all_routes_failed", ask(model="sim-err401")),
    (openai.InternalServerError, 502, "all_routes_failed", ask(model="sim-err500", stream=True)),
]


@pytest.mark.parametrize(("kind", "status", "code", "provoke"), ERRORS)
def test_errors_become_the_sdks_own_exceptions(
    customer: Customer, kind: type[openai.APIStatusError], status: int, code: str, provoke: Provoke
) -> None:
    with customer.sdk() as sdk, pytest.raises(kind) as raised:
        provoke(sdk)
    assert_error(raised.value, status=status, code=code)
    assert customer.spent_nanos() == 0


def assert_error(error: openai.APIStatusError, *, status: int, code: str) -> None:
    assert type(error) is not openai.APIError
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id is not None
    body = error.response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    ErrorObject.model_validate_json(json.dumps(body["error"]), strict=True)


def test_a_poor_org_a_narrow_key_and_a_full_minute_are_told_apart(new_customer: NewCustomer) -> None:
    poor = new_customer(inr="0.0000001")
    with poor.sdk() as sdk, pytest.raises(openai.APIStatusError) as raised:
        sdk.chat.completions.create(**ASK)
    assert_error(raised.value, status=402, code="insufficient_credits")

    narrow = new_customer(models=("steady",), rpm_limit=3)
    with narrow.sdk() as sdk:
        with pytest.raises(openai.PermissionDeniedError) as raised:
            sdk.chat.completions.create(**ASK)
        assert_error(raised.value, status=403, code="forbidden_scope")
        for _ in range(2):
            sdk.chat.completions.create(**chat_body("steady"))
        with pytest.raises(openai.RateLimitError) as raised:
            sdk.chat.completions.create(**chat_body("steady"))
    assert_error(raised.value, status=429, code="rate_limit_exceeded")
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60
    assert raised.value.response.headers["x-ratelimit-limit-requests"] == "3"
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "0"

    inference = new_customer(scope="inference")
    with inference.http() as http:
        assert http.get("/me/keys").json()["error"]["code"] == "forbidden_scope"
        assert http.get("/v1/key").json()["scope"] == "inference"


def test_a_retried_call_is_charged_once(customer: Customer) -> None:
    again = {"Idempotency-Key": "order 42"}
    with customer.sdk() as sdk:
        first = sdk.chat.completions.with_raw_response.create(**ASK, extra_headers=again)
        with pytest.raises(openai.ConflictError) as conflict:
            sdk.with_options(max_retries=2).chat.completions.create(**ASK, extra_headers=again)
        with pytest.raises(openai.UnprocessableEntityError) as other:
            sdk.chat.completions.create(**ASK | {"seed": 1}, extra_headers=again)
    assert_error(conflict.value, status=409, code="idempotency_conflict")
    assert conflict.value.response.headers["x-should-retry"] == "false"
    assert conflict.value.request_id == first.headers["x-request-id"]
    assert first.headers["x-request-id"] in conflict.value.message
    assert_error(other.value, status=422, code="idempotency_conflict")
    until(lambda: customer.spent_nanos() == THREE_PIECES)
