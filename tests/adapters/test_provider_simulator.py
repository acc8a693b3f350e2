"""The simulator is what other tests believe about providers, so each word of it is held to its bytes."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.simulators import provider
from adapters.simulators.answers import prompt_tokens
from adapters.simulators.embeddings import embedding_tokens
from adapters.simulators.script import WORDS, Script, in_model_name, parse

CHAT = "/alpha/v1/chat/completions"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            },
        },
    },
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(provider.start("127.0.0.1", 0), loop).result(5)
    yield server.port
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture(autouse=True)
def _clean(port: int) -> None:
    call(port, "POST", "/reset")


@dataclass
class Reply:
    """What came over the wire; `complete` when the body ended as its framing promised."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes]
    complete: bool

    def json(self) -> Any:
        return json.loads(self.body)

    def data(self) -> list[str]:
        """The data of each frame of the stream, as a reader that follows the SSE standard sees it."""
        text = self.body.decode("utf-8-sig").replace("\r\n", "\n")
        lines = [line for line in text.split("\n") if line.startswith("data:")]
        return [line[5:].removeprefix(" ") for line in lines]

    def chunks_sent(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.data() if data != "[DONE]"]

    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for chunk in self.chunks_sent() for choice in chunk.get("choices", [])]

    def text(self) -> str:
        return "".join(delta.get("content") or "" for delta in self.deltas())


def send(port: int, method: str, path: str, body: Any = None, **headers: str) -> socket.socket:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: simulator", f"content-length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def read_until_silence(connection: socket.socket, *, seconds: float) -> bytes:
    """What comes before the other side falls silent; fails where it closes instead."""
    raw = bytearray()
    connection.settimeout(seconds)
    while True:
        try:
            part = connection.recv(65536)
        except TimeoutError:
            return bytes(raw)
        assert part, "the connection was closed"
        raw += part


def understand(raw: bytes) -> Reply:
    head, _, rest = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    chunks: list[bytes] = []
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers.get("content-length", len(rest)))
        return Reply(int(status.split()[1]), headers, rest, chunks, len(rest) == length)
    complete = False
    while rest and not complete:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        complete = int(size, 16) == 0
        assert rest[int(size, 16) :][:2] == b"\r\n"
        rest = rest[int(size, 16) + 2 :]
    return Reply(int(status.split()[1]), headers, b"".join(chunks), chunks, complete and not rest)


