"""Requests whose cost their orgs dispute: what waits for an operator, and what was decided."""

from typing import Any, LiteralString

from psycopg.rows import dict_row

from domain.ledger.events import RequestDisputed, RequestDisputeDecided
from projections.base import Connection, Cursor, Fold, Projection, execute_all, on

TABLES = """
create table disputes (
    request text collate "C" primary key,
    org text collate "C" not null,
    cost bigint not null,
    reason text not null,
    disputed_at bigint not null,
    outcome text collate "C",
    amount bigint,
    why text,
    decided_at bigint
);
create index disputes_open on disputes (disputed_at) where outcome is null;
"""


class Disputes(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []

    @on(RequestDisputed, "org", "request", "cost", "reason")
    def disputed(self, event: RequestDisputed, stream: str, position: int) -> None:
        statement: LiteralString = (
            "insert into disputes (request, org, cost, reason, disputed_at) values (%s, %s, %s, %s, %s)"
        )
        self._changes.append((statement, [event.request, event.org, event.cost, event.reason, event.at]))

    @on(RequestDisputeDecided, "request", "outcome", "amount", "why")
    def decided(self, event: RequestDisputeDecided, stream: str, position: int) -> None:
        statement: LiteralString = (
            "update disputes set outcome = %s, amount = %s, why = %s, decided_at = %s where request = %s"
        )
        self._changes.append((statement, [event.outcome, event.amount, event.why, event.at, event.request]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


PROJECTION = Projection("disputes", 1, TABLES, Disputes)


def disputes(connection: Connection, *, decided_too: bool) -> list[dict[str, Any]]:
    """The disputes that wait for an operator, or all of them, oldest first: `request`, `org`, `cost` and `amount` in
    nano-rupees, `reason` sealed, `outcome` and `why` None until it is decided, moments in microseconds."""
    return (
        connection.cursor(row_factory=dict_row)
        .execute(
            "select request, org, cost, reason, disputed_at, outcome, amount, why, decided_at"
            " from view_disputes.disputes where %s or outcome is null order by disputed_at, request",
            [decided_too],
        )
        .fetchall()
    )
