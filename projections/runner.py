"""Moves read models along the log. Rows and position commit together, so that each event counts exactly once.

The same fold serves live batches and rebuilds. A projection that fails stops where it is, loudly; it never skips.
"""

import concurrent.futures
import contextlib
import gc
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from projections.base import Connection, Cursor, Fold, Projection, find_all

READ_MAX = 20_000
FLUSH_EVERY = 100_000
IDLE_SECONDS = 0.05
REST_SECONDS_MAX = 0.6
REST_SHARE = 5
"""A batch is followed by a rest of so many times what it took: larger batches touch each row less often."""
SWAP_WITHIN = 2_000
FRESH, OLD = "__fresh", "__old"
# Processes stamp events with clocks of their own before the log puts them in order: an event may stand behind others
# that say they happened later. Reading for a past moment goes on until the log is this much past it.
SKEW_MAX = 900 * SECOND

# One number each in PostgreSQL's space of advisory locks; the log's own is 7301.
_STEP_LOCK = 7302
_LIVE_LOCK = 7303
_REBUILD_LOCK = 7304

# Whatever the planner believes of tables that were just made: sums are added row by row, not by reading whole tables.
_LOOK_UP_EACH_ROW = "set enable_hashjoin to off; set enable_mergejoin to off"

_log = logging.getLogger(__name__)