def call(port: int, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    return understand(read_all(send(port, method, path, body, connection="close", **headers)))


def chat(port: int, model: str = "sim", *, ask: str = "What is ghee?", stream: bool = False, **fields: Any) -> Reply:
    body = {"model": model, "messages": [{"role": "user", "content": ask}], "stream": stream, **fields}
    return call(port, "POST", CHAT, body)


def stream(port: int, model: str = "sim", *, usage: bool = True, **fields: Any) -> Reply:
    return chat(port, model, stream=True, stream_options={"include_usage": usage}, **fields)


def stats(port: int) -> Any:
    return call(port, "GET", "/stats").json()


def wait_for(port: int, count: str, wanted: int) -> None:
    deadline = time.monotonic() + 5
    while stats(port)["total"][count] != wanted:
        assert time.monotonic() < deadline, f"{count} is {stats(port)['total'][count]}"
        time.sleep(0.01)


# A well-behaved provider


def test_a_whole_answer_has_openais_shape_and_echoes_the_question(port: int) -> None:
    reply = chat(port, "some/model")
    body = reply.json()
    assert reply.status == 200
    assert reply.headers["x-request-id"].startswith("req_")
    assert body["object"] == "chat.completion"
    assert body["model"] == "some/model"
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    assert "What is ghee?" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["prompt_tokens"] == prompt_tokens([{"role": "user", "content": "What is ghee?"}]) == 4 + 4
    assert usage["completion_tokens"] == len(choice["message"]["content"].split())
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_question_in_devanagari_is_answered_in_hindi(port: int) -> None:
    assert "आपने पूछा: “घी क्या है?”" in chat(port, ask="घी क्या है?").json()["choices"][0]["message"]["content"]


def test_a_stream_is_role_content_finish_usage_and_done(port: int) -> None:
    whole = chat(port).json()
    reply = stream(port)
    chunks = reply.chunks_sent()
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.complete
    assert reply.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert reply.text() == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_a_stream_has_no_usage_unless_it_is_asked_for(port: int) -> None:
    assert b"usage" not in stream(port, usage=False).body


def test_each_of_n_choices_is_answered_and_counted(port: int) -> None:
    whole = chat(port, "sim-5c", n=3).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens"] == 15
    chunks = stream(port, "sim-5c", n=3).chunks_sent()
    finished = [c["choices"][0]["index"] for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert finished == [0, 1, 2]
    assert chunks[-1]["usage"]["completion_tokens"] == 15


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_ends_an_answer_with_length(port: int, field: str) -> None:
    limit: dict[str, Any] = {field: 7}
    whole = chat(port, "sim-50c", **limit).json()
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 7
    reply = stream(port, "sim-reason3-50c", **limit)
    assert len([delta for delta in reply.deltas() if delta.get("content")]) == 4
    assert reply.chunks_sent()[-1]["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize("stop", ["sample", ["never said", "sample"]])
def test_a_stop_sequence_ends_the_answer_before_it(port: int, stop: Any) -> None:
    text = stream(port, stop=stop).text()
    assert text.endswith("the simulator's ")
    assert chat(port, stop=stop).json()["choices"][0]["finish_reason"] == "stop"


def test_a_mentioned_tool_is_called_with_split_arguments_and_its_result_is_answered_in_text(
    port: int,
) -> None:
    ask = "Get the weather in Mumbai"
    reply = stream(port, ask=ask, tools=[WEATHER])
    calls = [delta["tool_calls"][0] for delta in reply.deltas() if "tool_calls" in delta]
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    fragments = [one["function"]["arguments"] for one in calls[1:]]
    assert len(fragments) > 2
    assert json.loads("".join(fragments)) == {"city": "Mumbai", "unit": "celsius"}
    assert reply.chunks_sent()[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert reply.chunks_sent()[-1]["usage"]["completion_tokens"] == len(calls)

    whole = chat(port, ask=ask, tools=[WEATHER]).json()["choices"][0]
    assert whole["message"]["content"] is None
    assert json.loads(whole["message"]["tool_calls"][0]["function"]["arguments"])["city"] == "Mumbai"
    threaded = [
        {"role": "user", "content": ask},
        whole["message"],
        {"role": "tool", "tool_call_id": whole["message"]["tool_calls"][0]["id"], "content": "31 degrees"},
    ]
    answered = call(port, "POST", CHAT, {"model": "sim", "messages": threaded, "tools": [WEATHER]}).json()
    assert "31 degrees" in answered["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("ask", "choice", "called"),
    [
        ("Hello", "auto", False),
        ("Hello", "required", True),
        ("Hello", {"type": "function", "function": {"name": "get_weather"}}, True),
        ("The weather?", "none", False),
        ("Use a tool", "auto", True),
    ],
)
def test_a_tool_is_called_when_asked_for_or_required(port: int, ask: str, choice: Any, called: bool) -> None:
    reply = chat(port, ask=ask, tools=[WEATHER], tool_choice=choice).json()
    assert (reply["choices"][0]["finish_reason"] == "tool_calls") is called


def test_json_answers_are_json(port: int) -> None:
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": WEATHER["function"]["parameters"]},
    }
    text = chat(port, response_format=wanted).json()["choices"][0]["message"]["content"]
    assert set(json.loads(text)) == {"city", "unit"}
    text = chat(port, response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert json.loads(text) == {"answer": "What is ghee?"}


def test_logprobs_come_when_asked_for(port: int) -> None:
    content = chat(port, "sim-3c", logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert [set(one) for one in content] == [{"token", "logprob", "bytes", "top_logprobs"}] * 3


def test_embeddings_are_unit_vectors_that_depend_on_the_input_alone(port: int) -> None:
    def embed(**fields: Any) -> Any:
        return call(port, "POST", "/alpha/v1/embeddings", {"model": "e", **fields}).json()

    body = embed(input=["ghee", "घी"])
    first, second = (row["embedding"] for row in body["data"])
    assert len(first) == 1536
    assert first != second
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert embed(input="ghee")["data"][0]["embedding"] == first
    assert body["usage"] == {"prompt_tokens": embedding_tokens(["ghee", "घी"]), "total_tokens": 3}
    packed = base64.b64decode(embed(input="ghee", encoding_format="base64")["data"][0]["embedding"])
    assert list(struct.unpack("<1536f", packed)) == first
    short = embed(input="ghee", dimensions=8)["data"][0]["embedding"]
    assert len(short) == 8
    assert [x / short[0] for x in short] == pytest.approx([x / first[0] for x in first[:8]], rel=1e-4)
    assert embed(input=[1, 2, 3])["usage"]["total_tokens"] == 3
    assert len(embed(input=[[1, 2], [3]])["data"]) == 2


def test_models_are_listed_and_ids_may_hold_slashes(port: int) -> None:
    listed = call(port, "GET", "/alpha/v1/models").json()
    assert listed["object"] == "list"
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}
    assert call(port, "GET", "/v1/models/org%2Fmodel").json()["id"] == "org/model"
    assert call(port, "GET", "/v1/models/org/model").json()["id"] == "org/model"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", CHAT, None, 405, "method_not_allowed"),
        ("POST", CHAT, b"{", 400, "invalid_json"),
        ("POST", CHAT, {"messages": [{"role": "user", "content": "x"}]}, 400, "missing_required_parameter"),
        ("POST", CHAT, {"model": "m", "messages": []}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "m", "messages": [{}], "max_tokens": 0}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "m", "messages": [{}], "tools": ["odd"]}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "sim-typo", "messages": [{}]}, 400, "invalid_script"),
        ("POST", "/v1/embeddings", {"model": "m"}, 400, "missing_required_parameter"),
    ],
)
def test_wrong_requests_are_refused_in_openais_envelope(
    port: int, method: str, path: str, body: Any, status: int, code: str
) -> None:
    reply = call(port, method, path, body)
    assert reply.status == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == code


