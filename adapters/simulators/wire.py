"""HTTP/1.1 on bare sockets for the simulators, because a faulty provider must control every byte it sends.

Bodies come in by Content-Length or chunked; connections are kept alive; pipelined requests are answered in
order.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

import httptools

BODY_BYTES_MAX = 64 << 20
_PIPELINED_MAX = 64
_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True)
class Request:
    """One request as it was read; header names are in lower case, repeated ones joined by a comma."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    header_bytes: int = 0
    body: bytes = b""
    keep_alive: bool = True


class Reply:
    """Writes the answer to one request: `whole`, or `begin`, then `piece` as often as needed, and `end`.

    With `wire_bytes` above zero all bytes leave in writes of that size, 1 ms apart.
    """

    def __init__(self, connection: "Connection", *, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        """Set to False to have the connection closed after what was written, complete or not."""
        self.wire_bytes = 0

    async def whole(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] = _NOTHING,
        share: float = 1.0,
    ) -> None:
        """Answer with a Content-Length; with `share` below 1 only that part of the body is sent."""
        head = _head(status, content_type, headers, f"content-length: {len(body)}", self.keep_alive)
        await self._write(head + body[: int(len(body) * share)])

    async def begin(
        self, status: int, *, content_type: str, headers: Mapping[str, str] = _NOTHING, chunked: bool = True
    ) -> None:
        """Send the head of an answer of unknown length; not `chunked`, it ends where the connection does."""
        self.keep_alive = self.keep_alive and chunked
        framing = "transfer-encoding: chunked" if chunked else ""
        await self._write(_head(status, content_type, headers, framing, self.keep_alive))

    async def piece(self, data: bytes) -> None:
        """Send `data` as one chunk of a chunked answer."""
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def raw(self, data: bytes) -> None:
        """Send `data` as it is, in an answer that ends with the connection."""
        await self._write(data)

    async def end(self) -> None:
        """Finish a chunked answer."""
        await self._write(b"0\r\n\r\n")

    async def go_ahead(self) -> None:
        """Wait until the client has taken enough of what was written."""
        await self._connection.drained()

    def reset(self) -> None:
        """Break the connection with a TCP reset; what was not yet sent is lost."""
        connected = self._connection.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()

    def go_stale(self) -> None:
        """Close the connection as soon as another request comes on it, unanswered."""
        self._connection.stale = True

    async def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        if not self.wire_bytes:
            transport.write(data)
            return
        for start in range(0, len(data), self.wire_bytes):
            transport.write(data[start : start + self.wire_bytes])
            await asyncio.sleep(0.001)  # lets the reader take this part before the kernel joins it to the next


Handler = Callable[[Request, Reply], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection. A handler that is still at work when the client hangs up is cancelled."""

    transport: asyncio.Transport

    def __init__(self, handler: Handler, connections: "set[Connection]") -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._reading = Request()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waiting: deque[Request] = deque()
        self._working: asyncio.Task[None] | None = None
        self._writable: asyncio.Event | None = None
        self.stale = False
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.lost.set()
        self._waiting.clear()
        if self._working is not None:
            self._working.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400)

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def drained(self) -> None:
        """Return once the transport takes more."""
        if self._writable is not None:
            await self._writable.wait()

    # What the parser tells, in the order in which it tells it.

    def on_message_begin(self) -> None:
        if self.stale:
            self.transport.close()
        self._reading = Request()
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._reading.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers = self._reading.headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
        self._reading.header_bytes += len(name) + len(value) + 4  # ": " and CRLF

    def on_headers_complete(self) -> None:
        if self._reading.headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse(413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        request = self._reading
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.body = b"".join(self._body)
        self._waiting.append(request)
        if len(self._waiting) == _PIPELINED_MAX:
            self.transport.pause_reading()
        if self._working is None:
            self._work_on_next()

    def _work_on_next(self) -> None:
        request = self._waiting.popleft()
        if len(self._waiting) == _PIPELINED_MAX - 1:
            self.transport.resume_reading()
        self._working = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        reply = Reply(self, keep_alive=request.keep_alive)
        try:
            await self._handler(request, reply)
        except BaseException:
            self.transport.close()
            raise
        self._working = None
        if not reply.keep_alive:
            self.transport.close()
        elif self._waiting and not self.transport.is_closing():
            self._work_on_next()

    def _refuse(self, status: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(_head(status, "text/plain", _NOTHING, "content-length: 0", False))
            self.transport.close()


class Server:
    """A listening server; `close` ends it and all its connections at once."""

    def __init__(self, listening: asyncio.Server, connections: set[Connection]) -> None:
        self._listening = listening
        self.connections = connections
        self.port: int = listening.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, abort every connection and wait until they are gone."""
        self._listening.close()
        open_connections = tuple(self.connections)
        for connection in open_connections:
            connection.transport.abort()
        for connection in open_connections:
            await connection.lost.wait()
        await self._listening.wait_closed()


async def serve(handler: Handler, *, host: str, port: int) -> Server:
    """Listen on `host` and `port` (0: any free one) and answer every request with `handler`."""
    connections: set[Connection] = set()
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(handler, connections), host, port, backlog=4096
    )
    return Server(listening, connections)


def _head(status: int, content_type: str, headers: Mapping[str, str], framing: str, keep_alive: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {content_type}"]
    if framing:
        lines.append(framing)
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
