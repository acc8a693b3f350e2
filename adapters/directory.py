"""Keeps a Directory in step with the log: loaded at the start, then followed by position on a connection of its own.

Of ephemeral keys the start reads only those that may live, so that it does not take longer with each that ever was.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from adapters.log import COLUMNS, Row, decode
from adapters.postgres import connect
from domain.kernel.clock import SECOND
from domain.keys.directory import CLOCKS_APART, Caller, Directory
from domain.keys.ephemeral import TTL_SECONDS_MAX, first_id

POLL_SECONDS = 0.2
STALE_SECONDS = 1.0
BATCH = 5_000
CONFIGURATION_ONLY = "is_configuration(originator_id)"
STANDING_ONLY = f"{CONFIGURATION_ONLY} and originator_id not like 'ephemeral:%%'"
"""Each is the predicate of a partial index, `%` doubled for psycopg."""
FOLLOWED = ("org:", "workspace:", "key:", "trial:", "ephemeral:", "user:", "routing:", "credential:", "endpoint:")

_log = logging.getLogger(__name__)


class DirectoryFeed:
    """Every process has one. A change of a key, session or role is in force here within `STALE_SECONDS`, or else
    `fresh` says no and nobody is let in on what may be out of date."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._directory = Directory()
        self._position = 0
        self._loaded = False
        self._seen_at = float("-inf")
        self._connection: psycopg.Connection[Any] | None = None
        self._one_reader = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="directory", daemon=True)

    @property
    def directory(self) -> Directory:
        return self._directory

    def find(self, digest: bytes) -> Caller | None:
        """The caller whose key has this digest, unless revoked or disabled; one look-up, safe on the event loop."""
        return self._directory.find(digest)

    def find_agent(self, claims: Mapping[str, Any], names: Iterable[str]) -> Caller | None:
        """The agent of a token that says this, unless deleted or disabled; as quick and as safe."""
        return self._directory.find_agent(claims, names)

    def fresh(self) -> bool:
        """Whether every change that is a second old is known here."""
        return time.monotonic() - self._seen_at <= STALE_SECONDS

    def start(self) -> None:
        """Loads everything, then follows the log in a thread. Raises psycopg.Error if the log cannot be read."""
        self.catch_up()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._disconnect()

    def caught_up(self) -> bool:
        """Takes in everything that the log has now; whether it could be read."""
        try:
            self.catch_up()
        except psycopg.Error:
            return False
        return True

    def catch_up(self) -> None:
        """Takes in everything that the log has now. Raises psycopg.Error if it cannot be read."""
        with self._one_reader:
            began = time.monotonic()
            try:
                if self._connection is None:
                    self._connection = connect(self._url, statement_seconds=5)
                if not self._loaded:
                    self._load(self._connection)
                while self._take_batch(self._connection) == BATCH:
                    pass
            except BaseException:
                self._disconnect()
                raise
            self._seen_at = began

    def _load(self, connection: psycopg.Connection[Any]) -> None:
        """What is there so far, up to a head that is fixed first, so that nothing is taken in twice."""
        row = connection.execute("select coalesce(max(notification_id), 0) from events").fetchone()
        assert row is not None
        head = int(row[0])
        while self._take_batch(connection, until=head, predicate=STANDING_ONLY) == BATCH:
            pass
        since = first_id(minted=time.time_ns() // 1_000 - TTL_SECONDS_MAX * SECOND - CLOCKS_APART)
        living = connection.execute(
            f"select {COLUMNS} from events where originator_id >= %s and originator_id < 'ephemeral;'"
            " and notification_id <= %s order by notification_id".encode(),
            (f"ephemeral:{since}", head),
        ).fetchall()
        self._take_in(living)
        self._position, self._loaded = head, True

    def _take_batch(
        self,
        connection: psycopg.Connection[Any],
        *,
        until: int = 2**62,
        predicate: str = CONFIGURATION_ONLY,
    ) -> int:
        rows = connection.execute(
            f"select {COLUMNS} from events where notification_id > %s and notification_id <= %s and {predicate}"
            f" order by notification_id limit {BATCH}".encode(),
            (self._position, until),
            prepare=True,
        ).fetchall()
        self._take_in(rows)
        if rows:
            self._position = rows[-1][0]
        return len(rows)

    def _take_in(self, rows: Iterable[Row]) -> None:
        for _, stream, _, name, state in rows:
            if stream.startswith(FOLLOWED):
                self._directory.evolve(stream, decode(name, state))

    def _follow(self) -> None:
        failing = False
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.catch_up()
                failing = False
            except Exception:  # whatever it is: who is let in must not rest on it, so it is tried again until it works
                if not failing:  # once for each outage
                    _log.exception("the directory cannot be read; callers are refused while it is not fresh")
                failing = True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
