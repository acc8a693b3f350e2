"""How providers do, for everybody to see: minute by minute for the last hours, by day, and their incidents.

Counted are the calls of customers on the product's own keys, and checks; of each call every route that was tried.
"""

from collections import defaultdict
from typing import Any, LiteralString, NamedTuple

import msgspec
from psycopg.rows import dict_row

from domain.catalog.model import key_source
from domain.kernel.clock import DAY, IST_OFFSET, ist_day
from domain.ledger.events import HoldReleased, RequestSettled
from domain.monitoring.events import Checked, IncidentChanged, IncidentClosed, IncidentOpened
from domain.monitoring.incidents import FORGOTTEN_MINUTES, MINUTE, NEWS_MINUTES, Incidents, Minute
from domain.routing.replies import counts_against
from projections.base import Connection, Cursor, Fold, Projection, Sums, day_of, execute_all, on

DAYS_SHOWN = 90
MINUTES_KEPT = 2 * FORGOTTEN_MINUTES
"""Behind the newest minute of all."""

TABLES = """
create table provider_days (
    provider text collate "C" not null,
    day bigint not null,
    answered bigint not null,
    failed bigint not null,
    primary key (provider, day)
) with (fillfactor = 70);
create table route_minutes (
    minute bigint not null,
    route text collate "C" not null,
    answered bigint not null,
    failed bigint not null,
    primary key (minute, route)
) with (fillfactor = 70);
create table routes_seen (
    route text collate "C" primary key,
    called bigint not null,
    seen bigint not null
) with (fillfactor = 70);
create table incidents (
    incident text collate "C" primary key,
    provider text collate "C" not null,
    severity text collate "C" not null,
    worst text collate "C" not null,
    models jsonb not null,
    opened bigint not null,
    closed bigint,
    reason text collate "C" not null
);
create index incidents_by_time on incidents (opened);
"""

_PROVIDER_DAYS = Sums("provider_days", keys={"provider": "text", "day": "bigint"}, sums=("answered", "failed"))
_ROUTE_MINUTES = Sums("route_minutes", keys={"minute": "bigint", "route": "text"}, sums=("answered", "failed"))
_FORGET: LiteralString = "delete from route_minutes where minute <= (select max(minute) from route_minutes) - %s"
_SEEN: LiteralString = """
insert into routes_seen values (%s, %s, %s) on conflict (route)
    do update set called = greatest(routes_seen.called, excluded.called),
    seen = greatest(routes_seen.seen, excluded.seen)
"""
_CHANGED: LiteralString = """
update incidents set severity = %s, models = %s, worst = case when %s = 'down' then 'down' else worst end
where incident = %s
"""


