"""How routes did, by day (India time): what came of each call of them, how long it took to begin, and how fast it ran.

Latencies are kept as a histogram, since neither a percentile nor a maximum of a day can be made into one of a week.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from psycopg.rows import dict_row

from domain.kernel.clock import ist_day
from domain.ledger.events import Attempt, HoldReleased, RequestSettled
from domain.routing.replies import counts_against
from projections.base import Connection, Cursor, Fold, Projection, Sums, day_of, on

DAYS_SHOWN = 7
BITS_KEPT = 4
"""Of a latency's milliseconds: what is shown is off by a sixteenth at most."""

TABLES = """
create table route_stats (
    route text collate "C" not null,
    day bigint not null,
    latency bigint not null,
    served bigint not null,
    failed bigint not null,
    output_tokens bigint not null,
    milliseconds bigint not null,
    primary key (route, day, latency)
) with (fillfactor = 70);
"""

_ROUTE_STATS = Sums(
    "route_stats",
    keys={"route": "text", "day": "bigint", "latency": "bigint"},
    sums=("served", "failed", "output_tokens", "milliseconds"),
)


class RouteStats(Fold):
    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    @on(RequestSettled, "attempts", "usage", "duration_ms")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        milliseconds = event.duration_ms
        for attempt in event.attempts:
            if attempt.end != "served":
                milliseconds -= attempt.milliseconds
                self._failed(event.at, attempt)
                continue
            row = self._rows[attempt.route, day_of(event.at), kept_of(attempt.milliseconds)]
            row[0] += 1
            row[2] += event.usage.completion_tokens
            row[3] += milliseconds

    @on(HoldReleased, "attempts")
    def released(self, event: HoldReleased, stream: str, position: int) -> None:
        for attempt in event.attempts:
            self._failed(event.at, attempt)

    def _failed(self, at: int, attempt: Attempt) -> None:
        if counts_against(attempt.end, attempt.status):
            self._rows[attempt.route, day_of(at), 0][1] += 1

    def flush(self, cursor: Cursor) -> None:
        _ROUTE_STATS.add(cursor, self._rows)


PROJECTION = Projection("route_stats", 1, TABLES, RouteStats, weight=3)


def route_stats(connection: Connection, routes: Collection[str], *, now: int) -> dict[str, dict[str, Any]]:
    """How those of the routes (`provider/model`) did that were called in the last 7 days of India's calendar, by route.

    `success_rate` is the share of calls that were answered, of those that were not the caller's fault (0 to 1);
    `latency_p50_ms` and `latency_p95_ms` are until the first byte of an answer; `output_tokens_per_second` is of whole
    calls, the wait for the first token included. None where there is nothing to tell it by.
    """
    today = ist_day(now)
    rows = connection.cursor(row_factory=dict_row).execute(
        """
        with seen as (
            select route, latency, sum(served) as served, sum(failed) as failed, sum(output_tokens) as output_tokens,
                sum(milliseconds) as milliseconds
            from view_route_stats.route_stats
            where route = any(%(routes)s) and day between %(first)s and %(last)s group by route, latency
        ), placed as (
            select *, sum(served) over (partition by route order by latency) as so_far,
                sum(served) over (partition by route) as in_all
            from seen
        )
        select route, sum(served)::bigint as served, sum(failed)::bigint as failed,
            sum(output_tokens)::bigint as output_tokens, sum(milliseconds)::bigint as milliseconds,
            min(latency) filter (where served > 0 and 2 * so_far >= in_all) as p50,
            min(latency) filter (where served > 0 and 20 * so_far >= 19 * in_all) as p95
        from placed group by route
        """,
        {"routes": list(routes), "first": today - DAYS_SHOWN + 1, "last": today},
    )
    return {row["route"]: _shown(row) for row in rows}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    tokens, milliseconds = row["output_tokens"], row["milliseconds"]
    return {
        "success_rate": round(row["served"] / (row["served"] + row["failed"]), 4),
        "latency_p50_ms": middle_of(row["p50"]),
        "latency_p95_ms": middle_of(row["p95"]),
        "output_tokens_per_second": round(1_000 * tokens / milliseconds, 1) if tokens and milliseconds > 0 else None,
    }


def kept_of(latency: int) -> int:
    """What is kept of a latency: its first bits."""
    dropped = latency.bit_length() - BITS_KEPT
    return latency >> dropped << dropped if dropped > 0 else latency


def middle_of(kept: int | None) -> int | None:
    """Of the latencies that are kept as this one, the one in the middle."""
    return None if kept is None else int(kept + (1 << max(kept.bit_length() - BITS_KEPT, 0)) // 2)
