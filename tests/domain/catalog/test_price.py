"""The rate engine is exact, and what is held covers whatever can be settled."""

from hypothesis import given
from hypothesis import strategies as st

from domain.catalog.price import (
    Line,
    Rates,
    ceiling,
    cost,
    explain,
    leaps,
    make_rates,
    output_tokens_within,
)
from domain.inference.metering import TOKENS_MAX, Usage

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
