"""What each key and workspace has used of its monthly budget and daily calls, by the rules that admit requests.

A request counts in the month and day (India time) of its hold, whenever it ends: the guards of the ledger do the same,
so that what a limit shows is what the limit sees.
"""

from collections import defaultdict
from typing import Any

from psycopg.rows import dict_row

from domain.kernel.clock import ist_day, ist_month
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
create table daily_calls (
    scope text collate "C" not null,
    day bigint not null,
    calls bigint not null,
    primary key (scope, day)
) with (fillfactor = 50);
create table budget_holds (
    request text collate "C" primary key,
    key text collate "C" not null,
    workspace text collate "C" not null,
    month bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
"""

_BUDGETS = Sums("budgets", keys={"scope": "text", "month": "bigint"}, sums=("used", "held"))
_DAILY_CALLS = Sums("daily_calls", keys={"scope": "text", "day": "bigint"}, sums=("calls",))


class Budgets(Fold):
    def __init__(self) -> None:
        self._budgets: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._calls: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0])
        self._opened: dict[str, tuple[str, str, int]] = {}
        self._ended_of_before: set[str] = set()
        self._changes_of_before: list[tuple[str, int, int]] = []

    @on(CreditHeld, "key", "workspace", "amount")
    def held(self, event: CreditHeld, stream: str, position: int) -> None:
        day = day_of(event.at)
        hold = self._opened[stream[8:]] = event.key, event.workspace, month_of_day(day)
        self._calls[event.key, day][0] += 1
        self._calls[event.workspace, day][0] += 1
        self._change(hold, 0, event.amount)

    @on(HoldExtended, "amount")
    def extended(self, event: HoldExtended, stream: str, position: int) -> None:
        hold = self._opened.get(stream[8:])
        if hold is None:
            self._changes_of_before.append((stream[8:], 0, event.amount))
        else:
            self._change(hold, 0, event.amount)

    @on(RequestSettled, "held", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        self._end(stream[8:], event.cost, event.held)

    @on(HoldReleased, "held")
    @on(HoldExpired, "held")
    def freed(self, event: HoldReleased | HoldExpired, stream: str, position: int) -> None:
        self._end(stream[8:], 0, event.held)

    def _end(self, request: str, cost: int, held: int) -> None:
        hold = self._opened.pop(request, None)
        if hold is None:
            self._ended_of_before.add(request)
            self._changes_of_before.append((request, cost, -held))
        else:
            self._change(hold, cost, -held)

    def _change(self, hold: tuple[str, str, int], used: int, held: int) -> None:
        key, workspace, month = hold
        for scope in (key, workspace):
            budget = self._budgets[scope, month]
            budget[0] += used
            budget[1] += held

    def flush(self, cursor: Cursor) -> None:
        if self._changes_of_before:
            cursor.execute(
                "select request, key, workspace, month from budget_holds where request = any(%s::text[])",
                [text_array([*{change[0] for change in self._changes_of_before}])],
            )
            holds = {request: (key, workspace, month) for request, key, workspace, month in cursor}
            for request, used, held in self._changes_of_before:
                if request in holds:
                    self._change(holds[request], used, held)
        if self._ended_of_before:
            cursor.execute(
                "delete from budget_holds where request = any(%s::text[])",
                [text_array([*self._ended_of_before])],
            )
        if self._opened:
            keys, workspaces, months = zip(*self._opened.values(), strict=True)
            cursor.execute(
                "insert into budget_holds (request, key, workspace, month)"
                " select * from unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])",
                [
                    text_array([*self._opened]),
                    text_array(keys),
                    text_array(workspaces),
                    number_array(months),
                ],
            )
        _BUDGETS.add(cursor, self._budgets)
        _DAILY_CALLS.add(cursor, self._calls)


PROJECTION = Projection("budgets", 1, TABLES, Budgets, weight=5)


def budget_of(connection: Connection, scope: str, *, now: int) -> dict[str, Any]:
    """`used` and `held` nano-rupees in the current month and `calls` today, of a key or workspace at `now`."""
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute(
        """
        select coalesce(max(used), 0)::bigint as used, coalesce(max(held), 0)::bigint as held,
            coalesce((select calls from view_budgets.daily_calls where scope = %(scope)s and day = %(day)s), 0)
                ::bigint as calls
        from view_budgets.budgets where scope = %(scope)s and month = %(month)s
        """,
        {"scope": scope, "month": ist_month(now), "day": ist_day(now)},
    ).fetchone()
    assert row is not None
    return row
