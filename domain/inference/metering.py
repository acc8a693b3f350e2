"""What a call used, in classes that never overlap, whatever shape the provider reports it in.

Overlapping figures are how gateways bill a token twice; a report that contradicts itself is therefore
refused here, and the caller counts instead. Unknown is not zero, and counted is not measured.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from domain.kernel.money import format_inr

TOKENS_MAX = 100_000_000

Placement = Literal["inside", "beside"]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class UsageSemantics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one provider means its figures.

    `cached`: are cache reads and writes inside `prompt_tokens`? `reasoning`: are they inside
    `completion_tokens`? `stream`: does usage come in a stream when asked for by `stream_options`
    ("last_chunk"), without being asked ("unasked"; the field must not be sent), or not at all ("none")?
    """

    cached: Placement = "inside"
    reasoning: Placement = "inside"
    stream: Literal["last_chunk", "unasked", "none"] = "last_chunk"


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one call. `input`, `cached_input`, `cache_write` and `output` are disjoint and are what is
    priced.

    `reasoning` is the part of `output` that the provider calls so, None where it does not say. `unknown` is
    what the provider's own total has beyond these classes (negative: falls short of them); it is recorded,
    never priced.
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int | None = None
    unknown: int = 0
    source: Literal["provider", "counted"] = "provider"

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cached_input + self.cache_write

    @property
    def completion_tokens(self) -> int:
        return self.output

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: _Tokens | None = None


class _Report(msgspec.Struct, frozen=True):
    """Every field that OpenAI-wire providers are known to report usage in."""

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None
    prompt_tokens_details: _PromptDetails | None = None
    input_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    output_tokens_details: _CompletionDetails | None = None
    reasoning_tokens: _Tokens | None = None
    cached_tokens: _Tokens | None = None
    prompt_cache_hit_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None


_DECLARED_FIRST: dict[Placement, tuple[Placement, Placement]] = {
    "inside": ("inside", "beside"),
    "beside": ("beside", "inside"),
}


def read_usage(raw: Mapping[str, Any], semantics: UsageSemantics) -> Usage | None:
    """The provider's usage object as disjoint classes; None if it has no prompt figure or cannot be true.

    The declared semantics decide where cached and reasoning tokens belong, except where only the opposite
    reading adds up to the provider's own total: the total is what it will bill. A figure that is not a
    whole number from 0 to `TOKENS_MAX` spoils the whole report.
    """
    try:
        report = msgspec.convert(raw, _Report)
    except msgspec.ValidationError:
        return None
    prompt = _first(report.prompt_tokens, report.input_tokens)
    completion = _first(report.completion_tokens, report.output_tokens)
    if prompt is None:
        return None
    if completion is None:
        if report.total_tokens != prompt:
            return None
        completion = 0
    cached, cache_write, cached_placement = _cache_figures(report, semantics)
    reasoning = _reasoning_figure(report)

    def reading(cached_at: Placement, reasoning_at: Placement) -> Usage | None:
        uncached = prompt - cached - cache_write if cached_at == "inside" else prompt
        if uncached < 0:
            return None
        output = completion if reasoning_at == "inside" else completion + (reasoning or 0)
        return Usage(
            input=uncached,
            cached_input=cached,
            cache_write=cache_write,
            output=output,
            reasoning=None if reasoning is None else min(reasoning, output),
        )

    declared = reading(cached_placement, semantics.reasoning)
    total = report.total_tokens
    if total is None or (declared and declared.total_tokens == total):
        return declared
    for cached_at in _DECLARED_FIRST[cached_placement]:
        for reasoning_at in _DECLARED_FIRST[semantics.reasoning]:
            other = reading(cached_at, reasoning_at)
            if other and other.total_tokens == total:
                return other
    if declared is None:
        return None
    difference = total - declared.total_tokens
    if semantics.reasoning == "beside" and reasoning is None and difference > 0:
        # Reasoning stands beside the completion and is reported by the total alone.
        return msgspec.structs.replace(declared, output=declared.output + difference, reasoning=difference)
    return msgspec.structs.replace(declared, unknown=difference)


def to_openai(usage: Usage, cost_nanos: int) -> dict[str, Any]:
    """The `usage` object that a client sees; it always adds up. `cost_inr` is a decimal string of rupees."""
    shown: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.source == "provider":
        details = {"cached_tokens": usage.cached_input}
        if usage.cache_write:
            details["cache_write_tokens"] = usage.cache_write
        shown["prompt_tokens_details"] = details
    if usage.reasoning is not None:
        shown["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    shown["cost_inr"] = format_inr(cost_nanos)
    if usage.source == "counted":
        shown["estimated"] = True
    return shown


def _first(*figures: int | None) -> int | None:
    return next((figure for figure in figures if figure is not None), None)


def _cache_figures(report: _Report, semantics: UsageSemantics) -> tuple[int, int, Placement]:
    """Cache reads, cache writes, and where they stand relative to the prompt figure."""
    details = report.prompt_tokens_details or report.input_tokens_details or _PromptDetails()
    read = _first(details.cached_tokens, report.cached_tokens, report.prompt_cache_hit_tokens)
    write = details.cache_write_tokens
    if read is None and write is None:
        exclusive = report.cache_read_input_tokens, report.cache_creation_input_tokens
        if exclusive != (None, None):
            # These two names come from a wire whose input figure never includes the cache.
            return exclusive[0] or 0, exclusive[1] or 0, "beside"
    return read or 0, write or 0, semantics.cached


def _reasoning_figure(report: _Report) -> int | None:
    details = report.completion_tokens_details or report.output_tokens_details or _CompletionDetails()
    return _first(details.reasoning_tokens, report.reasoning_tokens)
