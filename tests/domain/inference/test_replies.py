import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.inference.metering import Usage, UsageSemantics
from domain.inference.replies import (
    StreamRewriter,
    Unusable,
    answer_with,
    closing_chunk,
    error_of_body,
    error_text,
    read_chunk,
    read_whole,
    usage_of,
)
from tests.domain.inference.scene import chunk, usage, whole_answer

REPORT = usage(7, 3)


def choice(**more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": "x"}, "finish_reason": None, **more}


def rewritten(data: bytes, rewriter: StreamRewriter | None = None) -> Any:
    rewriter = rewriter or StreamRewriter("org/ours", id="ours-1", created=5)
    return json.loads(rewriter.rewrite(data, read_chunk(data)))


# Chunks


@pytest.mark.parametrize(
    "data",
    [
        chunk(choices=[], usage=REPORT),
        chunk("x", finish="stop", usage=REPORT),
        chunk("x", x_groq={"id": "r", "usage": REPORT}),
        chunk(choices=[], x_groq={"usage": REPORT}),
        chunk(choices=[choice(usage=REPORT)]),
    ],
)
def test_usage_is_found_in_every_place(data: bytes) -> None:
    assert read_chunk(data).usage == REPORT


@pytest.mark.parametrize("nonsense", [None, 5, "many", []])
def test_what_is_no_object_is_no_report(nonsense: Any) -> None:
    assert read_chunk(chunk("x", usage=nonsense)).usage is None


def test_explicit_zeros_are_a_report_and_nonsense_numbers_are_none() -> None:
    semantics = UsageSemantics()
    assert usage_of(read_chunk(chunk("x", usage=usage(0, 0))).usage, semantics) == Usage()
    for wrong in ({"prompt_tokens": -1}, {"prompt_tokens": 1.5, "completion_tokens": 1}, {"prompt_tokens": 10**12}, {}):
        assert usage_of(read_chunk(chunk("x", usage=wrong)).usage, semantics) is None


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"content": "a"}, "a"),
        ({"reasoning_content": "a"}, "a"),
        ({"reasoning": "a"}, "a"),
        ({"reasoning_content": "a", "reasoning": "a"}, "a"),
        ({"reasoning_content": "a", "reasoning": "a", "refusal": "b"}, "ab"),
        ({"refusal": "a"}, "a"),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":'}}]}, 'f{"a":'),
        ({"function_call": {"name": "f", "arguments": ""}}, "f"),
        ({"role": "assistant", "content": ""}, ""),
        ({"content": None, "tool_calls": []}, ""),
        ({}, ""),
    ],
)
def test_all_that_is_billed_as_output_is_content(delta: Any, text: str) -> None:
    assert read_chunk(chunk(choices=[choice(delta=delta)])).text == text


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ({"error": {"message": "no", "code": 5}}, "no"),
        ({"error": "no"}, "no"),
        ({"object": "error", "message": "no", "code": 400}, "no"),
        ({"detail": "no"}, "no"),
        ({"id": "x", "choices": [choice(finish_reason="error")]}, "the answer ended in an error"),
    ],
)
def test_an_error_is_recognised_in_every_dress(frame: Any, told: str) -> None:
    assert read_chunk(json.dumps(frame).encode()).error == told


@pytest.mark.parametrize("frame", [{"warning": "slow"}, {"type": "ping"}, {"choices": None}])
def test_frames_that_are_no_chunks_are_not_passed_on(frame: Any) -> None:
    piece = read_chunk(json.dumps(frame).encode())
    assert (piece.forward, piece.error) == (False, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b'{"choices":5}',
        b'{"choices":[{"delta":{"content":"x"}}],"other":"\xff"}',
        b'{"choices":[],"other":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_a_frame_that_is_no_object_of_the_wire_is_unusable(data: bytes) -> None:
    with pytest.raises(Unusable):
        read_chunk(data)


# Rewriting

models = st.none() | st.text(max_size=8)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "model": models,
                "colon": st.sampled_from([":", ": ", " : "]),
                "slashes": st.booleans(),
                "text": st.text(max_size=10) | st.just('"model":"their/model"'),
                "inner": st.booleans(),
                "whole": st.booleans(),
                "report": st.sampled_from([None, REPORT, 5]),
            }
        ),
        max_size=6,
    )
)
def test_every_chunk_names_our_model_and_keeps_its_content(given: list[dict[str, Any]]) -> None:
    rewriter = StreamRewriter("org/ours", id="ours-1", created=5)
    for each in given:
        members: dict[str, Any] = {"choices": [choice(delta={"content": each["text"]})]}
        if each["inner"]:
            members["inner"] = {"model": each["model"]}
        if each["whole"]:
            members |= {"id": "theirs-1", "object": "chat.completion.chunk", "created": 1}
        if each["model"] is not None:
            members["model"] = each["model"]
        if each["report"] is not None:
            members["usage"] = each["report"]
        written = json.dumps(members, separators=(",", each["colon"]))
        if each["slashes"]:
            written = written.replace("/", "\\/")
        shown = rewritten(written.encode(), rewriter)
        assert shown["model"] == "org/ours"
        assert shown["choices"] == members["choices"]
        assert shown["id"] == members.get("id", "ours-1")
        assert shown["created"] == members.get("created", 5)
        assert shown["object"] == "chat.completion.chunk"
        assert shown.get("usage") is None
        if each["inner"]:
            assert shown["inner"] == members["inner"]


