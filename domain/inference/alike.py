"""Frames of a stream that differ from one before in nothing but their text, as nearly all do: they need not be taken
apart again."""

import re

import msgspec

from domain.inference.replies import Piece, StreamRewriter, read_chunk
from domain.inference.sse import frame_of

LESSONS_MAX = 8
"""In vain, one after the other: whose frames always differ elsewhere too, of that stream no more is asked."""

_CONTENT = re.compile(rb'"content"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')
_PROBE = "<the text>"
_string = msgspec.json.Decoder(str).decode


class Alike:
    """What stands before and after the text of a frame, as it came and as it went out.

    The next frame with the same bytes on both sides of another text is the same frame with that text: what stands
    before ends inside a string of JSON, and what stands between is checked to be the inside of one.
    """

    def __init__(self, rewriter: StreamRewriter) -> None:
        self._rewriter = rewriter
        self._before = self._after = b""
        self._out_before = self._out_after = b""
        self._size_min = 0
        self._lessons = LESSONS_MAX

    def read(self, data: bytes) -> tuple[str, bytes] | None:
        """The text of a frame and the frame that goes out for it; None for one that is not alike."""
        before, after = self._before, self._after
        if not before or not data.startswith(before) or not data.endswith(after) or len(data) < self._size_min:
            return None
        inside = data[len(before) : len(data) - len(after)]
        try:
            text = _string(b'"%b"' % inside)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        self._lessons = LESSONS_MAX
        return text, b"%b%b%b" % (self._out_before, inside, self._out_after)

    def learn(self, data: bytes, piece: Piece) -> None:
        """Takes a frame as the pattern for those that follow, if a probe shows that its text can be exchanged."""
        if not piece.regular or not piece.text or piece.finished or not self._lessons:
            return
        self._lessons -= 1
        self._before = b""
        found = _CONTENT.search(data)
        if found is None:
            return
        before, after = data[: found.start(1)], data[found.end(1) :]
        probe = before + _PROBE.encode() + after
        probed = read_chunk(probe)
        if probed != msgspec.structs.replace(piece, text=_PROBE):
            return
        out = frame_of(self._rewriter.rewrite(probe, probed)).split(_PROBE.encode())
        if len(out) == 2:
            self._before, self._after = before, after
            self._out_before, self._out_after = out
            self._size_min = len(before) + len(after)
