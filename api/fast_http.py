"""The inference routes without the cost of a framework: uvicorn's own protocol, with its request cycle replaced for a
few paths. Parsing, pipelining, flow control, keep-alive and shutdown stay uvicorn's; every other path goes to the app.

What uvicorn leaves open is closed here for both: clients that never finish a request, or never read their answer.

What is used of uvicorn's internals are the callbacks of `HttpToolsProtocol` and the attributes of its
`RequestResponseCycle`; the pinned version and the tests of this file guard them.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.cors import CORS
from api.errors import envelope, error_body, retry_header, status_and_type, status_of
from domain.inference.outlet import Served
from domain.kernel.errors import Invalid, Refusal, TooLarge, Unavailable
from domain.kernel.ids import make_id
from domain.kernel.money import format_inr

logger = logging.getLogger("bharatrouter.http")

HEAD_BYTES_MAX = 65_536
Answer = Callable[["Exchange"], Awaitable[None]]

_CORS = b"".join(b"%b: %b\r\n" % header for header in CORS)
_NO_RETRY = b"x-should-retry: false\r\n"
"""Makes SDKs give up at once, where a second try could cost a second time or cannot end otherwise."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a client and its connection may stay silent, in seconds.

    A stream gets a comment line after `beat`. A head must have come within `request`, and so must every next piece of a
    body. A client that takes nothing of its answer for `reading` is cut off; the kernel holds some megabytes in between
    and shows progress in leaps, so this must be long. One that still sends after its answer is listened to for
    `linger`, since a connection that is closed on unread bytes takes the answer with it.
    """

    beat: float = 15
    request: float = 30
    reading: float = 300
    linger: float = 2


class _NobodyWaits:
    """In place of an event: bodies mostly come with their head, and then nobody ever waits for more."""

    def set(self) -> None:
        pass


_NOBODY_WAITS = _NobodyWaits()


class Exchange:
    """One request to a hot path and its answer. Takes the place of uvicorn's cycle, and is the spine's `Outlet`."""

    def __init__(self, protocol: "FastProtocol", answer: Answer, *, keep_alive: bool, http_1_0: bool) -> None:
        self.path = protocol.url
        self.headers: list[tuple[bytes, bytes]] = protocol.headers
        self.request = ""
        self.limits = b""  # rate limit headers, once they are known
        # What uvicorn's protocol expects of a cycle
        self.keep_alive = keep_alive
        self.response_complete = False
        self.message_event: asyncio.Event | _NobodyWaits = _NOBODY_WAITS
        self.body = bytearray()
        self.more_body = True
        self.malformed = False
        self._protocol = protocol
        self._transport = protocol.transport
        self._answer = answer
        self._chunked = not http_1_0
        self._streaming = False
        self._disconnected = False
        self._leave: Callable[[], None] | None = None
        self._last_write = 0.0

    async def run_asgi(self, app: Any) -> None:
        """Called by uvicorn as a task of its own, which a client that leaves does not cancel; only a stop does."""
        self._protocol.running = self
        try:
            await self._answer(self)
        except asyncio.CancelledError:
            self.refuse(
                Unavailable(
                    "overloaded",
                    f"The gateway was stopped. GET /v1/requests/{self.request} tells whether this call was charged.",
                    retry_after=1,
                )
            )
            raise
        except Exception:
            logger.exception("request %s failed in the gateway", self.request)
            message = f"The gateway failed. GET /v1/requests/{self.request} tells whether this call was charged."
            self._fail(500, envelope("api_error", "internal_error", message, None), _NO_RETRY)
        finally:
            if not self.response_complete:
                self._complete(keep_alive=False)

    @property
    def in_flight(self) -> int:
        """How many requests this process is serving."""
        return len(self._protocol.tasks)

    # The request

    async def read_body(self, bytes_max: int) -> bytes:
        """To be called once. Raises TooLarge past `bytes_max`, as early as that is known; Invalid when the body is
        malformed, or the client leaves before its end."""
        if self.more_body:
            await self._receive(bytes_max)
        if len(self.body) > bytes_max:
            raise _too_large(bytes_max)
        body, self.body = bytes(self.body), bytearray()
        return body

    async def _receive(self, bytes_max: int) -> None:
        declared = next((value for name, value in self.headers if name == b"content-length"), b"0")
        if int(declared) > bytes_max:
            raise _too_large(bytes_max)
        if self._protocol.expect_100_continue and self._chunked and not self.body:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.message_event = more = asyncio.Event()
        while self.more_body and len(self.body) <= bytes_max:
            if self.malformed:
                raise Invalid("invalid_request", "The body is no valid HTTP message.")
            if self._disconnected:
                raise Invalid("invalid_request", "The connection closed before the whole body had arrived.")
            self._protocol.flow.resume_reading()
            more.clear()
            await more.wait()

    @property
    def disconnected(self) -> bool:
        return self._disconnected

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self._disconnected = value
        leave, self._leave = self._leave, None
        if value and leave is not None:
            leave()

    # The answer: domain.inference.outlet.Outlet

    @property
    def gone(self) -> bool:
        return self._disconnected

    def when_gone(self, leave: Callable[[], None]) -> None:
        if self._disconnected:
            leave()
        else:
            self._leave = leave

    def whole(self, served: Served, body: bytes) -> None:
        self._respond(200, body, _served(served))

    def open(self, served: Served) -> None:
        self._streaming = True
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b"connection: close\r\n"
        if not self._chunked:
            self.keep_alive = False
        self._write(
            b"HTTP/1.1 200 OK\r\n%bcontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            b"x-accel-buffering: no\r\n%b%b\r\n" % (self._common(), framing, _served(served))
        )

    async def send(self, frames: bytes) -> None:
        self._write_frames(frames)
        if self._protocol.flow.write_paused and not self._disconnected:
            await self._protocol.flow.drain()

    def finish(self, frames: bytes) -> None:
        self._streaming = False
        self._write_frames(frames)
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._complete(keep_alive=self.keep_alive)

    def beat(self, now: float) -> None:
        """A comment line on a stream that has been silent, so that nothing between us and the client gives up."""
        if self._streaming and now - self._last_write > self._protocol.pace.beat:
            self._write_frames(b": keep-alive\n\n")

    # Other answers

    def json(self, body: bytes) -> None:
        self._respond(200, body, b"")

    def refuse(self, refusal: Refusal) -> None:
        """Answers with the error in its envelope; a stream that has begun ends with it as a frame."""
        advice = retry_header(refusal) + (b"" if refusal.repeatable else _NO_RETRY)
        self._fail(status_of(refusal), error_body(refusal), advice)

    def refuse_method(self, *, bodiless: bool) -> None:
        status, type = status_and_type("method_not_allowed")
        body = envelope(type, "method_not_allowed", f"{self.path.decode('latin-1')} takes POST.", None)
        self._respond(status, body, b"allow: POST, OPTIONS\r\n", bodiless=bodiless)

    def _fail(self, status: int, body: bytes, headers: bytes) -> None:
        if self._streaming:
            self.finish(b"data: %b\n\ndata: [DONE]\n\n" % body)
        elif not self.response_complete:
            self._respond(status, body, headers)

    def _respond(self, status: int, body: bytes, headers: bytes, *, bodiless: bool = False) -> None:
        if self.more_body:
            self.keep_alive = False
        connection = b"" if self.keep_alive else b"connection: close\r\n"
        self._write(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (STATUS_LINE[status], self._common(), len(body), connection, headers, b"" if bodiless else body)
        )
        self._complete(keep_alive=self.keep_alive)

    def _common(self) -> bytes:
        return _identity(self._protocol, self.request) + self.limits

    def _write_frames(self, frames: bytes) -> None:
        if frames:
            self._write(b"%x\r\n%b\r\n" % (len(frames), frames) if self._chunked else frames)

    def _write(self, data: bytes) -> None:
        if not self._disconnected and not self._transport.is_closing():
            self._transport.write(data)
            self._last_write = self._protocol.loop.time()

    def _complete(self, *, keep_alive: bool) -> None:
        self.response_complete = True
        self._streaming = False
        self._leave = None
        self._protocol.running = None
        if keep_alive:
            self._protocol.on_response_complete()
        elif not self._disconnected:
            self._protocol.part(linger=self.more_body)


class FastProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but requests to the paths of `answers` become an `Exchange`. Subclassed per server."""

    answers: Mapping[bytes, Answer]
    pace: Pace
    open_connections: set["FastProtocol"]

    running: Exchange | None = None
    """The exchange that is being answered; `cycle` is the latest that was read, and may still have to wait."""
    _deaf = False  # no byte is looked at any more
    _in_head = False
    _head_bytes = 0
    _head_since = 0.0  # when the head that is awaited began, or the connection
    _heard = 0.0
    _unsent = 0
    _unsent_since = 0.0

    _default_lines: ClassVar[tuple[Any, bytes]] = (None, b"")

    def default_lines(self) -> bytes:
        """uvicorn's own headers, such as the date, which it makes anew once a second."""
        headers = self.server_state.default_headers
        made_of, lines = self._default_lines
        if made_of is not headers:
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            type(self)._default_lines = (headers, lines)
        return lines

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.open_connections.add(self)
        self._head_since = self._heard = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.discard(self)
        if self.running is not None:
            self.running.disconnected = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._heard = self.loop.time()
        self._unset_keepalive_if_required()
        head = self.headers if self._in_head else None
        self._parse(data)
        if self._in_head and self.headers is head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response(f"The head of the request is over {HEAD_BYTES_MAX} bytes.")

    def part(self, *, linger: bool) -> None:
        """Ends the connection after what was written; with `linger`, a client that still sends can read that first."""
        self._deaf = True
        if linger and not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()
            self.loop.call_later(self.pace.linger, self.transport.close)
        else:
            self.transport.close()

    def tend(self, now: float) -> None:
        """To be called every few seconds: keeps a silent stream alive, and ends what waits for its client in vain."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self.pace.reading:
            self.transport.abort()
            return
        if self.running is not None and not unsent:
            self.running.beat(now)
        if self._request_is_late(now):
            self.transport.close()

    def _request_is_late(self, now: float) -> bool:
        if self.cycle is None or self.cycle.response_complete:
            idle = self.timeout_keep_alive_task is not None and not self._in_head  # that has a time of its own
            return not idle and now - self._head_since > self.pace.request
        waiting_for_body = self.cycle.more_body and not self.flow.read_paused
        return waiting_for_body and now - self._heard > self.pace.request

    # The parser

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as offer:
                    data = memoryview(data)[offer.args[0] :]
                    self._decline()
        except httptools.HttpParserError:
            self.send_400_response("This is no valid HTTP request.")

    def _decline(self) -> None:
        """Reads the last head again without the protocol that it offers to change to.

        Every Java client offers HTTP/2 that way, and llhttp takes the body for the new protocol's. CONNECT cannot be
        declined: what follows it is never ours.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn
        self.parser.feed_data(b"\r\n".join([b"%b %b HTTP/%b" % (method, self.url, version), *lines, b"\r\n"]))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._head_since = self._heard

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            return  # it is read once more
        answer = self._answer_here()
        if answer is None:
            super().on_headers_complete()
            return
        waiting = self.cycle
        http_1_0 = self.parser.get_http_version() == "1.0"
        keep_alive = not http_1_0 and self.parser.should_keep_alive()
        cycle = Exchange(self, answer, keep_alive=keep_alive, http_1_0=http_1_0)
        self.cycle = cycle  # type: ignore[assignment]  # it stands in for uvicorn's own
        if waiting is None or waiting.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _answer_here(self) -> Answer | None:
        """What answers this request here; None for the app, which also tells browsers what they may send."""
        answer = self.answers.get(self.url) or self.answers.get(_path(self.url))
        method = self.parser.get_method()
        if answer is None or method == b"POST":
            return answer
        if method == b"OPTIONS":
            return None
        return _refuse_head if method == b"HEAD" else _refuse_method

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, in the envelope. Where an answer is still due for something before it, that goes first
        and the connection ends with it."""
        self._deaf = True
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self._write_400(msg)
            self.part(linger=True)
        elif not cycle.more_body:
            cycle.keep_alive = False
        elif isinstance(cycle, Exchange):
            cycle.malformed = True
            cycle.message_event.set()
        else:  # the app waits for the rest of a body, and learns that none will come
            if not self.pipeline and not cycle.response_started:
                self._write_400(msg)
            self.transport.close()

    def _write_400(self, msg: str) -> None:
        status, type = status_and_type("invalid_request")
        body = envelope(type, "invalid_request", msg, None)
        self.transport.write(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], _identity(self, _new_id()), len(body), body)
        )

    def _should_upgrade(self) -> bool:
        return True  # makes uvicorn's callbacks pass over a request that is read once more


def protocol_for(answers: Mapping[bytes, Answer], *, pace: Pace | None = None) -> type[FastProtocol]:
    """A protocol class for uvicorn's `http` setting that answers these paths itself."""
    fields = {"answers": answers, "pace": pace or Pace(), "open_connections": set()}
    return type("HotProtocol", (FastProtocol,), fields)


