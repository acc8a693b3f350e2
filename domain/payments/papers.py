"""The life of a legal document once it is issued: its PDF is made once, it is mailed, perhaps cancelled. Each is on
record in the stream of its payment."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from unicodedata import category, combining

from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.payments.events import DocumentCancelled, DocumentMailed, DocumentMailRefused, DocumentRendered

REASON_LENGTH_MAX = 200
VIRAMA = 9
"""Unicode's class of the sign that joins a letter of an Indian script to the next one."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The numbers of a payment's documents that have a PDF, of those that nobody has to mail any more, and of those
    that were cancelled."""

    rendered: frozenset[str] = frozenset()
    mailed: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()

    def evolve(self, stream: str, event: Event) -> "Papers":
        match event:
            case DocumentRendered():
                return replace(self, rendered=self.rendered | {event.number})
            case DocumentMailed() | DocumentMailRefused():
                return replace(self, mailed=self.mailed | {event.number})
            case DocumentCancelled():
                return replace(self, cancelled=self.cancelled | {event.number})
            case _:
                return self


def record_rendered(
    store: Store, *, org: str, order: str, number: str, sha256: str, size: int, at: int, by: str
) -> int | None:
    """Puts on record that the document's PDF was made, and which bytes it is. None if it is on record already."""
    rendered = DocumentRendered(org=org, number=number, sha256=sha256, size=size)
    return _record(store, order, rendered, lambda papers: number in papers.rendered, at=at, by=by)


def record_mailed(store: Store, *, org: str, order: str, number: str, at: int, by: str) -> int | None:
    """Puts on record that the document was mailed. None if its mail has ended already."""
    mailed = DocumentMailed(org=org, number=number)
    return _record(store, order, mailed, lambda papers: number in papers.mailed, at=at, by=by)


def record_mail_refused(
    store: Store, *, org: str, order: str, number: str, reason: str, at: int, by: str
) -> int | None:
    """Puts on record that the document cannot be mailed. None if its mail has ended already.

    `reason` may be what a stranger's server said: only so much of it is kept as the log takes in any case.
    """
    refused = DocumentMailRefused(org=org, number=number, reason=_printable(reason))
    return _record(store, order, refused, lambda papers: number in papers.mailed, at=at, by=by)


def cancel_document(store: Store, *, org: str, order: str, number: str, reason: str, at: int, by: str) -> int | None:
    """Cancels a document that was issued by mistake. Its number stays used, its PDF stays what it is; lists and the
    public check say that it does not count. None if it was cancelled before."""
    cancelled = DocumentCancelled(org=org, number=number, reason=_printable(reason))
    return _record(store, order, cancelled, lambda papers: number in papers.cancelled, at=at, by=by)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:REASON_LENGTH_MAX]


def _record(
    store: Store, order: str, fact: Event, is_there: Callable[[Papers], bool], *, at: int, by: str
) -> int | None:
    stream = f"payment:{order}"

    def decide(papers: Papers) -> Decision:
        return [] if is_there(papers) else [(stream, fact)]

    return store.change(Change(stream, Papers(), decide), at=at, by=by)


def masked(name: str) -> str:
    """Enough of a name for whoever knows it, and nothing for whoever does not: `Asha Traders` is `A••• T•••`.

    The first letter of the first two words, with the signs that belong to it; how long they are is not told.
    """
    return " ".join(f"{_first_letter(word)}•••" for word in name.split()[:2])


def _first_letter(word: str) -> str:
    marks = takewhile(lambda sign: category(sign).startswith("M") and combining(sign) != VIRAMA, word[1:])
    return word[:1] + "".join(marks)


def file_name(number: str) -> str:
    """The document's number as the name of a file, without an extension: `RV-26-27-000001`."""
    return number.replace("/", "-")