_DATABASE_AWAY = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""The database is at fault, not an event: wait for it, and go on."""

Progress = Callable[[int, int], None]
_Row = tuple[int, str, str, bytes]
_Handler = Callable[[Any, str, int], None]


class Batch:
    """Folds of some projections over the same events."""

    def __init__(self, projections: Sequence[Projection], *, as_of: int | None = None) -> None:
        """With `as_of`, in microseconds, events that happened later are left out."""
        self.folds: list[Fold] = [projection.fold() for projection in projections]
        self._as_of = as_of
        decoders = _decoders(tuple(projections))
        self._routes: dict[str, tuple[Callable[[bytes], Any], list[_Handler]]] = {
            name: (decode, []) for name, decode in decoders.items()
        }
        for projection, fold in zip(projections, self.folds, strict=True):
            for event, _, method in projection.handlers():
                self._routes[event.NAME][1].append(getattr(fold, method))

    def add(self, rows: Sequence[_Row]) -> int:
        """Takes rows of the log in order; answers the earliest moment among them, in microseconds."""
        as_of = self._as_of
        routes = self._routes
        earliest = 1 << 62
        for position, stream, name, state in rows:
            decode, handlers = routes[name]
            event = decode(state)
            if as_of is not None:
                earliest = min(earliest, event.at)
                if event.at > as_of:
                    continue
            for handle in handlers:
                handle(event, stream, position)
        return earliest

    def flush(self, cursor: Cursor) -> None:
        for fold in self.folds:
            fold.flush(cursor)


_decoders_of: dict[tuple[Projection, ...], dict[str, Callable[[bytes], Any]]] = {}


def _decoders(projections: tuple[Projection, ...]) -> dict[str, Callable[[bytes], Any]]:
    """For each event that any of them takes, a decoder of just the fields that they read between them."""
    if projections not in _decoders_of:
        reads: dict[type[Event], set[str]] = {}
        for projection in projections:
            for event, fields, _ in projection.handlers():
                reads.setdefault(event, {"at"}).update(fields)
        _decoders_of[projections] = {
            event.NAME: msgspec.json.Decoder(_part(event, fields)).decode for event, fields in reads.items()
        }
    return _decoders_of[projections]


def _part(event: type[Event], fields: set[str]) -> type[msgspec.Struct]:
    known = {field.name: field for field in msgspec.structs.fields(event)}
    if fields == known.keys():
        return event
    specifications = [(name, known[name].type, _default_of(known[name])) for name in sorted(fields)]
    return msgspec.defstruct(event.__name__, specifications, kw_only=True, gc=False)


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field(default=field.default)


def head_of(cursor: Cursor) -> int:
    """The position of the last event; 0 for an empty log. Nothing is ever added before it: all writers share a lock."""
    row = cursor.execute("select coalesce(max(notification_id), 0) from events").fetchone()
    assert row is not None
    return int(row[0])


def read_log(
    cursor: Cursor, *, after: int, until: int, names: Sequence[str], limit: int = READ_MAX
) -> tuple[list[_Row], int]:
    """Events of these names at positions over `after` and up to `until`, at most `limit`; and how far that is."""
    rows = cursor.execute(
        "select notification_id, originator_id, topic, state from events"
        " where notification_id > %b and notification_id <= %b and topic = any(%b)"
        " order by notification_id limit %b",
        [after, until, list(names), limit],
        binary=True,
    ).fetchall()
    return rows, until if len(rows) < limit else rows[-1][0]


class Copy:
    """One set of tables for some projections, in schemas that end in `suffix`."""

    def __init__(self, projections: Sequence[Projection], *, suffix: str = "") -> None:
        self.projections = list(projections)
        self.suffix = suffix

    def schema_of(self, projection: Projection) -> str:
        return projection.schema + self.suffix

    def create(self, cursor: Cursor, *, indexes: bool, versions: Mapping[str, int] | None = None) -> None:
        """Empty tables at position 0, in place of any there were. `indexes`: at once, not after filling."""
        self.drop(cursor)
        for projection in self.projections:
            schema = sql.Identifier(self.schema_of(projection))
            cursor.execute(sql.SQL("create schema {}").format(schema))
            version = projection.version if versions is None else versions[projection.name]
            cursor.execute(
                sql.SQL(
                    "create table {0}.position (version int not null, at bigint not null);"
                    "insert into {0}.position values ({1}, 0)"
                ).format(schema, version)
            )
            self.use(cursor, [projection])
            cursor.execute(projection.tables)
            if indexes and projection.indexes:
                cursor.execute(projection.indexes)

    def index(self, cursor: Cursor) -> None:
        """Makes the indexes that were left out while filling, and lets the planner know the tables."""
        for projection in self.projections:
            self.use(cursor, [projection])
            if projection.indexes:
                cursor.execute(projection.indexes)
            for table in self.tables_of(cursor, projection):
                cursor.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))

    def drop(self, cursor: Cursor) -> None:
        for projection in self.projections:
            schema = sql.Identifier(self.schema_of(projection))
            cursor.execute(sql.SQL("drop schema if exists {} cascade").format(schema))

    def replace(self, cursor: Cursor, live: "Copy") -> None:
        """Takes the place of `live`, which becomes the `OLD` copy: names change, no row moves."""
        old = Copy(self.projections, suffix=OLD)
        old.drop(cursor)
        for projection in self.projections:
            for was, now in ((live, old), (self, live)):
                cursor.execute("select 1 from pg_namespace where nspname = %s", [was.schema_of(projection)])
                if cursor.fetchone():
                    cursor.execute(
                        sql.SQL("alter schema {} rename to {}").format(
                            sql.Identifier(was.schema_of(projection)),
                            sql.Identifier(now.schema_of(projection)),
                        )
                    )

    def tables_of(self, cursor: Cursor, projection: Projection) -> list[str]:
        cursor.execute(
            "select relname from pg_class where relnamespace = %s::regnamespace and relkind = 'r'"
            " and relname <> 'position' order by relname",
            [self.schema_of(projection)],
        )
        return [name for (name,) in cursor]

    def use(self, cursor: Cursor, projections: Sequence[Projection] | None = None) -> None:
        """Lets the session, or the transaction it is in, find the tables by their bare names."""
        schemas = [self.schema_of(projection) for projection in projections or self.projections]
        path = sql.SQL(", ").join(map(sql.Identifier, [*schemas, "public"]))
        cursor.execute(sql.SQL("set search_path to {}").format(path))

    def move(self, cursor: Cursor, projections: Sequence[Projection], position: int) -> None:
        """Writes down how far these have come; one round trip."""
        cursor.execute(
            sql.SQL("with {} select").format(
                sql.SQL(", ").join(
                    sql.SQL("{} as (update {}.position set at = {})").format(
                        sql.Identifier(projection.name),
                        sql.Identifier(self.schema_of(projection)),
                        sql.Placeholder("at"),
                    )
                    for projection in projections
                )
            ),
            {"at": position},
        )

    def positions(self, cursor: Cursor) -> dict[str, tuple[int, int]]:
        """Version and position of each."""
        cursor.execute(
            sql.SQL(" union all ").join(
                sql.SQL("select {}, version, at from {}.position").format(
                    projection.name, sql.Identifier(self.schema_of(projection))
                )
                for projection in self.projections
            )
        )
        return {name: (version, at) for name, version, at in cursor}

    def fill(
        self,
        cursor: Cursor,
        *,
        until: int,
        after: int = 0,
        as_of: int | None = None,
        flushed: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda position: None,
    ) -> None:
        """Applies the log over `after` and up to `until` to all alike. `flushed` is called where one may commit."""
        names = [*_decoders(tuple(self.projections))]
        self.use(cursor)
        position = after
        while position < until:
            batch, count, done = Batch(self.projections, as_of=as_of), 0, False
            while position < until and count < FLUSH_EVERY and not done:
                rows, position = read_log(cursor, after=position, until=until, names=names)
                earliest = batch.add(rows)
                count += len(rows)
                done = as_of is not None and bool(rows) and earliest > as_of + SKEW_MAX
                progress(position)
            batch.flush(cursor)
            self.move(cursor, self.projections, position)
            flushed()
            if done:
                return


class Runner:
    """Keeps all projections current, and rebuilds them."""

    def __init__(self, url: str, projections: Sequence[Projection] | None = None) -> None:
        """`projections` are all that this folder has, unless a test brings its own."""
        self.url = url
        self.projections = {projection.name: projection for projection in projections or find_all().values()}
        self.stopped: dict[str, str] = {}
        self._failed_at: dict[str, int] = {}
        self._rebuilding: set[str] = set()

    # Live

    def prepare(self) -> None:
        """Makes the tables of projections that have none, so that every query finds some. Harmless if repeated."""
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute("select pg_advisory_xact_lock(%s)", [_STEP_LOCK])
            there = {row[0] for row in cursor.execute("select nspname from pg_namespace")}
            missing = [item for item in self.projections.values() if item.schema not in there]
            # Behind a log that has begun, an empty copy is only a place-holder: version 0 asks for a rebuild.
            begun = head_of(cursor) > READ_MAX
            versions = {item.name: 0 if begun else item.version for item in missing}
            Copy(missing).create(cursor, indexes=True, versions=versions)

    def run(self, stop: threading.Event) -> None:
        """Follows the log until `stop` is set; at most one runner per database does, a second one waits its turn.

        Survives a database that goes away. What could not be applied is told in `stopped` and in the log of the
        process; it is tried again when the runner starts anew or the projection has been rebuilt.
        """
        while not stop.is_set():
            try:
                self.prepare()
                with psycopg.connect(self.url, autocommit=True) as connection:
                    if self._is_alone(connection, stop):
                        connection.execute("set synchronous_commit to off")
                        connection.execute(_LOOK_UP_EACH_ROW)
                        self._follow(connection, stop)
            except _DATABASE_AWAY as error:
                _log.warning("projections wait for the database: %s", error)
                stop.wait(0.5)

    def _is_alone(self, connection: Connection, stop: threading.Event) -> bool:
        while not stop.is_set():
            row = connection.execute("select pg_try_advisory_lock(%s)", [_LIVE_LOCK]).fetchone()
            if row is not None and row[0]:
                return True
            stop.wait(0.25)
        return False

    def _follow(self, connection: Connection, stop: threading.Event) -> None:
        copy = Copy(list(self.projections.values()))
        reached, more = -1, True
        with connection.cursor() as cursor:
            copy.use(cursor)
            while not stop.is_set():
                began = time.monotonic()
                if more or head_of(cursor) != reached:
                    reached, more = self._step_all(connection, copy)
                if not more:
                    rest = REST_SHARE * (time.monotonic() - began)
                    stop.wait(min(max(rest, IDLE_SECONDS), REST_SECONDS_MAX))

    def step(self, connection: Connection) -> int:
        """Applies all there is, in the runner's own batches, and answers the position reached; for tests and tools.

        `connection` is in autocommit and may be used for nothing else meanwhile.
        """
        copy = Copy(list(self.projections.values()))
        copy.use(connection.cursor())
        while True:
            reached, more = self._step_all(connection, copy)
            if not more:
                return reached

    def _step_all(self, connection: Connection, copy: Copy) -> tuple[int, bool]:
        """One batch for the projections that are furthest behind. If any fails, each for itself, to find which."""
        try:
            return self._step(connection, copy, [*self.projections])
        except _DATABASE_AWAY:
            raise
        except Exception:
            for name in self.projections:
                self._step_alone(connection, copy, name)
        return 0, True

    def _step_alone(self, connection: Connection, copy: Copy, name: str) -> None:
        try:
            self._step(connection, copy, [name])
        except _DATABASE_AWAY:
            raise
        except Exception as error:
            position = copy.positions(connection.cursor())[name][1]
            self._failed_at[name] = position
            self.stopped[name] = f"{type(error).__name__} after position {position}: {error}"
            _log.critical("projection %s stopped after position %d", name, position, exc_info=error)

    def _step(self, connection: Connection, copy: Copy, names: Sequence[str]) -> tuple[int, bool]:
        """One transaction: the position reached, and whether there is more to read."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("select pg_advisory_xact_lock(%s)", [_STEP_LOCK])
            positions = {
                name: at
                for name, (version, at) in copy.positions(cursor).items()
                if name in names and self._is_live(name, version, at)
            }
            head = head_of(cursor)
            behind = {name: at for name, at in positions.items() if at < head}
            if not behind:
                return head, False
            lowest = min(behind.values())
            group = [self.projections[name] for name, at in behind.items() if at == lowest]
            until = min([head, *(at for at in behind.values() if at > lowest)])
            batch = Batch(group)
            rows, reached = read_log(cursor, after=lowest, until=until, names=[*_decoders(tuple(group))])
            batch.add(rows)
            batch.flush(cursor)
            copy.move(cursor, group, reached)
        return head, reached < head or len(group) < len(behind)

    def _is_live(self, name: str, version: int, position: int) -> bool:
        """Whether a projection can be moved on: not one of another version, not one that failed just there."""
        if version != self.projections[name].version:
            if name not in self._rebuilding:
                self._rebuilding.add(name)
                threading.Thread(target=self._rebuild_stale, args=[name, version], daemon=True).start()
            return False
        self._rebuilding.discard(name)
        if name in self._failed_at:
            if self._failed_at[name] == position:
                return False
            del self._failed_at[name], self.stopped[name]
        return True

    def _rebuild_stale(self, name: str, version: int) -> None:
        _log.info("projection %s has version %d, not %d", name, version, self.projections[name].version)
        try:
            self.rebuild([name])
        except Exception as error:
            self.stopped[name] = f"rebuild failed: {error}"
            _log.critical("projection %s could not be rebuilt", name, exc_info=error)

    # Rebuild

    def rebuild(
        self, names: Sequence[str] = (), *, processes: int | None = None, progress: Progress | None = None
    ) -> None:
        """Builds these projections (all, if none are named) anew from the whole log, and swaps them in.

        Readers and the live runner use the old tables until the swap, and never find none. Two processes share the
        work of a long log, unless `processes` says how many. `progress` is told positions passed and positions in
        all, now and then. Raises KeyError for an unknown name.
        """
        chosen = [self.projections[name] for name in names or self.projections]
        with psycopg.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            head = head_of(cursor)
            if processes is None:
                processes = 1 if head < 2 * FLUSH_EVERY else 2
            groups = _share_out(chosen, processes)
            fresh, passed = Copy(chosen, suffix=FRESH), 0
            with _workers(len(groups)) as executor:
                tasks = [executor.submit(_rebuild, self.url, group) for group in groups]
                while concurrent.futures.wait(tasks, timeout=0.2).not_done:
                    if progress is not None:
                        passed = max(passed, _progress_of(fresh, cursor, head))
                        progress(passed, head)
            for task in tasks:
                task.result()
            if progress is not None:
                progress(head, head)

    def replay(
        self, name: str, *, as_of: int | None = None, rows_max: int | None = None, progress: Progress | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """The tables of a projection as they would be from the events with `at` <= `as_of` (microseconds) alone.

        Which events those are does not depend on where they stand in the log: all of it is read, up to the first
        stretch of `READ_MAX` events that are all more than `SKEW_MAX` past the moment. Rows come by table, in the
        order of their columns, at most `rows_max` of each. Nothing of it stays in the database.
        """
        projection = self.projections[name]
        with psycopg.connect(self.url) as connection, connection.cursor(row_factory=dict_row) as rows:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            cursor = connection.cursor()
            copy = Copy([projection], suffix=f"__replay_{connection.info.backend_pid}")
            copy.create(cursor, indexes=False)
            head = head_of(cursor)
            copy.fill(
                cursor,
                until=head,
                as_of=as_of,
                progress=lambda position: progress(position, head) if progress else None,
            )
            tables = {
                table: rows.execute(
                    sql.SQL("select * from {} t order by t limit {}").format(
                        sql.Identifier(copy.schema_of(projection), table), sql.Literal(rows_max)
                    )
                ).fetchall()
                for table in copy.tables_of(cursor, projection)
            }
            connection.rollback()
        return tables


def wait_for(connection: Connection, name: str, position: int, *, timeout_seconds: float) -> bool:
    """Waits until a projection has taken everything up to `position`; False if it has not in time.

    For a reader that must see what it has just written. `connection` is in autocommit.
    """
    query = sql.SQL("select at >= {} from {}.position").format(position, sql.Identifier(f"view_{name}"))
    deadline = time.monotonic() + timeout_seconds
    while True:
        with contextlib.suppress(psycopg.errors.UndefinedTable):  # not made yet, in the first moments of a database
            row = connection.execute(query).fetchone()
            if row is not None and row[0]:
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def _share_out(projections: Sequence[Projection], processes: int) -> list[list[Projection]]:
    """Groups of about equal weight, the heaviest projections placed first."""
    groups: list[list[Projection]] = [[] for _ in range(min(processes, len(projections)))]
    for projection in sorted(projections, key=lambda item: -item.weight):
        min(groups, key=lambda group: sum(item.weight for item in group)).append(projection)
    return groups


def _workers(count: int) -> concurrent.futures.Executor:
    if count == 1:
        return concurrent.futures.ThreadPoolExecutor(1)
    return concurrent.futures.ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )


