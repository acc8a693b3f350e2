"""The event store of the control path: the eventsourcing library's recorder behind the Store port.

Differences from the library's own way, all measured: an advisory lock instead of a table lock (which collides with
autovacuum), no notifications (readers go by position), names for life instead of Python paths, and the guards of the
ledger change in the same transaction.
"""

from collections.abc import Sequence
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

from adapters.guards import effect
from adapters.log import LogReader, encode
from adapters.postgres import LOG_LOCK
from domain.catalog.events import CATALOG_STREAM
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event, Recorded
from domain.kernel.store import Change, fold

ATTEMPTS = 20
LOCK_SECONDS = 2
IDLE_SECONDS = 5

Statement = tuple[str, tuple[object, ...]]


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
            timeout=1,
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


class EventStore:
    """The Store port on PostgreSQL. It connects when it is first used."""

    def __init__(self, url: str, log: LogReader) -> None:
        self._url = url
        self._log = log

    @cached_property
    def _recorder(self) -> LogRecorder:
        return LogRecorder(Datastore(self._url))

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

    def _decide(
        self, changes: Sequence[Change[Any]], *, at: int, by: str
    ) -> tuple[list[Statement], list[tuple[str, int, Event]]]:
        """The statements that go before the facts, and the facts with their streams and versions."""
        statements: list[Statement] = []
        facts: list[tuple[str, int, Event]] = []
        versions: dict[str, int] = {}
        for change in changes:
            past = self._history(change.history)
            versions |= {fact.stream: fact.version for fact in past}
            state = fold(change.initial, ((fact.stream, fact.event) for fact in past))
            if change.history.startswith("org:"):
                seen = past[-1].position if past else 0
                statements.append(("select refuse_stale(%s, %s)", (change.history.removeprefix("org:"), seen)))
            for stream, event in change.decide(state):
                versions[stream] = versions.get(stream, 0) + 1
                facts.append((stream, versions[stream], msgspec.structs.replace(event, at=at, by=by)))
        effects = [effect(stream, event) for stream, _, event in facts]
        return statements + [each for each in effects if each is not None], facts

    def _history(self, name: str) -> list[Recorded]:
        if name.startswith("org:"):
            return self._log.org(name.removeprefix("org:"))
        return self._log.catalog() if name == CATALOG_STREAM else self._log.stream(name)

    def _append(self, statements: list[Statement], facts: list[tuple[str, int, Event]]) -> int:
        stored = [
            StoredEvent(originator_id=stream, originator_version=version, topic=event.NAME, state=encode(event))
            for stream, version, event in facts
        ]
        positions: Sequence[int] | None = self._recorder.insert_events(stored, statements=statements)
        assert positions is not None
        assert len(positions) == len(facts), "the log answered fewer positions than facts"
        return max(positions)
