"""Which orgs want to be told when their credit runs low, and when each was told last."""

from typing import Any, LiteralString

from domain.payments.events import LowBalanceNoticed, LowBalanceSet
from projections.base import Connection, Cursor, Fold, Projection, execute_all, on

TABLES = """
create table low_balance (
    org text collate "C" primary key,
    threshold bigint,
    noticed_at bigint
);
"""


class LowBalances(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []

    @on(LowBalanceSet, "org", "threshold")
    def threshold_set(self, event: LowBalanceSet, stream: str, position: int) -> None:
        statement: LiteralString = (
            "insert into low_balance (org, threshold) values (%s, %s)"
            " on conflict (org) do update set threshold = excluded.threshold"
        )
        self._changes.append((statement, [event.org, event.threshold]))

    @on(LowBalanceNoticed, "org")
    def noticed(self, event: LowBalanceNoticed, stream: str, position: int) -> None:
        self._changes.append(("update low_balance set noticed_at = %s where org = %s", [event.at, event.org]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


PROJECTION = Projection("low_balance", 1, TABLES, LowBalances)


def running_low(connection: Connection, *, noticed_before: int) -> list[str]:
    """The orgs that have less available than they want, and were not told since that moment: candidates, which the
    ledger then decides on. What is available is read where it is decided, so that it is never late."""
    rows = connection.execute(
        "select org from view_low_balance.low_balance join balance using (org)"
        " where available < threshold and coalesce(noticed_at, 0) <= %s order by org",
        [noticed_before],
    ).fetchall()
    return [org for (org,) in rows]
