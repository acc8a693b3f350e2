"""The event store of the control path: the eventsourcing library's recorder behind the Store port.

Differences from the library's own way, all measured: an advisory lock instead of a table lock (which collides with
autovacuum), no notifications (readers go by position), names for life instead of Python paths, and the guards of the
ledger change in the same transaction.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec
import psycopg
from eventsourcing.persistence import IntegrityError, PersistenceError, StoredEvent
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresApplicationRecorder,
    PostgresDatastore,
)
from psycopg import Connection, Cursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from adapters.guards import balance, effect
from adapters.log import COLUMNS, LogReader, encode, recorded
from adapters.postgres import LOG_LOCK
from domain.catalog.events import CATALOG_STREAM
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event, Recorded
from domain.kernel.money import Balance
from domain.kernel.store import Change, Decision, Reader, S, T, fold_recorded

ATTEMPTS = 20
LOCK_SECONDS = 2
IDLE_SECONDS = 5

Statement = tuple[str, tuple[object, ...]]
Numbered = tuple[str, int, Event]
"""A fact with its stream and its version there."""
Witness = Callable[[Sequence[Numbered], str], Decision]
"""Told the facts of a change and its actor, it says what else is to be on record of it, in streams of its own."""


class Datastore(PostgresDatastore):
    """The library's datastore, reached by a URL with all its options, be it TLS or a socket's folder."""

    def __init__(self, url: str) -> None:
        super().__init__(
            "", "", "", "", "", originator_id_type="text", idle_in_transaction_session_timeout=IDLE_SECONDS
        )
        prepare = self.after_connect_func()

        def configure(connection: Connection[DictRow]) -> None:
            prepare(connection)
            connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'")

        self.pool = ConnectionPool(  # type: ignore[assignment]  # the library narrows it to its own subclass
            url,
            connection_class=Connection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "connect_timeout": 2,
                "application_name": "bharatrouter-store",
                # What is prepared in a pipeline that then fails is lost, but the driver believes it is there.
                "prepare_threshold": None,
            },
            min_size=1,
            max_size=4,
            timeout=3,
            open=False,
            configure=configure,
            check=ConnectionPool.check_connection,
            name="store",
        )


class LogRecorder(PostgresApplicationRecorder):
    """Appends under the lock of the log. `statements` run first: checks of what was read, then the guards."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore, events_table_name="events")

    def _insert_stored_events(
        self,
        curs: Cursor[DictRow],
        stored_events: Sequence[StoredEvent],
        *,
        statements: Sequence[Statement] = (),
        **_: Any,
    ) -> None:
        curs.execute("select pg_advisory_xact_lock(%s)", (LOG_LOCK,))
        for statement, parameters in statements:
            curs.execute(statement.encode(), parameters)
        PostgresAggregateRecorder._insert_stored_events(self, curs, stored_events)

    def append_locked(
        self, decide: Callable[[Cursor[DictRow]], tuple[Sequence[Statement], Sequence[StoredEvent]]]
    ) -> Sequence[int]:
        """Takes the lock first and lets `decide` read in the same transaction what it rests on."""
        with self.datastore.transaction(commit=True) as curs:
            curs.execute("select pg_advisory_xact_lock(%s)", (LOG_LOCK,))
            statements, stored_events = decide(curs)
            if not stored_events:
                return []
            self._insert_stored_events(curs, stored_events, statements=statements)
            return self._fetch_ids_after_insert_events(curs, stored_events) or []


class LockedReader:
    """The Reader port on a transaction that holds the lock of the log, or for which the log stands still."""

    def __init__(self, cursor: Cursor[DictRow]) -> None:
        self._cursor = cursor

    def fold(self, history: str, initial: S) -> S:
        self._cursor.execute(f"select {COLUMNS} from events where originator_id = %s order by 3".encode(), [history])
        facts = recorded(tuple(row.values()) for row in self._cursor)
        return fold_recorded(initial, facts)

    def count(self, stream: str) -> int:
        self._cursor.execute(
            "select coalesce(max(originator_version), 0) as count from events where originator_id = %s", [stream]
        )
        row = self._cursor.fetchone()
        assert row is not None
        return int(row["count"])

    def balance(self, org: str) -> Balance:
        return balance(self._cursor.connection, org)


