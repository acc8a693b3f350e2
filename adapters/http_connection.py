"""One HTTP/1.1 connection to a provider, the exchange it carries, and the host whose places they take.

`adapters/http.py` decides when to connect, send and give up; here bytes become a reply. Framing follows
RFC 9112 as llhttp reads it in its strict mode. What llhttp leaves open (bodies that end with the connection,
data behind a reply, endless heads) is decided here, never by guessing: what is in doubt costs the connection.
"""

import asyncio
import fcntl
import math
import socket
import struct
import sys
import termios
from collections import deque
from typing import cast

import httptools

from domain.inference.ports import FaultKind, UpstreamFault

HEAD_BYTES_MAX = 64 * 1024
BUFFERED_BYTES_MAX = 256 * 1024


class Host:
    """The idle connections of one origin, its calls under way and its free places.

    A call holds a place from before it takes or makes a connection until its exchange ends. A connection is
    made only by a holder, and only when none is idle, so there are never more connections than places.
    """

    def __init__(self, *, places: int) -> None:
        self.idle: dict[Connection, float] = {}  # since when; the oldest comes first
        self.exchanges: set[Exchange] = set()
        self.free_places = places
        self.waiters: deque[tuple[float, asyncio.Future[bool]]] = deque()  # deadline; did a place come?

    def take_idle(self) -> "Connection | None":
        """The connection that was used last: it is the least likely to be closed by the other end now."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if not connection.transport.is_closing():
                connection.reused = True
                return connection
        return None

    def give_back_place(self) -> None:
        while self.waiters:
            _, waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)  # the place passes on at once, so that no newcomer takes it
                return
        self.free_places += 1

    def expire(self, *, now: float, idle_since_max: float) -> None:
        """Ends what has passed its deadline. `now` and `idle_since_max` are in the loop's time."""
        for exchange in [exchange for exchange in self.exchanges if exchange.deadline <= now]:
            exchange.time_out()
        while self.waiters and (self.waiters[0][0] <= now or self.waiters[0][1].done()):
            _, waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(False)
        for connection in [connection for connection, since in self.idle.items() if since <= idle_since_max]:
            connection.drop()


class Exchange:
    """One request and its reply: what the caller holds as a `Reply`, filled by a connection."""

    def __init__(self, host: Host, *, idle_seconds: float) -> None:
        """Takes over one place of `host`, and gives it back when the exchange ends."""
        self.status = 0  # until the head is there
        self.headers: list[tuple[bytes, bytes]] = []
        self.deadline = math.inf  # in the loop's time; only set while someone waits
        self._host = host
        self._idle_seconds = idle_seconds
        self._connection: Connection | None = None
        self._blocks: list[bytes] = []
        self._buffered_bytes = 0
        self._ended = False  # nothing more comes: the body is whole, or _fault says why not
        self._fault: UpstreamFault | None = None
        self._must_resend = False
        self._waiter: asyncio.Future[None] | None = None
        host.exchanges.add(self)

    # What the caller uses.

    async def next_block(self) -> bytes:
        while not self._blocks and not self._ended:
            await self._wait(self._idle_seconds)
        if self._blocks:
            block = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
            self._blocks.clear()
            self._buffered_bytes = 0
            if self._connection is not None:
                self._connection.resume()
            return block
        if self._fault is not None:
            raise self._fault
        return b""

    async def read(self, limit: int) -> bytes:
        blocks, size = [], 0
        while block := await self.next_block():
            size += len(block)
            if size > limit:
                self.close()
                raise UpstreamFault("too_large", f"The reply is larger than {limit} bytes.", started=True)
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def close(self) -> None:
        self.fail("cut", "The reply was closed before its end.")
        self._blocks.clear()

    # What the pool uses.

    async def head_arrived(self, seconds: float) -> bool:
        """Waits for the head. False if the request must be sent again. Raises UpstreamFault."""
        while not (self.status or self._ended or self._must_resend):
            await self._wait(seconds)
        if self._fault is not None and (not self.status or self._fault.kind == "protocol"):
            raise self._fault
        return bool(self.status)

    def time_out(self) -> None:
        if self.status:
            self.fail("timeout", "The provider stopped in the middle of its reply.")
        else:
            self.fail("timeout", "The provider did not answer in time.")

    def fail(self, kind: FaultKind, message: str) -> None:
        """Ends the exchange and its connection. Does nothing if the exchange has ended."""
        if self._ended:
            return
        self._fault = UpstreamFault(kind, message, started=bool(self.status))
        if self._connection is not None:
            self._connection.drop()
        self.finish()

    # What the connection uses.

    def begin(self, connection: "Connection") -> None:
        self._connection = connection
        self._must_resend = False

    def send_again(self) -> None:
        self._connection = None
        self._must_resend = True
        self.wake()

    def add(self, block: bytes) -> None:
        self._blocks.append(block)
        self._buffered_bytes += len(block)

    def is_full(self) -> bool:
        return self._buffered_bytes > BUFFERED_BYTES_MAX

    def finish(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._connection = None
        self._host.exchanges.discard(self)
        self._host.give_back_place()
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, seconds: float) -> None:
        assert self._waiter is None, "a reply has one reader at a time"
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self.deadline = loop.time() + seconds
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.deadline = math.inf


