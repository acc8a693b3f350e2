"""Streams through the whole product, however a provider may cut, frame, decorate or break its bytes: a client gets one
closing chunk with usage and [DONE], or one clear error, and pays what the contract says."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, Operator, nanos, until
from tests.journeys.models import (
    BROKEN_EARLY,
    BROKEN_LATE,
    PIECES,
    PROMPT_TOKENS,
    REASONING,
    REFUSED,
    SILENT_EARLY,
    SILENT_LATE,
    UNTOLD,
    WELL_TOLD,
    cost_nanos,
)
from tests.product import INPUT_NANOS, OUTPUT_NANOS, Product, chat_body

pytestmark = pytest.mark.journeys

JUNK_IN_STREAMS_ONLY = ("sim-junk0", "sim-nostream", "sim-3c-junk1")


@pytest.fixture(scope="module")
def reader(new_customer: NewCustomer) -> Customer:
    """One customer for all of these calls."""
    return new_customer()


@pytest.fixture(scope="module")
def hasty(new_home: Callable[[], Path]) -> Iterator[Customer]:
    """A customer of a product that waits for its providers a second only, and carries three calls at once."""
    settings = {
        "WEB_PROCESSES": "1",
        "BR_FIRST_BYTE_SECONDS": "1",
        "BR_IDLE_SECONDS": "1",
        "BR_IN_FLIGHT_MAX": "3",
    }
    with Product(new_home(), models=[*SILENT_EARLY, *SILENT_LATE], settings=settings) as product:
        operator = Operator(product)
        yield operator.customer()
        operator.close()


def stream(customer: Customer, model: str, **fields: Any) -> tuple[httpx.Response, list[Any]]:
    """The reply and its frames as JSON; the last must be [DONE], and there must be nothing but data and comments."""
    with customer.http() as http:
        reply = http.post("/v1/chat/completions", json=chat_body(model, stream=True, **fields))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    frames = [frame for frame in reply.text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames), reply.text
    assert frames.pop() == "data: [DONE]"
    return reply, [json.loads(frame.removeprefix("data: ")) for frame in frames]


def assert_whole_stream(reply: httpx.Response, chunks: list[Any], *, text: str) -> Any:
    """One answer from its first to its closing chunk; its usage."""
    *contents, last = chunks
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)
    assert {chunk["model"] for chunk in chunks} == {reply.headers["x-br-model"]}
    assert len({chunk["id"] for chunk in chunks}) == 1
    said = "".join(choice["delta"].get("content") or "" for chunk in contents for choice in chunk["choices"])
    assert said.replace("x" * 40, "") == text
    ends = [choice["finish_reason"] for chunk in contents for choice in chunk["choices"]]
    assert [end for end in ends if end is not None] in (["stop"], ["content_filter"], [])
    assert not any(chunk.get("usage") for chunk in contents)
    assert last["choices"] == []
    usage = last["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    return usage


@pytest.mark.parametrize("model", WELL_TOLD)
def test_every_well_told_stream_ends_with_its_usage_and_its_price(reader: Customer, model: str) -> None:
    reply, chunks = stream(reader, model)
    usage = assert_whole_stream(reply, chunks, text="You asked: “Say")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (PROMPT_TOKENS, PIECES)
    assert "estimated" not in usage
    assert nanos(usage["cost_inr"]) == cost_nanos(PROMPT_TOKENS, PIECES)
    if "cached" in model:
        assert usage["prompt_tokens_details"]["cached_tokens"] == 5


@pytest.mark.parametrize(
    "model", [f"sim-3c-{words}" for words in ("bom", "crlf", "usagegroq", "nomodel", "nulldetails", "cachedread5")]
)
def test_the_whole_answer_of_the_same_provider_costs_the_same(reader: Customer, model: str) -> None:
    with reader.http() as http:
        reply = http.post("/v1/chat/completions", json=chat_body(model))
    assert reply.status_code == 200, reply.text
    answer = ChatCompletion.model_validate_json(reply.content, strict=True)
    assert answer.model == model
    assert answer.usage is not None
    assert nanos(reply.json()["usage"]["cost_inr"]) == cost_nanos(PROMPT_TOKENS, PIECES)


@pytest.mark.parametrize("model", UNTOLD)
def test_without_usage_the_gateway_counts_and_says_so(reader: Customer, model: str) -> None:
    reply, chunks = stream(reader, model)
    usage = assert_whole_stream(reply, chunks, text="You asked: “Say")
    assert usage["estimated"] is True
    assert 1 <= usage["prompt_tokens"] <= 2 * PROMPT_TOKENS
    assert PIECES <= usage["completion_tokens"] <= 3 * PIECES
    expected = usage["prompt_tokens"] * INPUT_NANOS + usage["completion_tokens"] * OUTPUT_NANOS
    assert nanos(usage["cost_inr"]) == expected
    record = reader.record(reply.headers["x-br-request-id"])
    assert record["usage"]["estimated"] is True
    assert nanos(record["cost_inr"]) == expected


@pytest.mark.parametrize("model", REASONING)
def test_reasoning_is_paid_once_wherever_the_provider_counts_it(reader: Customer, model: str) -> None:
    reply, chunks = stream(reader, model)
    usage = assert_whole_stream(reply, chunks, text="You asked: “Say")
    assert usage["completion_tokens"] == PIECES + 2
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2
    assert nanos(usage["cost_inr"]) == cost_nanos(PROMPT_TOKENS, PIECES + 2)


@pytest.mark.parametrize("model", BROKEN_EARLY)
def test_what_fails_before_content_is_an_error_without_a_stream(reader: Customer, model: str) -> None:
    with reader.http() as http:
        for streamed in (True, False):
            if model in JUNK_IN_STREAMS_ONLY and not streamed:
                continue
            reply = http.post("/v1/chat/completions", json=chat_body(model, stream=streamed))
            assert reply.headers["content-type"] == "application/json"
            error = reply.json()["error"]
            assert (reply.status_code, error["code"]) == (502, "all_routes_failed")
            assert "sim-abroad" in error["message"]
            record = reader.record(reply.headers["x-br-request-id"])
            assert (record["state"], record["cost_inr"]) == ("released", "0")
            assert [attempt["route"] for attempt in record["attempts"]] == [f"sim-india/{model}", f"sim-abroad/{model}"]


@pytest.mark.parametrize("model", REFUSED)
def test_what_a_provider_refuses_is_not_tried_elsewhere(reader: Customer, model: str) -> None:
    with reader.http() as http:
        reply = http.post("/v1/chat/completions", json=chat_body(model, stream=True))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert "Simulated" in reply.json()["error"]["message"]
    record = reader.record(reply.headers["x-br-request-id"])
    assert [attempt["route"] for attempt in record["attempts"]] == [f"sim-india/{model}"]


def assert_broken(customer: Customer, model: str) -> None:
    reply, chunks = stream(customer, model)
    *contents, last = chunks
    assert contents
    assert all("error" not in chunk and not chunk.get("usage") for chunk in contents)
    assert set(last) == {"error"}
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == "provider_broke"
    record = customer.record(reply.headers["x-br-request-id"])
    assert (record["state"], record["cost_inr"], record["error_code"]) == ("released", "0", "provider_broke")
    assert record["attempts"][-1]["cost_unknown"] is True


@pytest.mark.parametrize("model", BROKEN_LATE)
def test_what_fails_after_content_ends_with_one_error_and_costs_nothing(reader: Customer, model: str) -> None:
    assert_broken(reader, model)


@pytest.mark.parametrize("model", ["sim-3c-cut1", "sim-3c-errframe1"])
def test_the_sdk_raises_the_error_of_a_broken_stream(reader: Customer, model: str) -> None:
    with reader.sdk() as sdk:
        chunks = sdk.chat.completions.create(**chat_body(model), stream=True)
        with pytest.raises(openai.APIError, match="Nothing was charged"):
            list(chunks)
        chunks.close()


def test_a_provider_that_goes_silent_is_given_up(hasty: Customer) -> None:
    for model in SILENT_EARLY:
        with hasty.http() as http:
            reply = http.post("/v1/chat/completions", json=chat_body(model, stream=True))
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "all_routes_failed")
        record = hasty.record(reply.headers["x-br-request-id"])
        assert [attempt["end"] for attempt in record["attempts"]] == ["timeout", "timeout"]
    for model in SILENT_LATE:
        assert_broken(hasty, model)
    assert hasty.spent_nanos() == 0


def test_a_gateway_that_carries_all_it_can_says_so(hasty: Customer) -> None:
    def overloaded() -> httpx.Response | None:
        reply = http.post("/v1/chat/completions", json=chat_body("steady"))
        return reply if reply.status_code == 503 else None

    def occupy() -> None:
        """Takes one of the three places, until it is given up."""
        with suppress(httpx.TimeoutException):
            while leaver.post("/v1/chat/completions", json=chat_body("sim-hang"), timeout=0.5).status_code == 503:
                pass

    with hasty.http() as http, hasty.http() as leaver:
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(occupy) for _ in range(3)]
            reply = until(overloaded)
            for one in waiting:
                one.result()
        assert reply.json()["error"]["code"] == "overloaded"
        assert reply.json()["error"]["type"] == "api_error"
        assert int(reply.headers["retry-after"]) >= 1
        until(lambda: http.post("/v1/chat/completions", json=chat_body("steady")).status_code == 200)


def test_a_client_that_hangs_up_pays_for_what_was_produced(reader: Customer) -> None:
    with (
        reader.http() as http,
        http.stream("POST", "/v1/chat/completions", json=chat_body("sim-3c-300ms", stream=True)) as reply,
    ):
        request = reply.headers["x-br-request-id"]
        next(reply.iter_lines())
    record = until(lambda: (told := reader.record(request))["state"] == "settled" and told)
    assert record["settle"]["ending"] == "client_gone"
    assert nanos(record["cost_inr"]) == cost_nanos(PROMPT_TOKENS, PIECES)


def test_a_stream_stops_where_the_money_ends(new_customer: NewCustomer) -> None:
    """A provider that keeps to the limit it is given ends by itself; one that does not is cut off."""
    for model, ending in (("steady", "finished"), ("sim-3c-pad100", "ceiling")):
        poor = new_customer(inr="0.0017")  # the input, and 16 tokens of output, at the dearer of the two routes
        reply, chunks = stream(poor, model)
        ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
        assert ends == ["length"]
        usage = chunks[-1]["usage"]
        assert chunks[-1]["choices"] == []
        record = poor.record(reply.headers["x-br-request-id"])
        assert record["settle"]["ending"] == ending
        assert 0 < nanos(record["cost_inr"]) == nanos(usage["cost_inr"]) <= nanos("0.0017")
        until(lambda poor=poor, usage=usage: poor.spent_nanos() == nanos(usage["cost_inr"]))