async def beat_for_ever(protocol: type[FastProtocol]) -> None:
    """Looks after all connections of that protocol. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(protocol.pace.beat / 3)
        now = loop.time()
        for connection in list(protocol.open_connections):
            connection.tend(now)


async def _refuse_method(exchange: Exchange) -> None:
    exchange.request = _new_id()
    exchange.refuse_method(bodiless=False)


async def _refuse_head(exchange: Exchange) -> None:
    exchange.request = _new_id()
    exchange.refuse_method(bodiless=True)


def _new_id() -> str:
    return make_id("req", at=time.time_ns() // 1000, entropy=os.urandom(8))


def _path(url: bytes) -> bytes:
    """The path of a request's target as the app would see it: without host and query, percent-decoded."""
    path: bytes = httptools.parse_url(url).path or b"/"
    return unquote(path.decode("ascii")).encode() if b"%" in path else path


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge("payload_too_large", f"The body is over {bytes_max} bytes. Send less at once.")


def _identity(protocol: FastProtocol, request: str) -> bytes:
    """The headers that every reply has."""
    id = request.encode()
    return b"%bx-br-request-id: %b\r\nx-request-id: %b\r\n%b" % (protocol.default_lines(), id, id, _CORS)


def _served(served: Served) -> bytes:
    head = b"x-br-provider: %b\r\nx-br-model: %b\r\nx-br-latency-ms: %d\r\n" % (
        served.provider.encode(),
        served.model.encode(),
        served.first_byte_ms,
    )
    if served.cost_nanos is None:
        return head
    return head + b"x-br-cost-inr: %b\r\n" % format_inr(served.cost_nanos).encode()
