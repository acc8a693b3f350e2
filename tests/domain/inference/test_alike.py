"""A frame that is read by its likeness to one before gives what taking it apart would give."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from domain.inference.alike import LESSONS_MAX, Alike
from domain.inference.replies import Piece, StreamRewriter, Unusable, read_chunk
from domain.inference.sse import frame_of
from tests.domain.inference.scene import chunk

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', "\\", '\\"', '","content":"', '"content": "', "<the text>", '"model": "their/model"', "नमस्ते", "{", "\n"]
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "content": st.sampled_from(["aside", "x"]),
        "obfuscation": st.text(max_size=3),
        "created": st.integers(1, 2),
        "inner": st.just({"model": "their/model", "content": "x"}),
        "usage": st.sampled_from([None, {"prompt_tokens": 1, "completion_tokens": 1}]),
        "error": st.sampled_from([None, "broken"]),
    },
)
DELTAS = st.fixed_dictionaries(
    {"content": TEXTS | st.none()},
    optional={
        "role": st.just("assistant"),
        "reasoning_content": st.sampled_from(["x", ""]),
        "tool_calls": st.just([{"index": 0, "function": {"name": "f", "arguments": "x"}}]),
    },
)
FRAMES = st.builds(
    lambda delta, finish, more, ascii, spaced: json.dumps(
        {**json.loads(chunk("")), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more},
        ensure_ascii=ascii,
        separators=(", ", ": ") if spaced else (",", ":"),
    ).encode(),
    DELTAS,
    st.sampled_from([None, None, None, "stop"]),
    st.just({}) | MEMBERS,
    st.booleans(),
    st.booleans(),
)


class Slow:
    """Takes every frame apart."""

    def __init__(self) -> None:
        self.rewriter = StreamRewriter("ours", id="ours-1", created=5)

    def read(self, data: bytes) -> tuple[Piece, bytes] | None:
        try:
            piece = read_chunk(data)
        except Unusable:
            return None
        return piece, frame_of(self.rewriter.rewrite(data, piece)) if piece.forward and piece.error is None else b""


def check(frames: list[bytes]) -> int:
    """Reads frames both ways, and answers how many were alike."""
    slow, found = Slow(), 0
    rewriter = StreamRewriter("ours", id="ours-1", created=5)
    alike = Alike(rewriter)
    for data in frames:
        known, wanted = alike.read(data), slow.read(data)
        if known is not None:
            assert wanted is not None
            piece, frame = wanted
            assert known == (piece.text, frame)
            assert (piece.finished, piece.usage, piece.error, piece.closing, piece.forward) == (
                (),
                None,
                None,
                False,
                True,
            )
            found += 1
        elif wanted is not None and wanted[1]:
            rewriter.rewrite(data, wanted[0])
            alike.learn(data, wanted[0])
    return found


@given(st.lists(FRAMES, max_size=8), st.data())
@example([chunk("a"), chunk('b"'), chunk("<the text>")], None)
def test_it_is_read_as_if_taken_apart(frames: list[bytes], data: Any) -> None:
    check(frames)
    if frames and data is not None:  # bytes that change where nobody expects it
        pattern = data.draw(st.sampled_from(frames))
        place = data.draw(st.integers(0, len(pattern) - 1))
        changed = pattern[:place] + data.draw(st.binary(max_size=2)) + pattern[place + 1 :]
        check([*frames, pattern, changed, pattern])


def test_nearly_all_of_an_ordinary_stream_are_alike() -> None:
    said = ["one", "", 'two "quoted" \\ ', "तीन", "\n", "four"]
    assert check([chunk("first"), *map(chunk, said)]) == len(said)


def test_the_end_of_a_text_is_not_taken_for_the_end_of_the_frame() -> None:
    first = chunk("a")
    tail = first[first.index(b'"a"') + 2 :]
    short = first[: len(first) - len(tail)] + tail[1:]
    assert check([first, short, chunk("b")]) == 1


def test_a_stream_whose_frames_always_differ_elsewhere_is_soon_left_alone() -> None:
    rewriter = StreamRewriter("ours", id="ours-1", created=5)
    alike = Alike(rewriter)
    for number in range(LESSONS_MAX):
        data = chunk("a", obfuscation=str(number))
        assert alike.read(data) is None
        alike.learn(data, read_chunk(data))
    assert alike.read(data) is not None  # the last lesson stands, and a pattern that serves may be learnt anew
    data = chunk("a", obfuscation="x")
    alike.learn(data, read_chunk(data))
    assert alike.read(data) is not None
    for number in range(LESSONS_MAX + 1):
        data = chunk("a", obfuscation=f"again {number}")
        alike.learn(data, read_chunk(data))
    assert alike.read(data) is None
