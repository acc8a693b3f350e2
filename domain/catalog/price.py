"""The one rate engine: quote, hold and settle ask the same functions, so they cannot disagree.

A rate is whole nano-rupees per token (second, character, request), so nothing here rounds. A price is a version: its id
goes into every hold and settlement, and whoever has it can recompute the figure.

Most prices are one set of rates. Some have others for long prompts, service tiers or times of the day: those are whole
sets of rates too, each under its condition. Before a call `reachable` gives the dearest that it can meet; after it,
`applied` gives the one that it met, and that alone is recorded with it.
"""

import hashlib
from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import msgspec

from domain.inference.metering import TOKENS_MAX, Usage
from domain.kernel.clock import DAY, SECOND

Part = Literal[
    "input",
    "cached_input",
    "cache_write",
    "output",
    "cache_write_hour",
    "audio_input",
    "cached_audio_input",
    "audio_output",
    "seconds",
    "characters",
    "request",
]

# Classes that few calls have, and what they cost where they are not priced apart; None: nothing.
RARE: Mapping[Part, Part | None] = {
    "cache_write_hour": "cache_write",
    "audio_input": "input",
    "cached_audio_input": "cached_input",
    "audio_output": "output",
    "seconds": None,
    "characters": None,
}


class Fx(msgspec.Struct, frozen=True, kw_only=True):
    """How dollar prices become rupees: the rate, the day it is of, and the margin on top (0.05 is five per
    cent).
    """

    inr_per_usd: Decimal
    on: date
    margin: Decimal


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-rupees per token by class, per second of audio, per character, and per request. `id` names this version of
    the price for ever.

    A class of `RARE` that is None costs what plain tokens of its kind cost. `variants` are the rates under conditions;
    of those whose condition holds the first counts, and these rates where none does.
    """

    id: str
    priced_on: str
    input: int
    cached_input: int
    cache_write: int
    output: int
    per_request: int = 0
    cache_write_hour: int | None = None
    audio_input: int | None = None
    cached_audio_input: int | None = None
    audio_output: int | None = None
    seconds: int | None = None
    characters: int | None = None
    variants: tuple["Variant", ...] = ()


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rates for calls of the service tier `tier` (empty: the standard one), with more than `above_tokens` of prompt,
    that begin within one of `windows`: minutes of the UTC day, from the first up to before the second; none: always.
    """

    rates: Rates
    tier: str = ""
    above_tokens: int = 0
    windows: tuple[tuple[int, int], ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One term of a cost: `quantity` (tokens, seconds, characters, or requests) times `nanos_each` is `nanos`."""

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
    rare: Mapping[Part, int] | None = None,
    variants: tuple[Variant, ...] = (),
) -> Rates:
    """Rates under an id of provider, model, day and content, like `sarvam/sarvam-105b@2026-09-20.3f2a91c0`.

    Classes that the provider does not price apart cost what plain input costs; `rare` are those of `RARE` that it
    does. The rates of `variants` are given ids that begin with this one and tell their condition.
    """
    cached_input = input if cached_input is None else cached_input
    cache_write = input if cache_write is None else cache_write
    apart: dict[str, Any] = {str(part): rate for part, rate in (rare or {}).items()}
    content = f"{input} {cached_input} {cache_write} {output} {per_request}"
    if apart or variants:
        content += repr((sorted(apart.items()), variants))
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:8]
    id = f"{provider}/{model}@{priced_on}.{fingerprint}"
    return Rates(
        id=id,
        priced_on=priced_on,
        input=input,
        cached_input=cached_input,
        cache_write=cache_write,
        output=output,
        per_request=per_request,
        variants=tuple(
            msgspec.structs.replace(variant, rates=msgspec.structs.replace(variant.rates, id=id + _condition(variant)))
            for variant in variants
        ),
        **apart,
    )


def cost(rates: Rates, usage: Usage) -> int:
    """Nano-rupees of a usage, exactly. The rates are those that `applied` to it."""
    plain = (
        rates.per_request
        + usage.input * rates.input
        + usage.cached_input * rates.cached_input
        + usage.cache_write * rates.cache_write
        + usage.output * rates.output
    )
    if not (
        usage.cache_write_hour
        or usage.audio_input
        or usage.cached_audio_input
        or usage.audio_output
        or usage.seconds
        or usage.characters
    ):
        return plain
    apart: int = sum(getattr(usage, part) * rate_of(rates, part) for part in RARE)
    return plain + apart


def explain(rates: Rates, usage: Usage) -> tuple[Line, ...]:
    """The terms of `cost`, without those of quantity or rate zero; their `nanos` sum to it."""
    terms: list[tuple[Part, int, int]] = [
        ("input", usage.input, rates.input),
        ("cached_input", usage.cached_input, rates.cached_input),
        ("cache_write", usage.cache_write, rates.cache_write),
        ("output", usage.output, rates.output),
        *[(part, getattr(usage, part), rate_of(rates, part)) for part in RARE],
        ("request", 1, rates.per_request),
    ]
    return tuple(
        Line(part=part, quantity=quantity, nanos_each=each, nanos=quantity * each)
        for part, quantity, each in terms
        if quantity and each
    )


def rate_of(rates: Rates, part: Part) -> int:
    """Nano-rupees of one unit of this class, priced apart or not."""
    rate = getattr(rates, part)
    if rate is None:
        instead = RARE[part]
        return 0 if instead is None else int(getattr(rates, instead))
    return int(rate)


def offers_tier(rates: Rates, tier: str) -> bool:
    """Whether this service tier has rates of its own here."""
    return any(variant.tier == tier for variant in rates.variants)


def applied(rates: Rates, *, prompt_tokens: int, tier: str, at: int) -> Rates:
    """The rates that a call meets which began `at` (microseconds) and had a prompt so long, without conditions.

    `tier` is the tier that served; one without rates of its own counts as the standard tier.
    """
    if not rates.variants:
        return rates
    tier = tier if offers_tier(rates, tier) else ""
    minute = at % DAY // (60 * SECOND)
    for variant in rates.variants:
        if variant.tier == tier and prompt_tokens > variant.above_tokens and _is_within(minute, variant.windows):
            return variant.rates
    return msgspec.structs.replace(rates, variants=())


def reachable(rates: Rates, *, prompt_tokens: int, tier: str, rare: Collection[str] = ()) -> Rates:
    """Rates of which none is below that of any set a call can meet whose prompt has at most so many tokens: at any time
    of the day, in the tier it asks for, or in the standard one if it is served there.

    Classes of `RARE` that are not among `rare` cannot be met and are left out.
    """
    if is_plain(rates):
        return rates
    tiers = ("", tier) if offers_tier(rates, tier) else ("",)
    met = [v.rates for v in rates.variants if v.tier in tiers and prompt_tokens > v.above_tokens]
    sets = [rates, *met]
    dearest: dict[str, Any] = {part: max(rate_of(each, part) for each in sets) for part in RARE if part in rare}
    return Rates(
        id=rates.id,
        priced_on=rates.priced_on,
        input=max(each.input for each in sets),
        cached_input=max(each.cached_input for each in sets),
        cache_write=max(each.cache_write for each in sets),
        output=max(each.output for each in sets),
        per_request=max(each.per_request for each in sets),
        **dearest,
    )


def is_plain(rates: Rates) -> bool:
    """Whether these rates hold under every condition, and nothing but plain tokens is priced apart."""
    return (
        not rates.variants
        and rates.cache_write_hour is None
        and rates.audio_input is None
        and rates.cached_audio_input is None
        and rates.audio_output is None
    )


def dearest_input(rates: Rates) -> int:
    """Nano-rupees of an input token before anyone knows of which class it is."""
    plain = max(rates.input, rates.cached_input, rates.cache_write)
    if rates.cache_write_hour is None and rates.audio_input is None and rates.cached_audio_input is None:
        return plain
    return max(plain, rates.cache_write_hour or 0, rates.audio_input or 0, rates.cached_audio_input or 0)


def dearest_output(rates: Rates) -> int:
    """Nano-rupees of an output token before anyone knows whether it is audio."""
    return rates.output if rates.audio_output is None else max(rates.output, rates.audio_output)


def ceiling(rates: Rates, *, input_tokens: int, output_tokens: int) -> int:
    """The most nano-rupees that a call within these bounds can cost at these rates, which must be `reachable` ones."""
    return rates.per_request + input_tokens * dearest_input(rates) + output_tokens * dearest_output(rates)


def output_tokens_within(rates: Rates, *, nanos: int, input_tokens: int) -> int:
    """How many output tokens the money allows after that much input, rounded down; 0 also if not even the
    input fits.

    Where output is free the answer is `TOKENS_MAX`.
    """
    left = nanos - ceiling(rates, input_tokens=input_tokens, output_tokens=0)
    if left < 0:
        return 0
    each = dearest_output(rates)
    return min(left // each, TOKENS_MAX) if each else TOKENS_MAX


def blended(rates: Rates) -> int:
    """Input plus output nano-rupees per token: what `optimize: price` ranks by."""
    return rates.input + rates.output


def leaps(old: Rates, new: Rates) -> bool:
    """Whether a rate of input or output moved tenfold or more, either way, in any of the price's conditions: more often
    a slip than a price."""
    pairs = [(old.input, new.input), (old.output, new.output)]
    was = {_condition(variant): variant.rates for variant in old.variants}
    for variant in new.variants:
        before = was.get(_condition(variant))
        if before is not None:
            pairs += [(before.input, variant.rates.input), (before.output, variant.rates.output)]
    return any(max(pair) >= 10 * min(pair) for pair in pairs if max(pair))


def _condition(variant: Variant) -> str:
    """A condition as part of an id: `+flex`, `+over-272000`, `+utc-0100-0400`."""
    told = [variant.tier] if variant.tier else []
    if variant.above_tokens:
        told.append(f"over-{variant.above_tokens}")
    told += [f"utc-{begin // 60:02d}{begin % 60:02d}-{end // 60:02d}{end % 60:02d}" for begin, end in variant.windows]
    return "".join(f"+{each}" for each in told)


def _is_within(minute: int, windows: tuple[tuple[int, int], ...]) -> bool:
    return not windows or any(begin <= minute < end for begin, end in windows)
