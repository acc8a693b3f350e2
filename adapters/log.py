"""Reads the log, and says how a fact is written in it: readable JSON under its name for life."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

import domain
from domain.catalog.events import CATALOG_STREAM
from domain.kernel.events import REGISTER, Event, Recorded

Row = tuple[int, str, int, str, bytes]
"""Position, stream, version, name and stored form of one fact."""

COLUMNS = "notification_id, originator_id, originator_version, topic, state"

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """The stored form of a fact."""
    return _encoder.encode(event)


def decode(name: str, state: bytes) -> Event:
    """The fact of that name. Raises KeyError for a name that this program does not know, msgspec.ValidationError for
    a stored form that is none of it."""
    return _decoder(name).decode(state)


@cache
def _decoder(name: str) -> msgspec.json.Decoder[Event]:
    load_all_facts()
    return msgspec.json.Decoder(REGISTER[name])


@cache
def load_all_facts() -> None:
    """Fills the register: every `events` module of the domain registers its facts when it is imported."""
    for package in pkgutil.iter_modules(domain.__path__, "domain."):
        if package.ispkg and importlib.util.find_spec(f"{package.name}.events"):
            importlib.import_module(f"{package.name}.events")


def recorded(rows: Iterable[Row]) -> list[Recorded]:
    return [
        Recorded(position, stream, version, decode(name, bytes(state)))
        for position, stream, version, name, state in rows
    ]


class LogReader:
    """Looks into the log. Every list is in the order of the log."""

    def __init__(self, pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
        self._pool = pool

    def stream(self, name: str) -> list[Recorded]:
        """All facts of one stream; empty if there is none."""
        return recorded(self._rows(f"select {COLUMNS} from events where originator_id = %s order by 3", name))

    def org(self, org: str) -> list[Recorded]:
        """Everything an org has configured: the facts of its own stream and those of its workspaces and keys."""
        return recorded(
            self._rows(
                f"select {COLUMNS} from events"
                " where org_of(originator_id, state) = %s and is_configuration(originator_id) order by 1",
                org,
            )
        )

    def catalog(self) -> list[Recorded]:
        """Everything that was ever offered: the facts of the catalog and of all prices."""
        return recorded(
            self._rows(
                f"select {COLUMNS} from events where originator_id = %s"
                " or (originator_id >= 'price:' and originator_id < 'price;') order by 1",
                CATALOG_STREAM,
            )
        )

    def after(self, position: int, *, limit: int) -> list[Row]:
        """At most `limit` facts after that position, undecoded."""
        return list(
            self._rows(f"select {COLUMNS} from events where notification_id > %s order by 1 limit %s", position, limit)
        )

    def head(self) -> int:
        """The position of the newest fact, 0 if there is none."""
        return int(self._rows("select coalesce(max(notification_id), 0) from events")[0][0])

    def before_last(self, count: int) -> int:
        """The position after which the newest `count` facts stand, 0 if there are fewer."""
        rows = self._rows("select notification_id from events order by 1 desc offset %s limit 1", count)
        return int(rows[0][0]) if rows else 0

    def _rows(self, sql: str, *parameters: object) -> Sequence[Any]:
        self._pool.open()
        with self._pool.connection() as connection:
            return connection.execute(sql.encode(), parameters).fetchall()
