"""Documents for tests: issued as a capture or a refund issues them, without the money around it."""

from typing import Any

import msgspec

from adapters.wiring import App
from domain.kernel.money import NANOS_PER_PAISA
from domain.kernel.store import Decision, Reader
from domain.payments.billing import books_subject
from domain.payments.document import Buyer, Document, Original
from domain.payments.events import DocumentCancelled, DocumentIssued
from domain.payments.issue import issue, text_to_seal
from domain.payments.tax import split
from tests.given import given_org
from tests.papers import SUPPLIER

BUYER = Buyer(
    name="अनन्या Traders LLP",
    address=("12 MG Road",),
    city="Pune",
    pin="411001",
    state="27",
    email="accounts@ananya.example",
)


def draft(**changes: Any) -> Document:
    """A receipt voucher for ₹500 and GST, paid by UPI, that has no number yet."""
    tax = split(changes.pop("paise", 50_000), mode="on_top", percent=18, supplier_state="29", place="27")
    document = Document(
        kind="receipt_voucher",
        number="",
        issued_at=0,
        supplier=SUPPLIER,
        buyer=BUYER,
        place_of_supply="27",
        sac="998315",
        description="Prepaid credit for AI inference",
        tax=tax,
        credit=tax.taxable * NANOS_PER_PAISA,
        payment_id="pay_A",
        order_id="order_A",
        paid_at=1_793_440_000_000_000,
        method="upi",
        reference="412345678901",
    )
    return msgspec.structs.replace(document, **changes)


def given_document(app: App, org: str = "org_a", **changes: Any) -> str:
    """Issues a draft with these changes to the org, which is made if need be; the number."""
    document = draft(**changes)
    given_org(app.store, org, at=app.clock())
    facts = app.vault.seal(books_subject(org), text_to_seal(document))
    made: list[DocumentIssued] = []

    def decide(read: Reader) -> Decision:
        stream, issued = issue(read, org=org, draft=document, facts=facts, at=at)
        made.append(issued)
        return [(stream, issued)]

    at = app.clock()
    app.store.locked(decide, at=at, by="test")
    return made[0].number


def given_refund_voucher(app: App, original: str, org: str = "org_a", **changes: Any) -> str:
    """A voucher for the refund of the document with that number."""
    refund: dict[str, Any] = {
        "kind": "refund_voucher",
        "refund_id": "rfnd_A",
        "refers_to": Original(number=original, issued_at=app.clock()),
        "paise": 20_000,
    }
    return given_document(app, org, **refund | changes)


def cancel(app: App, number: str, org: str = "org_a", *, order: str = "order_A") -> None:
    fact = DocumentCancelled(org=org, number=number, reason="issued twice")
    app.store.locked(lambda _: [(f"payment:{order}", fact)], at=app.clock(), by="operator")
