"""What providers of other wires answer comes out as OpenAI's, however the bytes are split, and faults stay faults."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.simulators.native import event_message
from domain.inference.replies import Unusable, read_chunk, read_whole
from domain.inference.sse import DONE, FrameTooLong
from domain.inference.wires.anthropic import ANTHROPIC
from domain.inference.wires.bedrock import BEDROCK, EventFrames
from domain.inference.wires.cohere import COHERE
from domain.inference.wires.gemini import GEMINI
from domain.inference.wires.wire import Wire

Json = dict[str, Any]


def sse(*events: Json) -> bytes:
    return b"".join(b"event: x\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


def events(*named: tuple[str, Json]) -> bytes:
    return b"".join(event_message(name, json.dumps(body).encode()) for name, body in named)


def chunks(wire: Wire, *blocks: bytes) -> list[Any]:
    """What a stream of these blocks is as chunks of OpenAI's; `[DONE]` as a string."""
    frames = wire.frames()
    said = [data for block in blocks for data in frames.feed(block)]
    said += frames.end()
    return [data.decode() if data == DONE else json.loads(data) for data in said]


def deltas(wire: Wire, stream: bytes) -> list[Any]:
    """The deltas, finish reasons and reports of usage of a stream, without their envelope."""
    told: list[Any] = []
    for chunk in chunks(wire, stream):
        if isinstance(chunk, str) or "error" in chunk:
            told.append(chunk)
        elif not chunk["choices"]:
            told.append(chunk["usage"])
        else:
            (choice,) = chunk["choices"]
            told.append(choice["finish_reason"] or choice["delta"])
    return told


def whole(wire: Wire, reply: Json) -> Any:
    return json.loads(wire.whole(json.dumps(reply).encode(), "ours", 7))


OPENED = {"role": "assistant", "content": ""}


def call(index: int, id: str, name: str, arguments: str = "") -> Json:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


def arguments(index: int, fragment: str) -> Json:
    return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


ANTHROPIC_STREAM = sse(
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "हम्म"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "नमस्ते"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t1", "name": "a"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"b":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "t2", "name": "c"}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 30}},
    {"type": "message_stop"},
)
BEDROCK_STREAM = events(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "हम्म"}}, "contentBlockIndex": 0}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"signature": "x"}}, "contentBlockIndex": 0}),
    ("contentBlockDelta", {"delta": {"text": "नमस्ते"}, "contentBlockIndex": 1}),
    ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t1", "name": "a"}}, "contentBlockIndex": 2}),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": '{"b":'}}, "contentBlockIndex": 2}),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": "1}"}}, "contentBlockIndex": 2}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t2", "name": "c"}}, "contentBlockIndex": 3}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {"inputTokens": 9, "outputTokens": 30, "totalTokens": 39}}),
)
GEMINI_STREAM = sse(
    {"candidates": [{"content": {"parts": [{"text": "हम्म", "thought": True}]}}], "responseId": "r"},
    {"candidates": [{"content": {"parts": [{"text": "नमस्ते"}]}}], "responseId": "r"},
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"functionCall": {"name": "a", "args": {"b": 1}}, "thoughtSignature": "c2ln"},
                        {"functionCall": {"id": "theirs", "name": "c"}},
                    ]
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 30, "totalTokenCount": 39},
        "responseId": "r",
    },
)
COHERE_STREAM = sse(
    {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "हम्म"}}}},
    {"type": "content-end", "index": 0},
    {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "नमस्ते"}}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I ask."}}},
    {
        "type": "tool-call-start",
        "index": 0,
        "delta": {"message": {"tool_calls": {"id": "t1", "function": {"name": "a", "arguments": ""}}}},
    },
    {
        "type": "tool-call-delta",
        "index": 0,
        "delta": {"message": {"tool_calls": {"function": {"arguments": '{"b":1}'}}}},
    },
    {"type": "tool-call-end", "index": 0},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "TOOL_CALL",
            "usage": {"billed_units": {"input_tokens": 9, "output_tokens": 30}},
        },
    },
)
SPOKEN = [
    OPENED,
    {"reasoning_content": "हम्म"},
    {"content": "नमस्ते"},
    call(0, "t1", "a"),
    arguments(0, '{"b":'),
    arguments(0, "1}"),
    call(1, "t2", "c"),
    arguments(1, "{}"),
    "tool_calls",
]
STREAMS = [(ANTHROPIC, ANTHROPIC_STREAM), (GEMINI, GEMINI_STREAM), (COHERE, COHERE_STREAM), (BEDROCK, BEDROCK_STREAM)]


