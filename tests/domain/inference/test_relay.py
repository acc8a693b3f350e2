"""What a strict client receives, whatever a provider writes and however its bytes are split."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.inference.metering import Usage
from domain.kernel.money import parse_inr
from tests.domain.inference.scene import (
    OPENING,
    Scene,
    a_stream,
    chunk,
    frames,
    strictly,
    usage,
)
from tests.fakes import Play

REPORT = usage(7, 3)
WORDS = ("one ", "two ", "three")


def streamed(*steps: Any, **body: Any) -> Scene:
    return Scene().plays(cheap=Play(steps=steps)).call(stream=True, **body)


def the_usage(scene: Scene) -> Usage:
    assert scene.spent == parse_inr(scene.seen.usage["cost_inr"]) == scene.settled.cost
    return scene.settled.usage


# However it is written

line_end = st.sampled_from(["\n", "\r\n", "\r"])
names = st.sampled_from(["their/model", "their\\/model", None])
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
noise = st.sampled_from([": keep-alive", "event: message", "id: 7", "retry: 10", ": é"])
strays = st.sampled_from([b'{"warning":"slow"}', b'{"type":"ping"}', b'{"id":"x","choices":[],"model":"their/model"}'])
places = st.sampled_from(["last", "content", "every", "groq", "choice", "nowhere"])


def provider_chunk(text: str | None, name: str | None, *, finish: str | None = None, **more: Any) -> bytes:
    data = chunk(text, finish=finish, **more).replace(b'"model": "their/model", ', b"")
    return data if name is None else data[:-1] + b', "model": "' + name.encode() + b'"}'


@st.composite
def provider_streams(draw: st.DrawFn) -> tuple[bytes, str, bool]:
    """A stream of any provider as one piece of bytes, its text, and whether it reports usage."""
    said, place = draw(st.lists(texts, min_size=1, max_size=5)), draw(places)
    name, final = draw(names), len(said) - 1
    payloads = [OPENING]
    for at, text in enumerate(said):
        more: dict[str, Any] = {}
        if place == "every":
            more = {"usage": usage(7, at + 1)}
        elif place == "content" and at == final:
            more = {"usage": REPORT}
        elif place == "choice" and at == final:
            more = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, "usage": REPORT}]}
        payloads.append(provider_chunk(text, name, **more))
        payloads += draw(st.lists(strays, max_size=1))
    payloads.append(provider_chunk(None, name, finish="stop"))
    if place == "last":
        payloads.append(provider_chunk(None, name, choices=[], usage=REPORT))
    if place == "groq":
        payloads.append(provider_chunk(None, name, choices=[], x_groq={"id": "r", "usage": REPORT}))
    end = draw(line_end)
    stream = "\ufeff" if draw(st.booleans()) else ""
    for payload in [*payloads, b"[DONE]"]:
        lines = [f"data:{draw(st.sampled_from(['', ' ']))}{payload.decode()}"]
        lines += draw(st.lists(noise, max_size=2))
        draw(st.randoms()).shuffle(lines)
        stream += end.join(lines) + end + end * draw(st.integers(1, 3))
    return stream.encode(), "".join(said), place != "nowhere"


@given(provider_streams(), st.data())
def test_a_strict_client_can_read_every_stream_however_its_bytes_are_split(
    given: tuple[bytes, str, bool], data: st.DataObject
) -> None:
    stream, text, reported = given
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30)))
    blocks = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    scene = streamed(*blocks)
    assert scene.refusal is None
    seen = strictly(scene.outlet.frames, model="org/model")
    assert seen.text == text
    assert seen.finish == "stop"
    used = the_usage(scene)
    assert used.source == ("provider" if reported else "counted")
    assert ("estimated" in seen.usage) is not reported


def test_a_stream_split_at_every_byte_reads_as_the_whole() -> None:
    stream = frames(OPENING, chunk("नमस्ते "), chunk("भारत", finish="stop"), chunk(choices=[], usage=REPORT))
    scene = streamed(*[bytes([byte]) for byte in stream])
    assert scene.seen.text == "नमस्ते भारत"
    assert scene.outlet.frames == streamed(stream).outlet.frames


# Usage in its places


@pytest.mark.parametrize(
    "last",
    [
        [chunk("three", finish="stop"), chunk(choices=[], usage=REPORT)],
        [chunk("three", finish="stop", usage=REPORT)],
        [chunk("three", finish="stop", x_groq={"id": "r", "usage": REPORT})],
        [chunk(choices=[{"index": 0, "delta": {"content": "three"}, "finish_reason": "stop", "usage": REPORT}])],
    ],
)
def test_usage_is_read_in_every_place_and_shown_once_at_the_end(last: list[bytes]) -> None:
    scene = streamed(frames(OPENING, chunk("one "), chunk("two "), *last))
    assert scene.seen.text == "one two three"
    assert the_usage(scene) == Usage(input=7, output=3)
    assert all(each.get("usage") is None and "x_groq" not in each for each in scene.seen.chunks[:-1])


def test_usage_in_every_chunk_is_never_summed() -> None:
    said = [chunk(word, usage=usage(7, count)) for count, word in enumerate(WORDS, 1)]
    assert the_usage(streamed(frames(*said, chunk(finish="stop")))) == Usage(input=7, output=3)


def test_without_a_report_the_gateway_counts_and_says_so() -> None:
    scene = streamed(frames(OPENING, *map(chunk, WORDS), chunk(finish="stop")))
    assert the_usage(scene) == Usage(input=scene.settled.usage.input, output=3, source="counted")
    assert scene.settled.usage.input > 0
    assert scene.seen.usage["estimated"] is True


def test_explicit_zeros_are_believed() -> None:
    scene = streamed(frames(*map(chunk, WORDS), chunk(finish="stop"), chunk(choices=[], usage=usage(0, 0))))
    assert the_usage(scene) == Usage()
    assert scene.spent == 0
    assert "estimated" not in scene.seen.usage


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        5,
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 10**15},
        {"prompt_tokens": "7"},
    ],
)
def test_a_nonsense_report_is_replaced_by_counting(nonsense: Any) -> None:
    scene = streamed(frames(*map(chunk, WORDS), chunk(finish="stop", usage=nonsense)))
    assert the_usage(scene).source == "counted"
    assert scene.settled.usage.output == 3


def test_a_report_that_more_text_followed_is_not_the_last_word() -> None:
    scene = streamed(frames(chunk("one ", usage=usage(7, 0)), chunk("two "), chunk("three", finish="stop")))
    assert the_usage(scene).source == "counted"
    assert scene.settled.usage.output == 3


# Ends


def test_an_end_without_done_is_an_end_once_the_answer_has_finished() -> None:
    scene = streamed(frames(*map(chunk, WORDS), chunk(finish="stop"), done=False))
    assert scene.seen.text == "one two three"
    assert scene.settled.ending == "finished"


def test_done_is_an_end_even_without_a_finish_reason() -> None:
    assert streamed(frames(*map(chunk, WORDS))).settled.usage.output == 3


def test_what_comes_after_done_is_not_passed_on() -> None:
    scene = streamed(frames(chunk("one", finish="stop")) + frames(chunk("two")))
    assert scene.seen.text == "one"


def test_a_last_frame_without_its_blank_line_is_passed_on() -> None:
    scene = streamed(frames(chunk("one "), done=False) + b"data: " + chunk("two", finish="stop"))
    assert scene.seen.text == "one two"


def test_an_empty_answer_is_an_answer() -> None:
    scene = streamed(frames(OPENING, chunk(finish="stop"), chunk(choices=[], usage=usage(7, 0))))
    assert scene.seen.finish == "stop"
    assert scene.seen.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert the_usage(scene) == Usage(input=7)


def test_opening_frames_are_kept_back_until_there_is_content() -> None:
    scene = Scene()
    opened = []
    steps = [frames(OPENING, done=False), lambda: opened.append(scene.outlet.opened), *a_stream("one").steps]
    scene.plays(cheap=Play(steps=steps)).call(stream=True)
    assert opened == [False]
    assert len([each for each in scene.seen.chunks if each["choices"] and "role" in each["choices"][0]["delta"]]) == 2


def test_reasoning_tool_calls_and_logprobs_pass_untouched() -> None:
    deltas = [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]},
    ]
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]}
    said = [chunk(choices=[{"index": 0, "delta": delta, "logprobs": logprobs}]) for delta in deltas]
    scene = streamed(frames(*said, chunk(finish="tool_calls")))
    assert [each["choices"][0]["delta"] for each in scene.seen.chunks[:4]] == deltas
    assert all(each["choices"][0]["logprobs"] == logprobs for each in scene.seen.chunks[:4])


def test_a_frame_in_several_lines_arrives_in_one() -> None:
    pretty = json.dumps(json.loads(chunk("one", finish="stop")), indent=1).replace("\n", "\ndata: ")
    scene = streamed(f"data: {pretty}\n\ndata: [DONE]\n\n".encode())
    assert scene.seen.text == "one"


def test_the_end_is_held_back_until_it_is_recorded() -> None:
    scene = Scene()
    order: list[str] = []
    record, finish = scene.ledger.record, scene.outlet.finish
    scene.ledger.record = lambda stream, event: (order.append(event.NAME), record(stream, event))[1]
    scene.outlet.finish = lambda data: (order.append("finish"), finish(data))[1]
    scene.plays(cheap=a_stream("one")).call(stream=True)
    assert order == ["ledger.credit_held.v1", "ledger.request_settled.v1", "finish"]