class Status(Fold):
    def __init__(self) -> None:
        # By route and minute: answered, failed, when last called, when last checked
        self._rows: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._changes: list[tuple[LiteralString, list[Any]]] = []

    @on(RequestSettled, "attempts")
    @on(HoldReleased, "attempts")
    def ended(self, event: RequestSettled | HoldReleased, stream: str, position: int) -> None:
        at = event.at
        for attempt in event.attempts:
            answered = attempt.end == "served"
            if answered or counts_against(attempt.end, attempt.status):
                row = self._rows[attempt.route, at // MINUTE]
                row[not answered] += 1
                if at > row[2]:
                    row[2] = at

    @on(Checked, "pings")
    def checked(self, event: Checked, stream: str, position: int) -> None:
        for ping in event.pings:
            if ping.end != "no_route" and not ping.own:
                row = self._rows[f"{ping.provider}/{ping.model}", event.at // MINUTE]
                row[not ping.answered] += 1
                row[3] = max(row[3], event.at)

    @on(IncidentOpened)
    def opened(self, event: IncidentOpened, stream: str, position: int) -> None:
        statement: LiteralString = "insert into incidents values (%s, %s, %s, %s, %s, %s, null, '')"
        severity = event.severity
        values = [event.incident, event.provider, severity, severity, _json(event.models), event.at]
        self._changes.append((statement, values))

    @on(IncidentChanged)
    def changed(self, event: IncidentChanged, stream: str, position: int) -> None:
        severity = event.severity
        self._changes.append((_CHANGED, [severity, _json(event.models), severity, event.incident]))

    @on(IncidentClosed)
    def closed(self, event: IncidentClosed, stream: str, position: int) -> None:
        statement: LiteralString = "update incidents set closed = %s, reason = %s where incident = %s"
        self._changes.append((statement, [event.at, event.reason, event.incident]))

    def flush(self, cursor: Cursor) -> None:
        days: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        minutes: dict[tuple[int, str], list[int]] = {}
        seen: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        ours = {place: row for place, row in self._rows.items() if key_source(place[0]) == "platform"}
        kept_after = max((minute for _, minute in ours), default=0) - MINUTES_KEPT
        for (route, minute), (answered, failed, called, checked) in ours.items():
            if minute > kept_after:
                minutes[minute, route] = [answered, failed]
            day = days[route.partition("/")[0], day_of(minute * MINUTE)]
            day[0] += answered
            day[1] += failed
            last = seen[route]
            last[0] = max(last[0], called)
            last[1] = max(last[1], called, checked)
        _PROVIDER_DAYS.add(cursor, days)
        _ROUTE_MINUTES.add(cursor, minutes)
        if minutes:
            self._changes.append((_FORGET, [MINUTES_KEPT]))
        self._changes += [(_SEEN, [route, *moments]) for route, moments in seen.items()]
        execute_all(cursor, self._changes)


def _json(models: tuple[str, ...]) -> str:
    return msgspec.json.encode(models).decode()


PROJECTION = Projection("status", 1, TABLES, Status, weight=4)


class SeenRoute(NamedTuple):
    """When a customer last called a route, 0 for never, and when it was last seen, be it by a check."""

    provider: str
    model: str
    called: int
    seen: int


def minutes_seen(connection: Connection, *, now: int) -> dict[str, dict[str, list[Minute]]]:
    """What became of the calls of the last hour, by provider and model."""
    found: defaultdict[str, defaultdict[str, list[Minute]]] = defaultdict(lambda: defaultdict(list))
    rows = connection.execute(
        "select route, minute, answered, failed from view_status.route_minutes where minute between %s and %s"
        " order by minute, route",
        [now // MINUTE - FORGOTTEN_MINUTES + 1, now // MINUTE],
    )
    for route, minute, answered, failed in rows:
        provider, model = _parts(route)
        found[provider][model].append(Minute(minute, answered, failed))
    return {provider: dict(models) for provider, models in found.items()}


def routes_seen(connection: Connection, *, after: int) -> list[SeenRoute]:
    """The routes that were called or checked after a moment."""
    rows = connection.execute(
        "select route, called, seen from view_status.routes_seen where seen > %s order by route", [after]
    )
    return [SeenRoute(*_parts(route), called, seen) for route, called, seen in rows]


def _parts(route: str) -> tuple[str, str]:
    provider, _, model = route.partition("/")
    return provider, model


def open_incidents(connection: Connection) -> dict[str, Incidents]:
    """Those that have not ended, by provider."""
    rows = _incidents(connection, "closed is null order by opened, incident", [])
    return {row["provider"]: Incidents(row["incident"], row["severity"], frozenset(row["models"])) for row in rows}


def incidents(connection: Connection, *, now: int) -> list[dict[str, Any]]:
    """Those of the days that are shown, newest first: `incident`, `provider`, `severity` now and at its `worst`, the
    `models` that failed last, `opened` and `closed` in microseconds, None while open, and the `reason` of its end."""
    start = (ist_day(now) - DAYS_SHOWN + 1) * DAY - IST_OFFSET
    return _incidents(connection, "closed is null or closed > %s order by opened desc, incident", [start])


def _incidents(connection: Connection, condition: LiteralString, values: list[Any]) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute("select * from view_status.incidents where " + condition, values).fetchall()


def days_of(connection: Connection, *, now: int) -> dict[str, dict[int, tuple[int, int]]]:
    """How many calls and checks were answered and failed, by provider and day, in the 90 days up to today."""
    today = ist_day(now)
    found: defaultdict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    rows = connection.execute(
        "select provider, day, answered, failed from view_status.provider_days where day between %s and %s",
        [today - DAYS_SHOWN + 1, today],
    )
    for provider, day, answered, failed in rows:
        found[provider][day] = (answered, failed)
    return dict(found)


def seen_lately(connection: Connection, *, now: int) -> dict[str, tuple[int, int]]:
    """How many calls and checks of each provider were answered and failed in the last quarter of an hour."""
    rows = connection.execute(
        "select split_part(route, '/', 1), sum(answered)::bigint, sum(failed)::bigint from view_status.route_minutes"
        " where minute between %s and %s group by 1",
        [now // MINUTE - NEWS_MINUTES + 1, now // MINUTE],
    )
    return {provider: (answered, failed) for provider, answered, failed in rows}


def last_seen(connection: Connection) -> dict[str, int]:
    """When each provider was last called or checked, in microseconds since 1970."""
    rows = connection.execute("select split_part(route, '/', 1), max(seen) from view_status.routes_seen group by 1")
    return dict(rows.fetchall())