def test_anthropics_stream() -> None:
    usage = {"input_tokens": 9, "output_tokens": 30}
    assert deltas(ANTHROPIC, ANTHROPIC_STREAM) == [*SPOKEN, usage, "[DONE]"]


def test_amazons_stream() -> None:
    assert deltas(BEDROCK, BEDROCK_STREAM) == [*SPOKEN, {"input_tokens": 9, "output_tokens": 30}, "[DONE]"]


def test_googles_stream() -> None:
    signed = call(0, "call_r_0", "a", '{"b":1}')
    signed["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "c2ln"}}
    *said, usage = deltas(GEMINI, GEMINI_STREAM)
    assert said == [
        OPENED,
        {"reasoning_content": "हम्म"},
        {"content": "नमस्ते"},
        signed,
        call(1, "theirs", "c", "{}"),
        "tool_calls",
    ]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (9, 30, 39)


def test_coheres_stream() -> None:
    assert deltas(COHERE, COHERE_STREAM) == [
        OPENED,
        {"reasoning_content": "हम्म"},
        {"content": "नमस्ते"},
        {"reasoning_content": "I ask."},
        call(0, "t1", "a"),
        arguments(0, '{"b":1}'),
        "tool_calls",
        {"prompt_tokens": 9, "completion_tokens": 30},
        "[DONE]",
    ]


@given(st.data())
def test_a_stream_says_the_same_wherever_it_is_split(data: st.DataObject) -> None:
    wire, stream = data.draw(st.sampled_from(STREAMS))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    blocks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert chunks(wire, *blocks) == chunks(wire, stream)


@pytest.mark.parametrize(("wire", "stream"), STREAMS)
def test_every_chunk_is_one_that_the_relay_understands(wire: Wire, stream: bytes) -> None:
    frames = wire.frames()
    pieces = [read_chunk(data) for data in frames.feed(stream) if data != DONE]
    assert [piece.error for piece in pieces] == [None] * len(pieces)
    assert "".join(piece.text for piece in pieces).startswith("हम्मनमस्ते")
    assert [piece.finished for piece in pieces if piece.finished] == [(0,)]


@given(st.integers(0, len(BEDROCK_STREAM) - 1), st.integers(1, 255))
def test_no_altered_byte_of_an_event_stream_goes_unseen(place: int, change: int) -> None:
    altered = bytearray(BEDROCK_STREAM)
    altered[place] ^= change
    try:
        said = chunks(BEDROCK, bytes(altered))
    except (Unusable, FrameTooLong):
        return
    assert "[DONE]" not in said, "a frame that was altered was taken for whole"


def test_an_event_stream_that_is_cut_has_no_end() -> None:
    assert "[DONE]" not in chunks(BEDROCK, BEDROCK_STREAM[:-1])


def test_headers_of_every_type_are_passed_over() -> None:
    def header(name: bytes, kind: int, value: bytes) -> bytes:
        return bytes([len(name)]) + name + bytes([kind]) + value

    headers = b"".join(
        header(b"h", kind, value)
        for kind, value in (
            (0, b""),
            (1, b""),
            (2, b"x"),
            (3, b"xx"),
            (4, b"xxxx"),
            (5, b"x" * 8),
            (6, b"\0\3abc"),
            (8, b"x" * 8),
            (9, b"x" * 16),
            (7, b"\0\4text"),
        )
    ) + header(b":event-type", 7, b"\0\4ping")
    prelude = (16 + len(headers) + 2).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + headers + b"{}"
    message += zlib.crc32(message).to_bytes(4, "big")
    assert list(EventFrames().feed(message)) == [b'{"ping":{}}']


def test_a_frame_without_an_end_is_refused() -> None:
    prelude = (1 << 30).to_bytes(4, "big") + bytes(4)
    with pytest.raises(FrameTooLong):
        list(EventFrames().feed(prelude + zlib.crc32(prelude).to_bytes(4, "big")))


@pytest.mark.parametrize(
    ("wire", "stream"),
    [
        (ANTHROPIC, sse({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})),
        (GEMINI, sse({"error": {"code": 503, "message": "Busy", "status": "UNAVAILABLE"}})),
        (COHERE, sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "Busy"}})),
        (COHERE, sse({"message": "Busy"})),
        (BEDROCK, events(("throttlingException", {"message": "Busy"}))),
    ],
)
def test_an_error_in_a_stream_is_one_in_openais_words(wire: Wire, stream: bytes) -> None:
    (data,) = wire.frames().feed(stream)
    assert read_chunk(data).error == "Busy"


