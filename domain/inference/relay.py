"""One stream from a provider to a client: frames are found, metered and passed on; the end is held back until it is
settled. Opening frames without content are kept back, so that another route may still take over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domain.inference.alike import Alike
from domain.inference.outlet import Outlet, Served
from domain.inference.ports import Reply, UpstreamFault
from domain.inference.replies import Piece, StreamRewriter, Unusable, read_chunk
from domain.inference.sse import DONE, Frames, FrameTooLong, frame_of
from domain.inference.wires.wire import Framing

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
    """The state of one relay. `text` is what the client was sent, `usage` the provider's last report; `ending` says how
    it ended: `finished`, `client_gone`, or `ceiling` when the money for more could not be held.

    `grow` extends the hold towards so many output tokens, or only renews it, and answers how many it covers now;
    `due` tells when a renewal is; `count` is the tokenizer. `id` and `created` are ours until the provider gives its.
    `frames` finds the chunks in the provider's bytes; `tier` is the service tier that it says it serves in;
    `content_at` is when its first content came, 0 before that.
    """

    served: Served
    outlet: Outlet
    choices: int
    grow: Callable[[int], Awaitable[int]]
    due: Callable[[], bool]
    count: Callable[[str], Awaitable[int]]
    tokens_held: int
    grace_seconds: float
    id: str
    created: int
    frames: Framing = field(default_factory=Frames)
    clock: Callable[[], int] = lambda: 0
    content_at: int = 0
    text: list[str] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    tier: str | None = None
    ending: str = "finished"
    opened: bool = False
    finished: set[int] = field(default_factory=set)
    closed: bool = False
    _named: bool = False
    _counted: int = 0
    _pieces: int = 0
    _bytes: int = 0
    _kept_back: bytes = b""

    def last_frames(self) -> bytes:
        """Frames that belong before the closing chunk: opening frames of an empty answer, or a forced end."""
        frames, self._kept_back = self._kept_back, b""
        if not self.opened:
            self.outlet.open(self.served)
            self.opened = True
        if self.ending == "ceiling" and not self.complete:
            frames += frame_of(forced_end(self))
        return frames

    def take(self, piece: Piece) -> None:
        if piece.usage:
            self.usage = piece.usage
        elif piece.text:
            self.usage = None  # a report that more text followed was not the last word
        if piece.tier is not None:
            self.tier = piece.tier
        if piece.id is not None and not self._named:
            self.id, self.created, self._named = piece.id, piece.created or self.created, True
        self.finished.update(piece.finished)
        self.closed = self.closed or piece.closing
        if piece.text:
            self.text.append(piece.text)
            self._pieces += 1
            self._bytes += size_of(piece.text)

    @property
    def has_content(self) -> bool:
        return bool(self.text) or bool(self.finished)

    @property
    def left_with_content(self) -> bool:
        """The client hung up on an answer that had begun: what it was sent is charged, however the rest is cut off."""
        return self.ending == "client_gone" and self.has_content

    @property
    def complete(self) -> bool:
        """Every choice has its finish reason: what may be missing now is the usage."""
        return len(self.finished) >= self.choices

    def tokens_with(self, text: str) -> int:
        """An estimate of the output up to this text that is seldom too low."""
        return self._counted + max(self._pieces + 1, (self._bytes + size_of(text)) // BYTES_PER_TOKEN)

    async def make_room(self, text: str) -> bool:
        """Extends the hold for this text as far as the money goes, and answers whether it is covered now.

        Estimates never cut anyone off: before that, the whole answer is counted.
        """
        wanted = self.tokens_with(text)
        self.tokens_held = await self.grow(wanted * GROWTH)
        if wanted <= self.tokens_held:
            return True
        counted = await self.count("".join([*self.text, text]))
        self._counted = counted - max(1, size_of(text) // BYTES_PER_TOKEN)  # which `take` adds
        self._pieces = self._bytes = 0
        return counted <= self.tokens_held

    async def pass_on(self, frames: list[bytes]) -> None:
        if not self.has_content:
            self._kept_back += b"".join(frames)
            return
        if not self.opened:
            self.opened = True
            self.content_at = self.clock()
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
    frames = stream.frames
    rewriter = StreamRewriter(stream.served.model, id=stream.id, created=stream.created)
    alike = Alike(rewriter)
    stream.outlet.when_gone(lambda: _leave(loop, reply, stream))
    done = False
    while not done:
        try:
            block = await reply.next_block()
        except UpstreamFault as fault:
            if stream.complete or stream.left_with_content:
                return
            raise Broken(fault.kind, fault.message, opened=stream.opened) from fault
        done = await _pass_block(block, frames, rewriter, alike, stream)
        if stream.ending == "ceiling":
            return
        if not block:
            break
        if stream.due():
            stream.tokens_held = await stream.grow(stream.tokens_held)
    if not stream.has_content and stream.usage is None:
        raise Broken("unusable", "The provider sent an empty stream.", opened=stream.opened)
    if not (done or stream.finished or stream.closed or stream.left_with_content):
        raise Broken("cut", "The provider ended the stream before the answer was complete.", opened=stream.opened)


async def _pass_block(block: bytes, frames: Framing, rewriter: StreamRewriter, alike: Alike, stream: Stream) -> bool:
    """Meters and passes on what a block completes. True when the provider said that it is done."""
    done = False
    passed: list[bytes] = []
    try:
        for data in frames.feed(block) if block else frames.end():
            if data.startswith(DONE):
                done = True
                break
            known = alike.read(data)
            piece = read_chunk(data) if known is None else Piece(text=known[0])
            if piece.error is not None:
                await stream.pass_on(passed)
                raise Broken("error_frame", f"The provider reported: {piece.error}.", opened=stream.opened)
            text = piece.text
            if text and stream.tokens_with(text) > stream.tokens_held and not await stream.make_room(text):
                stream.ending = "ceiling"
                break
            stream.take(piece)
            if known is not None:
                passed.append(known[1])
            elif piece.forward:
                passed.append(frame_of(rewriter.rewrite(data, piece)))
                alike.learn(data, piece)
    except (Unusable, FrameTooLong) as error:
        await stream.pass_on(passed)
        message = str(error) or "The provider sent a frame without an end."
        raise Broken("protocol", message, opened=stream.opened) from error
    await stream.pass_on(passed)
    return done


def size_of(text: str) -> int:
    """Its length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _leave(loop: asyncio.AbstractEventLoop, reply: Reply, stream: Stream) -> None:
    """The client hung up: read on for the usage, but not for long."""
    if stream.ending == "finished":
        stream.ending = "client_gone"
    loop.call_later(stream.grace_seconds, reply.close)


def forced_end(stream: Stream) -> bytes:
    """The chunk that ends an answer whose money has run out."""
    return msgspec.json.encode(
        {
            "id": stream.id,
            "object": "chat.completion.chunk",
            "created": stream.created,
            "model": stream.served.model,
            "choices": [
                {"index": index, "delta": {}, "logprobs": None, "finish_reason": "length"}
                for index in range(stream.choices)
                if index not in stream.finished
            ],
        }
    )
