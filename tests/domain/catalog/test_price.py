"""The rate engine is exact, and what is held covers whatever can be settled."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog.events import PriceChanged
from domain.catalog.price import (
    RARE,
    Line,
    Rates,
    Variant,
    applied,
    ceiling,
    cost,
    explain,
    leaps,
    make_rates,
    offers_tier,
    output_tokens_within,
    rate_of,
    reachable,
)
from domain.inference.metering import TOKENS_MAX, Usage
from domain.kernel.clock import DAY, SECOND

_rate = st.integers(0, 50_000_000)
_tokens = st.integers(0, 2_000_000)
_rates = st.builds(
    make_rates,
    provider=st.just("sarvam"),
    model=st.just("sarvam-105b"),
    priced_on=st.just("2026-09-20"),
    input=_rate,
    output=_rate,
    cached_input=st.none() | _rate,
    cache_write=st.none() | _rate,
    per_request=_rate,
)
_usages = st.builds(Usage, input=_tokens, cached_input=_tokens, cache_write=_tokens, output=_tokens)

SARVAM = make_rates(
    provider="sarvam",
    model="sarvam-105b",
    priced_on="2026-09-20",
    input=29_280,
    cached_input=10_980,
    output=73_200,
)


def test_a_cost_is_the_sum_of_tokens_times_rates() -> None:
    usage = Usage(input=1000, cached_input=500, output=200)
    assert cost(SARVAM, usage) == 1000 * 29_280 + 500 * 10_980 + 200 * 73_200
    assert explain(SARVAM, usage) == (
        Line(part="input", quantity=1000, nanos_each=29_280, nanos=29_280_000),
        Line(part="cached_input", quantity=500, nanos_each=10_980, nanos=5_490_000),
        Line(part="output", quantity=200, nanos_each=73_200, nanos=14_640_000),
    )


def test_a_price_is_named_by_route_day_and_content() -> None:
    assert SARVAM.id.startswith("sarvam/sarvam-105b@2026-09-20.")
    dearer = make_rates(provider="sarvam", model="sarvam-105b", priced_on="2026-09-20", input=29_281, output=73_200)
    assert dearer.id != SARVAM.id


def test_classes_without_a_price_of_their_own_cost_what_input_costs() -> None:
    rates = make_rates(provider="p", model="m", priced_on="2026-09-20", input=7, output=9)
    assert (rates.cached_input, rates.cache_write) == (7, 7)


@given(_rates, _usages, st.integers(0, 1000), st.integers(0, 1000))
def test_no_usage_within_the_bounds_costs_more_than_the_ceiling(
    rates: Rates, usage: Usage, slack_in: int, slack_out: int
) -> None:
    most = ceiling(rates, input_tokens=usage.prompt_tokens + slack_in, output_tokens=usage.output + slack_out)
    assert cost(rates, usage) <= most


@given(_rates, _usages)
def test_the_explanation_sums_to_the_cost(rates: Rates, usage: Usage) -> None:
    lines = explain(rates, usage)
    assert sum(line.nanos for line in lines) == cost(rates, usage)
    assert all(line.quantity * line.nanos_each == line.nanos for line in lines)


@given(_rates, st.integers(0, 10**16), _tokens)
def test_the_output_that_money_allows_is_the_most_that_it_pays_for(rates: Rates, nanos: int, input_tokens: int) -> None:
    allowed = output_tokens_within(rates, nanos=nanos, input_tokens=input_tokens)
    if ceiling(rates, input_tokens=input_tokens, output_tokens=0) > nanos:
        assert allowed == 0
    else:
        assert ceiling(rates, input_tokens=input_tokens, output_tokens=allowed) <= nanos
        if allowed < TOKENS_MAX:
            assert ceiling(rates, input_tokens=input_tokens, output_tokens=allowed + 1) > nanos


def test_a_tenfold_move_of_a_price_is_noticed_either_way() -> None:
    def priced(input_rate: int) -> Rates:
        return make_rates(provider="p", model="m", priced_on="2026-09-20", input=input_rate, output=1000)

    assert not leaps(priced(100), priced(999))
    assert leaps(priced(100), priced(1000))
    assert leaps(priced(1000), priced(100))
    assert leaps(priced(100), priced(0))
    assert not leaps(priced(0), priced(0))


# Conditions: long prompts, service tiers, times of the day, and classes that few calls have.

_every_usage = st.builds(
    Usage,
    input=_tokens,
    cached_input=_tokens,
    cache_write=_tokens,
    output=_tokens,
    cache_write_hour=_tokens,
    audio_input=_tokens,
    cached_audio_input=_tokens,
    audio_output=_tokens,
)
_token_classes = [part for part in RARE if part not in ("seconds", "characters")]
_rare_rates = st.dictionaries(st.sampled_from(_token_classes), _rate)
_minutes = st.integers(0, 1440)
_windows = st.lists(st.tuples(_minutes, _minutes).map(lambda two: (min(two), max(two))), max_size=2).map(tuple)


@st.composite
def _conditional(draw: st.DrawFn) -> Rates:
    def a_set(**more: Any) -> Rates:
        return make_rates(
            provider="p",
            model="m",
            priced_on="2026-11-23",
            input=draw(_rate),
            output=draw(_rate),
            cached_input=draw(st.none() | _rate),
            cache_write=draw(st.none() | _rate),
            per_request=draw(_rate),
            rare=draw(_rare_rates),
            **more,
        )

    variants = [
        Variant(
            rates=a_set(),
            tier=draw(st.sampled_from(["", "flex", "priority"])),
            above_tokens=draw(st.sampled_from([0, 100_000, 1_000_000])),
            windows=draw(_windows),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    return a_set(variants=tuple(variants))


@given(
    _conditional(),
    _every_usage,
    st.integers(0, 1000),
    st.sampled_from(["", "flex", "priority", "scale"]),
    st.booleans(),
    st.integers(0, 3 * DAY),
)
def test_whatever_applies_was_reachable(
    rates: Rates, usage: Usage, slack: int, asked: str, as_asked: bool, at: int
) -> None:
    served = asked if as_asked else ""
    bound = usage.prompt_tokens + slack
    used = {part for part in RARE if getattr(usage, part)}
    most = ceiling(
        reachable(rates, prompt_tokens=bound, tier=asked, rare=used),
        input_tokens=bound,
        output_tokens=usage.completion_tokens,
    )
    met = applied(rates, prompt_tokens=usage.prompt_tokens, tier=served, at=at)
    assert not met.variants
    assert cost(met, usage) <= most
    assert sum(line.nanos for line in explain(met, usage)) == cost(met, usage)


@given(_rates)
def test_a_plain_price_goes_through_unchanged(rates: Rates) -> None:
    assert reachable(rates, prompt_tokens=10**8, tier="flex", rare=RARE) is rates
    assert applied(rates, prompt_tokens=10**8, tier="flex", at=0) is rates


def _priced(input: int, **more: Any) -> Rates:
    return make_rates(provider="p", model="m", priced_on="2026-11-23", input=input, output=2 * input, **more)


STEPPED = _priced(
    10,
    rare={"cache_write_hour": 20},
    variants=(
        Variant(rates=_priced(40), tier="priority", above_tokens=1000),
        Variant(rates=_priced(20), above_tokens=1000),
        Variant(rates=_priced(30), tier="priority"),
        Variant(rates=_priced(15), windows=((60, 240), (360, 600))),
    ),
)


def test_a_step_begins_above_its_tokens_and_holds_for_the_whole_prompt() -> None:
    def rate(tokens: int, tier: str = "") -> int:
        return applied(STEPPED, prompt_tokens=tokens, tier=tier, at=0).input

    assert [rate(999), rate(1000), rate(1001)] == [10, 10, 20]
    assert [rate(1000, "priority"), rate(1001, "priority"), rate(1001, "flex")] == [30, 40, 20]


def test_windows_are_of_the_utc_day_with_their_first_minute_and_without_their_last() -> None:
    def rate(hour: int, minute: int, day: int = 20_000) -> int:
        at = day * DAY + (hour * 60 + minute) * 60 * SECOND
        return applied(STEPPED, prompt_tokens=5, tier="", at=at).input

    assert [rate(0, 59), rate(1, 0), rate(3, 59), rate(4, 0), rate(6, 0), rate(9, 59), rate(10, 0)] == [
        10,
        15,
        15,
        10,
        15,
        15,
        10,
    ]


def test_only_the_dearest_that_a_call_can_meet_is_held() -> None:
    assert reachable(STEPPED, prompt_tokens=1000, tier="").input == 15  # the window may come
    assert reachable(STEPPED, prompt_tokens=1001, tier="").input == 20
    assert reachable(STEPPED, prompt_tokens=1001, tier="priority").input == 40
    assert reachable(STEPPED, prompt_tokens=10, tier="").cache_write_hour is None
    assert reachable(STEPPED, prompt_tokens=10, tier="", rare={"cache_write_hour"}).cache_write_hour == 20


def test_a_tier_is_offered_where_it_is_priced() -> None:
    assert [offers_tier(STEPPED, tier) for tier in ("priority", "flex", "default")] == [True, False, False]


def test_a_class_that_is_not_priced_apart_costs_what_its_kind_costs() -> None:
    assert [rate_of(STEPPED, part) for part in RARE] == [20, 10, 10, 20, 0, 0]


def test_what_applied_is_named_by_price_and_condition() -> None:
    met = applied(STEPPED, prompt_tokens=2000, tier="priority", at=0)
    assert met.id == f"{STEPPED.id}+priority+over-1000"
    assert applied(STEPPED, prompt_tokens=1, tier="", at=0).id == STEPPED.id


def test_a_tenfold_move_under_a_condition_is_noticed_too() -> None:
    dearer = _priced(10, variants=(Variant(rates=_priced(300), tier="priority"),))
    assert leaps(STEPPED, dearer)
    assert not leaps(STEPPED, _priced(10, variants=(Variant(rates=_priced(299), tier="priority"),)))


def test_a_price_with_conditions_is_the_same_after_the_log() -> None:
    changed = PriceChanged(provider="p", model="m", rates=STEPPED)
    assert msgspec.json.decode(msgspec.json.encode(changed), type=PriceChanged) == changed
