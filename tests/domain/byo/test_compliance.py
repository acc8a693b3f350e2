"""What is said of replies, be they of endpoints that want to be called or of providers that were shown a key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.byo.compliance import (
    SECONDS_MAX,
    judge_bad_model,
    judge_chat,
    judge_key_by_chat,
    judge_list,
    judge_stream,
    judge_time,
)

USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
WHOLE = {"choices": [{"message": {"role": "assistant", "content": "yes"}}], "usage": USAGE}
CHUNK = {"choices": [{"delta": {"content": "yes"}}]}
SSE = "text/event-stream; charset=utf-8"


def data(*chunks: Any, done: bool = True) -> bytes:
    frames = [json.dumps(chunk) for chunk in chunks] + (["[DONE]"] if done else [])
    return "".join(f"data: {frame}\n\n" for frame in frames).encode()


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_a_whole_answer_passes() -> None:
    assert judge_chat(200, encoded(WHOLE)).passed


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, WHOLE, "does not take the key"),
        (404, WHOLE, "/v1"),
        (302, WHOLE, "Redirects"),
        (200, None, "`choices`"),
        (200, [], "`choices`"),
        (200, {"choices": [], "usage": USAGE}, "`choices`"),
        (200, {"choices": [{"text": "yes"}], "usage": USAGE}, "`message`"),
        (200, {"choices": WHOLE["choices"]}, "`usage`"),
        (200, WHOLE | {"usage": {"prompt_tokens": True, "completion_tokens": "1"}}, "`usage`"),
    ],
)
def test_what_a_whole_answer_lacks_is_told(status: int, body: Any, told: str) -> None:
    check = judge_chat(status, encoded(body))
    assert not check.passed
    assert told in check.detail


def test_a_stream_passes_with_frames_of_its_own_making_too() -> None:
    assert judge_stream(200, SSE, data({"choices": []}, CHUNK)).passed
    assert judge_stream(200, SSE, b": hello\r\n\r\n" + data(CHUNK).replace(b"\n", b"\r\n")).passed


@pytest.mark.parametrize(
    ("status", "kind", "body", "told"),
    [
        (500, SSE, data(CHUNK), "500"),
        (200, "application/json", encoded(WHOLE), "text/event-stream"),
        (200, SSE, data({"choices": []}), "`delta`"),
        (200, SSE, data({"error": {"message": "no"}}), "`delta`"),
        (200, SSE, data(CHUNK, done=False), "[DONE]"),
        (200, SSE, data(CHUNK) + data(CHUNK, done=False), "[DONE]"),
        (200, SSE, b"", "`delta`"),
    ],
)
def test_what_a_stream_lacks_is_told(status: int, kind: str, body: bytes, told: str) -> None:
    check = judge_stream(status, kind, body)
    assert not check.passed
    assert told in check.detail


def test_a_model_that_does_not_exist_must_be_the_callers_fault_in_json() -> None:
    assert judge_bad_model(404, encoded({"error": {"message": "no"}})).passed
    assert judge_bad_model(400, encoded({"detail": "no"})).passed
    assert not judge_bad_model(200, encoded(WHOLE)).passed
    assert not judge_bad_model(500, encoded({"error": {}})).passed
    assert not judge_bad_model(404, b"<h1>Not Found</h1>").passed


def test_time_is_up_at_thirty_seconds() -> None:
    assert judge_time(SECONDS_MAX * 1000 - 1).passed
    assert not judge_time(SECONDS_MAX * 1000).passed


@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=20))
def test_whatever_comes_back_is_judged_and_not_repeated(status: int, body: bytes, kind: str) -> None:
    for check in (judge_chat(status, body), judge_stream(status, kind, body), judge_bad_model(status, body)):
        assert check.detail
        assert check.detail.isprintable()
    judge_list(status, body)


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ({"object": "list", "data": [{"id": "gpt-5"}, {"id": "o9"}]}, ("gpt-5", "o9")),
        ({"models": [{"name": "models/gemini-2.5-flash"}]}, ("gemini-2.5-flash",)),
        ([{"id": "org/one"}, {"id": "two words"}, "x", None], ("org/one",)),
        ({"data": "no"}, ()),
        ("what", ()),
    ],
)
def test_lists_of_models_are_read_in_every_shape(listed: Any, ids: tuple[str, ...]) -> None:
    found = judge_list(200, encoded(listed))
    assert found is not None
    assert (found.verdict, found.models) == ("good", ids)


def test_what_a_provider_says_of_a_key() -> None:
    told = {status: judge_list(status, b"{}") for status in (200, 401, 403, 404, 405, 429, 500, 503)}
    assert {status: check and check.verdict for status, check in told.items()} == {
        200: "good",
        401: "refused",
        403: None,
        404: None,
        405: None,
        429: "unsure",
        500: "unsure",
        503: "unsure",
    }
    by_chat = {status: judge_key_by_chat(status).verdict for status in (200, 400, 401, 402, 403, 404, 429, 500)}
    assert [status for status, verdict in by_chat.items() if verdict == "refused"] == [401, 403]
    assert [status for status, verdict in by_chat.items() if verdict == "good"] == [200]
