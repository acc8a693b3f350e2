import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.inference.sse import BOM, Frames, FrameTooLong, frame_of

line_ends = st.sampled_from(["\n", "\r\n", "\r"])
words = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
datas = words.map(lambda word: "{" + word + "}")
noise = st.one_of(
    words.map(lambda word: ":" + word),
    words.map(lambda word: "event: " + word),
    words.map(lambda word: "id: " + word),
    st.just("retry: 10"),
    words.map(lambda word: "dataset: " + word),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream as a provider may write it, and the data that is in it. Every line may end in its own way, but a frame
    whose line ends in CR is not followed by an LF that would make it a CRLF."""
    text, wanted = "", []

    def line(content: str) -> None:
        nonlocal text
        end = draw(line_ends)
        if content == "" and end.startswith("\n") and text.endswith("\r"):
            end = "\r"
        text += content + end

    for data in draw(st.lists(datas | st.none(), max_size=6)):
        for extra in draw(st.lists(noise, max_size=2)):
            line(extra)
        if data is not None:
            line(draw(st.sampled_from(["data: ", "data:"])) + data)
            wanted.append(data.encode())
            for extra in draw(st.lists(noise, max_size=2)):
                line(extra)
        for _ in range(draw(st.integers(1, 3))):
            line("")
    return (BOM if draw(st.booleans()) else b"") + text.encode(), wanted


def frames_in(stream: bytes, cuts: set[int]) -> list[bytes]:
    frames = Frames()
    edges = [0, *sorted(cuts), len(stream)]
    found = [data for start, end in pairwise(edges) for data in frames.feed(stream[start:end])]
    return found + frames.end()


@given(streams(), st.data())
@example((b"data: {a}\n\r\ndata: {b}\r\n\n", [b"{a}", b"{b}"]), None)
@example((b"data: {a}\r\n\rdata: {b}\r\r\n", [b"{a}", b"{b}"]), None)
def test_the_same_frames_are_found_wherever_the_bytes_are_split(
    stream: tuple[bytes, list[bytes]], data: st.DataObject | None
) -> None:
    text, wanted = stream
    cuts = set(range(len(text))) if data is None else data.draw(st.sets(st.integers(0, len(text))))
    assert frames_in(text, set()) == wanted
    assert frames_in(text, cuts) == wanted
    assert frames_in(text, set(range(len(text)))) == wanted


@given(st.lists(st.binary(max_size=20)))
def test_any_split_of_any_bytes_finds_what_the_whole_finds(blocks: list[bytes]) -> None:
    stream = b"".join(blocks)
    frames = Frames()
    found = [data for block in blocks for data in frames.feed(block)]
    assert found + frames.end() == frames_in(stream, set())


def test_a_frame_is_found_as_soon_as_its_blank_line_is_there() -> None:
    frames = Frames()
    assert frames.feed(b"data: 1\n") == []
    assert frames.feed(b"\ndata: 2\r\n\r\ndata") == [b"1", b"2"]


def test_a_last_frame_may_lack_its_blank_line() -> None:
    assert frames_in(b"data: 1\n\ndata: 2", set()) == [b"1", b"2"]
    assert frames_in(b"data: 1\r\n\r\ndata: 2\r\n", set()) == [b"1", b"2"]


def test_comments_and_empty_data_are_no_frames() -> None:
    assert frames_in(b": keep-alive\n\n\n\ndata:\n\ndata: \n\ndata:   \n\nid: 1\n\nevent: x\n\n", set()) == []


def test_several_lines_of_data_become_one_frame_on_one_line() -> None:
    (data,) = frames_in(b'data: {"a":\ndata: [1,\r\ndata: 2]}\n\n', set())
    assert json.loads(data) == {"a": [1, 2]}
    sent = frame_of(data)
    assert sent.startswith(b"data: ")
    assert sent.endswith(b"\n\n")
    assert b"\n" not in sent[:-2]
    assert json.loads(sent[6:]) == {"a": [1, 2]}


def test_a_frame_without_an_end_is_given_up_on() -> None:
    frames = Frames(frame_bytes_max=100)
    frames.feed(b"data: " + b"x" * 90)
    with pytest.raises(FrameTooLong):
        frames.feed(b"x" * 10)
