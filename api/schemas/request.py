"""One request, whole: what was held, who was asked, what was used, and the sum that anyone can do again."""

from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from api.schemas.money import Amount, show
from api.schemas.times import moment
from domain.catalog.model import key_source
from domain.catalog.price import RARE, Rates, explain
from domain.inference.messages import UPSTREAM_KEY
from domain.inference.metering import Usage
from domain.kernel.events import Event, Recorded
from domain.ledger.events import (
    Attempt,
    CreditHeld,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    RequestRefused,
    RequestSettled,
)
from domain.routing.plan import ATTEMPTS_MAX
from domain.routing.ranking import COUNTING, Figures, order_of


class RequestRecord(BaseModel):
    """`state` is `held`, `settled`, `released`, `expired` or `refused`. `arithmetic` multiplies each class of tokens by
    its rate in nano-rupees; the sum is what was due, and `settle` what was debited of it. `key_source` says whose key
    served: the `platform`'s, or the org's `own` key or endpoint, where a call costs nothing here."""

    id: str
    object: str = "request"
    state: str
    endpoint: str
    model: str
    key_id: str
    workspace_id: str
    streamed: bool
    cost_inr: Amount
    error_code: str | None
    provider: str | None
    key_source: str | None
    region: str | None
    policy: list[str]
    hold: dict[str, Any] | None
    usage: dict[str, Any] | None
    price: dict[str, Any] | None
    arithmetic: dict[str, Any] | None
    settle: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    routing: dict[str, Any] | None
    events: list[dict[str, Any]]


STATES: dict[type[Event], str] = {
    RequestSettled: "settled",
    HoldReleased: "released",
    HoldExpired: "expired",
    RequestRefused: "refused",
}


def request_record(request: str, story: Sequence[Recorded]) -> dict[str, Any]:
    """`story` is the request's stream, not empty."""
    first, last = story[0].event, story[-1].event
    assert isinstance(first, CreditHeld | RequestRefused)
    held = first if isinstance(first, CreditHeld) else None
    settled = last if isinstance(last, RequestSettled) else None
    attempts = last.attempts if isinstance(last, RequestSettled | HoldReleased) else ()
    return {
        "id": request,
        "object": "request",
        "state": STATES.get(type(last), "held"),
        "endpoint": first.endpoint,
        "model": settled.model if settled else first.model,
        "key_id": first.key,
        "workspace_id": first.workspace,
        "streamed": first.streamed,
        "cost_inr": show(settled.cost if settled else 0),
        "error_code": last.code if isinstance(last, HoldReleased | RequestRefused) else None,
        "provider": settled.provider if settled else None,
        "key_source": ("own" if settled.own else "platform") if settled else None,
        "region": (settled.residency or None) if settled else None,
        "policy": list(held.constraints) if held else [],
        "hold": _hold(held, story) if held else None,
        "usage": _usage(settled.usage) if settled else None,
        "price": _price(settled.rates) if settled else None,
        "arithmetic": _arithmetic(settled) if settled else None,
        "settle": _settle(settled) if settled else None,
        "attempts": [_attempt(attempt) for attempt in attempts],
        "routing": _routing(held, attempts) if held else None,
        "events": [
            {
                "name": fact.event.NAME,
                "stream": fact.stream,
                "version": fact.version,
                "position": fact.position,
                "at": moment(fact.event.at),
            }
            for fact in story
        ],
    }


def _hold(held: CreditHeld, story: Sequence[Recorded]) -> dict[str, Any]:
    more = [fact.event for fact in story if isinstance(fact.event, HoldExtended)]
    return {
        "at": moment(held.at),
        "amount_inr": show(held.amount),
        "extended_inr": show(sum(event.amount for event in more)),
        "expires_at": moment(more[-1].expires if more else held.expires),
        "input_tokens": held.input_tokens,
        "output_tokens": held.output_tokens,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """The classes never overlap; those that few calls have are shown where there is something in them. `reasoning` is
    the part of `output` that the provider calls so. `unknown` is what the provider's total has beyond the classes, and
    `agrees` whether it has nothing."""
    return {
        "input": usage.input,
        "cached_input": usage.cached_input,
        "cache_write": usage.cache_write,
        "output": usage.output,
        **{part: quantity for part in RARE if (quantity := getattr(usage, part))},
        "reasoning": usage.reasoning,
        "unknown": usage.unknown,
        "agrees": usage.unknown == 0,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "estimated": usage.source == "counted",
    }


def _price(rates: Rates) -> dict[str, Any]:
    """The rates that applied to this call. What follows a plus in `version` is the condition under which they do."""
    classes = ("input", "cached_input", "cache_write", "output")
    apart: dict[str, int] = {part: rate for part in RARE if (rate := getattr(rates, part)) is not None}
    named = {"seconds": "nanos_per_second", "characters": "nanos_per_character"}
    units = {named[part]: apart.pop(part) for part in named.keys() & apart.keys()}
    return {
        "version": rates.id,
        "priced_on": rates.priced_on,
        "nanos_per_token": {name: getattr(rates, name) for name in classes} | apart,
        **units,
        "nanos_per_request": rates.per_request,
    }


def _arithmetic(settled: RequestSettled) -> dict[str, Any]:
    lines = explain(settled.rates, settled.usage)
    total = sum(line.nanos for line in lines)
    return {
        "unit": "nano-rupees, 1000000000 to the rupee",
        "lines": [msgspec.structs.asdict(line) for line in lines],
        "sum_nanos": total,
        "sum_inr": show(total),
        "debited_nanos": settled.cost,
        "not_debited_nanos": settled.shortfall + settled.waived,
    }


def _settle(settled: RequestSettled) -> dict[str, Any]:
    return {
        "at": moment(settled.at),
        "ending": settled.ending,
        "held_inr": show(settled.held),
        "debited_inr": show(settled.cost),
        "returned_inr": show(settled.held - settled.cost),
        "shortfall_inr": show(settled.shortfall),
        "waived_inr": show(settled.waived),
        "first_byte_ms": settled.first_byte_ms,
        "duration_ms": settled.duration_ms,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return msgspec.structs.asdict(attempt) | {
        "status": attempt.status or None,
        "key_source": key_source(attempt.route),
    }


def _routing(held: CreditHeld, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """`observed` has the figures that the candidates were ranked by when the call came; those that had no part in it
    are left out. `replays`: ranking by them again gives the same order."""
    first_alone = UPSTREAM_KEY in held.constraints and len(held.candidates) == 1  # no other may see the caller's key
    tries = 1 if first_alone else ATTEMPTS_MAX
    return {
        "optimize": held.optimize,
        "constraints": list(held.constraints),
        "candidates": list(held.candidates),
        "excluded": {route: reasons.split(",") for route, reasons in held.excluded.items()},
        "observed": {route: _figures(figures) for route, figures in held.observed.items()},
        "replays": not held.observed or tuple(order_of(held.optimize, held.observed)[:tries]) == held.candidates,
        "attempted": [attempt.route for attempt in attempts],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    shown = {"step": figures.step, "circuit": figures.circuit, "price_nanos": figures.price}
    averages = {name for names in COUNTING.values() for name in names}
    return shown | {name: value for name in sorted(averages) if (value := getattr(figures, name)) is not None}
