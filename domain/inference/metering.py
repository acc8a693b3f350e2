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

    `cached`: are cache reads inside `prompt_tokens`? `cache_write`: are cache writes, where they stand
    elsewhere than the reads? `reasoning`: are they inside `completion_tokens`? `audio`: are they inside the
    prompt and the completion? `stream`: does usage come in a stream when asked for by `stream_options`
    ("last_chunk"), without being asked ("unasked"; the field must not be sent), or not at all ("none")?

    Images are inside the prompt everywhere, and nobody whom we call prices their tokens apart.
    """

    cached: Placement = "inside"
    cache_write: Placement | None = None
    reasoning: Placement = "inside"
    audio: Placement = "inside"
    stream: Literal["last_chunk", "unasked", "none"] = "last_chunk"


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call used, in disjoint classes, which are what is priced: tokens, seconds of audio, characters.

    `input`, `cached_input` and `output` are all tokens that no other class has: where a provider prices audio
    apart, its tokens are in the `audio` classes alone. `cache_write` is kept for minutes, `cache_write_hour`
    for an hour. `reasoning` is the part of `output` that the provider calls so, None where it does not say.
    `unknown` is what the provider's own total has beyond these classes (negative: falls short of them); it is
    recorded, never priced.
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0
    cache_write_hour: int = 0
    audio_input: int = 0
    cached_audio_input: int = 0
    audio_output: int = 0
    seconds: int = 0
    characters: int = 0
    reasoning: int | None = None
    unknown: int = 0
    source: Literal["provider", "counted"] = "provider"

    @property
    def prompt_tokens(self) -> int:
        return (
            self.input
            + self.cached_input
            + self.cache_write
            + self.cache_write_hour
            + self.audio_input
            + self.cached_audio_input
        )

    @property
    def completion_tokens(self) -> int:
        return self.output + self.audio_output

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class _CachedDetails(msgspec.Struct, frozen=True):
    audio_tokens: _Tokens | None = None


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None
    cached_tokens_details: _CachedDetails | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None


class _CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: _Tokens | None = None
    ephemeral_1h_input_tokens: _Tokens | None = None


class _Report(msgspec.Struct, frozen=True):
    """Every field that the providers are known to report usage in, once their own wires are translated."""

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
    cache_creation: _CacheCreation | None = None


class _Cache(msgspec.Struct, frozen=True):
    """The cache figures of a report, and whether reads and writes are inside the prompt figure. `certain`: their
    very names say so."""

    read: int
    write: int
    hour: int
    read_at: Placement
    write_at: Placement
    certain: bool = False


_NO_PROMPT_DETAILS = _PromptDetails()
_NO_COMPLETION_DETAILS = _CompletionDetails()
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
    details = report.prompt_tokens_details or report.input_tokens_details or _NO_PROMPT_DETAILS
    said = report.completion_tokens_details or report.output_tokens_details or _NO_COMPLETION_DETAILS
    cache = _cache_figures(report, details, semantics)
    reasoning = _first(said.reasoning_tokens, report.reasoning_tokens)
    heard, heard_cached, spoken = details.audio_tokens or 0, 0, said.audio_tokens or 0
    if heard and cache.read:
        heard_cached = _cached_audio(details, heard=heard, prompt=prompt, cached=cache.read)

    def reading(cached_at: Placement, reasoning_at: Placement) -> Usage | None:
        turned = cached_at != cache.read_at
        uncached = prompt - (cache.read if cached_at == "inside" else 0)
        if (cache.write_at == "inside") != turned:
            uncached -= cache.write + cache.hour
        output = completion if reasoning_at == "inside" else completion + (reasoning or 0)
        thought = None if reasoning is None else min(reasoning, output)
        if semantics.audio == "inside":
            uncached, output = uncached - (heard - heard_cached), output - spoken
        if min(uncached, output, cache.read - heard_cached) < 0:
            return None
        return Usage(
            input=uncached,
            cached_input=cache.read - heard_cached,
            cache_write=cache.write,
            cache_write_hour=cache.hour,
            output=output,
            audio_input=heard - heard_cached,
            cached_audio_input=heard_cached,
            audio_output=spoken,
            reasoning=thought,
        )

    declared = reading(cache.read_at, semantics.reasoning)
    total = report.total_tokens
    if total is None or (declared and declared.total_tokens == total):
        return declared
    for cached_at in (cache.read_at,) if cache.certain else _DECLARED_FIRST[cache.read_at]:
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
        details = {"cached_tokens": usage.cached_input + usage.cached_audio_input}
        if usage.cache_write or usage.cache_write_hour:
            details["cache_write_tokens"] = usage.cache_write + usage.cache_write_hour
        if usage.audio_input or usage.cached_audio_input:
            details["audio_tokens"] = usage.audio_input + usage.cached_audio_input
        shown["prompt_tokens_details"] = details
    details = {} if usage.reasoning is None else {"reasoning_tokens": usage.reasoning}
    if usage.audio_output:
        details["audio_tokens"] = usage.audio_output
    if details:
        shown["completion_tokens_details"] = details
    shown["cost_inr"] = format_inr(cost_nanos)
    if usage.source == "counted":
        shown["estimated"] = True
    return shown


def _first(*figures: int | None) -> int | None:
    for figure in figures:
        if figure is not None:
            return figure
    return None


def _cache_figures(report: _Report, details: _PromptDetails, semantics: UsageSemantics) -> _Cache:
    read = _first(details.cached_tokens, report.cached_tokens, report.prompt_cache_hit_tokens)
    write = details.cache_write_tokens
    if read is None and write is None:
        read, write = report.cache_read_input_tokens, report.cache_creation_input_tokens
        if read is not None or write is not None:
            # These two names come from a wire whose input figure never includes the cache.
            hour = report.cache_creation.ephemeral_1h_input_tokens if report.cache_creation else None
            written, for_an_hour = write or 0, min(hour or 0, write or 0)
            return _Cache(read or 0, written - for_an_hour, for_an_hour, "beside", "beside", certain=True)
    return _Cache(read or 0, write or 0, 0, semantics.cached, semantics.cache_write or semantics.cached)


def _cached_audio(details: _PromptDetails, *, heard: int, prompt: int, cached: int) -> int:
    """How many of the audio tokens were cached. Where the provider does not say, it has cached the text first."""
    if details.cached_tokens_details is not None:
        return min(details.cached_tokens_details.audio_tokens or 0, heard, cached)
    return max(0, min(heard, cached - max(prompt - heard, 0)))