def test_only_the_name_changes_in_a_regular_chunk() -> None:
    data = b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    data += (
        b'{"content":"\\u0928 1.10"},"logprobs":{"content":[{"logprob":-0.10}]},"finish_reason":null}],"usage":null}'
    )
    rewriter = StreamRewriter("org/ours", id="ours-1", created=5)
    wanted = data.replace(b'"m"', b'"org/ours"')
    assert rewriter.rewrite(data, read_chunk(data)) == wanted
    assert rewriter.rewrite(data, read_chunk(data)) == wanted


def test_usage_leaves_chunks_with_content_and_nothing_else_does() -> None:
    data = chunk(choices=[choice(usage=REPORT, logprobs=None)], x_groq={"usage": REPORT}, service_tier="default")
    shown = rewritten(data)
    assert shown["choices"] == [choice(logprobs=None)]
    assert "usage" not in shown
    assert "x_groq" not in shown
    assert shown["service_tier"] == "default"


def test_what_a_strict_client_needs_is_added() -> None:
    shown = rewritten(b'{"choices":[{"delta":{"content":"x"}},{"finish_reason":"","delta":null}]}')
    assert shown["choices"][0] == {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
    assert shown["choices"][1] == {"index": 1, "delta": {}, "finish_reason": None}
    assert (shown["id"], shown["created"]) == ("ours-1", 5)


def test_the_closing_chunk_adds_up() -> None:
    used = Usage(input=5, cached_input=2, output=4, reasoning=1)
    shown = json.loads(closing_chunk(id="a", created=1, model="org/ours", usage=used, cost_nanos=1_230))
    assert shown["choices"] == []
    assert shown["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 4,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cost_inr": "0.00000123",
    }


# Whole answers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>busy</html>",
        b'{"choices":null}',
        b'{"choices":[]}',
        b'{"choices":[null]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":"one"}',
        b'{"error":{"message":"no"},"choices":[{"message":{}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":[{"message":' + b"[" * 5_000 + b"]" * 5_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_chat_answer_is_unusable(body: bytes) -> None:
    with pytest.raises(Unusable):
        read_whole("chat", body)


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"data":[]}', b'{"data":[null]}', b'{"data":{}}', b'{"data":"x"}'])
def test_a_body_that_is_no_embedding_is_unusable(body: bytes) -> None:
    with pytest.raises(Unusable):
        read_whole("embeddings", body)


@pytest.mark.parametrize("nothing", [None, False, "", {}])
def test_an_empty_error_is_no_error(nothing: Any) -> None:
    assert read_whole("chat", whole_answer(error=nothing)).text() == "one two three"


def test_the_text_to_count_is_what_the_provider_would_bill() -> None:
    message = {"reasoning_content": "why ", "content": "so", "tool_calls": [{"function": {"name": "f"}}]}
    body = json.dumps({"choices": [{"message": message}, {"message": {"content": " two"}}]}).encode()
    assert read_whole("chat", body).text() == "sowhy f two"


def test_a_whole_answer_keeps_the_providers_bytes_but_for_model_and_usage() -> None:
    body = b'{"model":"theirs","choices":[ {"message":{"content":"a\\u00e9"}} ],"usage":{"prompt_tokens":1},"z":1.10}'
    whole = read_whole("chat", body)
    shown = answer_with(whole, model="org/ours", usage=Usage(input=1, output=2), cost_nanos=9)
    assert b'[ {"message":{"content":"a\\u00e9"}} ]' in shown
    assert b'"z":1.10' in shown
    assert json.loads(shown)["model"] == "org/ours"
    assert json.loads(shown)["usage"]["total_tokens"] == 3


def test_embeddings_report_no_completion() -> None:
    whole = read_whole("embeddings", b'{"object":"list","data":[{"embedding":[0.1]}],"model":"x","usage":null}')
    shown = json.loads(answer_with(whole, model="e", usage=Usage(input=4), cost_nanos=1))
    assert shown["usage"]["prompt_tokens"] == shown["usage"]["total_tokens"] == 4
    assert "completion_tokens" not in shown["usage"]


# What providers say when they refuse


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": None, "message": "m"}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"code": 7}, "7"),
        ({}, "unspecified error"),
        ("m", "m"),
        ("x" * 900, "x" * 500),
    ],
)
def test_the_sentence_in_an_error_is_found(error: Any, told: str) -> None:
    assert error_text(error) == told


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b"\xff", b"[" * 5_000])
def test_a_refusal_without_a_sentence_gets_a_neutral_one(body: bytes) -> None:
    assert error_of_body(body) == "the provider gave no reason"


def test_a_refusal_in_a_list_is_read_too() -> None:
    assert error_of_body(b'[{"error":{"message":"m"}}]') == "m"


def test_an_empty_finish_reason_of_a_whole_answer_is_filled() -> None:
    body = (
        b'{"choices": [{"index": 0, "finish_reason": "", "message": {"role": "assistant", "content": "x"}},'
        b'{"index": 1, "finish_reason" : "", "message": {"tool_calls": [{"id": "a"}]}}]}'
    )
    answer = answer_with(read_whole("chat", body), model="m", usage=Usage(input=1, output=1), cost_nanos=1)
    assert [choice["finish_reason"] for choice in json.loads(answer)["choices"]] == ["stop", "tool_calls"]
