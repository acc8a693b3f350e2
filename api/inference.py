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

from api.exchange import Answer, Exchange
from domain.inference.choose import choose
from domain.inference.messages import Ask, Endpoint, body_digest, parse
from domain.inference.outlet import Services
from domain.inference.quote import quote
from domain.inference.rates import Limit, RateWindows, Window
from domain.inference.serve import serve
from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Forbidden, Invalid, Refusal, TooMany, Unavailable, Unprocessable
from domain.kernel.events import Event
from domain.kernel.ids import make_id
from domain.keys.directory import Caller
from domain.ledger.events import CreditHeld, HoldExpired, HoldReleased, RequestRefused

IDEMPOTENCY_WINDOW = DAY
IDEMPOTENCY_TRIES = 20


@dataclass(frozen=True)
class Inference:
    """The inference routes of one process. `identify` gives the caller by headers and the peer's address, or refuses
    them; `read_stream` gives the events of a stream."""

    services: Services
    rates: RateWindows
    identify: Callable[[Sequence[tuple[bytes, bytes]], str | None], Awaitable[Caller]]
    read_stream: Callable[[str], Awaitable[Sequence[Event]]]
    gateway_rpm: int
    body_bytes_max: int
    in_flight_max: int
    trial_models: frozenset[str] = frozenset()

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
                    ask = msgspec.structs.replace(ask, body_digest=body_digest(body))
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
            caller = await self._admit(exchange, ask)
            ask, _, chosen = choose(ask, caller, self.services.catalog(), self.services)
            quoted = quote(ask, chosen, self.services.sizes, free=caller.tier == "trial")
            exchange.json(msgspec.json.encode(quoted))
        except Refusal as refusal:
            exchange.refuse(refusal)

    def _new_id(self) -> str:
        return make_id("req", at=self.services.clock(), entropy=os.urandom(8))

    def _check_load(self, exchange: Exchange) -> None:
        if exchange.in_flight > self.in_flight_max:
            raise Unavailable("overloaded", "The gateway carries all it can. Try again shortly.", retry_after=1)

    async def _admit(self, exchange: Exchange, ask: Ask) -> Caller:
        """Who calls, if they may call now. Raises Unauthenticated, Forbidden, TooMany, Unavailable."""
        caller = await self.identify(exchange.headers, exchange.peer)
        limits = limits_of(caller, self.gateway_rpm)
        if limits:
            window = await self.rates.take(*limits)
            exchange.limits = limit_headers(window)
            require_room(window, caller)
        if caller.tier == "trial":
            self._check_trial(ask)
        if caller.models is not None:
            for index, step in enumerate(ask.needs.steps):
                if step.model not in caller.models:
                    raise Forbidden(
                        "forbidden_scope",
                        f"This key may not use '{step.model}'. Use one of its models, or change its list.",
                        param=f"fallbacks[{index - 1}].model" if index else "model",
                    )
        return caller

    def _check_trial(self, ask: Ask) -> None:
        for index, step in enumerate(ask.needs.steps):
            if step.model not in self.trial_models:
                offered = ", ".join(sorted(self.trial_models)) or "none at the moment"
                raise Invalid(
                    "trial_ceiling",
                    f"A trial key may not use '{step.model}', but only these: {offered}. Add credit to use all models.",
                    param=f"fallbacks[{index - 1}].model" if index else "model",
                )

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
            seed = b"\0".join([caller.org.encode(), caller.by.encode(), presented, b"%d" % attempt])
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


def limits_of(caller: Caller, gateway_rpm: int) -> list[Limit]:
    """The rolling minutes that a request of the caller counts in: of its key, of all trial keys of its org together, of
    an ephemeral key by itself."""
    limits = [
        (f"key:{caller.key_id}", tightest(caller.rpm_limit, gateway_rpm)),
        (f"trial:{caller.org}", caller.trial_rpm_limit),
        (f"key:{caller.child}", caller.child_rpm_limit),
    ]
    return [(scope, limit) for scope, limit in limits if limit is not None]


def tightest(rpm_limit: int | None, gateway_rpm: int) -> int | None:
    """How many requests a key may make within a minute, by its own limit and the gateway's (0 is none). Both are about
    the same requests, so one window of the lower is exactly both."""
    if rpm_limit is None:
        return gateway_rpm or None
    return min(rpm_limit, gateway_rpm) if gateway_rpm else rpm_limit


def limit_headers(window: Window) -> bytes:
    """The window in OpenAI's headers. A refused request is told in `retry-after-ms`, which the SDKs look at first, when
    to the millisecond it may come back."""
    lines = (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %b\r\n"
        % (window.limit, window.remaining, _duration(window.reset_seconds))
    )
    return lines if window.allowed else lines + b"retry-after-ms: %d\r\n" % math.ceil(window.retry_seconds * 1000)


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it, in the manner of Go's `time.Duration`: `20ms`, `59.94s`, `1m0s`. Rounded up."""
    millis = math.ceil(seconds * 1000)
    if millis < 1000:
        return b"%dms" % millis if millis else b"0s"
    minutes, rest = divmod(millis, 60_000)
    whole, part = divmod(rest, 1000)
    fraction = (b".%03d" % part).rstrip(b"0") if part else b""
    return (b"%dm" % minutes if minutes else b"") + b"%d%bs" % (whole, fraction)


def require_room(window: Window, caller: Caller) -> None:
    """Raises TooMany `rate_limit_exceeded` if the call found no room in the window."""
    if not window.allowed:
        raise _too_many(window, own=window.limit in (caller.rpm_limit, caller.child_rpm_limit))


def _too_many(window: Window, *, own: bool) -> TooMany:
    advice = "Slow down, or raise its rpm_limit." if own else "Slow down: that is what any key may make here."
    return TooMany(
        "rate_limit_exceeded",
        f"This key may make {window.limit} requests a minute. {advice}",
        retry_after=max(1, math.ceil(window.retry_seconds)),
    )
