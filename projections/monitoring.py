"""What orgs want watched, what was found, and whom it is still to be told: per collection, day and route for the health
of up to 90 days, and check by check for the last day, which alerts look at.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import dict_row

from domain.kernel.clock import DAY, ist_day
from domain.monitoring.alerts import Found
from domain.monitoring.events import (
    AlertBreached,
    AlertRecovered,
    AlertRemoved,
    AlertSet,
    AlertTold,
    Checked,
    MonitoringStarted,
    MonitoringStopped,
)
from domain.monitoring.monitors import Alert
from projections.base import Connection, Cursor, Fold, Projection, Sums, day_of, execute_all, on
from projections.route_stats import kept_of, middle_of

RECENT = DAY + DAY // 24
"""How long, in microseconds, single checks are kept behind the newest of their collection."""

TABLES = """
create table monitors (
    collection text collate "C" primary key,
    org text collate "C" not null,
    since bigint not null
);
create table alerts (
    alert text collate "C" primary key,
    collection text collate "C" not null,
    org text collate "C" not null,
    metric text collate "C" not null,
    threshold bigint not null,
    window_minutes bigint not null,
    step bigint,
    mail text collate "C" not null,
    webhook text not null,
    created bigint not null,
    breached boolean not null,
    noticed bigint
);
create index alerts_by_collection on alerts (collection);
create table notices (
    alert text collate "C" not null,
    notice bigint not null,
    org text collate "C" not null,
    collection text collate "C" not null,
    breached boolean not null,
    figure bigint not null,
    checks bigint not null,
    at bigint not null,
    primary key (alert, notice)
);
create table checked (
    collection text collate "C" primary key,
    at bigint not null
);
create table check_days (
    collection text collate "C" not null,
    day bigint not null,
    model text collate "C" not null,
    provider text collate "C" not null,
    latency bigint not null,
    answered bigint not null,
    failed bigint not null,
    primary key (collection, day, model, provider, latency)
);
create table routes_checked (
    collection text collate "C" not null,
    model text collate "C" not null,
    provider text collate "C" not null,
    at bigint not null,
    primary key (collection, model, provider)
);
create table recent_checks (
    collection text collate "C" not null,
    at bigint not null,
    step bigint not null,
    answered boolean not null,
    milliseconds bigint not null,
    primary key (collection, at, step)
);
create table worth_days (
    org text collate "C" not null,
    day bigint not null,
    worth bigint not null,
    primary key (org, day)
);
"""

_CHECK_DAYS = Sums(
    "check_days",
    keys={"collection": "text", "day": "bigint", "model": "text", "provider": "text", "latency": "bigint"},
    sums=("answered", "failed"),
)
_WORTH_DAYS = Sums("worth_days", keys={"org": "text", "day": "bigint"}, sums=("worth",))
_CHECKED: LiteralString = """
insert into checked values (%s, %s) on conflict (collection) do update set at = greatest(checked.at, excluded.at)
"""
_ROUTE_CHECKED: LiteralString = """
insert into routes_checked values (%s, %s, %s, %s) on conflict (collection, model, provider)
    do update set at = greatest(routes_checked.at, excluded.at)
