"""Whatever python-stdnum takes for a GSTIN we take, and nothing else."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum.in_ import gstin as oracle

from domain.kernel.errors import Invalid
from domain.payments.gstin import check_character, check_gstin, pan_of, state_of
from domain.payments.states import STATES

SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
KNOWN_TO_BOTH = sorted(set(STATES) - {"38", "97"})
HOLDERS = "ABCFGHJLPTK"


@st.composite
def gstins(draw: st.DrawFn) -> str:
    first = "".join(
        [
            draw(st.sampled_from(KNOWN_TO_BOTH)),
            draw(st.from_regex(r"[A-Z]{3}", fullmatch=True)),
            draw(st.sampled_from(HOLDERS)),
            draw(st.from_regex(r"[A-Z]", fullmatch=True)),
            f"{draw(st.integers(1, 9999)):04d}",
            draw(st.from_regex(r"[A-Z][1-9A-Z]Z", fullmatch=True)),
        ]
    )
    return first + check_character(first)


def is_taken(text: str) -> bool:
    try:
        check_gstin(text)
    except Invalid:
        return False
    return True


@given(gstins())
def test_what_we_make_the_oracle_takes(gstin: str) -> None:
    assert oracle.is_valid(gstin)
    assert check_gstin(gstin) == gstin
    assert (state_of(gstin), pan_of(gstin)) == (gstin[:2], oracle.to_pan(gstin))


@given(gstins(), st.integers(0, 14), st.sampled_from(SIGNS))
def test_after_one_wrong_sign_both_say_the_same(gstin: str, place: int, sign: str) -> None:
    slip = gstin[:place] + sign + gstin[place + 1 :]
    assume(slip[:2] not in ("25", "28", "38"))  # States of yesterday and of after the oracle's list
    assume(slip[5] in HOLDERS)  # it knows kinds of taxpayers, we leave them to the check character
    assume(slip[7:11] != "0000")
    assert is_taken(slip) == oracle.is_valid(slip)


@given(gstins(), st.integers(0, 13))
def test_two_signs_swapped_are_seen(gstin: str, place: int) -> None:
    swapped = gstin[:place] + gstin[place + 1] + gstin[place] + gstin[place + 2 :]
    assert is_taken(swapped) == (swapped == gstin)


@given(st.text(max_size=20))
def test_any_text_is_taken_or_refused_by_name(text: str) -> None:
    assert not is_taken(text) or oracle.is_valid(text)


@pytest.mark.parametrize("gstin", ["27AAPFU0939F1ZV", "29AAGCB7383J1Z4", "09AAACH7409R1ZZ", "24AAACC1206D1ZM"])
def test_real_ones_are_taken_as_people_type_them(gstin: str) -> None:
    assert check_gstin(f" {gstin[:2]} {gstin[2:].lower()}\n") == gstin


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("27AAPFU0939F1ZW", "slip"),
        ("27AAPFU0939F1Z", "15 characters"),
        ("2\u0667AAPFU0939F1ZV", "15 characters"),
        ("28AAPFU0939F1ZT", "code of its State"),
        ("9917USA12345OSZ", "15 characters"),
    ],
)
def test_the_refusal_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refusal:
        check_gstin(text)
    assert (refusal.value.code, refusal.value.param) == ("invalid_gstin", "gstin")