# The words


def test_every_word_changes_the_script_and_the_language_is_shown(port: int) -> None:
    shown = call(port, "GET", "/").body.decode()
    for word in WORDS:
        written = word.form.replace("<n>", "404")
        assert parse(written) != Script() or word.form in ("usagelast",), written
        assert word.form in shown


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.integers(400, 599))
def test_any_words_make_a_script_and_survive_a_model_name(words: list[Any], number: int) -> None:
    text = "-".join(word.form.replace("<n>", str(number)) for word in words)
    assert parse(in_model_name(f"org/llama-3-sim-{text}")) == parse(text)


@pytest.mark.parametrize("text", ["typo", "cut", "5", "c5", "err302", "50c-hnag", "hang3"])
def test_what_is_not_in_the_language_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"err<n>|no word"):
        parse(text)


def test_pieces_openings_and_padding_are_as_many_as_said(port: int) -> None:
    deltas = stream(port, "sim-6c-role3-pad100").deltas()
    assert [delta.get("content") for delta in deltas[:3]] == ["", "", ""]
    contents = [delta["content"] for delta in deltas if delta.get("content")]
    assert len(contents) == 6
    assert all(content.endswith("x" * 100) for content in contents)
    assert stream(port, "sim-role0").deltas()[0]["content"] == "You"


def test_delays_are_kept(port: int) -> None:
    def seconds(model: str, **fields: Any) -> float:
        started = time.monotonic()
        assert chat(port, model, **fields).status == 200
        return time.monotonic() - started

    assert seconds("sim-5c-20ms", stream=True) >= 0.08
    assert seconds("sim-100ms") >= 0.1
    assert seconds("sim-100ttft", stream=True) >= 0.1
    assert seconds("sim-100ttft-50ms") >= 0.15


def test_the_first_byte_waits_and_then_the_pieces_come_one_by_one(port: int) -> None:
    body = {"model": "sim-3c-50ms-100ttft", "messages": [{"role": "user", "content": "x"}], "stream": True}
    started = time.monotonic()
    connection = send(port, "POST", CHAT, body, connection="close")
    first = connection.recv(65536)
    assert time.monotonic() - started >= 0.1
    assert b'"content":"You"' in first + connection.recv(65536)
    assert b"[DONE]" not in first
    read_all(connection)
    assert time.monotonic() - started >= 0.2


