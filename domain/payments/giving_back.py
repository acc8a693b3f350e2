"""The document by which a receipt is taken back, in part or whole: a refund voucher, or a credit note."""

import msgspec

from domain.kernel.errors import Unavailable
from domain.kernel.seals import Seals
from domain.payments.billing import books_subject
from domain.payments.document import Original
from domain.payments.events import DocumentIssued, Tax
from domain.payments.issue import as_issued, text_to_seal
from domain.payments.numbering import KINDS
from domain.payments.topup import Draft


def draft_back(
    receipt: DocumentIssued | None, seals: Seals, *, tax: Tax, credit: int, cause: str, reference: str, at: int
) -> Draft:
    """The receipt's facts with what goes back of it; `cause` is the refund or chargeback, `credit` in nano-rupees.

    Raises Unavailable while the receipt is not known."""
    if receipt is None:
        raise Unavailable("ledger_unavailable", "The payment's document is not known yet; try again.", retry_after=1)
    subject = books_subject(receipt.org)
    text = seals.open(subject, receipt.facts)
    assert text is not None, f"the books of {receipt.org} were erased"
    original = as_issued(receipt, text)
    kind = KINDS[original.kind].refund
    assert kind is not None, f"{original.number} is a {original.kind}, which nothing takes back"
    document = msgspec.structs.replace(
        original,
        kind=kind,
        tax=tax,
        credit=credit,
        paid_at=at,
        reference=reference,
        refund_id=cause,
        refers_to=Original(number=original.number, issued_at=original.issued_at),
    )
    return Draft(document, seals.seal(subject, text_to_seal(document)))
