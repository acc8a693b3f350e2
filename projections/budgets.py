"""What each key and workspace has used of its monthly budget, by the rules that admit requests.

A request counts in the month (India time) of its hold, whenever it ends: the guards of the ledger do the same,
so that what a limit shows is what the limit sees.
"""

from collections import defaultdict
from typing import Any

from psycopg.rows import dict_row

from domain.kernel.clock import ist_month
from domain.ledger.events import CreditHeld, HoldExpired, HoldExtended, HoldReleased, RequestSettled
from projections.base import (
    Connection,
    Cursor,
    Fold,
    Projection,
    Sums,
    day_of,
    month_of_day,
    number_array,
    on,
    text_array,
)

TABLES = """
create table budgets (
    scope text collate "C" not null,
    month bigint not null,
    used bigint not null,
    held bigint not null,
    primary key (scope, month)
) with (fillfactor = 50);
create table budget_holds (
    request text collate "C" primary key,
    key text collate "C" not null,
    workspace text collate "C" not null,
    month bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
"""

_BUDGETS = Sums("budgets", keys={"scope": "text", "month": "bigint"}, sums=("used", "held"))

# Who holds and since which month: the key, the workspace, the month. What those did together: used, held.
_Place = tuple[str, str, int]
_Sums = list[int]


class Budgets(Fold):
    def __init__(self) -> None:
        self._sums: defaultdict[_Place, _Sums] = defaultdict(lambda: [0, 0])
        self._opened: dict[str, tuple[_Place, _Sums]] = {}
        self._of_before: list[tuple[str, int, int]] = []
        self._ended_of_before: list[str] = []

    @on(CreditHeld, "key", "workspace", "amount")
    def held(self, event: CreditHeld, stream: str, position: int) -> None:
        place = event.key, event.workspace, month_of_day(day_of(event.at))
        sums = self._sums[place]
        sums[1] += event.amount
        self._opened[stream[8:]] = place, sums

    @on(HoldExtended, "amount")
    def extended(self, event: HoldExtended, stream: str, position: int) -> None:
        request = stream[8:]
        if request in self._opened:
            self._opened[request][1][1] += event.amount
        else:
            self._of_before.append((request, 0, event.amount))

    @on(RequestSettled, "held", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        self._end(stream[8:], event.cost, event.held)

    @on(HoldReleased, "held")
    @on(HoldExpired, "held")
    def freed(self, event: HoldReleased | HoldExpired, stream: str, position: int) -> None:
        self._end(stream[8:], 0, event.held)

    def _end(self, request: str, cost: int, held: int) -> None:
        opened = self._opened.pop(request, None)
        if opened is None:
            self._of_before.append((request, cost, -held))
            self._ended_of_before.append(request)
        else:
            sums = opened[1]
            sums[0] += cost
            sums[1] -= held

    def flush(self, cursor: Cursor) -> None:
        self._resolve(cursor)
        if self._opened:
            keys, workspaces, months = zip(*(place for place, _ in self._opened.values()), strict=True)
            cursor.execute(
                "insert into budget_holds (request, key, workspace, month)"
                " select * from unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])",
                [text_array([*self._opened]), text_array(keys), text_array(workspaces), number_array(months)],
            )
        budgets: defaultdict[tuple[str, int], _Sums] = defaultdict(lambda: [0, 0])
        for (key, workspace, month), (used, held) in self._sums.items():
            for scope in (key, workspace):
                budget = budgets[scope, month]
                budget[0] += used
                budget[1] += held
        _BUDGETS.add(cursor, budgets)

    def _resolve(self, cursor: Cursor) -> None:
        """Brings in what happened to holds that an earlier batch has seen."""
        if self._of_before:
            cursor.execute(
                "select request, key, workspace, month from budget_holds where request = any(%s::text[])",
                [text_array([request for request, _, _ in self._of_before])],
            )
            places = {request: (key, workspace, month) for request, key, workspace, month in cursor}
            for request, used, held in self._of_before:
                if request in places:
                    sums = self._sums[places[request]]
                    sums[0] += used
                    sums[1] += held
        if self._ended_of_before:
            cursor.execute(
                "delete from budget_holds where request = any(%s::text[])", [text_array(self._ended_of_before)]
            )


PROJECTION = Projection("budgets", 2, TABLES, Budgets, weight=4)


def budget_of(connection: Connection, scope: str, *, now: int) -> dict[str, Any]:
    """`used` and `held` nano-rupees of a key or workspace in the current month at `now`."""
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute(
        "select coalesce(max(used), 0)::bigint as used, coalesce(max(held), 0)::bigint as held"
        " from view_budgets.budgets where scope = %s and month = %s",
        [scope, ist_month(now)],
    ).fetchone()
    assert row is not None
    return row
