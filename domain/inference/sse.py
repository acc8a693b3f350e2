"""Server-sent events as bytes: finds whole frames in blocks that may be split anywhere."""

import re

_END = re.compile(rb"(?>\r\n|\n|\r){2}")  # atomic: a CRLF must not be taken for two ends of lines
_LINE = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"

DONE = b"[DONE]"


class FrameTooLong(Exception):
    """A provider sent a frame without an end."""


class Frames:
    """Feeds on blocks, gives the `data` of each whole frame. Comments, `id:`, `retry:` and `event:` lines are dropped:
    real clients crash on them."""

    def __init__(self, *, frame_bytes_max: int = 8 << 20) -> None:
        self._rest = b""
        self._begun = False
        self._frame_bytes_max = frame_bytes_max

    def feed(self, block: bytes) -> list[bytes]:
        """The data of every frame that is complete now, several `data:` lines joined by a line feed."""
        if self._begun and not self._rest and _is_one(block):
            return [block[6:-2]]
        text = self._rest + block if self._rest else block
        if not self._begun:
            if len(text) < 3 and BOM.startswith(text):
                self._rest = text
                return []
            self._begun = True
            text = text.removeprefix(BOM)
        if b"\r" not in text:
            *whole, self._rest = text.split(b"\n\n")
        else:
            whole = self._split_any(text)
        if len(self._rest) > self._frame_bytes_max:
            raise FrameTooLong
        return [data for frame in whole if (data := data_of(frame).strip())]

    def end(self) -> list[bytes]:
        """What is left when the stream ends: a last frame may lack its blank line."""
        rest, self._rest = self._rest, b""
        data = data_of(rest).strip()
        return [data] if data else []

    def _split_any(self, text: bytes) -> list[bytes]:
        # A block that ends in CR may be half of a CRLF: that frame waits for the next byte.
        tail = b""
        if text.endswith(b"\r"):
            text, tail = text[:-1], b"\r"
        *whole, rest = _END.split(text)
        self._rest = rest + tail
        return whole


def _is_one(block: bytes) -> bool:
    """Whether a block is one frame of one line, as nearly all are."""
    return (
        block.startswith(b"data: {")
        and block.endswith(b"}\n\n")
        and block.find(b"\n") == len(block) - 2
        and b"\r" not in block
    )


def data_of(frame: bytes) -> bytes:
    """The data of one frame; empty for a comment."""
    if frame.startswith(b"data: ") and b"\n" not in frame and b"\r" not in frame:
        return frame[6:]
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(frame) if line.startswith(b"data:")]
    return b"\n".join(lines)


def frame_of(data: bytes) -> bytes:
    """One frame on one line. Line feeds can only stand between the tokens of JSON, where a space is as good."""
    return b"data: " + (data.replace(b"\n", b" ") if b"\n" in data else data) + b"\n\n"
