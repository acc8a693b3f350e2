"""One stream from a provider to a client: frames are found, metered and passed on; the end is held back until it is
settled. Opening frames without content are kept back, so that another route may still take over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domain.inference.outlet import Outlet, Served
from domain.inference.ports import Reply, UpstreamFault
from domain.inference.replies import Piece, StreamRewriter, Unusable, read_chunk
from domain.inference.sse import DONE, Frames, FrameTooLong, frame_of

# A provider may put several tokens in a frame, or none: both ways of counting are bounds from below and above.
BYTES_PER_TOKEN = 3
GROWTH = 2


class Broken(Exception):
    """The provider broke the stream. `opened`: the client has already been sent some of it."""

    def __init__(self, kind: str, message: str, *, opened: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.opened = opened


@dataclass
class Stream:
    """The state of one relay. `text` is what reached us, `usage` the provider's last report; `ending` says how it
    ended: `finished`, `client_gone`, or `ceiling` when the money for more could not be held."""

    served: Served
    outlet: Outlet
    choices: int
    grow: Callable[[int], Awaitable[bool]]
    tokens_held: int
    grace_seconds: float
    renew_seconds: float
    text: list[str] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    ending: str = "finished"
    id: str | None = None
    created: int | None = None
    opened: bool = False
    finished: bool = False
    _pieces: int = 0
    _bytes: int = 0
    _kept_back: bytes = b""

    def last_frames(self) -> bytes:
        """Frames that belong before the closing chunk: opening frames of an empty answer, or a forced end."""
        frames, self._kept_back = self._kept_back, b""
        if not self.opened:
            self.outlet.open(self.served)
            self.opened = True
        if self.ending == "ceiling" and not self.finished:
            frames += frame_of(forced_end(self))
        return frames

    def take(self, piece: Piece) -> None:
        if piece.usage is not None:
            self.usage = piece.usage
        self.id = self.id or piece.id
        self.created = self.created or piece.created
        self.finished = self.finished or piece.finished
        if piece.text:
            self.text.append(piece.text)
            self._pieces += 1
            self._bytes += len(piece.text.encode())

    @property
    def has_content(self) -> bool:
        return bool(self.text) or self.finished

    @property
    def tokens(self) -> int:
        """An estimate of the output so far that is seldom too low."""
        return max(self._pieces, self._bytes // BYTES_PER_TOKEN)

    async def pass_on(self, frames: list[bytes]) -> None:
        if not self.has_content:
            self._kept_back += b"".join(frames)
            return
        if not self.opened:
            self.opened = True
            self.outlet.open(self.served)
            frames.insert(0, self._kept_back)
            self._kept_back = b""
        if frames:
            await self.outlet.send(b"".join(frames))


async def relay(reply: Reply, stream: Stream) -> None:
    """Returns when the provider is done, or the client has left and the grace is over, or the money has run out.

    Raises Broken when the provider breaks off, sends an error or nonsense.
    """
    loop = asyncio.get_running_loop()
    renewed = loop.time()
    frames = Frames()
    rewriter = StreamRewriter(stream.served.model)
    stream.outlet.when_gone(lambda: _leave(loop, reply, stream))
    while True:
        try:
            block = await reply.next_block()
        except UpstreamFault as fault:
            if stream.ending == "client_gone":
                return
            raise Broken(fault.kind, fault.message, opened=stream.opened) from fault
        done = await _pass_block(block, frames, rewriter, stream)
        if done or not block:
            break
        if stream.tokens > stream.tokens_held or loop.time() - renewed > stream.renew_seconds:
            renewed = loop.time()
            if not await _grow(stream):
                stream.ending = "ceiling"
                return
    if not stream.finished and stream.usage is None and not done:
        raise Broken("cut", "The provider ended the stream before the answer was complete.", opened=stream.opened)
    if not stream.has_content and stream.usage is None:
        raise Broken("unusable", "The provider sent an empty stream.", opened=False)


async def _pass_block(block: bytes, frames: Frames, rewriter: StreamRewriter, stream: Stream) -> bool:
    """Meters and passes on what a block completes. True when the provider said that it is done."""
    done = False
    passed: list[bytes] = []
    try:
        for data in frames.feed(block) if block else frames.end():
            if data == DONE:
                done = True
                break
            piece = read_chunk(data)
            if piece.error is not None:
                await stream.pass_on(passed)
                raise Broken("error_frame", f"The provider reported: {piece.error}.", opened=stream.opened)
            stream.take(piece)
            if piece.forward:
                passed.append(frame_of(rewriter.rewrite(data, piece)))
    except (Unusable, FrameTooLong) as error:
        await stream.pass_on(passed)
        message = str(error) or "The provider sent a frame without an end."
        raise Broken("protocol", message, opened=stream.opened) from error
    await stream.pass_on(passed)
    return done


async def _grow(stream: Stream) -> bool:
    """Holds credit for more of this answer: twice what it has come to."""
    wanted = max(stream.tokens * GROWTH, stream.tokens_held)
    if await stream.grow(wanted):
        stream.tokens_held = wanted
        return True
    if stream.tokens <= stream.tokens_held:
        return True  # only the deadline could not be moved; the hold still covers what was produced
    return False


def _leave(loop: asyncio.AbstractEventLoop, reply: Reply, stream: Stream) -> None:
    """The client hung up: read on for the usage, but not for long."""
    stream.ending = "client_gone"
    loop.call_later(stream.grace_seconds, reply.close)


def forced_end(stream: Stream) -> bytes:
    """The chunk that ends an answer whose money has run out."""
    return msgspec.json.encode(
        {
            "id": stream.id or "",
            "object": "chat.completion.chunk",
            "created": stream.created or 0,
            "model": stream.served.model,
            "choices": [
                {"index": index, "delta": {}, "logprobs": None, "finish_reason": "length"}
                for index in range(stream.choices)
            ],
        }
    )
