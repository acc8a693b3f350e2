"""The one rate engine: quote, hold and settle ask the same functions, so they cannot disagree.

A rate is whole nano-rupees per token, so nothing here rounds. A price is a version: its id goes into every
hold and settlement, and whoever has it can recompute the figure.
"""

import hashlib
from datetime import date
from decimal import Decimal
from typing import Literal

import msgspec

from domain.inference.metering import TOKENS_MAX, Usage

Part = Literal["input", "cached_input", "cache_write", "output", "request"]


class Fx(msgspec.Struct, frozen=True, kw_only=True):
    """How dollar prices become rupees: the rate, the day it is of, and the margin on top (0.05 is five per
    cent).
    """

    inr_per_usd: Decimal
    on: date
    margin: Decimal


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-rupees per token by class, and per request. `id` names this version of the price for ever."""

    id: str
    priced_on: str
    input: int
    cached_input: int
    cache_write: int
    output: int
    per_request: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One term of a cost: `quantity` (tokens, or requests) times `nanos_each` is `nanos`."""

    part: Part
    quantity: int
    nanos_each: int
    nanos: int


def make_rates(
    *,
    provider: str,
    model: str,
    priced_on: str,
    input: int,
    output: int,
    cached_input: int | None = None,
    cache_write: int | None = None,
    per_request: int = 0,
) -> Rates:
    """Rates under an id of provider, model, day and content, like `sarvam/sarvam-105b@2026-09-20.3f2a91c0`.

    Classes that the provider does not price apart cost what plain input costs.
    """
    cached_input = input if cached_input is None else cached_input
    cache_write = input if cache_write is None else cache_write
    content = f"{input} {cached_input} {cache_write} {output} {per_request}"
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:8]
    return Rates(
        id=f"{provider}/{model}@{priced_on}.{fingerprint}",
        priced_on=priced_on,
        input=input,
        cached_input=cached_input,
        cache_write=cache_write,
        output=output,
        per_request=per_request,
    )


def cost(rates: Rates, usage: Usage) -> int:
    """Nano-rupees of a usage, exactly."""
    return (
        rates.per_request
        + usage.input * rates.input
        + usage.cached_input * rates.cached_input
        + usage.cache_write * rates.cache_write
        + usage.output * rates.output
    )


def explain(rates: Rates, usage: Usage) -> tuple[Line, ...]:
    """The terms of `cost`, without those of quantity or rate zero; their `nanos` sum to it."""
    terms: tuple[tuple[Part, int, int], ...] = (
        ("input", usage.input, rates.input),
        ("cached_input", usage.cached_input, rates.cached_input),
        ("cache_write", usage.cache_write, rates.cache_write),
        ("output", usage.output, rates.output),
        ("request", 1, rates.per_request),
    )
    return tuple(
        Line(part=part, quantity=quantity, nanos_each=each, nanos=quantity * each)
        for part, quantity, each in terms
        if quantity and each
    )


def dearest_input(rates: Rates) -> int:
    """Nano-rupees of an input token before anyone knows whether it is cached."""
    return max(rates.input, rates.cached_input, rates.cache_write)


def ceiling(rates: Rates, *, input_tokens: int, output_tokens: int) -> int:
    """The most nano-rupees that a call within these bounds can cost."""
    return rates.per_request + input_tokens * dearest_input(rates) + output_tokens * rates.output


def output_tokens_within(rates: Rates, *, nanos: int, input_tokens: int) -> int:
    """How many output tokens the money allows after that much input, rounded down; 0 also if not even the
    input fits.

    Where output is free the answer is `TOKENS_MAX`.
    """
    left = nanos - ceiling(rates, input_tokens=input_tokens, output_tokens=0)
    if left < 0:
        return 0
    return min(left // rates.output, TOKENS_MAX) if rates.output else TOKENS_MAX


def blended(rates: Rates) -> int:
    """Input plus output nano-rupees per token: what `optimize: price` ranks by."""
    return rates.input + rates.output


def leaps(old: Rates, new: Rates) -> bool:
    """Whether input or output moved tenfold or more, either way: more often a slip than a price."""
    pairs = ((old.input, new.input), (old.output, new.output))
    return any(max(pair) >= 10 * min(pair) for pair in pairs if max(pair))