@pytest.mark.parametrize(
    ("wire", "data"),
    [(wire, data) for wire in (ANTHROPIC, GEMINI, COHERE) for data in ("[]", "{", '"x"')]
    + [(ANTHROPIC, '{"type":"content_block_delta"}'), (COHERE, '{"type":"content-delta"}')]
    + [(GEMINI, '{"candidates":[1]}'), (GEMINI, '{"candidates":[{"content":{"parts":[{"functionCall":1}]}}]}')],
)
def test_nonsense_in_a_stream_is_unusable(wire: Wire, data: str) -> None:
    with pytest.raises(Unusable):
        list(wire.frames().feed(f"data: {data}\n\n".encode()))


def test_events_that_a_wire_may_grow_are_passed_over() -> None:
    for wire in (ANTHROPIC, COHERE):
        assert list(wire.frames().feed(b'data: {"type":"novelty"}\n\n')) == []
    assert list(BEDROCK.frames().feed(event_message("novelty", b"{}"))) == []


# Whole replies

REASONS: list[tuple[Callable[[str], Json], Wire, dict[str, str]]] = [
    (
        lambda reason: {"content": [{"type": "text", "text": "x"}], "stop_reason": reason},
        ANTHROPIC,
        {
            "end_turn": "stop",
            "stop_sequence": "stop",
            "max_tokens": "length",
            "tool_use": "tool_calls",
            "refusal": "content_filter",
            "pause_turn": "stop",
        },
    ),
    (
        lambda reason: {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": reason}]},
        GEMINI,
        {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter"},
    ),
    (
        lambda reason: {"finish_reason": reason, "message": {"content": [{"type": "text", "text": "x"}]}},
        COHERE,
        {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"},
    ),
    (
        lambda reason: {"output": {"message": {"content": [{"text": "x"}]}}, "stopReason": reason},
        BEDROCK,
        {
            "end_turn": "stop",
            "max_tokens": "length",
            "tool_use": "tool_calls",
            "guardrail_intervened": "content_filter",
            "content_filtered": "content_filter",
        },
    ),
]


@pytest.mark.parametrize(
    ("wire", "reply", "finish"),
    [(wire, make(theirs), ours) for make, wire, reasons in REASONS for theirs, ours in reasons.items()],
)
def test_why_an_answer_ended(wire: Wire, reply: Json, finish: str) -> None:
    answer = whole(wire, reply)
    assert answer["choices"][0]["finish_reason"] == finish
    assert answer["choices"][0]["message"]["content"] == "x"
    assert (answer["object"], answer["created"]) == ("chat.completion", 7)


def test_a_prompt_that_google_blocks_is_an_empty_answer_of_the_filter() -> None:
    usage = {"promptTokenCount": 5, "totalTokenCount": 5}
    answer = whole(GEMINI, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage})
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["usage"]["completion_tokens"] == 0
    stream = sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage})
    assert deltas(GEMINI, stream)[:2] == [OPENED, "content_filter"]


def test_an_answer_that_cohere_breaks_off_is_none() -> None:
    with pytest.raises(Unusable, match="ERROR"):
        whole(COHERE, {"finish_reason": "ERROR", "message": {"content": []}})


def test_a_call_alone_has_no_content() -> None:
    reply = {"content": [{"type": "tool_use", "id": "t", "name": "a", "input": {}}], "stop_reason": "tool_use"}
    (choice,) = whole(ANTHROPIC, reply)["choices"]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "t", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    ]


@pytest.mark.parametrize("wire", [ANTHROPIC, GEMINI, COHERE, BEDROCK])
@pytest.mark.parametrize("body", [b"null", b"", b"[]", b"<html>", b"{}", b'{"error":{"message":"Busy"}}', b"\xff"])
def test_a_whole_reply_that_is_none_is_unusable(wire: Wire, body: bytes) -> None:
    with pytest.raises(Unusable):
        read_whole("chat", wire.whole(body, "ours", 7))


def test_statuses_mean_what_they_mean_elsewhere() -> None:
    wrong_key = b'{"error":{"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}'
    assert [GEMINI.status(400, wrong_key), GEMINI.status(400, b"{}"), GEMINI.status(429, b"")] == [401, 400, 429]
    assert [BEDROCK.status(424, b""), BEDROCK.status(400, b"")] == [502, 400]
    assert ANTHROPIC.status(529, b"") == 529