"""
_FORGET: LiteralString = """
delete from recent_checks r using checked c where c.collection = %s and r.collection = %s and r.at <= c.at - %s
"""


class Monitoring(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []
        self._days: defaultdict[tuple[str, int, str, str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._worth: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0])
        self._checked: dict[str, int] = {}
        self._routes: dict[tuple[str, str, str], int] = {}

    @on(MonitoringStarted)
    def started(self, event: MonitoringStarted, stream: str, position: int) -> None:
        self._changes.append(("insert into monitors values (%s, %s, %s)", [event.collection, event.owner, event.at]))

    @on(MonitoringStopped, "collection")
    def stopped(self, event: MonitoringStopped, stream: str, position: int) -> None:
        self._changes.append(("delete from monitors where collection = %s", [event.collection]))

    @on(AlertSet)
    def alert_set(self, event: AlertSet, stream: str, position: int) -> None:
        statement: LiteralString = (
            "insert into alerts values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, false, null) on conflict do nothing"
        )
        values = [
            event.alert,
            event.collection,
            event.owner,
            event.metric,
            event.threshold,
            event.window_minutes,
            event.step,
            event.mail,
            event.webhook,
            event.at,
        ]
        self._changes.append((statement, values))

    @on(AlertRemoved, "alert")
    def alert_removed(self, event: AlertRemoved, stream: str, position: int) -> None:
        self._changes.append(("delete from alerts where alert = %s", [event.alert]))
        self._changes.append(("delete from notices where alert = %s", [event.alert]))

    @on(AlertBreached)
    @on(AlertRecovered)
    def noticed(self, event: AlertBreached | AlertRecovered, stream: str, position: int) -> None:
        breached = isinstance(event, AlertBreached)
        self._changes.append(
            ("update alerts set breached = %s, noticed = %s where alert = %s", [breached, event.at, event.alert])
        )
        statement: LiteralString = (
            "insert into notices select %s, %s, %s, %s, %s, %s, %s, %s where exists"
            " (select from alerts where alert = %s)"
        )
        values = [event.alert, event.notice, event.owner, event.collection, breached, event.figure, event.checks]
        self._changes.append((statement, [*values, event.at, event.alert]))

    @on(AlertTold, "alert", "notice")
    def told(self, event: AlertTold, stream: str, position: int) -> None:
        self._changes.append(("delete from notices where alert = %s and notice = %s", [event.alert, event.notice]))

    @on(Checked)
    def checked(self, event: Checked, stream: str, position: int) -> None:
        slug, day = event.collection, day_of(event.at)
        if not slug:
            return
        self._worth[event.owner, day][0] += event.worth
        self._checked[slug] = max(event.at, self._checked.get(slug, 0))
        recent: LiteralString = "insert into recent_checks values (%s, %s, %s, %s, %s)"
        for ping in event.pings:
            route = (slug, ping.model, ping.provider)
            latency = kept_of(ping.milliseconds) if ping.answered else 0
            self._days[slug, day, ping.model, ping.provider, latency][0 if ping.answered else 1] += 1
            self._routes[route] = max(event.at, self._routes.get(route, 0))
            self._changes.append((recent, [slug, event.at, ping.step, ping.answered, ping.milliseconds]))

    def flush(self, cursor: Cursor) -> None:
        _CHECK_DAYS.add(cursor, self._days)
        _WORTH_DAYS.add(cursor, self._worth)
        self._changes += [(_CHECKED, [slug, at]) for slug, at in self._checked.items()]
        self._changes += [(_ROUTE_CHECKED, [*route, at]) for route, at in self._routes.items()]
        self._changes += [(_FORGET, [slug, slug, RECENT]) for slug in self._checked]
        execute_all(cursor, self._changes)


PROJECTION = Projection("monitoring", 1, TABLES, Monitoring)

_ALERT = ("alert", "collection", "metric", "threshold", "window_minutes", "step", "mail", "webhook", "created")


@dataclass(frozen=True, slots=True)
class Notice:
    """What an alert of `org` has to say: that its figure, over so many checks, has reached its threshold (`breached`)
    or is below it again. `number` counts from 1; `at` in microseconds since 1970."""

    org: str
    number: int
    breached: bool
    figure: int
    checks: int
    at: int


def monitored(connection: Connection) -> list[dict[str, Any]]:
    """Every collection that is watched: `collection`, `org`, and `last`, the moment of its last check or None; those
    that have waited longest first."""
    return _rows(
        connection,
        "select m.collection, m.org, c.at as last from view_monitoring.monitors m"
        " left join view_monitoring.checked c using (collection) order by c.at nulls first, m.collection",
    )


def last_check(connection: Connection, collection: str) -> int | None:
    """When the collection was checked last, in microseconds since 1970."""
    rows = _rows(connection, "select at from view_monitoring.checked where collection = %s", collection)
    return rows[0]["at"] if rows else None


def worth_today(connection: Connection, orgs: Collection[str], *, now: int) -> dict[str, int]:
    """The most, in nano-rupees, that checks of these orgs may have cost the product on this day of India's calendar."""
    rows = _rows(
        connection,
        "select org, worth from view_monitoring.worth_days where org = any(%s) and day = %s",
        list(orgs),
        ist_day(now),
    )
    return {row["org"]: row["worth"] for row in rows}


