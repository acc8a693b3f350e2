"""Amounts in words say what num2words says, and end as Indian documents do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from domain.payments.words import amount_in_words, number_in_words


def oracle(number: int) -> str:
    words = str(num2words(number, lang="en_IN")).replace(",", "").replace("-", " ")
    return " ".join(word for word in words.split() if word != "and").title()


@given(st.integers(0, 10**10 - 1) | st.integers(0, 2_000))
def test_numbers_read_as_the_oracle_reads_them(number: int) -> None:
    assert number_in_words(number) == oracle(number)


def test_every_number_up_to_a_thousand() -> None:
    for number in range(1_001):
        assert number_in_words(number) == oracle(number)


@given(st.integers(0, 10**10 - 1), st.integers(1, 99))
def test_paise_follow_the_rupees(rupees: int, paise: int) -> None:
    assert amount_in_words(rupees * 100) == f"Rupees {oracle(rupees)} Only"
    assert amount_in_words(rupees * 100 + paise) == f"Rupees {oracle(rupees)} and {oracle(paise)} Paise Only"


@pytest.mark.parametrize(
    ("paise", "words"),
    [
        (0, "Rupees Zero Only"),
        (50, "Rupees Zero and Fifty Paise Only"),
        (118_000, "Rupees One Thousand One Hundred Eighty Only"),
        (
            1_47_50_000_01,
            "Rupees One Crore Forty Seven Lakh Fifty Thousand and One Paise Only",
        ),
        (10**14, "Rupees One Lakh Crore Only"),
    ],
)
def test_some_amounts(paise: int, words: str) -> None:
    assert amount_in_words(paise) == words