def _begin_worker() -> None:
    """Sets up a process that shares in a rebuild: it must not outlive whoever started it, even one that is killed."""
    # Folds make millions of small objects and no cycles: looking for some would cost a fifth of the time.
    gc.disable()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _rebuild(url: str, projections: Sequence[Projection]) -> None:
    """One worker's share of a rebuild. A second rebuild of the same projection waits for the first."""
    fresh = Copy(projections, suffix=FRESH)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for name in sorted(projection.name for projection in projections):
            cursor.execute("select pg_advisory_lock(%s, hashtext(%s))", [_REBUILD_LOCK, name])
        cursor.execute("set synchronous_commit to off")
        cursor.execute(_LOOK_UP_EACH_ROW)
        cursor.execute("set maintenance_work_mem to '256MB'")
        cursor.execute("set default_statistics_target to 10")  # a first idea for the planner; autovacuum knows better
        fresh.create(cursor, indexes=False)
        connection.commit()
        position, head = 0, head_of(cursor)
        fresh.fill(cursor, until=head, flushed=connection.commit)
        fresh.index(cursor)
        connection.commit()
        while head - position > SWAP_WITHIN:
            position, head = head, head_of(cursor)
            fresh.fill(cursor, after=position, until=head, flushed=connection.commit)
        cursor.execute("select pg_advisory_xact_lock(%s)", [_STEP_LOCK])
        fresh.fill(cursor, after=head, until=head_of(cursor))
        fresh.replace(cursor, Copy(projections))
        connection.commit()
        Copy(projections, suffix=OLD).drop(cursor)
        connection.commit()


def _progress_of(fresh: Copy, cursor: Cursor, head: int) -> int:
    """The mean of the positions of the copies being filled."""
    try:
        positions = fresh.positions(cursor)
    except psycopg.errors.UndefinedTable:  # not yet made, or swapped already
        return 0
    return min(head, sum(at for _, at in positions.values()) // len(positions))
