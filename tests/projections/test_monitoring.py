"""What was found by checks, however the log is read: health of collections, what alerts look at, and providers."""

import math
from collections import defaultdict
from itertools import accumulate

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.kernel.clock import DAY, IST_OFFSET, SECOND
from domain.ledger.events import Attempt
from domain.monitoring.events import (
    AlertBreached,
    AlertRecovered,
    AlertRemoved,
    AlertSet,
    AlertTold,
    Checked,
    IncidentChanged,
    IncidentClosed,
    IncidentOpened,
    MonitoringStarted,
    MonitoringStopped,
    Ping,
)
from domain.monitoring.incidents import MINUTE
from projections import monitoring, status
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import START, Line
from tests.projections.test_route_stats import gone, is_the_callers_fault

NOW = START + 100 * DAY
BOTH = [monitoring.PROJECTION, status.PROJECTION]

PINGS = st.lists(
    st.builds(
        Ping,
        step=st.just(0),
        model=st.sampled_from(["m1", "m2"]),
        provider=st.sampled_from(["near", "far"]),
        end=st.sampled_from(["answered", "answered", "status", "timeout", "no_route"]),
        milliseconds=st.integers(0, 15_000),
        own=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)
CHECKS = st.lists(
    st.tuples(st.integers(0, 99 * DAY) | st.integers(98 * DAY, 99 * DAY), st.sampled_from(["a", "b", ""]), PINGS),
    max_size=25,
    unique_by=lambda check: check[0],
)
ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        route=st.sampled_from(["near/m1", "far/m2", "own:near/m1", "byoe:ours/m1"]),
        end=st.sampled_from(["served", "status", "parameters", "timeout"]),
        status=st.sampled_from([200, 400, 429, 503]),
    ),
    max_size=3,
)
CALLS = st.lists(st.tuples(st.integers(95 * DAY, 99 * DAY), ATTEMPTS), max_size=15)


def checked(at: int, collection: str, pings: list[Ping]) -> Line:
    numbered = tuple(
        Ping(**{name: getattr(ping, name) for name in ping.__struct_fields__} | {"step": step})
        for step, ping in enumerate(pings)
    )
    owner = "o" if collection else ""
    check = Checked(at=START + at, owner=owner, collection=collection, pings=numbered, worth=7)
    return f"check:{collection}/{START + at}", check


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(checks=CHECKS, calls=CALLS, ends=st.lists(st.integers(1, 10), max_size=5))
def test_checks_and_calls_add_up_wherever_batches_end(
    database_url: str, checks: list, calls: list, ends: list[int]
) -> None:
    lines = [checked(*check) for check in checks]
    lines += [(f"request:r{number}", gone(at, attempts)) for number, (at, attempts) in enumerate(calls)]
    with history_in(database_url, lines) as (cursor, before, head):
        stops = [before, *(before + at for at in accumulate(ends) if before + at < head), head]
        live = filled(cursor, BOTH, stops=stops)
        assert sums_of(cursor, live) == sums_of(cursor, filled(cursor, BOTH, "__again", stops=[before, head]))
        connection = cursor.connection
        for days in (1, 7, 90):
            assert_health(connection, [check for _, check in lines if isinstance(check, Checked)], days=days)
        assert_providers(connection, lines)


