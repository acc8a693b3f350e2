"""A hold covers the dearest attempt, and what the money does not cover is cut before anyone is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog.model import Route
from domain.catalog.price import ceiling, make_rates
from domain.kernel.errors import OutOfCredit
from domain.kernel.money import rupees
from domain.ledger.sizing import (
    OUTPUT_TOKENS_FLOOR,
    Sizing,
    estimate_input_tokens,
    least_input_tokens,
    size_hold,
)


def route(provider: str, *, input: int, output: int, max_output_tokens: int = 1000) -> Route:
    return Route(
        provider=provider,
        model="m",
        upstream="m",
        residency="IN",
        rates=make_rates(provider=provider, model="m", priced_on="2026-11-01", input=input, output=output),
        context_length=10_000,
        max_output_tokens=max_output_tokens,
    )


CHEAP = route("cheap", input=10, output=20)
DEAR = route("dear", input=100, output=300)


def test_the_dearest_attempt_sizes_the_hold() -> None:
    sized = size_hold([CHEAP, DEAR], input_tokens=50, output_tokens_wanted=10)
    assert sized == Sizing(amount_nanos=50 * 100 + 10 * 300, output_tokens_max=10, cut=False)


def test_without_a_wish_the_output_is_what_the_models_can_write() -> None:
    longer = route("longer", input=10, output=20, max_output_tokens=4000)
    sized = size_hold([DEAR, longer], input_tokens=0, output_tokens_wanted=None)
    assert (sized.output_tokens_max, sized.amount_nanos) == (4000, 4000 * 300)


def test_each_choice_is_paid_for() -> None:
    one = size_hold([DEAR], input_tokens=0, output_tokens_wanted=10)
    assert size_hold([DEAR], input_tokens=0, output_tokens_wanted=10, choices=3).amount_nanos == 3 * one.amount_nanos


def test_two_rupees_buy_what_they_allow() -> None:
    costly = route("costly", input=400_000, output=2_000_000, max_output_tokens=128_000)
    sized = size_hold([costly], input_tokens=100, output_tokens_wanted=None, available_nanos=rupees(2))
    assert sized == Sizing(amount_nanos=100 * 400_000 + 980 * 2_000_000, output_tokens_max=980, cut=True)
    assert sized.amount_nanos <= rupees(2)


def test_choices_share_what_the_money_allows() -> None:
    sized = size_hold([CHEAP, DEAR], input_tokens=10, output_tokens_wanted=None, choices=4, available_nanos=200_000)
    assert sized == Sizing(amount_nanos=10 * 100 + 4 * 165 * 300, output_tokens_max=165, cut=True)


def test_below_the_floor_the_call_is_refused_and_the_figures_are_named() -> None:
    with pytest.raises(OutOfCredit, match=r"₹0\.0000048 .* ₹0\.000004799 ") as refusal:
        size_hold([DEAR], input_tokens=0, output_tokens_wanted=None, available_nanos=4_799)
    assert refusal.value.code == "insufficient_credits"
    exact = size_hold([DEAR], input_tokens=0, output_tokens_wanted=None, available_nanos=4_800)
    assert exact.output_tokens_max == OUTPUT_TOKENS_FLOOR


def test_a_wish_below_the_floor_is_its_own_floor() -> None:
    sized = size_hold([DEAR], input_tokens=0, output_tokens_wanted=2, available_nanos=600)
    assert sized == Sizing(amount_nanos=600, output_tokens_max=2, cut=False)


def test_embeddings_hold_their_input_alone() -> None:
    vectors = route("vectors", input=10, output=0, max_output_tokens=0)
    assert size_hold([vectors], input_tokens=7, output_tokens_wanted=None, available_nanos=70).amount_nanos == 70
    with pytest.raises(OutOfCredit):
        size_hold([vectors], input_tokens=7, output_tokens_wanted=None, available_nanos=69)


def test_a_first_hold_is_smaller_than_the_ceiling_but_leaves_the_limit() -> None:
    sized = size_hold([DEAR], input_tokens=0, output_tokens_wanted=900, first_output_tokens=100)
    assert sized == Sizing(amount_nanos=100 * 300, output_tokens_max=900, cut=False)


def test_a_hold_without_a_price_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="price"):
        size_hold([], input_tokens=1, output_tokens_wanted=1)


_attempts = st.lists(
    st.builds(
        route,
        st.just("p"),
        input=st.integers(0, 1000),
        output=st.integers(0, 1000),
        max_output_tokens=st.integers(0, 200_000),
    ),
    min_size=1,
    max_size=4,
)


@given(
    _attempts,
    st.integers(0, 1000),
    st.none() | st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(0, 10**7),
    st.none() | st.integers(1, 10**5),
)
def test_a_hold_fits_the_money_and_covers_every_attempt(
    attempts: list[Route],
    input_tokens: int,
    wanted: int | None,
    choices: int,
    available: int,
    first: int | None,
) -> None:
    try:
        sized = size_hold(
            attempts,
            input_tokens=input_tokens,
            output_tokens_wanted=wanted,
            choices=choices,
            available_nanos=available,
            first_output_tokens=first,
        )
    except OutOfCredit:
        return
    assert sized.amount_nanos <= available
    limit = sized.output_tokens_max
    assert wanted is None or limit <= wanted
    assert limit >= OUTPUT_TOKENS_FLOOR or not sized.cut
    for each in attempts:
        assert each.rates is not None
        most = ceiling(each.rates, input_tokens=input_tokens, output_tokens=limit * choices)
        assert most <= available
        if first is None:
            assert most <= sized.amount_nanos


@given(st.integers(0, 10**7), st.integers(0, 10), st.integers(0, 10**7))
def test_the_least_estimate_is_never_above_the_upper_bound(size: int, images: int, image_bytes: int) -> None:
    least = least_input_tokens(size, image_bytes=image_bytes)
    assert least <= estimate_input_tokens(size, images=images, image_bytes=image_bytes)


def test_three_bytes_are_a_token_and_a_part_of_three_as_well() -> None:
    assert [estimate_input_tokens(size) for size in (0, 1, 3, 4)] == [0, 1, 1, 2]
    assert estimate_input_tokens(1_000_000, images=1, image_bytes=999_997) == 1 + 4096
