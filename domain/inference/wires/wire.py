"""How a family of providers is spoken to, where that is not OpenAI's way: one set of functions per wire.

The spine asks every provider through one of these. What comes back from them is OpenAI's wire again, so that metering,
relaying and billing have one language. OpenAI's own wire passes everything on as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask
from domain.inference.sse import DONE, Frames


class Untranslatable(Exception):
    """A request that this wire has no words for. The message completes "the request has ..." and may be shown."""


class Framing(Protocol):
    """Finds the whole frames in blocks of a stream that may be split anywhere; each is the JSON of a chunk, or
    `[DONE]`. Raises FrameTooLong, or Unusable for bytes that are no stream."""

    def feed(self, block: bytes) -> Iterable[bytes]: ...

    def end(self) -> Iterable[bytes]:
        """What is left when the stream has ended."""


@dataclass(frozen=True)
class Wire:
    """`paths` by `chat`, `stream` (a streamed chat), `embeddings` and `models` (the list of them), below a provider's
    address; a kind of call that is not among them cannot be made. `takes` are the fields that `body` can say (None:
    all), as in `Needs.fields`.

    `body(ask, route, provider, output_tokens)` is the request, its output limited to so many tokens for each choice
    where that is not None; raises Untranslatable. `whole` turns a reply into OpenAI's, `frames` begins a stream;
    `status` is the HTTP status that OpenAI's wire has for a refusal. `whole` raises Unusable.
    """

    paths: Mapping[str, str]
    takes: frozenset[str] | None
    body: Callable[[Ask, Route, Provider, int | None], bytes]
    whole: Callable[[bytes, str, int], bytes]
    frames: Callable[[], Framing]
    status: Callable[[int, bytes], int] = lambda status, body: status


class Chunks(Protocol):
    """The translation of one stream: what a frame of theirs says, as chunks of OpenAI's."""

    def take(self, data: bytes) -> Iterable[Mapping[str, Any]]:
        """Raises Unusable for a frame that is not of the wire."""

    @property
    def done(self) -> bool: ...


class Translated:
    """Frames of another wire as frames of OpenAI's. Each is translated when it is asked for, so that those before a bad
    one are not lost with it."""

    def __init__(self, chunks: Chunks, framing: Framing | None = None) -> None:
        self._chunks = chunks
        self._framing = framing or Frames()
        self._ended = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        return self._translate(self._framing.feed(block))

    def end(self) -> Iterator[bytes]:
        return self._translate(self._framing.end())

    def _translate(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        for data in frames:
            for chunk in self._chunks.take(data):
                yield msgspec.json.encode(chunk)
        if self._chunks.done and not self._ended:
            self._ended = True
            yield DONE
