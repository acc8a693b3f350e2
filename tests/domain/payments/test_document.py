"""A document's facts survive as JSON, and each is put into words as the law and people expect."""

import json

import msgspec
import pytest
from msgspec.structs import replace

from domain.kernel.clock import parse_moment
from domain.payments.document import (
    Document,
    buyer_lines,
    credit_line,
    facts_json,
    read_facts,
    settlement,
    show_day,
    show_method,
    show_moment,
    tax_heads,
    words,
)
from domain.payments.events import Tax
from tests import papers


@pytest.mark.parametrize("document", papers.ALL.values(), ids=list(papers.ALL))
def test_facts_come_back_as_they_were(document: Document) -> None:
    assert read_facts(facts_json(document)) == document
    assert facts_json(read_facts(facts_json(document))) == facts_json(document)


def test_facts_read_by_themselves() -> None:
    facts = json.loads(facts_json(papers.REFUND))
    assert facts["format"] == "bharatrouter.document.v1"
    assert facts["title"] == "Refund Voucher"
    assert facts["issued_at"] == "2026-11-23T10:06:12.000000Z"
    assert facts["refers_to"] == {"number": "RV/26-27/000001", "issued_at": "2026-11-14T10:06:12.000000Z"}
    assert facts["tax"] == {
        "unit": "paise", "percent": 18, "taxable": 40_000,
        "cgst": 3_600, "sgst": 3_600, "utgst": 0, "igst": 0, "total": 47_200,
    }  # fmt: skip
    assert facts["buyer"]["gstin"] is None


@pytest.mark.parametrize("data", [b"{}", b"[]", b'{"format": "other"}', b'{"format": "bharatrouter.document.v1"}'])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.ValidationError, KeyError)):
        read_facts(data)


@pytest.mark.parametrize(
    ("document", "heads"),
    [
        (papers.RECEIPT, [("CGST", "9%", 9_000), ("SGST", "9%", 9_000)]),
        (papers.TERRITORY, [("CGST", "9%", 9_000), ("UTGST", "9%", 9_000)]),
        (papers.HINDI, [("IGST", "18%", 15_262)]),
        (
            replace(papers.RECEIPT, tax=Tax(taxable=100, percent=5, cgst=2, sgst=2)),
            [("CGST", "2.5%", 2), ("SGST", "2.5%", 2)],
        ),
        (replace(papers.RECEIPT, tax=Tax(taxable=1, percent=18)), [("CGST", "9%", 0), ("SGST", "9%", 0)]),
        (replace(papers.RECEIPT, place_of_supply="96", tax=Tax(taxable=1, percent=0)), [("IGST", "0%", 0)]),
        (replace(papers.RECEIPT, tax=Tax(taxable=100, percent=18, igst=18)), [("IGST", "18%", 18)]),
    ],
)
def test_tax_heads_carry_their_rates(document: Document, heads: list[tuple[str, str, int]]) -> None:
    assert tax_heads(document) == heads


def test_an_address_has_no_empty_lines_and_its_state_with_code() -> None:
    assert buyer_lines(papers.ASHA) == ["14 Residency Road", "Shanthala Nagar", "Bengaluru 560025", "Karnataka (29)"]
    abroad = replace(papers.ASHA, address=("1 Rue X",), city="Paris", pin="", state="", country="France")
    assert buyer_lines(abroad) == ["1 Rue X", "Paris", "France"]


def test_how_the_money_moved() -> None:
    assert settlement(papers.RECEIPT) == [
        ("Paid on", "23 Nov 2026, 15:36:00 IST"),
        ("Paid by", "UPI"),
        ("Payment ID", "pay_Q1w2E3r4T5y6U7"),
        ("Order ID", "order_A1b2C3d4E5f6G7"),
        ("Bank reference", "632745918273"),
    ]
    assert ("Refund ID", "rfnd_Z9y8X7w6V5u4T3") in settlement(papers.REFUND)
    assert settlement(papers.REFUND)[0][0] == "Refunded on"
    assert credit_line(papers.RECEIPT) == "₹1,000.00 of credit added to the prepaid balance"
    assert credit_line(papers.REFUND) == "₹400.00 of credit taken back from the prepaid balance"
    assert words(papers.HINDI) == "Rupees One Thousand and Fifty Paise Only"


def test_days_and_moments_are_indias() -> None:
    assert show_day(parse_moment("2026-03-31T18:29:59Z")) == "31 March 2026"
    assert show_day(parse_moment("2026-03-31T18:30:00Z")) == "1 April 2026"
    assert show_moment(parse_moment("2026-03-31T18:30:01Z")) == "1 Apr 2026, 00:00:01 IST"


def test_ways_to_pay_are_called_as_people_call_them() -> None:
    assert [show_method(method) for method in ("upi", "card", "netbanking", "bank_transfer", "")] == [
        "UPI", "Card", "Net banking", "Bank transfer", "",
    ]  # fmt: skip
