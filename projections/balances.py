"""What each org was granted, has spent and has on hold; what it can spend is the rest."""

from collections import defaultdict
from typing import Any

from psycopg.rows import dict_row

from domain.accounts.events import OrgCreated
from domain.kernel.clock import DAY, IST_OFFSET
from domain.ledger.events import (
    CreditGranted,
    CreditHeld,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    RequestSettled,
)
from projections.base import Connection, Cursor, Fold, Projection, Sums, day_of, on

TABLES = """
create table balances (
    org text collate "C" primary key,
    granted bigint not null,
    spent bigint not null,
    held bigint not null
) with (fillfactor = 50);
create table spent_days (
    org text collate "C" not null,
    day bigint not null,
    spent bigint not null,
    primary key (org, day)
) with (fillfactor = 50);
"""

_BALANCES = Sums("balances", keys={"org": "text"}, sums=("granted", "spent", "held"))
_SPENT_DAYS = Sums("spent_days", keys={"org": "text", "day": "bigint"}, sums=("spent",))


class Balances(Fold):
    def __init__(self) -> None:
        self._balances: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._spent_days: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0])

    @on(OrgCreated, "name")
    def created(self, event: OrgCreated, stream: str, position: int) -> None:
        self._balances[stream.removeprefix("org:")]

    @on(CreditGranted, "org", "amount")
    def granted(self, event: CreditGranted, stream: str, position: int) -> None:
        self._balances[event.org][0] += event.amount

    @on(CreditHeld, "org", "amount")
    @on(HoldExtended, "org", "amount")
    def held(self, event: CreditHeld | HoldExtended, stream: str, position: int) -> None:
        self._balances[event.org][2] += event.amount

    @on(RequestSettled, "org", "held", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        balance = self._balances[event.org]
        balance[1] += event.cost
        balance[2] -= event.held
        self._spent_days[event.org, day_of(event.at)][0] += event.cost

    @on(HoldReleased, "org", "held")
    @on(HoldExpired, "org", "held")
    def freed(self, event: HoldReleased | HoldExpired, stream: str, position: int) -> None:
        self._balances[event.org][2] -= event.held

    def flush(self, cursor: Cursor) -> None:
        _BALANCES.add(cursor, self._balances)
        _SPENT_DAYS.add(cursor, self._spent_days)


PROJECTION = Projection("balances", 1, TABLES, Balances, weight=3)


def balance_of(connection: Connection, org: str) -> dict[str, int] | None:
    """`granted`, `spent`, `held`, `available` in nano-rupees; None for an org that is not known (yet)."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        "select granted, spent, held, granted - spent - held as available from view_balances.balances where org = %s",
        [org],
    ).fetchone()


def balance_as_of(connection: Connection, org: str, *, at: int) -> dict[str, int]:
    """The same from all events up to and including the moment `at`, in microseconds: what a replay would give.

    Whole days come from their sums, the rest of the last day from the feed; what was then in flight from the log, for
    the requests that ended soon after, took long, or are still open.
    """
    midnight = day_of(at) * DAY - IST_OFFSET
    row = _one(
        connection,
        """
        select
            (select coalesce(sum((convert_from(state, 'utf8')::json ->> 'amount')::bigint), 0) from events
                where originator_id = 'account:' || %(org)s and topic = %(granted)s
                and (convert_from(state, 'utf8')::json ->> 'at')::bigint <= %(at)s)::bigint as granted,
            (
                (select coalesce(sum(spent), 0) from view_balances.spent_days
                    where org = %(org)s and day < %(day)s)
                + (select coalesce(sum(cost), 0) from view_activity.activity
                    where org = %(org)s and at between %(midnight)s and %(at)s)
            )::bigint as spent,
            (select coalesce(sum((convert_from(state, 'utf8')::json ->> 'amount')::bigint), 0) from events
                where originator_id in (
                    select 'request:' || request from view_requests.requests_open
                        where org = %(org)s and held_at <= %(at)s
                    union all
                    select 'request:' || request from view_activity.activity
                        where org = %(org)s and at > %(at)s and at <= %(at)s + 600000000
                    union all
                    select 'request:' || request from view_requests.requests_ended
                        where org = %(org)s and held_at <= %(at)s
                        and ended_at > %(at)s + 600000000 and ended_at - held_at > 600000000
                )
                and topic in (%(held)s, %(extended)s)
                and (convert_from(state, 'utf8')::json ->> 'at')::bigint <= %(at)s)::bigint as held
        """,
        {
            "org": org,
            "at": at,
            "day": day_of(at),
            "midnight": midnight,
            "granted": CreditGranted.NAME,
            "held": CreditHeld.NAME,
            "extended": HoldExtended.NAME,
        },
    )
    return {**row, "available": row["granted"] - row["spent"] - row["held"]}


def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> dict[str, int]:
    row = connection.cursor(row_factory=dict_row).execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row
