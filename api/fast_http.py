"""The inference routes without the cost of a framework: uvicorn's own protocol, with its request cycle replaced for a
few paths. Parsing, pipelining, flow control, keep-alive and shutdown stay uvicorn's; every other path goes to the app.

What is used of uvicorn's internals is `HttpToolsProtocol.on_headers_complete` and the attributes of its
`RequestResponseCycle`; the pinned version and the tests of this file guard them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import envelope, error_body, retry_header, status_of
from domain.inference.outlet import Served
from domain.kernel.errors import Invalid, Refusal, TooLarge
from domain.kernel.money import format_inr

logger = logging.getLogger("bharatrouter.http")

HEARTBEAT_SECONDS = 15.0
Answer = Callable[["Exchange"], Awaitable[None]]

_CORS = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-expose-headers: x-br-request-id, x-request-id, x-br-provider, x-br-model, x-br-latency-ms, "
    b"x-br-cost-inr, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"retry-after\r\n"
)


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
        self.message_event = asyncio.Event()
        self.body = bytearray()
        self.more_body = True
        self._protocol = protocol
        self._transport = protocol.transport
        self._answer = answer
        self._chunked = not http_1_0
        self._started = False
        self._disconnected = False
        self._leave: Callable[[], None] | None = None
        self.last_write = 0.0

    async def run_asgi(self, app: Any) -> None:
        """Called by uvicorn as a task of its own, which a client that leaves does not cancel."""
        try:
            await self._answer(self)
        except Exception:
            logger.exception("request %s failed in the gateway", self.request)
            if not self._started:
                body = envelope("api_error", "internal_error", "The gateway failed; nothing was charged.", None)
                self._respond(500, body, b"")
        finally:
            if not self.response_complete:
                self._protocol.open_streams.discard(self)
                self._complete(keep_alive=False)

    @property
    def in_flight(self) -> int:
        """How many requests this process is serving."""
        return len(self._protocol.tasks)

    # The request

    async def read_body(self, bytes_max: int) -> bytes:
        """Raises TooLarge past `bytes_max`, Invalid when the client leaves before the end."""
        if self._protocol.expect_100_continue and self.more_body and not self.body:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.more_body and not self._disconnected:
            if len(self.body) > bytes_max:
                break
            self._protocol.flow.resume_reading()
            self.message_event.clear()
            await self.message_event.wait()
        if len(self.body) > bytes_max:
            self.keep_alive = False
            raise TooLarge("payload_too_large", f"The body is over {bytes_max} bytes. Send less at once.")
        if self.more_body:
            raise Invalid("invalid_request", "The connection closed before the whole body had arrived.")
        return bytes(self.body)

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
        self._started = True
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b"connection: close\r\n"
        if not self._chunked:
            self.keep_alive = False
        self._write(
            b"HTTP/1.1 200 OK\r\n%bcontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            b"x-accel-buffering: no\r\n%b%b\r\n" % (self._common(), framing, _served(served))
        )
        self._protocol.open_streams.add(self)

    async def send(self, frames: bytes) -> None:
        self._write_frames(frames)
        if self._protocol.flow.write_paused and not self._disconnected:
            await self._protocol.flow.drain()

    def finish(self, frames: bytes) -> None:
        self._protocol.open_streams.discard(self)
        if not self._disconnected:
            self._write_frames(frames)
            if self._chunked:
                self._write(b"0\r\n\r\n")
        self._complete(keep_alive=self.keep_alive)

    def beat(self, now: float) -> None:
        """A comment line on a stream that has been silent, so that nothing between us and the client gives up."""
        if now - self.last_write > HEARTBEAT_SECONDS and not self._protocol.flow.write_paused:
            self._write_frames(b": keep-alive\n\n")

    # Other answers

    def json(self, body: bytes) -> None:
        self._respond(200, body, b"")

    def refuse(self, refusal: Refusal) -> None:
        """Answers with the error in its envelope; once a stream has begun there is nothing left to say it with."""
        self._respond(status_of(refusal), error_body(refusal), retry_header(refusal))

    def _respond(self, status: int, body: bytes, headers: bytes) -> None:
        self._started = True
        connection = b"" if self.keep_alive else b"connection: close\r\n"
        self._write(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (STATUS_LINE[status], self._common(), len(body), connection, headers, body)
        )
        self._complete(keep_alive=self.keep_alive)

    def _common(self) -> bytes:
        defaults = b"".join(
            [b"%b: %b\r\n" % (name, value) for name, value in self._protocol.server_state.default_headers]
        )
        request = self.request.encode()
        return b"%bx-br-request-id: %b\r\nx-request-id: %b\r\n%b%b" % (defaults, request, request, self.limits, _CORS)

    def _write_frames(self, frames: bytes) -> None:
        if frames:
            self._write(b"%x\r\n%b\r\n" % (len(frames), frames) if self._chunked else frames)

    def _write(self, data: bytes) -> None:
        if not self._disconnected and not self._transport.is_closing():
            self._transport.write(data)
            self.last_write = self._protocol.loop.time()

    def _complete(self, *, keep_alive: bool) -> None:
        self.response_complete = True
        self._leave = None
        if not keep_alive and not self._disconnected:
            self._transport.close()
        self._protocol.on_response_complete()


class FastProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but POSTs to the paths of `answers` become an `Exchange`. Subclassed per server."""

    answers: Mapping[bytes, Answer] = {}
    open_streams: set[Exchange] = set()  # noqa: RUF012  # replaced by `protocol_for`

    def on_headers_complete(self) -> None:
        answer = self.answers.get(self.url) if self.parser.get_method() == b"POST" else None
        if answer is None:
            super().on_headers_complete()
            return
        waiting = self.cycle
        version = self.parser.get_http_version()
        cycle = Exchange(
            self,
            answer,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            http_1_0=version == "1.0",
        )
        self.cycle = cycle  # type: ignore[assignment]  # it stands in for uvicorn's own
        if waiting is None or waiting.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))


def protocol_for(answers: Mapping[bytes, Answer]) -> type[FastProtocol]:
    """A protocol class for uvicorn's `http` setting that answers these paths itself."""
    return type("HotProtocol", (FastProtocol,), {"answers": answers, "open_streams": set()})


async def beat_for_ever(protocol: type[FastProtocol]) -> None:
    """Keeps silent streams alive. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS / 3)
        now = loop.time()
        for exchange in list(protocol.open_streams):
            exchange.beat(now)


def _served(served: Served) -> bytes:
    head = b"x-br-provider: %b\r\nx-br-model: %b\r\nx-br-latency-ms: %d\r\n" % (
        served.provider.encode(),
        served.model.encode(),
        served.first_byte_ms,
    )
    if served.cost_nanos is None:
        return head
    return head + b"x-br-cost-inr: %b\r\n" % format_inr(served.cost_nanos).encode()