def test_reasoning_comes_first_and_is_counted_inside(port: int) -> None:
    reply = stream(port, "sim-reason3-4c")
    assert [d["reasoning_content"] for d in reply.deltas() if "reasoning_content" in d] == [
        " thought 1",
        " thought 2",
        " thought 3",
    ]
    usage = reply.chunks_sent()[-1]["usage"]
    assert usage["completion_tokens"] == 7
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3
    whole = chat(port, "sim-reason2-4c-reasonalias").json()
    assert whole["choices"][0]["message"]["reasoning"] == " thought 1 thought 2"
    outside = chat(port, "sim-reason3-4c-reasonoutside").json()["usage"]
    assert outside["completion_tokens"] == 4
    assert outside["total_tokens"] == outside["prompt_tokens"] + 4 + 3


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 425, 429, 500, 502, 503, 504, 529, 200])
def test_an_error_has_its_status_and_openais_body_and_is_no_stream(port: int, status: int, streamed: bool) -> None:
    reply = chat(port, f"sim-err{status}", stream=streamed)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.headers.get("retry-after") == ("1" if status in (429, 503) else None)


def test_errors_come_in_every_shape(port: int) -> None:
    assert chat(port, "sim-err402-errnumber").json()["error"]["code"] == 402
    assert set(chat(port, "sim-err500-errlean").json()["error"]) == {"message"}
    assert chat(port, "sim-err500-errtext").json() == {"error": "Simulated 500", "error_type": "server_error"}
    assert chat(port, "sim-err429-retryafter30").headers["retry-after"] == "30"


