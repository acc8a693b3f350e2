"""How routes did of late: what any history adds up to, wherever batches end, live and rebuilt."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.inference.metering import Usage
from domain.kernel.clock import DAY, IST_OFFSET, SECOND
from domain.ledger.events import Attempt, HoldReleased, RequestSettled
from projections.route_stats import DAYS_SHOWN, PROJECTION, route_stats
from projections.runner import Copy, Runner
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import RATES, START, Line, append

ROUTES = ("near/m", "far/m")
WHO = {"org": "o", "key": "k", "workspace": "w", "endpoint": "chat", "model": "m", "held": 1}
NOW = START + 10 * DAY
FAILED = st.builds(
    Attempt,
    route=st.sampled_from(ROUTES),
    end=st.sampled_from(["status", "connect", "timeout", "cut", "parameters"]),
    status=st.sampled_from([0, 200, 400, 401, 422, 429, 503]),
    milliseconds=st.integers(0, 9_000),
)
SERVED = st.builds(Attempt, route=st.sampled_from(ROUTES), end=st.just("served"), milliseconds=st.integers(0, 700_000))
# At what time, what was tried in vain, what answered in the end (or nothing), for how long after it, so many tokens.
CALLS = st.lists(
    st.tuples(
        st.integers(0, 10 * DAY),
        st.lists(FAILED, max_size=2),
        st.none() | SERVED,
        st.integers(0, 60_000),
        st.integers(0, 5_000),
    ),
    max_size=25,
)


def lines_of(calls: Sequence[tuple]) -> list[Line]:
    return [
        (f"request:r{number}", settled(START + at, (*failed, served), more, tokens) if served else gone(at, failed))
        for number, (at, failed, served, more, tokens) in enumerate(calls)
    ]


def settled(at: int, attempts: Sequence[Attempt], more: int, tokens: int) -> RequestSettled:
    return RequestSettled(
        at=at,
        **WHO,
        provider="near",
        residency="IN",
        cost=0,
        usage=Usage(input=1, output=tokens),
        rates=RATES,
        attempts=tuple(attempts),
        first_byte_ms=attempts[-1].milliseconds,
        duration_ms=sum(each.milliseconds for each in attempts) + more,
    )


def gone(at: int, failed: Sequence[Attempt]) -> HoldReleased:
    return HoldReleased(at=START + at, **WHO, code="all_routes_failed", attempts=tuple(failed))


def is_the_callers_fault(attempt: Attempt) -> bool:
    return attempt.end == "parameters" or (attempt.end == "status" and attempt.status in (400, 422))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS, ends=st.lists(st.integers(1, 10), max_size=5))
def test_stats_are_those_of_the_calls_of_seven_days(database_url: str, calls: list, ends: list[int]) -> None:
    lines = lines_of(calls)
    first_moment = ((NOW + IST_OFFSET) // DAY - DAYS_SHOWN + 1) * DAY - IST_OFFSET
    latencies, failures, tokens, busy = defaultdict(list), defaultdict(int), defaultdict(int), defaultdict(int)
    for (_, event), (_, failed, served, more, output) in zip(lines, calls, strict=True):
        if event.at < first_moment:
            continue
        for attempt in failed:
            failures[attempt.route] += not is_the_callers_fault(attempt)
        if served:
            latencies[served.route].append(served.milliseconds)
            tokens[served.route] += output
            busy[served.route] += served.milliseconds + more
    with history_in(database_url, lines) as (cursor, before, head):
        stops = [before, *(before + at for at in accumulate(ends) if before + at < head), head]
        live = filled(cursor, [PROJECTION], stops=stops)
        assert sums_of(cursor, live) == sums_of(cursor, filled(cursor, [PROJECTION], "__again", stops=[before, head]))
        shown = route_stats(cursor.connection, [*ROUTES, "never/m"], now=NOW)
    assert set(shown) == {route for route in ROUTES if latencies[route] or failures[route]}
    for route, stats in shown.items():
        of = sorted(latencies[route])
        assert stats["success_rate"] == round(len(of) / (len(of) + failures[route]), 4)
        for name, percent in (("latency_p50_ms", 50), ("latency_p95_ms", 95)):
            if of:
                exact = of[math.ceil(len(of) * percent / 100) - 1]
                assert abs(stats[name] - exact) <= exact / 16 + 0.5
            else:
                assert stats[name] is None
        pace = round(1_000 * tokens[route] / busy[route], 1) if tokens[route] and busy[route] else None
        assert stats["output_tokens_per_second"] == pace


def test_only_the_routes_that_are_asked_for_are_told(database_url: str) -> None:
    lines: list[Line] = [("request:a", settled(NOW, [Attempt("near/m", "served", 200, 40)], 10, 5))]
    with history_in(database_url, lines) as (cursor, before, head):
        filled(cursor, [PROJECTION], stops=[before, head])
        assert route_stats(cursor.connection, ["far/m"], now=NOW) == {}
        assert route_stats(cursor.connection, ["near/m"], now=NOW + DAYS_SHOWN * DAY) == {}
        assert route_stats(cursor.connection, ["near/m"], now=NOW) == {
            "near/m": {
                "success_rate": 1.0,
                "latency_p50_ms": 42,
                "latency_p95_ms": 42,
                "output_tokens_per_second": 100.0,
            }
        }


@pytest.mark.parametrize("processes", [1, 2])
def test_rebuilt_is_what_was_there_live(database_url: str, processes: int) -> None:
    attempts = [Attempt("far/m", "status", 503, 7), Attempt("near/m", "served", 200, 40)]
    runner = Runner(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection, connection.cursor() as cursor:
        runner.prepare()
        for number in range(12):
            lines: list[Line] = [(f"request:a{number}", settled(NOW + number * DAY // 3, attempts, number, 5))]
            lines.append((f"request:b{number}", gone(number * SECOND, attempts[:1])))
            append(connection, lines)
            runner.step(connection)
        before = sums_of(cursor, Copy([PROJECTION]))
        assert before["route_stats.route_stats"][0] > 5
        runner.rebuild(processes=processes)
        assert sums_of(cursor, Copy([PROJECTION])) == before
