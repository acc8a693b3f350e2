"""One request to a hot path and its answer, written to the client's transport without a framework in between."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.cors import CORS
from api.errors import envelope, error_body, retry_header, status_and_type, status_of
from domain.inference.outlet import Served
from domain.kernel.errors import Invalid, Refusal, TooLarge, Unavailable
from domain.kernel.money import format_inr

if TYPE_CHECKING:
    from api.fast_http import FastProtocol

logger = logging.getLogger("bharatrouter.http")

Answer = Callable[["Exchange"], Awaitable[None]]

_CORS = b"".join(b"%b: %b\r\n" % header for header in CORS)
_NO_RETRY = b"x-should-retry: false\r\n"
"""Makes SDKs give up at once, where a second try could cost a second time or cannot end otherwise."""


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
    def peer(self) -> str | None:
        """The address at the other end of the connection."""
        client = self._protocol.client
        return None if client is None else client[0]

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
        return identity_lines(self._protocol, self.request) + self.limits

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


def identity_lines(protocol: "FastProtocol", request: str) -> bytes:
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


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge("payload_too_large", f"The body is over {bytes_max} bytes. Send less at once.")
