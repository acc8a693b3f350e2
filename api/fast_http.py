"""The inference routes without the cost of a framework: uvicorn's own protocol, with its request cycle replaced for a
few paths. Parsing, pipelining, flow control, keep-alive and shutdown stay uvicorn's; every other path goes to the app.

What uvicorn leaves open is closed here for both: clients that never finish a request, or never read their answer.

What is used of uvicorn's internals are the callbacks of `HttpToolsProtocol` and the attributes of its
`RequestResponseCycle`; the pinned version and the tests of this file guard them.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import envelope, status_and_type
from api.exchange import Answer, Exchange, identity_lines
from domain.kernel.ids import make_id

HEAD_BYTES_MAX = 65_536


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
            % (STATUS_LINE[status], identity_lines(self, _new_id()), len(body), body)
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
