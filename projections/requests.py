"""Requests in flight, and those that took long: with the feed, all that a balance of the past is found by. The story
of each request is its stream in the log.
"""

import msgspec

from domain.kernel.clock import SECOND
from domain.kernel.events import REGISTER, Recorded
from domain.ledger.events import CreditHeld, HoldExpired, HoldExtended, HoldReleased, RequestSettled
from projections.base import Connection, Cursor, Fold, Projection, number_array, on, text_array

LONG = 600 * SECOND

TABLES = """
create table requests_open (
    request text collate "C" primary key,
    org text collate "C" not null,
    held bigint not null,
    held_at bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
create table requests_long (
    request text collate "C" not null,
    org text collate "C" not null,
    held_at bigint not null,
    ended_at bigint not null
);
"""
INDEXES = """
create index requests_open_by_org on requests_open (org);
create index requests_long_by_org on requests_long (org, ended_at);
"""


class Requests(Fold):
    def __init__(self) -> None:
        self._opened: dict[str, tuple[str, int, int]] = {}
        self._extended: dict[str, int] = {}
        self._ended_of_before: dict[str, int] = {}
        self._long: list[tuple[str, str, int, int]] = []

    @on(CreditHeld, "org", "amount")
    def held(self, event: CreditHeld, stream: str, position: int) -> None:
        self._opened[stream[8:]] = event.org, event.amount, event.at

    @on(HoldExtended, "amount")
    def extended(self, event: HoldExtended, stream: str, position: int) -> None:
        request = stream[8:]
        if request in self._opened:
            org, held, at = self._opened[request]
            self._opened[request] = org, held + event.amount, at
        else:
            self._extended[request] = self._extended.get(request, 0) + event.amount

    @on(RequestSettled, "at")
    @on(HoldReleased, "at")
    @on(HoldExpired, "at")
    def ended(self, event: RequestSettled | HoldReleased | HoldExpired, stream: str, position: int) -> None:
        request, at = stream[8:], event.at
        opened = self._opened.pop(request, None)
        if opened is None:
            self._ended_of_before[request] = at
        elif at - opened[2] > LONG:
            self._long.append((request, opened[0], opened[2], at))

    def flush(self, cursor: Cursor) -> None:
        if self._extended:
            cursor.execute(
                "update requests_open t set held = t.held + u.amount"
                " from unnest(%s::text[], %s::bigint[]) u (request, amount) where t.request = u.request",
                [text_array([*self._extended]), number_array([*self._extended.values()])],
            )
        if self._ended_of_before:
            cursor.execute(
                "delete from requests_open where request = any(%s::text[]) returning request, org, held_at",
                [text_array([*self._ended_of_before])],
            )
            ended = [(request, org, held_at, self._ended_of_before[request]) for request, org, held_at in cursor]
            self._long += [row for row in ended if row[3] - row[2] > LONG]
        if self._opened:
            orgs, held, held_at = zip(*self._opened.values(), strict=True)
            cursor.execute(
                "insert into requests_open (request, org, held, held_at) select * from"
                " unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[])",
                [text_array([*self._opened]), text_array(orgs), number_array(held), number_array(held_at)],
            )
        if self._long:
            with cursor.copy("copy requests_long from stdin") as copy:
                for row in self._long:
                    copy.write_row(row)


PROJECTION = Projection("requests", 2, TABLES, Requests, INDEXES, weight=4)


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