def assert_health(connection: psycopg.Connection, checks: list[Checked], *, days: int) -> None:
    first = ((NOW + IST_OFFSET) // DAY - days + 1) * DAY - IST_OFFSET
    for collection in ("a", "b"):
        wanted, last = defaultdict(list), defaultdict(int)
        for check in checks:
            for ping in check.pings if check.collection == collection else ():
                last[ping.model, ping.provider] = max(check.at, last[ping.model, ping.provider])
                if check.at >= first:
                    wanted[ping.model, ping.provider].append(ping)
        shown = monitoring.health_of(connection, collection, days=days, now=NOW)
        assert [(row["model"], row["provider"]) for row in shown] == sorted(wanted)
        for row in shown:
            pings = wanted[row["model"], row["provider"]]
            times = sorted(ping.milliseconds for ping in pings if ping.answered)
            assert row["checks"] == len(pings)
            assert row["uptime"] == round(len(times) / len(pings), 4)
            assert row["last_check"] == last[row["model"], row["provider"]]
            if times:
                exact = times[math.ceil(len(times) * 0.95) - 1]
                assert abs(row["p95_ms"] - exact) <= exact / 16 + 0.5
            else:
                assert row["p95_ms"] is None
        of = [check for check in checks if check.collection == collection]
        newest = max((check.at for check in of), default=None)
        assert monitoring.last_check(connection, collection) == newest
        if newest is not None:
            found = monitoring.found_of(connection, collection, since=newest - DAY)
            assert {each.at for steps in found.values() for each in steps} == {
                check.at for check in of if check.at > newest - DAY
            }


def assert_providers(connection: psycopg.Connection, lines: list[Line]) -> None:
    counted, seen = defaultdict(lambda: [0, 0]), defaultdict(int)
    for _, event in lines:
        if isinstance(event, Checked):
            for ping in event.pings:
                if ping.end != "no_route" and not ping.own:
                    counted[ping.provider, (event.at + IST_OFFSET) // DAY][not ping.answered] += 1
                    seen[ping.provider] = max(seen[ping.provider], event.at)
            continue
        for attempt in event.attempts:
            provider = attempt.route.partition("/")[0]
            if ":" not in provider and (attempt.end == "served" or not is_the_callers_fault(attempt)):
                counted[provider, (event.at + IST_OFFSET) // DAY][attempt.end != "served"] += 1
                seen[provider] = max(seen[provider], event.at)
    shown = status.days_of(connection, now=NOW)
    assert {(provider, day): [*sums] for provider, days in shown.items() for day, sums in days.items()} == {
        key: sums for key, sums in counted.items() if key[1] > (NOW + IST_OFFSET) // DAY - status.DAYS_SHOWN
    }
    assert status.last_seen(connection) == seen


CONFIGURED = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b"]), st.integers(1, 3)), max_size=25)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=CONFIGURED, ends=st.lists(st.integers(1, 10), max_size=5))
def test_what_is_watched_and_to_be_told_is_known_wherever_batches_end(
    database_url: str, steps: list, ends: list[int]
) -> None:
    lines, watched, alerts, notices, opened = [], set(), {}, {}, {}
    for number, (kind, slug, alert) in enumerate(steps):
        at, who = START + number * SECOND, {"owner": "o", "collection": slug}
        id = f"alr_{slug}{alert}"
        count = number + 1
        match kind:
            case 0 | 1 if slug not in watched:
                watched.add(slug)
                lines.append(("monitor:o", MonitoringStarted(at=at, **who)))
            case 2 if slug in watched:
                watched.discard(slug)
                lines.append(("monitor:o", MonitoringStopped(at=at, **who)))
            case 3 | 4 if id not in alerts:
                alerts[id] = False
                terms = {"metric": "error_rate", "threshold": 1, "window_minutes": 15}
                lines.append(("monitor:o", AlertSet(at=at, **who, alert=id, **terms, mail="org")))
            case 5 if id in alerts:
                del alerts[id]
                notices = {key: value for key, value in notices.items() if key[0] != id}
                lines.append(("monitor:o", AlertRemoved(at=at, **who, alert=id)))
            case 6 | 7 if id in alerts:
                fact = AlertRecovered if alerts[id] else AlertBreached
                alerts[id] = not alerts[id]
                notices[id, count] = alerts[id]
                said = {"notice": count, "figure": 1, "checks": 3, "metric": "error_rate", "threshold": 1}
                lines.append((f"alert:{id}", fact(at=at, **who, alert=id, **said)))
            case 8 if notices:
                (told, notice), _ = notices.popitem()
                lines.append((f"alert:{told}", AlertTold(at=at, owner="o", alert=told, notice=notice)))
            case 9:
                fields = {"provider": slug, "incident": f"inc_{slug}{opened.get(slug, 0)}"}
                now = {"severity": "down" if alert == 1 else "degraded", "models": ("m",)}
                events = [IncidentOpened(at=at, **fields, **now), IncidentChanged(at=at, **fields, **now)]
                events += [IncidentClosed(at=at, **fields, reason="recovered")] if alert == 2 else []
                lines += [(f"incident:{slug}", event) for event in (events if slug not in opened else [])]
                opened.setdefault(slug, 0)
    with history_in(database_url, lines) as (cursor, before, head):
        stops = [before, *(before + at for at in accumulate(ends) if before + at < head), head]
        live = filled(cursor, BOTH, stops=stops)
        assert sums_of(cursor, live) == sums_of(cursor, filled(cursor, BOTH, "__again", stops=[before, head]))
        connection = cursor.connection
        assert {row["collection"] for row in monitoring.monitored(connection)} == watched
        for slug in ("a", "b"):
            shown = {alert.id for alert in monitoring.alerts_of(connection, slug)}
            assert shown == {id for id in alerts if id.startswith(f"alr_{slug}")}
            assert monitoring.breached(connection, slug) == {id for id in shown if alerts[id]}
        waiting = monitoring.untold(connection, noticed_after=0, limit=100)
        assert {(alert.id, notice.number): notice.breached for notice, alert in waiting} == notices
        assert len(status.incidents(connection, now=START)) == len(opened)


def test_minutes_are_forgotten_behind_the_newest_and_read_up_to_now(database_url: str) -> None:
    failed = [Attempt("near/m1", "timeout")]
    lines: list[Line] = [(f"request:r{number}", gone(number * MINUTE, failed)) for number in range(200)]
    now = START + 199 * MINUTE
    with history_in(database_url, lines) as (cursor, before, head):
        filled(cursor, BOTH, stops=[before, head])
        cursor.execute("select count(*) from view_status.route_minutes")
        assert cursor.fetchone() == (status.MINUTES_KEPT,)
        seen = status.minutes_seen(cursor.connection, now=now)["near"]["m1"]
        assert [each.minute for each in seen] == [now // MINUTE - 59 + number for number in range(60)]
        assert status.seen_lately(cursor.connection, now=now) == {"near": (0, 15)}
        assert status.seen_lately(cursor.connection, now=now + 20 * MINUTE) == {}