@pytest.mark.parametrize("streamed", [False, True])
def test_hang_accepts_and_never_answers(port: int, streamed: bool) -> None:
    body = {"model": "sim-hang", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    connection = send(port, "POST", CHAT, body)
    assert read_until_silence(connection, seconds=0.2) == b""
    assert stats(port)["models"]["sim-hang"]["requests"] == 1
    connection.close()
    wait_for(port, "aborted", 1)


def test_reset_and_close_end_the_connection_before_any_answer(port: int) -> None:
    with pytest.raises(ConnectionResetError):
        chat(port, "sim-reset")
    body = {"model": "sim-close", "messages": [{"role": "user", "content": "x"}]}
    assert read_all(send(port, "POST", CHAT, body)) == b""
    assert stats(port)["total"]["aborted"] == 0


@pytest.mark.parametrize(("word", "pieces"), [("cut0", 0), ("cut3", 3), ("cut999", 10)])
def test_cut_closes_a_stream_after_n_pieces(port: int, word: str, pieces: int) -> None:
    reply = stream(port, f"sim-10c-{word}")
    assert not reply.complete
    assert len([delta for delta in reply.deltas() if delta.get("content")]) == pieces
    assert b'finish_reason":"stop' not in reply.body
    assert stats(port)["total"]["streams_started"] == 1
    assert stats(port)["total"]["streams_finished"] == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_cut_closes_a_connection_that_was_to_be_kept_alive(port: int, streamed: bool) -> None:
    body = {"model": "sim-cut3", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    reply = understand(read_all(send(port, "POST", CHAT, body)))
    assert not reply.complete
    assert "connection" not in reply.headers


def test_cut_stops_a_whole_answer_half_way(port: int) -> None:
    reply = chat(port, "sim-cut3")
    assert not reply.complete
    assert len(reply.body) == int(reply.headers["content-length"]) // 2


@pytest.mark.parametrize("streamed", [False, True])
def test_hangafter_falls_silent_and_keeps_the_connection(port: int, streamed: bool) -> None:
    body = {
        "model": "sim-hangafter2-split50",
        "messages": [{"role": "user", "content": "x"}],
        "stream": streamed,
    }
    connection = send(port, "POST", CHAT, body)
    reply = understand(read_until_silence(connection, seconds=0.2))
    connection.close()
    assert not reply.complete
    if streamed:
        assert len([delta for delta in reply.deltas() if delta.get("content")]) == 2
    wait_for(port, "aborted", 1)


@pytest.mark.parametrize(("word", "frames_before"), [("errframe0", 0), ("erropened", 1), ("errframe2", 3)])
def test_an_error_frame_breaks_the_stream_and_done_follows(port: int, word: str, frames_before: int) -> None:
    reply = stream(port, f"sim-{word}")
    *before, error, done = reply.data()
    assert len(before) == frames_before
    assert json.loads(error)["error"]["message"]
    assert done == "[DONE]"
    assert reply.complete


def test_an_error_frame_can_be_a_chunk_and_a_whole_answer_carries_it_too(port: int) -> None:
    error = stream(port, "sim-errframe1-errfinish-errnumber").chunks_sent()[-1]
    assert error["error"]["code"] == 502
    assert error["choices"][0]["finish_reason"] == "error"
    assert chat(port, "sim-errframe1").status == 200
    assert "error" in chat(port, "sim-errframe1").json()


def test_junk_is_a_frame_that_is_not_json_and_the_stream_goes_on(port: int) -> None:
    data = stream(port, "sim-5c-junk2").data()
    assert data[3] == "{not json"
    assert data[-1] == "[DONE]"
    assert data.count("{not json") == 1


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("word", ["usagelast", "usagecontent", "usageevery", "usagegroq", "usagechoice", "nousage"])
def test_usage_stands_in_each_place_that_providers_use(port: int, word: str, asked: bool) -> None:
    chunks = stream(port, f"sim-5c-{word}", usage=asked).chunks_sent()
    numbers = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    if word == "usagelast":
        assert numbers == [5]
        assert chunks[-1]["choices"] == []
    elif word == "usagecontent":
        assert numbers == [5]
        assert chunks[-1]["choices"][0]["delta"]["content"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    elif word == "usageevery":
        assert numbers == [0, 1, 2, 3, 4, 5, 5] + [5] * asked
    elif word == "usagegroq":
        assert numbers == []
        assert chunks[-1]["x_groq"]["usage"]["completion_tokens"] == 5
    elif word == "usagechoice":
        assert numbers == []
        assert chunks[-1]["choices"][0]["usage"]["completion_tokens"] == 5
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert ("usage" in chat(port, f"sim-{word}").json()) is (word != "nousage")


@pytest.mark.parametrize("word", ["usagelast", "usagecontent", "usagegroq", "usagechoice"])
def test_usage_is_told_once_however_many_choices_there_are(port: int, word: str) -> None:
    assert stream(port, f"sim-5c-{word}", n=3).body.count(b'"completion_tokens":15') == 1


def test_the_numbers_of_usage_are_as_the_script_says(port: int) -> None:
    def usage(words: str) -> Any:
        return chat(port, f"sim-5c-{words}").json()["usage"]

    assert usage("zerousage") == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert stream(port, "sim-zerousage").chunks_sent()[-1]["usage"]["total_tokens"] == 0
    forced = usage("in1000-out70")
    assert (forced["prompt_tokens"], forced["completion_tokens"], forced["total_tokens"]) == (1000, 70, 1070)
    assert usage("cached6")["prompt_tokens_details"]["cached_tokens"] == 6
    assert usage("cachedtop6")["cached_tokens"] == 6
    hit = usage("cachedhit6")
    assert (hit["prompt_cache_hit_tokens"], hit["prompt_cache_miss_tokens"]) == (6, 2)
    read = usage("cachedread6")
    assert (read["cache_read_input_tokens"], read["prompt_tokens"]) == (6, 2)
    assert all("prompt_tokens_details" not in one for one in (usage("cachedtop6"), hit, read))
    nulls = usage("nulldetails")
    assert (nulls["prompt_tokens_details"], nulls["completion_tokens_details"]) == (None, None)
    assert usage("withcost")["cost"] > 0
    embedding = {"model": "sim-in9", "input": "x"}
    assert call(port, "POST", "/v1/embeddings", embedding).json()["usage"]["total_tokens"] == 9
    embedding = {"model": "sim-nousage", "input": "x"}
    assert "usage" not in call(port, "POST", "/v1/embeddings", embedding).json()


def timeless(body: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b"", re.sub(rb"sim\d{8}", b"", re.sub(rb'"model":"[^"]*"', b"", body)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400))
def test_split_cuts_the_same_stream_into_chunks_of_n_bytes(port: int, size: int) -> None:
    reply = stream(port, f"sim-split{size}", ask="घी क्या है?")
    assert {len(chunk) for chunk in reply.chunks[:-2]} <= {size}
    assert reply.complete
    assert timeless(reply.body) == timeless(stream(port, ask="घी क्या है?").body)


@pytest.mark.parametrize("streamed", [False, True])
def test_wire_cuts_headers_and_framing_too(port: int, streamed: bool) -> None:
    body = {"model": "sim-2c-wire16", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    connection = send(port, "POST", CHAT, body, connection="close")
    with connection:
        parts = list(iter(lambda: connection.recv(65536), b""))
    assert parts[0] == b"HTTP/1.1 200 OK\r"
    assert len(parts) > 10  # of about 60; the kernel may join some of them again
    assert understand(b"".join(parts)).complete


@pytest.mark.parametrize(
    ("word", "bytes_present"),
    [
        ("crlf", b"}\r\n\r\ndata: {"),
        ("nospace", b"}\n\ndata:{"),
        ("comments", b"}\n\n: keep-alive\n\n\ndata: {"),
        ("comments-crlf", b"}\r\n\r\n: keep-alive\r\n\r\n\r\ndata: {"),
        ("fields", b"event: message\nid: 1\ndata: {"),
        ("bom", b"\xef\xbb\xbfdata: {"),
    ],
)
def test_framing_varies_as_the_standard_allows_without_changing_the_data(
    port: int, word: str, bytes_present: bytes
) -> None:
    reply = stream(port, f"sim-{word}")
    assert bytes_present in reply.body
    plain = stream(port)
    assert [timeless(one.encode()) for one in reply.data()] == [timeless(one.encode()) for one in plain.data()]


def test_a_byte_order_mark_comes_first(port: int) -> None:
    assert stream(port, "sim-bom").body.startswith(b"\xef\xbb\xbfdata: ")
    assert chat(port, "sim-bom").body.startswith(b'\xef\xbb\xbf{"id"')


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_can_be_html_or_null_or_nothing(port: int, streamed: bool) -> None:
    html = chat(port, "sim-notjson", stream=streamed)
    assert (html.status, html.headers["content-type"]) == (200, "text/html")
    assert html.body.startswith(b"<!doctype html>")
    assert chat(port, "sim-null", stream=streamed).body == b"null"
    assert chat(port, "sim-empty-chunked").complete
    empty = chat(port, "sim-empty", stream=streamed)
    assert (empty.status, empty.body, empty.complete) == (200, b"", True)
    assert empty.headers["content-type"].startswith("text/event-stream" if streamed else "application/json")


def test_nodone_ends_in_good_order_without_done(port: int) -> None:
    reply = stream(port, "sim-nodone")
    assert reply.complete
    assert b"[DONE]" not in reply.body
    assert reply.chunks_sent()[-1]["usage"]


def test_nostream_answers_a_stream_whole(port: int) -> None:
    assert stream(port, "sim-nostream").json()["object"] == "chat.completion"


def test_a_whole_answer_can_be_chunked_or_end_with_the_connection(port: int) -> None:
    chunked = chat(port, "sim-chunked")
    assert chunked.headers["transfer-encoding"] == "chunked"
    assert chunked.json()["usage"]
    ending = chat(port, "sim-untilclose")
    assert not {"content-length", "transfer-encoding"} & set(ending.headers)
    assert ending.json()["usage"]


def test_a_stale_connection_is_closed_at_its_next_request(port: int) -> None:
    body = {"model": "sim-stale", "messages": [{"role": "user", "content": "x"}]}
    connection = send(port, "POST", CHAT, body)
    assert b"connection: close" not in read_until_silence(connection, seconds=0.1)
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    connection.settimeout(5)
    assert connection.recv(1) == b""
    connection.close()


def test_oddities_of_single_providers(port: int) -> None:
    assert all("model" not in chunk for chunk in stream(port, "sim-nomodel").chunks_sent())
    assert "model" not in chat(port, "sim-nomodel").json()
    first = stream(port, "sim-azure").chunks_sent()[0]
    assert first["choices"] == []
    assert first["prompt_filter_results"]
    parts = chat(port, "sim-parts").json()["choices"][0]["message"]["content"]
    assert parts[0]["type"] == "text"
    assert isinstance(stream(port, "sim-parts").deltas()[1]["content"], list)
    assert chat(port, "sim-filter").json()["choices"][0]["finish_reason"] == "content_filter"
    assert stream(port, "sim-emptyfinish").chunks_sent()[-2]["choices"][0]["finish_reason"] == ""


# Who decides, and who can look


def test_a_header_beats_the_model_name(port: int) -> None:
    body = {"model": "sim-err500", "messages": [{"role": "user", "content": "x"}]}
    assert call(port, "POST", CHAT, body, x_sim="err422").status == 422
    assert call(port, "POST", CHAT, body, x_sim="").status == 200


def test_rules_set_out_of_band_beat_the_rest_for_as_many_calls_as_said(port: int) -> None:
    def rule(**fields: Any) -> Reply:
        return call(port, "POST", "/script", fields)

    assert rule(provider="alpha", model="m", script="err500", times=2).status == 200
    rule(provider="alpha", script="err400")
    rule(provider="alpha", model="m", script="err503", times=1)
    rule(provider="beta", script="err402")
    assert [chat(port, "m").status for _ in range(5)] == [500, 500, 503, 400, 400]
    rule(provider="alpha", script="err404")
    assert chat(port, "m").status == 404
    rule(provider="alpha", script="")
    assert chat(port, "sim-err500").status == 200
    rule(provider="alpha", script=None)
    assert chat(port, "sim-err500").status == 500
    assert rule(script="typo").status == 400
    assert rule(scirpt="hang").status == 400
    assert rule(script="hang", times=0).status == 400


def test_a_bad_key_is_refused_and_any_other_or_none_is_taken(port: int) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    refused = call(port, "POST", CHAT, body, authorization="Bearer bad")
    assert refused.status == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert call(port, "POST", CHAT, body, authorization="Bearer good").status == 200


def test_requests_show_what_was_received_with_credentials_masked(port: int) -> None:
    chat(port, "first")
    call(port, "POST", "/beta/v1/chat/completions", b"not json", authorization="Bearer sk-very-secret-9876")
    shown = call(port, "GET", "/requests?limit=2").json()["requests"]
    assert [one["model"] for one in shown] == ["first", ""]
    assert shown[0]["body"]["messages"][0]["content"] == "What is ghee?"
    assert shown[1]["provider"] == "beta"
    assert shown[1]["path"] == "/beta/v1/chat/completions"
    assert shown[1]["headers"]["authorization"] == "Bearer …9876"
    assert shown[1]["body"] is None
    assert shown[1]["body_bytes"] == 8
    assert len(call(port, "GET", "/requests?limit=1").json()["requests"]) == 1


def test_stats_count_per_provider_model_and_route_until_reset(port: int) -> None:
    stream(port, "sim-5c")
    chat(port, "sim-5c")
    chat(port, "other")
    counted = stats(port)
    route = counted["routes"]["alpha/sim-5c"]
    assert (route["requests"], route["finished"], route["pieces"]) == (2, 2, 10)
    assert (route["streams_started"], route["streams_finished"], route["aborted"]) == (1, 1, 0)
    assert route["last"]["body_bytes"] > 50
    assert route["last"]["header_bytes"] > 20
    assert counted["providers"]["alpha"]["requests"] == 3
    assert counted["models"]["other"]["requests"] == 1
    call(port, "POST", "/reset")
    assert stats(port)["total"]["requests"] == 0


def test_a_client_that_hangs_up_in_the_middle_is_counted_and_the_work_stops(port: int) -> None:
    body = {"model": "sim-1000c-10ms", "messages": [{"role": "user", "content": "x"}], "stream": True}
    connection = send(port, "POST", CHAT, body)
    while b"You" not in connection.recv(65536):
        pass
    connection.close()
    wait_for(port, "aborted", 1)
    pieces = stats(port)["total"]["pieces"]
    time.sleep(0.05)
    assert stats(port)["total"]["pieces"] == pieces < 100


# HTTP


def test_pipelined_requests_are_answered_in_order_on_one_connection(port: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    models = [f"org/m{index}" for index in range(100)]
    requests = [f"GET /v1/models/{model} HTTP/1.1\r\nhost: x\r\n\r\n" for model in models]
    connection.sendall("".join(requests).encode() + b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert re.findall(rb'"id":"([^"]+)"', read_all(connection)) == [model.encode() for model in models]


@given(st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_a_chunked_request_arriving_in_small_parts_is_understood(port: int, size: int) -> None:
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": "घी"}]}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:7], data[7:]))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    raw = head.encode() + chunks + b"0\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(raw), size):
        connection.sendall(raw[start : start + size])
    assert "घी" in understand(read_all(connection)).json()["choices"][0]["message"]["content"]


def test_what_is_not_http_is_refused(port: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(b"hello\r\n\r\n")
    assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_waits_for_100_continue_gets_it(port: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"{}")
    assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
    connection.close()


def test_a_thousand_streams_at_once_all_end_well(port: int) -> None:
    body = json.dumps({"model": "sim-20c-10ms", "messages": [{"role": "user", "content": "x"}], "stream": True})
    request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"

    async def one() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        raw = await reader.read()
        writer.close()
        return raw.count(b"data: ") == 23 and raw.endswith(b"0\r\n\r\n")

    async def many() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(1000)))

    provider._raise_open_files_limit()
    started = time.monotonic()
    assert all(uvloop.run(many()))
    assert time.monotonic() - started < 20
    assert stats(port)["total"]["streams_finished"] == 1000


def test_the_process_announces_its_url_and_stops_at_sigterm(tmp_path: Path) -> None:
    announced = tmp_path / "url"
    program = f"from adapters.simulators.provider import main; main(announce={str(announced)!r})"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2], env=dict(os.environ))
    deadline = time.monotonic() + 10
    while not announced.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = int(announced.read_text().removeprefix("http://127.0.0.1:"))
    assert call(port, "GET", "/health").json() == {"status": "ok"}
    hanging = send(port, "POST", CHAT, {"model": "sim-hang", "messages": [{"role": "user", "content": "x"}]})
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    hanging.close()


# The official SDK


@pytest.fixture
def sdk(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/alpha/v1", max_retries=0) as client:
        yield client


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_sdk_reads_whole_answers_and_streams(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="m", messages=ask("What is ghee?"))
    assert whole.usage is not None
    chunks = list(
        sdk.chat.completions.create(
            model="m", messages=ask("What is ghee?"), stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_the_sdk_puts_tool_calls_together(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(model="m", messages=ask("The weather in Pune"), tools=[WEATHER]) as events:
        final = events.get_final_completion()
    (called,) = final.choices[0].message.tool_calls or []
    assert json.loads(called.function.arguments) == {"city": "Pune", "unit": "celsius"}


def test_the_sdk_decodes_embeddings_and_lists_models(sdk: openai.OpenAI) -> None:
    as_base64 = sdk.embeddings.create(model="e", input=["ghee"])
    as_floats = sdk.embeddings.create(model="e", input=["ghee"], encoding_format="float")
    assert as_base64.data[0].embedding == pytest.approx(as_floats.data[0].embedding)
    assert [model.object for model in sdk.models.list()] == ["model"] * 3
    assert sdk.models.retrieve("org/model").id == "org/model"


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
def test_the_sdk_raises_its_own_error_for_each_status(
    sdk: openai.OpenAI, status: int, raised: type[openai.APIStatusError]
) -> None:
    with pytest.raises(raised, match=f"Simulated {status}"):
        sdk.chat.completions.create(model=f"sim-err{status}", messages=ask("x"))


def test_the_sdk_raises_at_an_error_frame(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="Simulated error in the stream"):
        list(sdk.chat.completions.create(model="sim-errframe2", messages=ask("x"), stream=True))