class Connection(asyncio.Protocol):
    """Carries one exchange at a time and goes back to its host's idle connections after each whole reply."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self.transport: asyncio.Transport
        self.reused = False
        self._host = host
        self._socket = sock
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._paused = False
        self._closed_unheard = False
        self._begin_reply(request_bytes=0)

    def _begin_reply(self, *, request_bytes: int) -> None:
        self._request_bytes = request_bytes
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing_bytes = 0  # of head, chunk frames or trailers, since the last block of body
        self._interim = False  # in a reply of status 1xx, which announces the real one
        self._complete = False
        self._keep = False
        self._ends_with_connection = False

    def send(self, request: tuple[bytes, bytes], exchange: Exchange) -> None:
        """Sends head and body of the request, in one write and without copying the body."""
        self._begin_reply(request_bytes=len(request[0]) + len(request[1]))
        self._exchange = exchange
        exchange.begin(self)
        self.transport.writelines(request)

    def drop(self) -> None:
        """Ends the connection now; its exchange, if any, is told nothing."""
        self._exchange = None
        self._host.idle.pop(self, None)
        self.transport.abort()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.drop()  # nobody asked: whatever this is, it must not become the next call's reply
            return
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            trails_a_last_reply = self._complete and not self._keep  # nobody will read it, so it does no harm
            if not trails_a_last_reply:
                exchange.fail("protocol", _why_malformed(error))
                return
        if self._complete:
            self._finish(exchange)
        elif self._framing_bytes > HEAD_BYTES_MAX:
            exchange.fail("protocol", "The provider's reply has more than 64 KB of headers.")
        elif exchange.status:
            if exchange.is_full() and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            exchange.wake()

    def eof_received(self) -> None:
        self._host.idle.pop(self, None)
        exchange = self._exchange
        if exchange is not None and self.reused and not exchange.status and not self._framing_bytes:
            self._closed_unheard = self._unacknowledged_bytes() >= self._request_bytes

    def connection_lost(self, error: Exception | None) -> None:
        del self._parser  # it holds this object in turn
        self._host.idle.pop(self, None)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._closed_unheard:
            exchange.send_again()
        elif error is None and self._ends_with_connection:
            exchange.finish()
        else:
            exchange.fail("cut", "The provider closed the connection before the end of its reply.")

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Malformed("The provider sent more than one reply.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.strip()))  # llhttp leaves the white space behind a value

    def on_headers_complete(self) -> None:
        status, headers = self._parser.get_status_code(), self._headers
        self._headers = []  # of the next reply after an interim one, else trailers, which nobody reads
        if status < 200:  # 101, which would switch protocols, is refused by llhttp
            self._interim = True
            return
        assert self._exchange is not None
        self._exchange.status, self._exchange.headers = status, headers
        self._keep = self._parser.should_keep_alive()
        if self._framing_bytes > HEAD_BYTES_MAX and _size(headers) > HEAD_BYTES_MAX:
            raise _Malformed("The provider's reply has more than 64 KB of headers.")
        self._ends_with_connection = status not in (204, 304)
        for name, value in headers:
            if name == b"content-length":
                self._ends_with_connection = False
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise _Malformed("The provider's reply has a transfer-encoding other than chunked.")
                self._ends_with_connection = False
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise _Malformed("The provider's reply is compressed, which was not asked for.")

    def on_body(self, block: bytes) -> None:
        assert self._exchange is not None
        self._framing_bytes = 0
        self._exchange.add(block)

    def on_message_complete(self) -> None:
        self._complete = not self._interim
        self._interim = False

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        request_is_out = not self.transport.get_write_buffer_size()  # a refusal may come before all was sent
        if self._keep and request_is_out and not self.transport.is_closing():
            self._host.idle[self] = asyncio.get_running_loop().time()
        else:
            self.transport.abort()
        exchange.finish()

    def _unacknowledged_bytes(self) -> int:
        """What was written and not acknowledged by the other end's TCP; 0 where the system does not tell."""
        if sys.platform != "linux":
            return 0
        try:
            answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        in_kernel: int = struct.unpack("i", answer)[0]
        return in_kernel + self.transport.get_write_buffer_size()


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(b": \r\n") for name, value in headers)


class _Malformed(Exception):
    """Raised within the parser's calls. Its text is ours, so it may be shown."""


def _why_malformed(error: Exception) -> str:
    cause = error.__context__
    return str(cause) if isinstance(cause, _Malformed) else "The provider's reply is not valid HTTP/1.1."
