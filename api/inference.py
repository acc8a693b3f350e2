"""The inference routes: who calls, whether they may call now, and then the spine.

The order of the checks is part of the contract: body, key, requests a minute; then the plan; then daily limit, budgets
and balance in the one hold.
"""

import hashlib
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from api.caller import presented_key
from api.exchange import Answer, Exchange
from domain.inference.messages import Ask, Endpoint, parse
from domain.inference.outlet import Services
from domain.inference.quote import quote
from domain.inference.rates import RateWindows, Window
from domain.inference.serve import serve
from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Forbidden, Invalid, Refusal, TooMany, Unavailable, Unprocessable
from domain.kernel.events import Event
from domain.kernel.ids import make_id
from domain.keys.directory import Caller
from domain.ledger.events import CreditHeld, HoldExpired, HoldReleased, RequestRefused
from domain.routing.plan import plan

IDEMPOTENCY_WINDOW = DAY
IDEMPOTENCY_TRIES = 20


@dataclass(frozen=True)
class Inference:
    """The inference routes of one process. `identify` gives the caller of a presented key or refuses it; `read_stream`
    gives the events of a stream."""

    services: Services
    rates: RateWindows
    identify: Callable[[bytes | None], Awaitable[Caller]]
    read_stream: Callable[[str], Awaitable[Sequence[Event]]]
    gateway_rpm: int
    body_bytes_max: int
    in_flight_max: int

    def answers(self) -> dict[bytes, Answer]:
        """Each hot path with what answers it."""
        return {
            b"/v1/chat/completions": self._answer_with("chat"),
            b"/v1/embeddings": self._answer_with("embeddings"),
            b"/v1/quote": self._quote,
        }

    def _answer_with(self, endpoint: Endpoint) -> Answer:
        async def answer(exchange: Exchange) -> None:
            exchange.request = self._new_id()
            try:
                self._check_load(exchange)
                body = await exchange.read_body(self.body_bytes_max)
                ask = parse(endpoint, body)
                caller = await self._admit(exchange, ask)
                presented = _header(exchange.headers, b"idempotency-key")
                if presented:
                    digest = hashlib.sha256(body).hexdigest()[:32]
                    ask = msgspec.structs.replace(ask, body_digest=digest)
                    await self._serve_once(exchange, ask, caller, presented)
                else:
                    await serve(exchange.request, ask, caller, exchange, self.services)
            except Refusal as refusal:
                exchange.refuse(refusal)

        return answer

    async def _quote(self, exchange: Exchange) -> None:
        exchange.request = self._new_id()
        try:
            self._check_load(exchange)
            ask = _parse_either(await exchange.read_body(self.body_bytes_max))
            await self._admit(exchange, ask)
            chosen = plan(ask.needs, self.services.catalog(), self.services.configured())
            exchange.json(msgspec.json.encode(quote(ask, chosen, self.services.sizes)))
        except Refusal as refusal:
            exchange.refuse(refusal)

    def _new_id(self) -> str:
        return make_id("req", at=self.services.clock(), entropy=os.urandom(8))

    def _check_load(self, exchange: Exchange) -> None:
        if exchange.in_flight > self.in_flight_max:
            raise Unavailable("overloaded", "The gateway carries all it can. Try again shortly.", retry_after=1)

    async def _admit(self, exchange: Exchange, ask: Ask) -> Caller:
        """Who calls, if they may call now. Raises Unauthenticated, Forbidden, TooMany, Unavailable."""
        caller = await self.identify(presented_key(exchange.headers))
        limits = [limit for limit in (caller.rpm_limit, self.gateway_rpm or None) if limit is not None]
        if limits:
            window = await self.rates.take(f"key:{caller.key_id}", min(limits))
            exchange.limits = _limit_headers(window)
            if not window.allowed:
                raise TooMany(
                    "rate_limit_exceeded",
                    f"This key may make {window.limit} requests a minute. Slow down, or raise its rpm_limit.",
                    retry_after=max(1, math.ceil(window.retry_seconds)),
                )
        if caller.models is not None:
            for index, step in enumerate(ask.needs.steps):
                if step.model not in caller.models:
                    raise Forbidden(
                        "forbidden_scope",
                        f"This key may not use '{step.model}'. Use one of its models, or change its list.",
                        param=f"fallbacks[{index - 1}].model" if index else "model",
                    )
        return caller

    async def _serve_once(self, exchange: Exchange, ask: Ask, caller: Caller, presented: bytes) -> None:
        """Serves under the id that belongs to the idempotency key."""
        for _ in range(IDEMPOTENCY_TRIES):
            exchange.request = await self._claim(exchange, ask, caller, presented)
            try:
                await serve(exchange.request, ask, caller, exchange, self.services)
                return
            except Conflict:
                continue  # another took the id at the same moment: what became of that one is known now
        raise _tried_too_often()

    async def _claim(self, exchange: Exchange, ask: Ask, caller: Caller, presented: bytes) -> str:
        """The request id that belongs to an idempotency key, so that the ledger itself refuses a second charge.

        A first call that cost nothing may be made again. Raises Conflict while the first runs or when it was served,
        Unprocessable for another body.
        """
        now = self.services.clock()
        for attempt in range(IDEMPOTENCY_TRIES):
            seed = b"\0".join([caller.org.encode(), caller.key_id.encode(), presented, b"%d" % attempt])
            request = "req_" + hashlib.sha256(seed).hexdigest()[:28]
            events = await self.read_stream(f"request:{request}")
            if not events:
                return request
            first, last = events[0], events[-1]
            free = isinstance(last, HoldReleased | HoldExpired | RequestRefused)
            if free or now - first.at > IDEMPOTENCY_WINDOW:
                continue
            exchange.request = request
            if isinstance(first, CreditHeld) and first.body_digest != ask.body_digest:
                raise Unprocessable(
                    "idempotency_conflict",
                    f"This idempotency key belongs to another request ({request}). Use a new key for a new body.",
                )
            raise Conflict(
                "idempotency_conflict",
                f"This request was already made as {request}; nothing more is charged. See /v1/requests/{request}.",
                repeatable=False,
            )
        raise _tried_too_often()


def _parse_either(body: bytes) -> Ask:
    """A chat request, or one for embeddings where it has `input` in place of `messages`."""
    try:
        return parse("chat", body)
    except Invalid as refusal:
        if refusal.param != "messages":
            raise
        try:
            return parse("embeddings", body)
        except Invalid as other:
            raise (refusal if other.param == "input" else other) from None


def _tried_too_often() -> Conflict:
    return Conflict(
        "idempotency_conflict", "This idempotency key was tried too often. Use a new one.", repeatable=False
    )


def _header(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _limit_headers(window: Window) -> bytes:
    """OpenAI's names; the reset is a duration in seconds."""
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %ds\r\n"
        % (window.limit, window.remaining, math.ceil(window.reset_seconds))
    )
