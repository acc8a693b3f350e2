"""Plays one call of the provider simulator: the answer, or the fault, that its script asks for."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from adapters.simulators import answers, embeddings, wire
from adapters.simulators.answers import Answer, BadRequest, Json
from adapters.simulators.native import Dialect, Event, event_message
from adapters.simulators.script import Script

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MODELS = ("demo-chat", "demo-chat-hindi", "demo-embed")
_RATE_HEADERS = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}

_ERRORS = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("billing_error", "insufficient_balance"),
    403: ("permission_error", "permission_denied"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout_error", "request_timeout"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", "unprocessable_entity"),
    425: ("invalid_request_error", "too_early"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
    529: ("overloaded_error", "overloaded"),
}
"""Type and code of an error by status; any other is a `server_error`."""


@dataclass(slots=True)
class Counts:
    """What happened to the calls of one provider, model or route.

    `aborted` are those where the client hung up before the end; `pieces` is how many were sent; `last` is
    what came with the latest request.
    """

    requests: int = 0
    finished: int = 0
    aborted: int = 0
    streams_started: int = 0
    streams_finished: int = 0
    pieces: int = 0
    last: Json | None = None


class Call:
    """One call being answered as its script says."""

    def __init__(
        self, *, number: int, reply: wire.Reply, counts: list[Counts], body: Json, dialect: Dialect | None = None
    ) -> None:
        self.number = number
        self.reply = reply
        self.dialect = dialect
        self.counts = counts
        self.body = body
        self.script = Script()
        self.ended = False
        self._junk_sent = False
        self._unsent = bytearray()

    def count_hang_up(self) -> None:
        if not self.ended:
            for counts in self.counts:
                counts.aborted += 1

    async def answer(self, kind: str) -> None:
        """Play the script. Raises BadRequest, before anything is sent, where the request is wrong."""
        script, reply = self.script, self.reply
        reply.wire_bytes = script.wire_bytes
        if script.first_byte_ms:
            await asyncio.sleep(script.first_byte_ms / 1000)
        if script.instead == "hang":
            await asyncio.Event().wait()
        elif script.instead in ("reset", "close"):
            self.ended = True
            reply.keep_alive = False
            if script.instead == "reset":
                reply.reset()
            return
        elif script.error_status is not None:
            await self._send_error(script.error_status)
        elif kind == "chat":
            await self._chat()
        else:
            await asyncio.sleep(script.delay_ms / 1000)
            made = embeddings.embeddings(self.body, script) if kind == "embeddings" else self._models()
            await self._send_whole(msgspec.json.encode(made))
        if script.stale_connection:
            reply.go_stale()

    async def send(
        self,
        status: int,
        data: bytes,
        *,
        content_type: str = "application/json",
        retry_after: int | None = None,
    ) -> None:
        """Send a complete answer with the headers that OpenAI sends."""
        self._count_end()
        headers = self._headers() | ({} if retry_after is None else {"retry-after": str(retry_after)})
        await self.reply.whole(status, data, content_type=content_type, headers=headers)

    async def _chat(self) -> None:
        try:
            answer = answers.chat(self.body, self.script, number=self.number, created=int(time.time()))
        except (AttributeError, KeyError, TypeError) as odd:
            raise BadRequest("A field has the wrong shape", code="invalid_value", param=None) from odd
        if self.body.get("stream") is True and not self.script.ignore_stream:
            if self.script.instead == "answer":
                await self._stream(answer)
                return
            if self.script.instead == "empty":
                await self._begin_stream()
                await self._end_stream()
                return
        await asyncio.sleep(self.script.delay_ms / 1000)
        if self.script.error_frame_after is not None:
            await self._send_error(200)
            return
        whole = self.dialect.whole if self.dialect else answers.whole
        await self._send_whole(msgspec.json.encode(whole(answer, self.script)), pieces=answer.pieces)

    async def _send_whole(self, data: bytes, *, pieces: int = 0) -> None:
        script, reply = self.script, self.reply
        content_type = "application/json"
        if script.instead == "html":
            content_type, data = "text/html", b"<!doctype html><title>502</title><h1>Bad gateway</h1>\n"
        elif script.instead == "null":
            data = b"null"
        elif script.instead == "empty":
            data = b""
        data = (_BYTE_ORDER_MARK if script.bom else b"") + data
        self._count_pieces(pieces)
        if script.cut_after is not None:
            self.ended = True
            await reply.whole(200, data, headers=self._headers(), share=0.5)
            reply.keep_alive = False
        elif script.hang_after is not None:
            await reply.whole(200, data, headers=self._headers(), share=0.5)
            await asyncio.Event().wait()
        elif script.framing == "length":
            await self.send(200, data, content_type=content_type)
        else:
            chunked = script.framing == "chunked"
            await reply.begin(200, content_type=content_type, headers=self._headers(), chunked=chunked)
            self._count_end()
            if chunked:
                if data:  # an empty chunk would be the end already
                    await reply.piece(data)
                await reply.end()
            else:
                await reply.raw(data)

    async def _send_error(self, status: int) -> None:
        retry_after = self.script.retry_after_seconds if status in (429, 503) else None
        await self.refuse(status, f"Simulated {status}", retry_after=retry_after)

    async def refuse(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Send an error in the words of the wire."""
        if self.dialect is None:
            data = error_body(status, message, code=code, param=param, script=self.script)
        else:
            data = msgspec.json.encode(self.dialect.error(status, message))
            status = self.dialect.wrong_key if status == 401 else status
        await self.send(status, data, retry_after=retry_after)

    def _models(self) -> Json:
        def row(model: str) -> Json:
            return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}

        named = self.body["model"]
        return row(named) if named else {"object": "list", "data": [row(model) for model in _MODELS]}

    async def _stream(self, answer: Answer) -> None:
        script = self.script
        await self._begin_stream()
        if script.error_frame_after == 0 and not script.error_frame_opened:
            await self._break_with_error(answer)
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        sent = 0
        for frame in self._events(answer):
            if frame.kind != "opening" and await self._break_off(answer, sent):
                return
            if frame.kind == "piece":
                if sent and script.delay_ms:
                    due += script.delay_ms / 1000
                    await asyncio.sleep(due - loop.time())
                sent += 1
                self._count_pieces(1)
            await self._send_frame(msgspec.json.encode(frame.body), name=frame.name)
        if await self._break_off(answer, sent):
            return
        await self._end_stream(done=script.done)

    def _events(self, answer: Answer) -> Iterator[Event]:
        if self.dialect:
            yield from self.dialect.events(answer, self.script)
            return
        for frame in answers.frames(answer, self.script):
            yield Event(frame.kind, "", frame.body)

    async def _break_off(self, answer: Answer, sent: int) -> bool:
        """Do what the script has after `sent` pieces; whether that ends the stream."""
        script = self.script

        def is_due(after: int | None) -> bool:
            return after is not None and sent == min(after, answer.pieces)

        if is_due(script.junk_after) and not self._junk_sent:
            self._junk_sent = True
            await self._send_frame(b"{not json")
        if is_due(script.error_frame_after):
            await self._break_with_error(answer)
            return True
        if is_due(script.hang_after):
            await self._flush()
            await asyncio.Event().wait()
        if is_due(script.cut_after):
            await self._flush()
            self.ended = True
            self.reply.keep_alive = False
            return True
        return False

    async def _break_with_error(self, answer: Answer) -> None:
        if self.dialect:
            told = self.dialect.stream_error
            await self._send_frame(msgspec.json.encode(told.body), name=told.name)
            await self._end_stream()
            return
        error = msgspec.json.decode(error_body(502, "Simulated error in the stream", script=self.script))
        if self.script.error_finish:
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            error |= answers.envelope(answer, self.script, "chat.completion.chunk") | {"choices": [choice]}
        await self._send_frame(msgspec.json.encode(error))
        await self._end_stream(done=self.script.done)

    async def _begin_stream(self) -> None:
        binary = self.dialect is not None and self.dialect.binary
        content_type = "application/vnd.amazon.eventstream" if binary else "text/event-stream; charset=utf-8"
        headers = self._headers() | {"cache-control": "no-cache"}
        await self.reply.begin(200, content_type=content_type, headers=headers)
        for counts in self.counts:
            counts.streams_started += 1
        if self.script.bom and not binary:
            await self._put(_BYTE_ORDER_MARK)
        if self.script.comments and not binary:
            await self._put(self._comment())

    async def _send_frame(self, data: bytes, *, name: str = "") -> None:
        if self.dialect and self.dialect.binary:
            await self._put(event_message(name or "contentBlockDelta", data))
            await self.reply.go_ahead()
            return
        line_end = self._line_end()
        text = (b"data:" if self.script.nospace else b"data: ") + data + line_end * 2
        if name:
            text = b"event: " + name.encode() + line_end + text
        elif self.script.event_fields:
            text = b"event: message" + line_end + b"id: 1" + line_end + text
        if self.script.comments:
            text += self._comment()
        await self._put(text)
        await self.reply.go_ahead()

    async def _end_stream(self, *, done: bool = False) -> None:
        if done and self.dialect is None:
            await self._send_frame(b"[DONE]")
        await self._flush()
        self._count_end()
        for counts in self.counts:
            counts.streams_finished += 1
        await self.reply.end()

    async def _put(self, data: bytes) -> None:
        size = self.script.stream_bytes
        if not size:
            await self.reply.piece(data)
            return
        self._unsent += data
        while len(self._unsent) >= size:
            await self.reply.piece(bytes(self._unsent[:size]))
            del self._unsent[:size]

    async def _flush(self) -> None:
        if self._unsent:
            await self.reply.piece(bytes(self._unsent))
            self._unsent.clear()

    def _line_end(self) -> bytes:
        return b"\r\n" if self.script.crlf else b"\n"

    def _comment(self) -> bytes:
        return b": keep-alive" + self._line_end() * 3

    def _headers(self) -> dict[str, str]:
        return {
            "x-request-id": f"req_sim{self.number:08d}",
            "openai-version": "2020-10-01",
            "openai-processing-ms": "1",
            **_RATE_HEADERS,
        }

    def _count_pieces(self, pieces: int) -> None:
        for counts in self.counts:
            counts.pieces += pieces

    def _count_end(self) -> None:
        """Count before the last bytes leave, so that whoever has read them finds the call counted."""
        self.ended = True
        for counts in self.counts:
            counts.finished += 1


def error_body(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    script: Script | None = None,
) -> bytes:
    """An error body for `status`, in the shape that the script wants."""
    kind, usual_code = _ERRORS.get(status, ("server_error", "internal_error"))
    shape = script.error_shape if script else "openai"
    body: Json = {"error": {"message": message, "type": kind, "param": param, "code": code or usual_code}}
    if shape == "number":
        body = {"error": {"message": message, "code": status}}
    elif shape == "lean":
        body = {"error": {"message": message}}
    elif shape == "text":
        body = {"error": message, "error_type": kind}
    return msgspec.json.encode(body)