def alerts_of(connection: Connection, collection: str) -> list[Alert]:
    """All alerts of a collection, oldest first."""
    rows = _rows(
        connection, "select * from view_monitoring.alerts where collection = %s order by created, alert", collection
    )
    return [_alert(row) for row in rows]


def breached(connection: Connection, collection: str) -> set[str]:
    """The alerts of a collection that have told of a breach and not of its end."""
    rows = _rows(connection, "select alert from view_monitoring.alerts where collection = %s and breached", collection)
    return {row["alert"] for row in rows}


def found_of(connection: Connection, collection: str, *, since: int) -> dict[int, list[Found]]:
    """What was found after a moment of the last day, by step, oldest first."""
    found: defaultdict[int, list[Found]] = defaultdict(list)
    for row in _rows(
        connection,
        "select at, step, answered, milliseconds from view_monitoring.recent_checks"
        " where collection = %s and at > %s order by at, step",
        collection,
        since,
    ):
        found[row["step"]].append(Found(row["at"], row["answered"], row["milliseconds"]))
    return found


def untold(connection: Connection, *, noticed_after: int, limit: int) -> list[tuple[Notice, Alert]]:
    """Notices that nobody was told of yet, oldest first: candidates, on which the log has the last word."""
    rows = _rows(
        connection,
        "select a.*, n.notice, n.breached as says, n.figure, n.checks, n.at from view_monitoring.notices n"
        " join view_monitoring.alerts a using (alert) where n.at > %s order by n.at, n.alert, n.notice limit %s",
        noticed_after,
        limit,
    )
    return [
        (Notice(row["org"], row["notice"], row["says"], row["figure"], row["checks"], row["at"]), _alert(row))
        for row in rows
    ]


def health_of(connection: Connection, collection: str, *, days: int, now: int) -> list[dict[str, Any]]:
    """How each route of a collection did in the last so many days of India's calendar, today included.

    `uptime` is the share of checks that were answered (0 to 1); `p95_ms`, the time that 95 of 100 answers stayed
    within, is off by a sixteenth at most, and None where none was answered. `provider` is None where no route could be
    chosen.
    """
    today = ist_day(now)
    rows = connection.cursor(row_factory=dict_row).execute(
        """
        with seen as (
            select model, provider, latency, sum(answered) as answered, sum(failed) as failed
            from view_monitoring.check_days
            where collection = %(collection)s and day between %(first)s and %(last)s
            group by model, provider, latency
        ), placed as (
            select *, sum(answered) over (partition by model, provider order by latency) as so_far,
                sum(answered) over (partition by model, provider) as in_all
            from seen
        ), summed as (
            select model, provider, sum(answered)::bigint as answered, sum(failed)::bigint as failed,
                min(latency) filter (where answered > 0 and 20 * so_far >= 19 * in_all) as p95
            from placed group by model, provider
        )
        select s.*, r.at from summed s join view_monitoring.routes_checked r
            on r.collection = %(collection)s and r.model = s.model and r.provider = s.provider
        order by model, provider
        """,
        {"collection": collection, "first": today - days + 1, "last": today},
    )
    return [
        {
            "model": row["model"],
            "provider": row["provider"] or None,
            "uptime": round(row["answered"] / (row["answered"] + row["failed"]), 4),
            "p95_ms": middle_of(row["p95"]),
            "checks": row["answered"] + row["failed"],
            "last_check": row["at"],
        }
        for row in rows
    ]


def _alert(row: dict[str, Any]) -> Alert:
    return Alert(**{"id" if name == "alert" else name: row[name] for name in _ALERT})


def _rows(connection: Connection, query: LiteralString, *values: object) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    parameters: Sequence[object] = values
    return cursor.execute(query, parameters).fetchall()
