"""Legal documents by number: who got which, for what, and whether it was made into a PDF, mailed, or cancelled."""

from typing import Any

import msgspec
from psycopg.rows import dict_row

from domain.payments.events import (
    DocumentCancelled,
    DocumentIssued,
    DocumentMailed,
    DocumentMailRefused,
    DocumentRendered,
)
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, on

TABLES = """
create table documents (
    number text collate "C" primary key,
    org text collate "C" not null,
    kind text collate "C" not null,
    issued_at bigint not null,
    payment text collate "C" not null,
    refund text collate "C" not null,
    original text collate "C" not null,
    place_of_supply text collate "C" not null,
    taxable bigint not null,
    total bigint not null,
    position bigint not null,
    rendered_at bigint,
    sha256 text collate "C",
    size bigint,
    mailed_at bigint,
    mail_problem text,
    cancelled_at bigint,
    cancelled_for text
);
create index documents_by_org on documents (org, position);
create index documents_by_payment on documents (payment, position);
create index documents_not_rendered on documents (position) where rendered_at is null;
create index documents_not_mailed on documents (position) where mailed_at is null;
"""

_Change = tuple[str, list[Any]]


class Documents(Fold):
    def __init__(self) -> None:
        self._changes: list[_Change] = []

    @on(DocumentIssued, "org", "kind", "number", "payment", "refund", "original", "place_of_supply", "tax")
    def issued(self, event: DocumentIssued, stream: str, position: int) -> None:
        row = {
            "number": event.number,
            "org": event.org,
            "kind": event.kind,
            "issued_at": event.at,
            "payment": event.payment,
            "refund": event.refund,
            "original": event.original,
            "place_of_supply": event.place_of_supply,
            "taxable": event.tax.taxable,
            "total": event.tax.total,
            "position": position,
        }
        self._changes.append(
            (f"insert into documents ({', '.join(row)}) values ({', '.join(['%s'] * len(row))})", [*row.values()])
        )

    @on(DocumentRendered, "number", "sha256", "size")
    def rendered(self, event: DocumentRendered, stream: str, position: int) -> None:
        self._set(event.number, rendered_at=event.at, sha256=event.sha256, size=event.size)

    @on(DocumentMailed, "number")
    def mailed(self, event: DocumentMailed, stream: str, position: int) -> None:
        self._set(event.number, mailed_at=event.at)

    @on(DocumentMailRefused, "number", "reason")
    def mail_refused(self, event: DocumentMailRefused, stream: str, position: int) -> None:
        self._set(event.number, mail_problem=clean(event.reason))

    @on(DocumentCancelled, "number", "reason")
    def cancelled(self, event: DocumentCancelled, stream: str, position: int) -> None:
        self._set(event.number, cancelled_at=event.at, cancelled_for=clean(event.reason))

    def _set(self, number: str, **values: Any) -> None:
        columns = ", ".join(f"{name} = %s" for name in values)
        self._changes.append((f"update documents set {columns} where number = %s", [*values.values(), number]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, [(statement.encode(), values) for statement, values in self._changes])


PROJECTION = Projection("documents", 1, TABLES, Documents)

_ROWS = (
    "select number, org, kind, issued_at, payment, refund, original, place_of_supply, taxable, total, position,"
    " rendered_at, sha256, size, mailed_at, mail_problem, cancelled_at, cancelled_for from view_documents.documents"
)


def documents_of(connection: Connection, org: str, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The org's documents, newest first, of those that stand before the position `before`. Amounts in paise, moments
    in microseconds; `sha256` and `size` are those of the PDF, None until it is made."""
    return _rows(
        connection,
        f"{_ROWS} where org = %s and position < %s order by position desc limit %s",
        [org, 2**62 if before is None else before, limit],
    )


def document(connection: Connection, number: str) -> dict[str, Any] | None:
    """The one document of this number, whosever it is, with the fields of `documents_of`."""
    return _one(connection, f"{_ROWS} where number = %s", number)


def document_of_payment(connection: Connection, payment: str) -> dict[str, Any] | None:
    """The document by which a payment was receipted, not those of its refunds."""
    return _one(connection, f"{_ROWS} where payment = %s and refund = '' order by position limit 1", payment)


def without_pdf(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """The documents whose PDF is still to be made, oldest first."""
    return _rows(connection, f"{_ROWS} where rendered_at is null order by position limit %s", [limit])


def to_mail(connection: Connection, *, issued_after: int, limit: int) -> list[dict[str, Any]]:
    """The documents that have a PDF and were issued after that moment, but were not mailed yet, oldest first."""
    return _rows(
        connection,
        f"{_ROWS} where mailed_at is null and mail_problem is null and rendered_at is not null and issued_at > %s"
        " order by position limit %s",
        [issued_after, limit],
    )


def issued(connection: Connection, position: int) -> DocumentIssued:
    """The fact by which the document at this position of the log was issued, straight from the log."""
    row = connection.execute("select state from events where notification_id = %s", [position]).fetchone()
    assert row is not None, f"position {position} is in the read model, but not in the log"
    return msgspec.json.decode(row[0], type=DocumentIssued)


def _one(connection: Connection, statement: str, name: str) -> dict[str, Any] | None:
    """What a caller sent may have a NUL in it, which PostgreSQL refuses: then there is no such thing."""
    return None if "\0" in name else next(iter(_rows(connection, statement, [name])), None)


def _rows(connection: Connection, statement: str, values: list[Any]) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(statement.encode(), values).fetchall()
