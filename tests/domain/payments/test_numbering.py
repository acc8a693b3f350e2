"""Numbers fit the law's form, and the financial year turns at midnight in India."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import SECOND, parse_moment
from domain.payments.numbering import KINDS, document_number, financial_year, series_of

LEGAL = re.compile(r"[^\W_][A-Za-z0-9/-]{0,15}")
N = st.integers(1, 10**10 - 1) | st.sampled_from([1, 999_999, 10**6, 10**7 - 1, 10**7, 10**10 - 1])


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 4 * 10**15), N)
def test_every_number_is_legal(kind: str, at: int, n: int) -> None:
    number = document_number(series_of(kind, at), n)
    assert LEGAL.fullmatch(number)
    assert number[0] not in "0-/"


@given(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(20, 60), N), st.data())
def test_no_two_documents_share_a_number(one: tuple[str, int, int], data: st.DataObject) -> None:
    other = data.draw(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(20, 60), N))

    def number(kind: str, year: int, n: int) -> str:
        return document_number(series_of(kind, parse_moment(f"20{year}-06-01")), n)

    assert (number(*one) == number(*other)) == (one == other)


def test_the_form() -> None:
    assert document_number("RV/26-27", 1) == "RV/26-27/000001"
    assert document_number("RV/26-27", 999_999) == "RV/26-27/999999"
    assert document_number("RV/26-27", 1_000_000) == "RV/26-27/1000000"
    assert document_number("RV/26-27", 10_000_000) == "RV262710000000"


@pytest.mark.parametrize(
    ("moment", "year"),
    [
        ("2027-03-31T23:59:59.999999+05:30", "26-27"),
        ("2027-04-01T00:00:00+05:30", "27-28"),
        ("2026-03-31T18:30:00Z", "26-27"),
        ("2026-12-31T23:59:59+05:30", "26-27"),
        ("2027-01-01T00:00:00+05:30", "26-27"),
        ("2100-03-31T12:00:00+05:30", "99-00"),
    ],
)
def test_the_year_turns_at_midnight_in_india(moment: str, year: str) -> None:
    assert financial_year(parse_moment(moment)) == year


def test_one_microsecond_apart_are_two_series() -> None:
    midnight = parse_moment("2027-04-01T00:00:00+05:30")
    assert series_of("receipt_voucher", midnight - 1) == "RV/26-27"
    assert series_of("receipt_voucher", midnight) == "RV/27-28"
    assert series_of("receipt_voucher", midnight + 364 * 86_400 * SECOND) == "RV/27-28"


def test_each_refund_paper_takes_back_the_paper_that_names_it() -> None:
    for name, kind in KINDS.items():
        assert (kind.refund is None) != (kind.refers_to is None)
        if kind.refund:
            assert KINDS[kind.refund].refers_to == name
    assert len({kind.prefix for kind in KINDS.values()}) == len(KINDS)
