"""A test per shape and per trap of usage on OpenAI's wire: what is priced sums to what was used."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog.price import cost, make_rates
from domain.inference.metering import TOKENS_MAX, Usage, UsageSemantics, read_usage, to_openai

INSIDE = UsageSemantics()
CACHE_BESIDE = UsageSemantics(cached="beside")
REASONING_BESIDE = UsageSemantics(reasoning="beside")
RATES = make_rates(
    provider="p", model="m", priced_on="2026-11-01", input=100, cached_input=10, cache_write=125, output=500
)


def read(raw: dict[str, Any], semantics: UsageSemantics = INSIDE) -> Usage:
    usage = read_usage(raw, semantics)
    assert usage is not None
    return usage


def test_plain_usage_is_read_as_it_stands() -> None:
    assert read({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}) == Usage(input=9, output=3)


def test_cached_tokens_inside_the_prompt_are_priced_once_and_at_their_own_rate() -> None:
    usage = read(
        {
            "prompt_tokens": 1000,
            "completion_tokens": 10,
            "total_tokens": 1010,
            "prompt_tokens_details": {"cached_tokens": 800},
        }
    )
    assert (usage.input, usage.cached_input, usage.output) == (200, 800, 10)
    assert cost(RATES, usage) == 200 * 100 + 800 * 10 + 10 * 500


def test_cache_writes_inside_the_prompt_are_not_charged_as_input_too() -> None:
    usage = read(
        {
            "prompt_tokens": 1000,
            "completion_tokens": 10,
            "total_tokens": 1010,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 300},
        }
    )
    assert (usage.input, usage.cached_input, usage.cache_write) == (600, 100, 300)


def test_cached_tokens_beside_the_prompt_are_added_so_that_the_figures_add_up() -> None:
    raw = {
        "prompt_tokens": 200,
        "completion_tokens": 10,
        "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 800},
    }
    usage = read(raw, CACHE_BESIDE)
    assert (usage.input, usage.cached_input, usage.prompt_tokens, usage.total_tokens) == (
        200,
        800,
        1000,
        1010,
    )


def test_the_exclusive_cache_names_are_beside_the_prompt_whatever_was_declared() -> None:
    usage = read(
        {
            "input_tokens": 50,
            "output_tokens": 7,
            "cache_read_input_tokens": 900,
            "cache_creation_input_tokens": 30,
        }
    )
    assert (usage.input, usage.cached_input, usage.cache_write, usage.output) == (50, 900, 30, 7)


@pytest.mark.parametrize("name", ["cached_tokens", "prompt_cache_hit_tokens"])
def test_cached_tokens_at_the_top_level_are_found(name: str) -> None:
    usage = read({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, name: 64})
    assert (usage.input, usage.cached_input) == (36, 64)


def test_cached_tokens_told_twice_in_one_report_are_counted_once() -> None:
    usage = read(
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "total_tokens": 101,
            "cached_tokens": 64,
            "cache_read_input_tokens": 64,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
    )
    assert (usage.input, usage.cached_input, usage.total_tokens) == (36, 64, 101)


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"audio_tokens": 0}])
def test_absent_cache_details_mean_nothing_was_cached(details: dict[str, Any] | None) -> None:
    raw = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": details}
    assert read(raw) == Usage(input=9, output=3)


def test_reasoning_inside_the_completion_is_not_charged_on_top_of_it() -> None:
    usage = read(
        {
            "prompt_tokens": 10,
            "completion_tokens": 100,
            "total_tokens": 110,
            "completion_tokens_details": {"reasoning_tokens": 80},
        }
    )
    assert (usage.output, usage.reasoning) == (100, 80)


def test_reasoning_beside_the_completion_is_added_to_it_and_the_rest_is_kept() -> None:
    usage = read(
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 110,
            "completion_tokens_details": {"reasoning_tokens": 80},
        },
        REASONING_BESIDE,
    )
    assert (usage.output, usage.reasoning, usage.unknown) == (100, 80, 0)


def test_reasoning_that_only_the_total_tells_of_is_output_where_it_is_declared_beside() -> None:
    usage = read({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 110}, REASONING_BESIDE)
    assert (usage.output, usage.reasoning, usage.unknown) == (100, 80, 0)


def test_the_providers_total_outranks_what_was_declared() -> None:
    raw = {
        "prompt_tokens": 10,
        "completion_tokens": 100,
        "total_tokens": 110,
        "completion_tokens_details": {"reasoning_tokens": 80},
    }
    assert read(raw, REASONING_BESIDE).output == 100
    cached = {
        "prompt_tokens": 200,
        "completion_tokens": 10,
        "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 800},
    }
    assert read(cached, INSIDE).prompt_tokens == 1000


@pytest.mark.parametrize("total", [0, 5, 15, 500])
def test_a_total_that_nothing_explains_is_recorded_as_unknown_and_not_priced(total: int) -> None:
    usage = read({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": total})
    assert usage.unknown == total - 12
    assert cost(RATES, usage) == cost(RATES, Usage(input=9, output=3))


def test_more_cached_than_sent_is_a_contradiction_and_refused() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}}
    assert read_usage(raw, INSIDE) is None
    assert read_usage(raw | {"total_tokens": 99}, INSIDE) is None


def test_explicit_zeros_are_usage_and_absence_is_none() -> None:
    assert read({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) == Usage()
    assert read_usage({}, INSIDE) is None
    assert read_usage({"completion_tokens": 5}, INSIDE) is None
    assert read_usage({"prompt_tokens": 5}, INSIDE) is None
    assert read_usage({"prompt_tokens": None, "completion_tokens": 3}, INSIDE) is None


def test_embeddings_report_no_completion() -> None:
    assert read({"prompt_tokens": 8, "total_tokens": 8}) == Usage(input=8)


@pytest.mark.parametrize("bad", [-1, 1.0, 2.5, True, "12", [1], TOKENS_MAX + 1, 2**70, float("nan")])
@pytest.mark.parametrize(
    "field", ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"]
)
def test_a_figure_that_is_no_count_spoils_the_report(field: str, bad: object) -> None:
    good = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert read_usage(good | {field: bad}, INSIDE) is None


def test_fields_of_other_dialects_are_ignored() -> None:
    raw = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "estimated_cost": 0.1,
        "queue_time": 0.2,
    }
    assert read(raw) == Usage(input=9, output=3)


def test_the_shown_usage_adds_up_and_tells_the_cost() -> None:
    usage = Usage(input=200, cached_input=800, cache_write=24, output=100, reasoning=80, unknown=7)
    assert to_openai(usage, 123_000) == {
        "prompt_tokens": 1024,
        "completion_tokens": 100,
        "total_tokens": 1124,
        "prompt_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 24},
        "completion_tokens_details": {"reasoning_tokens": 80},
        "cost_inr": "0.000123",
    }


def test_counted_usage_says_that_it_is_estimated_and_claims_no_details() -> None:
    assert to_openai(Usage(input=3, output=4, source="counted"), 0) == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "cost_inr": "0",
        "estimated": True,
    }


_count = st.integers(0, 10_000)


@given(
    fresh=_count,
    cached=_count,
    written=_count,
    said=_count,
    thought=_count,
    cached_at=st.sampled_from(["inside", "beside"]),
    reasoning_at=st.sampled_from(["inside", "beside"]),
    with_total=st.booleans(),
)
def test_any_provider_that_reports_as_declared_is_read_exactly(
    fresh: int,
    cached: int,
    written: int,
    said: int,
    thought: int,
    cached_at: Any,
    reasoning_at: Any,
    with_total: bool,
) -> None:
    raw: dict[str, Any] = {
        "prompt_tokens": fresh + (cached + written if cached_at == "inside" else 0),
        "completion_tokens": said + (thought if reasoning_at == "inside" else 0),
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    if with_total:
        raw["total_tokens"] = fresh + cached + written + said + thought
    usage = read(raw, UsageSemantics(cached=cached_at, reasoning=reasoning_at))
    assert usage == Usage(
        input=fresh, cached_input=cached, cache_write=written, output=said + thought, reasoning=thought
    )


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
                "cached_tokens",
                "cache_read_input_tokens",
                "input_tokens",
            ]
        ),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
            st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.integers()),
        ),
    ),
    st.builds(
        UsageSemantics,
        cached=st.sampled_from(["inside", "beside"]),
        reasoning=st.sampled_from(["inside", "beside"]),
    ),
)
def test_no_report_whatever_raises_or_yields_a_negative_count(raw: dict[str, Any], semantics: UsageSemantics) -> None:
    usage = read_usage(raw, semantics)
    if usage is not None:
        assert min(usage.input, usage.cached_input, usage.cache_write, usage.output) >= 0
        shown = to_openai(usage, 0)
        assert shown["prompt_tokens"] + shown["completion_tokens"] == shown["total_tokens"]
