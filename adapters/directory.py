"""Keeps a Directory in step with the log: loaded at the start, then followed by position on a connection of its own."""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from adapters.log import COLUMNS, decode
from adapters.postgres import CONFIGURATION_ONLY, connect
from domain.keys.directory import Caller, Directory

POLL_SECONDS = 0.2
STALE_SECONDS = 1.0
BATCH = 5_000
FOLLOWED = ("org:", "workspace:", "key:", "trial:", "ephemeral:", "user:", "routing:")

_log = logging.getLogger(__name__)


class DirectoryFeed:
    """Every process has one. A change of a key, session or role is in force here within `STALE_SECONDS`, or else
    `fresh` says no and nobody is let in on what may be out of date."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._directory = Directory()
        self._position = 0
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

    def catch_up(self) -> None:
        """Takes in everything that the log has now. Raises psycopg.Error if it cannot be read."""
        with self._one_reader:
            began = time.monotonic()
            try:
                if self._connection is None:
                    self._connection = connect(self._url, statement_seconds=5)
                while self._take_batch(self._connection) == BATCH:
                    pass
            except BaseException:
                self._disconnect()
                raise
            self._seen_at = began

    def _take_batch(self, connection: psycopg.Connection[Any]) -> int:
        rows = connection.execute(
            f"select {COLUMNS} from events where notification_id > %s and {CONFIGURATION_ONLY}"
            f" order by notification_id limit {BATCH}".encode(),
            (self._position,),
            prepare=True,
        ).fetchall()
        for position, stream, _, name, state in rows:
            if stream.startswith(FOLLOWED):
                self._directory.evolve(stream, decode(name, state))
            self._position = position
        return len(rows)

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
