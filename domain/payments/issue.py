"""How a legal document gets its number: in the decision that it follows from, so that a series has no gap.

What is printed on it is sealed before that, since nothing outside is asked during a decision; number and moment of
issue are those of the fact itself, and are put in when the facts are read.
"""

import msgspec

from domain.kernel.store import Reader
from domain.payments.document import Document, facts_json, read_facts
from domain.payments.events import DocumentIssued
from domain.payments.numbering import document_number, series_of


def document_stream(series: str) -> str:
    """One fact for each number: a document's version there is its place in the series."""
    return f"document:{series}"


def text_to_seal(draft: Document) -> str:
    """The facts of a document that has no number yet, to be sealed for `books_subject`; `as_issued` reads them."""
    return facts_json(msgspec.structs.replace(draft, number="", issued_at=0)).decode()


def issue(read: Reader, *, org: str, draft: Document, facts: str, at: int) -> tuple[str, DocumentIssued]:
    """The fact that issues the draft at that moment, with its stream. `facts` is its sealed `text_to_seal`."""
    series = series_of(draft.kind, at)
    stream = document_stream(series)
    issued = DocumentIssued(
        org=org,
        kind=draft.kind,
        number=document_number(series, read.count(stream) + 1),
        payment=draft.payment_id,
        tax=draft.tax,
        place_of_supply=draft.place_of_supply,
        facts=facts,
        refund=draft.refund_id,
        original="" if draft.refers_to is None else draft.refers_to.number,
    )
    return stream, issued


def as_issued(event: DocumentIssued, text: str) -> Document:
    """The whole document from its fact and the opened `facts`."""
    return msgspec.structs.replace(read_facts(text.encode()), number=event.number, issued_at=event.at)