class EventStore:
    """The Store port on PostgreSQL. It connects when it is first used."""

    def __init__(self, url: str, log: LogReader) -> None:
        self._url = url
        self._log = log
        self._witness: Witness | None = None

    @cached_property
    def _recorder(self) -> LogRecorder:
        return LogRecorder(Datastore(self._url))

    def witnessed(self, witness: Witness) -> "EventStore":
        """This store, on the same connections, but to each change it appends what the witness says of it."""
        assert self._recorder is not None
        other = copy.copy(self)
        other._witness = witness
        return other

    def look(self, read: Callable[[Reader], T]) -> T:
        """See `domain.kernel.store.Store`."""
        try:
            with self._recorder.datastore.transaction() as cursor:
                cursor.execute("set transaction isolation level repeatable read, read only")
                return read(LockedReader(cursor))
        except (PersistenceError, psycopg.OperationalError) as error:
            raise Unavailable("ledger_unavailable", "The ledger cannot be read now; try again.") from error

    def locked(self, decide: Callable[[Reader], Decision], *, at: int, by: str) -> int | None:
        """See `domain.kernel.store.Store`."""

        def facts_of(cursor: Cursor[DictRow]) -> tuple[list[Statement], list[StoredEvent]]:
            reader = LockedReader(cursor)
            versions: dict[str, int] = {}
            facts = []
            for stream, event in decide(reader):
                versions[stream] = versions.get(stream, reader.count(stream)) + 1
                facts.append((stream, versions[stream], msgspec.structs.replace(event, at=at, by=by)))
            return _effects(facts), _stored(facts)

        try:
            positions = self._recorder.append_locked(facts_of)
        except (PersistenceError, psycopg.OperationalError) as error:
            raise Unavailable("ledger_unavailable", "The ledger cannot be written now; try again.") from error
        return max(positions, default=None)

    def change(self, *changes: Change[Any], at: int, by: str) -> int | None:
        """See `domain.kernel.store.Store`."""
        try:
            for _ in range(ATTEMPTS):
                statements, facts = self._decide(changes, at=at, by=by)
                if not facts:
                    return None
                try:
                    return self._append(statements, facts)
                except IntegrityError:
                    continue  # somebody was quicker: decide again on what is there now
        except (PersistenceError, psycopg.OperationalError) as error:
            raise Unavailable("ledger_unavailable", "The ledger cannot be written now; try again.") from error
        raise Unavailable("ledger_unavailable", "Too many changes at once; try again.")

    def close(self) -> None:
        if "_recorder" in self.__dict__:
            self._recorder.datastore.close()

    def _decide(self, changes: Sequence[Change[Any]], *, at: int, by: str) -> tuple[list[Statement], list[Numbered]]:
        """The statements that go before the facts, and the facts."""
        statements: list[Statement] = []
        facts: list[Numbered] = []
        versions: dict[str, int] = {}
        for change in changes:
            past = self._history(change.history)
            versions |= {fact.stream: fact.version for fact in past}
            state = fold_recorded(change.initial, past)
            if change.history.startswith("org:"):
                seen = past[-1].position if past else 0
                statements.append(("select refuse_stale(%s, %s)", (change.history.removeprefix("org:"), seen)))
            for stream, event in change.decide(state):
                versions[stream] = versions.get(stream, 0) + 1
                facts.append((stream, versions[stream], msgspec.structs.replace(event, at=at, by=by)))
        if facts and self._witness is not None:
            for stream, event in self._witness(facts, by):
                facts.append((stream, 1, msgspec.structs.replace(event, at=at, by=by)))
        return statements + _effects(facts), facts

    def _history(self, name: str) -> list[Recorded]:
        if name.startswith("org:"):
            return self._log.org(name.removeprefix("org:"))
        return self._log.catalog() if name == CATALOG_STREAM else self._log.stream(name)

    def _append(self, statements: list[Statement], facts: list[Numbered]) -> int:
        positions: Sequence[int] | None = self._recorder.insert_events(_stored(facts), statements=statements)
        assert positions is not None
        assert len(positions) == len(facts), "the log answered fewer positions than facts"
        return max(positions)


def _effects(facts: Sequence[Numbered]) -> list[Statement]:
    """What the facts do to the guards."""
    effects = (effect(stream, event) for stream, _, event in facts)
    return [each for each in effects if each is not None]


def _stored(facts: Sequence[Numbered]) -> list[StoredEvent]:
    return [
        StoredEvent(originator_id=stream, originator_version=version, topic=event.NAME, state=encode(event))
        for stream, version, event in facts
    ]
