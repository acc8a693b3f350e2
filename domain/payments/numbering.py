"""Legal documents of GST: which kinds there are, what law asks of each, and how they are numbered.

A number has at most 16 characters of A-Z, 0-9, `-` and `/`, and is unique and consecutive within a financial year (CGST
Rules, rules 46(b), 50(b), 51(b), 53(1A)(c)). The year is that of the document's date in India.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from domain.kernel.clock import ist_month

DocumentKind = Literal["receipt_voucher", "tax_invoice", "refund_voucher", "credit_note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`refund` is the kind that takes back a document of this one; `refers_to` the kind that this one takes back.
    The labels are what its amounts are called."""

    title: str
    prefix: str
    law: str
    taxable_label: str
    total_label: str
    refund: DocumentKind | None = None
    refers_to: DocumentKind | None = None
    copy: str = ""


KINDS: Mapping[DocumentKind, Kind] = {
    "receipt_voucher": Kind(
        title="Receipt Voucher",
        prefix="RV",
        law="section 31(3)(d) of the CGST Act, 2017 and rule 50 of the CGST Rules, 2017",
        taxable_label="Advance received",
        total_label="Total received",
        refund="refund_voucher",
    ),
    "tax_invoice": Kind(
        title="Tax Invoice",
        prefix="TI",
        law="section 31(2) of the CGST Act, 2017 and rule 46 of the CGST Rules, 2017",
        taxable_label="Taxable value",
        total_label="Invoice total",
        refund="credit_note",
        copy="Original for recipient",
    ),
    "refund_voucher": Kind(
        title="Refund Voucher",
        prefix="RF",
        law="section 31(3)(e) of the CGST Act, 2017 and rule 51 of the CGST Rules, 2017",
        taxable_label="Advance refunded",
        total_label="Total refunded",
        refers_to="receipt_voucher",
    ),
    "credit_note": Kind(
        title="Credit Note",
        prefix="CN",
        law="section 34(1) of the CGST Act, 2017 and rule 53(1A) of the CGST Rules, 2017",
        taxable_label="Taxable value credited",
        total_label="Total credited",
        refers_to="tax_invoice",
    ),
}


def financial_year(at: int) -> str:
    """The year from 1 April to 31 March in India that the moment lies in: `26-27`."""
    year, month = divmod(ist_month(at), 100)
    first = year if month >= 4 else year - 1
    return f"{first % 100:02d}-{(first + 1) % 100:02d}"


def series_of(kind: DocumentKind, at: int) -> str:
    """The series that a document of that moment belongs to: `RV/26-27`."""
    return f"{KINDS[kind].prefix}/{financial_year(at)}"


def document_number(series: str, n: int) -> str:
    """The `n`-th number of a series, from 1: `RV/26-27/000001`.

    From ten million on, which is one a second through a third of the year, the separators make way for digits
    (`RV262710000000`), so that 16 characters are enough for ten thousand million documents.
    """
    assert 1 <= n < 10**10
    return f"{series}/{n:06d}" if n < 10**7 else f"{series.replace('/', '').replace('-', '')}{n}"
