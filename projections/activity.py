"""The feed: one row for each request that ended or was refused, newest first."""

from typing import Any

from psycopg.rows import dict_row

from domain.ledger.events import HoldExpired, HoldReleased, RequestRefused, RequestSettled
from projections.base import Connection, Cursor, Fold, Projection, clean, on

ROWS_MAX = 200

# `id` is the position of the ending event, so that the feed's order and the log's are one.
TABLES = """
create table activity (
    id bigint not null,
    at bigint not null,
    request text collate "C" not null,
    org text collate "C" not null,
    key text collate "C" not null,
    workspace text collate "C" not null,
    endpoint text collate "C" not null,
    model text collate "C" not null,
    provider text collate "C" not null,
    ending text collate "C" not null,
    error_code text collate "C" not null,
    first_byte_ms int not null,
    duration_ms int not null,
    prompt_tokens int not null,
    completion_tokens int not null,
    cost bigint not null,
    estimated boolean not null,
    streamed boolean not null,
    own boolean not null
);
"""
INDEXES = """
create index activity_feed on activity (org, at desc);
"""
_TYPES = ["int8", "int8", *["text"] * 9, *["int4"] * 4, "int8", "bool", "bool", "bool"]

_WHO = ("org", "key", "workspace", "endpoint", "model", "streamed")


class Activity(Fold):
    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    @on(RequestSettled, *_WHO, "provider", "ending", "first_byte_ms", "duration_ms", "usage", "cost", "own")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        usage = event.usage
        self._rows.append(
            (
                position,
                event.at,
                stream[8:],
                event.org,
                event.key,
                event.workspace,
                event.endpoint,
                event.model,
                event.provider,
                event.ending,
                "",
                event.first_byte_ms,
                event.duration_ms,
                usage.prompt_tokens,
                usage.completion_tokens,
                event.cost,
                usage.source == "counted",
                event.streamed,
                event.own,
            )
        )

    @on(HoldReleased, *_WHO, "code", "duration_ms")
    def released(self, event: HoldReleased, stream: str, position: int) -> None:
        self._fail(event, stream, position, "released", event.code, event.duration_ms)

    @on(HoldExpired, *_WHO)
    def expired(self, event: HoldExpired, stream: str, position: int) -> None:
        self._fail(event, stream, position, "expired", "expired", 0)

    @on(RequestRefused, *_WHO, "code")
    def refused(self, event: RequestRefused, stream: str, position: int) -> None:
        self._fail(event, stream, position, "refused", event.code, 0)

    def _fail(
        self,
        event: HoldReleased | HoldExpired | RequestRefused,
        stream: str,
        position: int,
        ending: str,
        code: str,
        duration_ms: int,
    ) -> None:
        who = (stream[8:], event.org, event.key, event.workspace, event.endpoint, clean(event.model))
        used = (0, 0, 0, False, event.streamed, False)
        self._rows.append((position, event.at, *who, "", ending, code, 0, duration_ms, *used))

    def flush(self, cursor: Cursor) -> None:
        if self._rows:
            with cursor.copy("copy activity from stdin (format binary)") as copy:
                copy.set_types(_TYPES)
                for row in self._rows:
                    copy.write_row(row)


PROJECTION = Projection("activity", 2, TABLES, Activity, INDEXES, weight=10)


def activity_events(
    connection: Connection,
    org: str,
    *,
    start: int,
    end: int,
    limit: int,
    before: tuple[int, int] | None = None,
    model: str | None = None,
    key: str | None = None,
    workspace: str | None = None,
) -> list[dict[str, Any]]:
    """The org's rows with `start` <= `at` < `end` (microseconds), newest first, at most `limit` (and `ROWS_MAX`).

    The next page is what comes `before` the (`at`, `id`) of the last row. Each row has the columns of the table but
    `org`, with `key_name`, `tokens` in all, and `cost` in nano-rupees.
    """
    cursor = connection.cursor(row_factory=dict_row)
    last_at, last_id = before or (end, 0)
    return cursor.execute(
        """
        select a.id, a.at, a.request as request_id, a.endpoint, a.model, a.provider, a.ending, a.error_code,
            a.first_byte_ms, a.duration_ms, a.prompt_tokens + a.completion_tokens as tokens, a.prompt_tokens,
            a.completion_tokens, a.cost, a.estimated, a.streamed, a.own, a.key as key_id, k.name as key_name,
            a.workspace as workspace_id
        from view_activity.activity a left join view_keys.keys k on k.key = a.key
        where a.org = %(org)s and a.at >= %(start)s and (a.at, a.id) < (%(last_at)s, %(last_id)s)
            and (%(model)s::text is null or a.model = %(model)s)
            and (%(key)s::text is null or a.key = %(key)s)
            and (%(workspace)s::text is null or a.workspace = %(workspace)s)
        order by a.at desc, a.id desc limit %(limit)s
        """,
        {
            "org": org,
            "start": start,
            "last_at": last_at,
            "last_id": last_id,
            "model": model,
            "key": key,
            "workspace": workspace,
            "limit": min(limit, ROWS_MAX),
        },
    ).fetchall()
