"""Refunds and chargebacks: how far each has come, what a payment's receipt was, and what is still to be finished."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg.rows import dict_row

from domain.payments.events import (
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    DocumentIssued,
    RefundAccepted,
    RefundFailed,
    RefundProcessed,
    RefundRequested,
    Tax,
)
from domain.payments.refunds import Refund
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, on
from projections.documents import document_of_payment, issued

TABLES = """
create table refunds (
    refund text collate "C" primary key,
    org text collate "C" not null,
    order_id text collate "C" not null,
    payment text collate "C" not null,
    credit bigint not null,
    taxable bigint not null,
    percent bigint not null,
    cgst bigint not null,
    sgst bigint not null,
    utgst bigint not null,
    igst bigint not null,
    reason text not null,
    state text collate "C" not null,
    gateway_refund text collate "C" not null,
    reference text not null,
    document text collate "C" not null,
    failure text not null,
    requested_at bigint not null,
    ended_at bigint,
    position bigint not null
);
create index refunds_by_org on refunds (org, position);
create index refunds_open on refunds (position) where ended_at is null;
create table chargebacks (
    chargeback text collate "C" primary key,
    org text collate "C" not null,
    order_id text collate "C" not null,
    payment text collate "C" not null,
    amount_paise bigint not null,
    withheld bigint not null,
    phase text not null,
    reason text not null,
    state text collate "C" not null,
    opened_at bigint not null,
    ended_at bigint,
    position bigint not null
);
create index chargebacks_by_org on chargebacks (org, position);
"""

_Change = tuple[str, list[Any]]


class Refunds(Fold):
    def __init__(self) -> None:
        self._changes: list[_Change] = []

    @on(RefundRequested, "org", "refund", "payment", "credit", "tax", "reason")
    def requested(self, event: RefundRequested, stream: str, position: int) -> None:
        row = {
            "refund": event.refund,
            "org": event.org,
            "order_id": stream.removeprefix("payment:"),
            "payment": event.payment,
            "credit": event.credit,
            **msgspec.structs.asdict(event.tax),
            "reason": event.reason,
            "state": "requested",
            "gateway_refund": "",
            "reference": "",
            "document": "",
            "failure": "",
            "requested_at": event.at,
            "position": position,
        }
        self._insert("refunds", row)

    @on(RefundAccepted, "refund", "gateway_refund")
    def accepted(self, event: RefundAccepted, stream: str, position: int) -> None:
        self._update("refunds", "refund", event.refund, {"state": "pending", "gateway_refund": event.gateway_refund})

    @on(RefundProcessed, "refund", "gateway_refund", "reference", "document")
    def processed(self, event: RefundProcessed, stream: str, position: int) -> None:
        row = {
            "state": "processed",
            "gateway_refund": event.gateway_refund,
            "reference": clean(event.reference),
            "document": event.document,
            "ended_at": event.at,
        }
        self._update("refunds", "refund", event.refund, row)

    @on(RefundFailed, "refund", "reason")
    def failed(self, event: RefundFailed, stream: str, position: int) -> None:
        row = {"state": "failed", "failure": clean(event.reason), "ended_at": event.at}
        self._update("refunds", "refund", event.refund, row)

    @on(ChargebackOpened, "org", "chargeback", "payment", "amount_paise", "withheld", "phase", "reason")
    def opened(self, event: ChargebackOpened, stream: str, position: int) -> None:
        row = {
            "chargeback": event.chargeback,
            "org": event.org,
            "order_id": stream.removeprefix("payment:"),
            "payment": event.payment,
            "amount_paise": event.amount_paise,
            "withheld": event.withheld,
            "phase": clean(event.phase),
            "reason": clean(event.reason),
            "state": "open",
            "opened_at": event.at,
            "position": position,
        }
        self._insert("chargebacks", row)

    @on(ChargebackWon, "chargeback")
    def won(self, event: ChargebackWon, stream: str, position: int) -> None:
        self._update("chargebacks", "chargeback", event.chargeback, {"state": "won", "ended_at": event.at})

    @on(ChargebackLost, "chargeback", "withheld")
    def lost(self, event: ChargebackLost, stream: str, position: int) -> None:
        row = {"state": "lost", "withheld": event.withheld, "ended_at": event.at}
        self._update("chargebacks", "chargeback", event.chargeback, row)

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, [(statement.encode(), values) for statement, values in self._changes])

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        statement = f"insert into {table} ({', '.join(row)}) values ({', '.join(['%s'] * len(row))})"
        self._changes.append((statement, [*row.values()]))

    def _update(self, table: str, key: str, id: str, row: dict[str, Any]) -> None:
        statement = f"update {table} set {', '.join(f'{name} = %s' for name in row)} where {key} = %s"
        self._changes.append((statement, [*row.values(), id]))


PROJECTION = Projection("refunds", 1, TABLES, Refunds)


def refunds_of(connection: Connection, org: str, *, before: int | None, limit: int) -> list[tuple[int, Refund]]:
    """The org's refunds with their positions, newest first, of those that stand before the position `before`."""
    return _refunds(
        connection,
        "where org = %s and position < %s order by position desc limit %s",
        [org, 2**62 if before is None else before, limit],
    )


