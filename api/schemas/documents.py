"""Legal documents as they are listed, and what of one is shown to whoever checks its number."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from api.schemas.money import Amount, show
from api.schemas.times import moment, moment_optional
from domain.kernel.money import NANOS_PER_PAISA
from domain.payments.document import Document, show_day, show_paise, title
from domain.payments.numbering import KINDS
from domain.payments.papers import masked
from domain.payments.states import show_state


class DocumentRow(BaseModel):
    """`kind` is `receipt_voucher`, `tax_invoice`, `refund_voucher` or `credit_note`; the latter two have a `refund_id`
    and the number of the `original` that they take back. `ready`: the PDF can be downloaded, and has this `sha256`."""

    number: str
    kind: str
    issued_at: str
    payment_id: str
    refund_id: str | None
    original: str | None
    taxable_inr: Amount
    tax_inr: Amount
    total_inr: Amount
    place_of_supply: str
    cancelled: bool
    ready: bool
    sha256: str | None
    mailed_at: str | None
    pdf: str
    html: str


class DocumentList(BaseModel):
    object: str
    data: list[DocumentRow]
    next_before: str | None


class VerifiedBuyer(BaseModel):
    name: str
    state: str


class Verified(BaseModel):
    """`buyer.name` is masked: whoever holds the document can compare it, nobody can read it from here."""

    genuine: bool = True
    number: str
    kind: str
    title: str
    issued_at: str
    total_inr: Amount
    buyer: VerifiedBuyer
    supplier: str
    sha256: str | None
    cancelled: bool
    cancelled_at: str | None


def document_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` is one of `projections.documents`."""
    path = f"/me/billing/documents/{row['number']}"
    return {
        "number": row["number"],
        "kind": row["kind"],
        "issued_at": moment(row["issued_at"]),
        "payment_id": row["payment"],
        "refund_id": row["refund"] or None,
        "original": row["original"] or None,
        "taxable_inr": show(row["taxable"] * NANOS_PER_PAISA),
        "tax_inr": show((row["total"] - row["taxable"]) * NANOS_PER_PAISA),
        "total_inr": show(row["total"] * NANOS_PER_PAISA),
        "place_of_supply": row["place_of_supply"],
        "cancelled": row["cancelled_at"] is not None,
        "ready": row["sha256"] is not None,
        "sha256": row["sha256"],
        "mailed_at": moment_optional(row["mailed_at"]),
        "pdf": path,
        "html": f"{path}.html",
    }


def verified(row: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """What anyone may know of a document whose number he has."""
    return {
        "genuine": True,
        "number": row["number"],
        "kind": row["kind"],
        "title": title(document),
        "issued_at": moment(row["issued_at"]),
        "total_inr": show(row["total"] * NANOS_PER_PAISA),
        "buyer": {"name": masked(document.buyer.name), "state": _state(document)},
        "supplier": document.supplier.name,
        "sha256": row["sha256"],
        "cancelled": row["cancelled_at"] is not None,
        "cancelled_at": moment_optional(row["cancelled_at"]),
    }


def verified_for_people(row: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """The same in words."""
    return {
        "number": row["number"],
        "title": title(document),
        "total_label": KINDS[document.kind].total_label,
        "total": show_paise(row["total"]),
        "supplier": document.supplier,
        "cancelled_on": None if row["cancelled_at"] is None else show_day(row["cancelled_at"]),
        "rows": [
            ("Number", row["number"]),
            ("Date", show_day(row["issued_at"])),
            ("Made out to", masked(document.buyer.name)),
            ("State of the buyer", _state(document)),
        ],
        "sha256": row["sha256"],
    }


def _state(document: Document) -> str:
    return show_state(document.buyer.state or document.place_of_supply)
