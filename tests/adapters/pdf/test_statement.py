"""A month's statement is drawn over as many pages as it takes, with every figure exact and nothing typed as markup."""

import io
import json
from itertools import accumulate

import pikepdf
import pytest

from adapters.pdf.ready import INSTALL, missing_libraries
from adapters.pdf.statement import draw, show_exact, statement_pdf
from domain.kernel.clock import DAY, IST_OFFSET, SECOND
from domain.kernel.money import rupees
from domain.ledger.statement import Entry, Statement, days_of_month, make_statement
from tests import papers
from tests.adapters.pdf.looks import pages_of, text_of

draws = pytest.mark.skipif(missing_libraries() is not None, reason=f"needs: {INSTALL}")

FIRST, END = days_of_month(202610)
MIDNIGHT = FIRST * DAY - IST_OFFSET
NOW = END * DAY - IST_OFFSET - 1
EVENTS = [
    Entry(FIRST, MIDNIGHT + 3661 * SECOND, "topup", rupees(1_23_456), payment="pay_29QQoUBi66xm2f", note="Top-up"),
    Entry(FIRST, MIDNIGHT + 3662 * SECOND, "promo", rupees(50), note="<b>दीवाली</b> & more"),
    Entry(FIRST + 9, MIDNIGHT + 9 * DAY, "expiry", -49_999_999_999, note="<b>दीवाली</b> & more"),
    Entry(FIRST + 9, MIDNIGHT + 9 * DAY + 1, "refund", -rupees(3), payment="pay_29QQoUBi66xm2f", note="not needed"),
]


def statement(*entries: Entry) -> Statement:
    balance = sum(entry.amount for entry in entries)
    return make_statement(
        org="org_1", name="आशा <i>Stores</i>", month=202610, now=NOW, opening=5, entries=entries, closing=balance + 5
    )


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (0, "₹0.00"),
        (1, "₹0.000000001"),
        (rupees(1_23_45_678) + 500_000_000, "₹1,23,45,678.50"),
        (-rupees(100) - 6_588_000, "−₹100.006588"),
        (999_999_999, "₹0.999999999"),
    ],
)
def test_amounts_are_shown_exactly_in_indian_grouping(nanos: int, shown: str) -> None:
    assert show_exact(nanos) == shown


@draws
def test_a_quiet_month_has_one_page_with_every_figure() -> None:
    pdf = draw(statement(*EVENTS, Entry(FIRST, None, "usage", -6_588_000, calls=1_00_000)), papers.SUPPLIER, at=NOW)
    assert pages_of(pdf) == [(595, 842)]
    text = text_of(pdf)
    for wanted in (
        "October 2026",
        "1 October 2026 to 31 October 2026",
        "आशा <i>Stores</i> org_1",
        "Opening balance ₹0.000000005",
        "01:01:01 Top-up pay_29QQoUBi66xm2f ₹1,23,456.00 ₹1,23,456.000000005",
        "Promo credit <b>दीवाली</b> & more ₹50.00",
        "Usage 1,00,000 calls −₹0.006588 ₹1,23,505.993412005",
        "Expired credit <b>दीवाली</b> & more −₹49.999999999",
        "Refund not needed · pay_29QQoUBi66xm2f −₹3.00",
        "31 October 2026 Closing balance ₹1,23,452.993412006",
        "Page 1 of 1",
        papers.SUPPLIER.gstin,
    ):
        assert wanted in text, wanted
    with pikepdf.open(io.BytesIO(pdf)) as document:
        figures = json.loads(document.attachments["statement.json"].get_file().read_bytes())
    assert figures["closing"] == figures["entries"][-1]["balance"] == 123_452_993_412_006
    assert [entry["type"] for entry in figures["entries"]] == ["topup", "promo", "usage", "expiry", "refund"]


@draws
def test_a_busy_month_has_many_pages_each_with_its_head_and_number() -> None:
    events = [Entry(FIRST + n // 4, MIDNIGHT + n * DAY // 4, "topup", rupees(n)) for n in range(1, 90)]
    pdf = statement_pdf(statement(*events), papers.SUPPLIER, at=NOW)
    count = len(pages_of(pdf))
    assert count > 3
    text = text_of(pdf)
    for number in range(1, count + 1):
        assert f"Page {number} of {count}" in text
    assert text.count("Date Details Amount Balance") == count
    assert text.count("Statement of October 2026") == count - 1
    for balance in accumulate(event.amount for event in events):
        assert show_exact(balance + 5) in text
