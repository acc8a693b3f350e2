"""Where each request stands: held, settled, released, expired or refused. The full story is its stream in the log."""

from typing import Any

import msgspec
from psycopg.rows import dict_row

from domain.kernel.events import REGISTER, Recorded
from domain.ledger.events import (
    CreditHeld,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    RequestRefused,
    RequestSettled,
)
from projections.base import Connection, Cursor, Fold, Projection, number_array, on, text_array

TABLES = """
create table requests_open (
    request text collate "C" primary key,
    org text collate "C" not null,
    key text collate "C" not null,
    held bigint not null,
    held_at bigint not null,
    first_position bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
create table requests_ended (
    request text collate "C" not null,
    org text collate "C" not null,
    key text collate "C" not null,
    state text collate "C" not null,
    held bigint not null,
    cost bigint not null,
    held_at bigint not null,
    ended_at bigint not null,
    first_position bigint not null,
    last_position bigint not null
);
"""
# The balance at a moment needs what was in flight then: requests longer than ten minutes are few, and found by this.
INDEXES = """
alter table requests_ended add primary key (request);
create index requests_ended_late on requests_ended (org, ended_at) where ended_at - held_at > 600000000;
create index requests_open_by_org on requests_open (org);
"""

# What the log says of an ended request, before the moment and place of its hold are joined to it.
_Ended = tuple[str, str, str, str, int, int, int, int]


class Requests(Fold):
    def __init__(self) -> None:
        self._opened: dict[str, list[Any]] = {}
        self._extended: dict[str, int] = {}
        self._ended: list[tuple[Any, ...]] = []
        self._ended_of_before: list[_Ended] = []

    @on(CreditHeld, "org", "key", "amount")
    def held(self, event: CreditHeld, stream: str, position: int) -> None:
        self._opened[stream[8:]] = [event.org, event.key, event.amount, event.at, position]

    @on(HoldExtended, "amount")
    def extended(self, event: HoldExtended, stream: str, position: int) -> None:
        request = stream[8:]
        if request in self._opened:
            self._opened[request][2] += event.amount
        else:
            self._extended[request] = self._extended.get(request, 0) + event.amount

    @on(RequestSettled, "org", "key", "held", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        self._end(stream[8:], event, "settled", event.cost, position)

    @on(HoldReleased, "org", "key", "held")
    def released(self, event: HoldReleased, stream: str, position: int) -> None:
        self._end(stream[8:], event, "released", 0, position)

    @on(HoldExpired, "org", "key", "held")
    def expired(self, event: HoldExpired, stream: str, position: int) -> None:
        self._end(stream[8:], event, "expired", 0, position)

    @on(RequestRefused, "org", "key")
    def refused(self, event: RequestRefused, stream: str, position: int) -> None:
        at = event.at
        self._ended.append((stream[8:], event.org, event.key, "refused", 0, 0, at, at, position, position))

    def _end(
        self,
        request: str,
        event: RequestSettled | HoldReleased | HoldExpired,
        state: str,
        cost: int,
        position: int,
    ) -> None:
        at = event.at
        opened = self._opened.pop(request, None)
        if opened is None:
            self._ended_of_before.append((request, event.org, event.key, state, event.held, cost, at, position))
        else:
            self._ended.append(
                (request, event.org, event.key, state, event.held, cost, opened[3], at, opened[4], position)
            )

    def flush(self, cursor: Cursor) -> None:
        if self._extended:
            cursor.execute(
                "update requests_open t set held = t.held + u.amount"
                " from unnest(%s::text[], %s::bigint[]) u (request, amount) where t.request = u.request",
                [text_array([*self._extended]), number_array([*self._extended.values()])],
            )
        if self._ended_of_before:
            cursor.execute(
                "delete from requests_open where request = any(%s::text[]) returning request, held_at, first_position",
                [text_array([ended[0] for ended in self._ended_of_before])],
            )
            opened = {request: (held_at, first) for request, held_at, first in cursor}
            for request, org, key, state, held, cost, at, position in self._ended_of_before:
                held_at, first = opened.get(request, (at, position))
                self._ended.append((request, org, key, state, held, cost, held_at, at, first, position))
        if self._opened:
            columns = list(zip(*self._opened.values(), strict=True))
            cursor.execute(
                "insert into requests_open (request, org, key, held, held_at, first_position) select * from"
                " unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])",
                [
                    text_array([*self._opened]),
                    *map(text_array, columns[:2]),
                    *map(number_array, columns[2:]),
                ],
            )
        if self._ended:
            with cursor.copy("copy requests_ended from stdin (format binary)") as copy:
                copy.set_types(["text"] * 4 + ["int8"] * 6)
                for row in self._ended:
                    copy.write_row(row)


PROJECTION = Projection("requests", 1, TABLES, Requests, INDEXES, weight=7)


def request_state(connection: Connection, org: str, request: str) -> dict[str, Any] | None:
    """`state` (`held`, `settled`, `released`, `expired`, `refused`), `key`, `held`, `cost` in nano-rupees, `held_at`,
    `ended_at` in microseconds, `first_position`, `last_position`; None if the org has no such request (yet)."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select request, key, state, held, cost, held_at, ended_at, first_position, last_position
            from view_requests.requests_ended where request = %(request)s and org = %(org)s
        union all
        select request, key, 'held', held, 0, held_at, null, first_position, null
            from view_requests.requests_open where request = %(request)s and org = %(org)s
        limit 1
        """,
        {"org": org, "request": request},
    ).fetchone()


def request_story(connection: Connection, org: str, request: str) -> list[Recorded]:
    """Every event of a request, in order, straight from the log and so never late; none if it is not the org's."""
    rows = connection.execute(
        "select notification_id, originator_id, originator_version, topic, state from events"
        " where originator_id = %s order by originator_version",
        [f"request:{request}"],
    ).fetchall()
    story = [
        Recorded(position, stream, version, msgspec.json.decode(state, type=REGISTER[topic]))
        for position, stream, version, topic, state in rows
    ]
    return story if story and getattr(story[0].event, "org", None) == org else []
