"""Tax heads always make the total, credit never moves by rounding, and refunds add up to what was paid."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.money import half_up, rupees
from domain.payments.events import Tax
from domain.payments.states import STATES
from domain.payments.tax import HEADS, GstMode, credit_nanos, place_of_supply, refund_share, split

PAISE = st.integers(0, 10**12)
PERCENT = st.sampled_from([0, 1, 5, 12, 18, 28, 40, 100])
MODES: st.SearchStrategy[GstMode] = st.sampled_from(["on_top", "included"])
PLACES = st.sampled_from([*STATES, "96"])


def split_in(place: str, paise: int = 100_000, mode: GstMode = "on_top", supplier_state: str = "29") -> Tax:
    return split(paise, mode=mode, percent=18, supplier_state=supplier_state, place=place)


@given(PAISE, MODES, PERCENT, st.sampled_from(sorted(STATES)), PLACES, st.booleans())
def test_heads_make_the_total(
    paise: int, mode: GstMode, percent: int, supplier_state: str, place: str, special_zone: bool
) -> None:
    tax = split(
        paise, mode=mode, percent=percent, supplier_state=supplier_state, place=place, special_zone=special_zone
    )
    assert (tax.taxable if mode == "on_top" else tax.total) == paise
    assert tax.taxable + tax.cgst + tax.sgst + tax.utgst + tax.igst == tax.total
    assert tax.cgst == tax.sgst + tax.utgst
    assert min(tax.taxable, *(getattr(tax, head) for head in HEADS)) >= 0
    exact = Fraction(paise * percent, 100 if mode == "on_top" else 100 + percent)
    assert abs(tax.heads - exact) <= 1
    within = place == supplier_state and not special_zone
    assert tax.igst == (0 if within else tax.heads)
    assert tax.utgst == (tax.heads // 2 if within and STATES[place].union_territory else 0)


@given(PAISE, MODES, PERCENT, PLACES)
def test_the_state_changes_the_heads_and_nothing_else(paise: int, mode: GstMode, percent: int, place: str) -> None:
    here = split(paise, mode=mode, percent=percent, supplier_state="29", place="29")
    there = split(paise, mode=mode, percent=percent, supplier_state="29", place=place)
    assert (here.taxable, here.heads, here.total) == (there.taxable, there.heads, there.total)


@given(st.integers(0, 10**9))
def test_whole_rupees_on_top_are_exact_and_buy_as_much_credit(amount: int) -> None:
    tax = split_in("29", amount * 100)
    assert tax.heads == amount * 18
    assert credit_nanos(tax) == rupees(amount)


def test_the_two_ways_to_pay_a_thousand() -> None:
    assert split_in("29") == Tax(taxable=100_000, percent=18, cgst=9_000, sgst=9_000)
    assert split_in("27", mode="included") == Tax(taxable=84_746, percent=18, igst=15_254)


def test_a_union_territory_takes_utgst_and_delhi_sgst() -> None:
    assert split_in("04", supplier_state="04") == Tax(taxable=100_000, percent=18, cgst=9_000, utgst=9_000)
    assert split_in("07", supplier_state="07") == Tax(taxable=100_000, percent=18, cgst=9_000, sgst=9_000)


def test_a_special_zone_counts_as_another_state() -> None:
    tax = split(100_000, mode="on_top", percent=18, supplier_state="29", place="29", special_zone=True)
    assert tax == Tax(taxable=100_000, percent=18, igst=18_000)


@pytest.mark.parametrize(
    ("gstin", "state", "abroad", "place"),
    [
        ("27AAPFU0939F1ZV", "29", False, "27"),  # where he is registered, whatever the address
        (None, "33", False, "33"),
        (None, None, False, "29"),
        (None, None, True, "96"),
        ("27AAPFU0939F1ZV", None, True, "27"),
    ],
)
def test_the_place_of_supply(gstin: str | None, state: str | None, abroad: bool, place: str) -> None:
    assert place == place_of_supply(supplier_state="29", buyer_gstin=gstin, buyer_state=state, abroad=abroad)


@given(PAISE, MODES, PERCENT, PLACES, st.lists(st.integers(0, 10**12), max_size=8))
def test_refunds_in_any_pieces_add_up_to_the_payment(
    paise: int, mode: GstMode, percent: int, place: str, cuts: list[int]
) -> None:
    original = split(paise, mode=mode, percent=percent, supplier_state="29", place=place)
    edges = sorted({0, original.taxable, *(cut % (original.taxable + 1) for cut in cuts)})
    pieces = [
        refund_share(original, taxable=after - before, refunded_before=before) for before, after in pairwise(edges)
    ]
    for head in ("taxable", *HEADS) if original.taxable else ():
        assert sum(getattr(piece, head) for piece in pieces) == getattr(original, head)
    for piece in pieces:
        assert piece.taxable + piece.heads == piece.total
        assert piece.cgst == piece.sgst + piece.utgst
        assert all(getattr(piece, head) >= 0 for head in HEADS)
        assert abs(piece.heads - Fraction(original.heads * piece.taxable, original.taxable)) <= 2


@pytest.mark.parametrize(("taxable", "before"), [(100_001, 0), (1, 100_000), (-1, 5), (1, -1)])
def test_more_than_was_paid_cannot_go_back(taxable: int, before: int) -> None:
    with pytest.raises(ValueError, match="cannot refund"):
        refund_share(split_in("29"), taxable=taxable, refunded_before=before)


@given(st.integers(0, 10**15), st.integers(1, 10**6))
def test_half_up_is_the_nearest_whole_number(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    rounded = half_up(numerator, denominator)
    assert Fraction(-1, 2) < rounded - exact <= Fraction(1, 2)