def refund_of(connection: Connection, org: str, refund: str) -> Refund | None:
    """None for a refund that is not the org's, or not known yet."""
    found = _refunds(connection, "where refund = %s and org = %s", [clean(refund), org])
    return found[0][1] if found else None


def unfinished_orders(connection: Connection, *, limit: int) -> list[str]:
    """Orders with a refund that has not ended. First those that the gateway may not know of; of the others, which may
    take it days, a choice by chance, so that all get their turn however many there are."""
    rows = connection.execute(
        "select order_id from view_refunds.refunds where ended_at is null order by gateway_refund <> '', random()"
        " limit %s",
        [limit],
    )
    return [order for (order,) in rows]


def chargebacks_of(connection: Connection, org: str) -> list[dict[str, Any]]:
    """The org's chargebacks, newest first: `amount_paise` is demanded, `withheld` nano-rupees of credit were there."""
    statement = b"select * from view_refunds.chargebacks where org = %s order by position desc"
    return connection.cursor(row_factory=dict_row).execute(statement, [org]).fetchall()


def chargeback_outcomes(connection: Connection) -> dict[str, str]:
    """What became of every chargeback: `open`, `won` or `lost`, by its id."""
    return dict(connection.execute("select chargeback, state from view_refunds.chargebacks").fetchall())


def known_refunds(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of the gateway's ids are those of refunds that were asked for here."""
    rows = connection.execute(
        "select gateway_refund from view_refunds.refunds where gateway_refund = any(%s)", [list(ids)]
    )
    return {id for (id,) in rows}


def receipt_of(connection: Connection, payment: str) -> DocumentIssued | None:
    """The fact by which a payment was receipted; None while it is not known."""
    row = document_of_payment(connection, payment)
    return None if row is None else issued(connection, row["position"])


def _refunds(connection: Connection, which: str, values: list[Any]) -> list[tuple[int, Refund]]:
    statement = f"select * from view_refunds.refunds {which}"
    rows = connection.cursor(row_factory=dict_row).execute(statement.encode(), values)
    return [(row["position"], _refund(row)) for row in rows]


def _refund(row: dict[str, Any]) -> Refund:
    return Refund(
        id=row["refund"],
        org=row["org"],
        order=row["order_id"],
        payment=row["payment"],
        credit=row["credit"],
        tax=Tax(**{name: row[name] for name in Tax.__struct_fields__}),
        requested=row["requested_at"],
        state=row["state"],
        reason=row["reason"],
        gateway_refund=row["gateway_refund"],
        reference=row["reference"],
        document=row["document"],
        failure=row["failure"],
        ended=row["ended_at"],
    )
