"""Closes the log in blocks, and proves that an event is in one. One transaction under the log's lock per block, short:
the hashing is done before."""

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg

from adapters.log import COLUMNS, Row, encode
from adapters.postgres import LOG_LOCK, connect
from domain.kernel.clock import SECOND
from domain.sealing.block import EVENTS_MAX, Block, pack_leaves, path_of, unpack_leaves
from domain.sealing.events import LogSealed

STREAM = "seal"

Progress = Callable[[int, int], None]


class Proof(msgspec.Struct, frozen=True):
    """What proves that an event is in a block: join its `leaf` with each partner of the `path`, on the side named, and
    the result is the seal's root. Hashes in hex; how they are made is in `domain/sealing/block.py`."""

    position: int
    leaf: str
    path: tuple[tuple[str, str], ...]
    seal: LogSealed


class _Moment(msgspec.Struct):
    """What every event has: when it happened."""

    at: int = 0


class Sealer:
    """Seals what is old enough or enough. Several at once do no harm: for each block one of them is the first."""

    def __init__(
        self, url: str, *, clock: Callable[[], int], age_seconds_max: int = 60, events_max: int = EVENTS_MAX
    ) -> None:
        """`clock` answers microseconds since 1970. A block is closed at that age or with so many events."""
        self._url = url
        self._clock = clock
        self._age_max = age_seconds_max * SECOND
        self._events_max = events_max

    def seal(self, *, all_of_it: bool = False, progress: Progress | None = None) -> list[LogSealed]:
        """Closes every block that is due, and answers their seals.

        A block is due when it is full, or when its oldest event is old enough; with `all_of_it` whatever there is.
        Seals are sealed by the next block, but never make one due by themselves. `progress` is told positions
        passed and positions in all.
        """
        sealed: list[LogSealed] = []
        with connect(self._url) as connection:
            head = _head(connection)
            while True:
                previous = last_seal(connection)
                rows = self._rows(connection, previous.last if previous else 0, head)
                if not self._is_due(rows, all_of_it=all_of_it):
                    return sealed
                block = Block.after(previous)
                for position, stream, version, name, state in rows:
                    block.add(position=position, stream=stream, version=version, name=name, state=state)
                seal = block.close(at=self._clock(), by="worker:seal")
                if self._append(connection, block, seal):
                    sealed.append(seal)
                if progress is not None:
                    progress(seal.last, head)

    def _rows(self, connection: psycopg.Connection[Any], position: int, until: int) -> list[Row]:
        query = f"select {COLUMNS} from events where notification_id > %b and notification_id <= %b order by 1 limit %b"
        return connection.execute(query.encode(), [position, until, self._events_max], binary=True).fetchall()

    def _is_due(self, rows: list[Row], *, all_of_it: bool) -> bool:
        oldest = next((state for _, _, _, name, state in rows if name != LogSealed.NAME), None)
        if oldest is None:
            return False
        age = self._clock() - msgspec.json.decode(oldest, type=_Moment).at
        return all_of_it or len(rows) >= self._events_max or age >= self._age_max

    def _append(self, connection: psycopg.Connection[Any], block: Block, seal: LogSealed) -> bool:
        """False if another sealer was first."""
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", [LOG_LOCK])
            if last_seal(connection) != block.previous:
                return False
            connection.execute(
                "insert into events (originator_id, originator_version, topic, state) values (%s, %s, %s, %s)",
                [STREAM, seal.number, LogSealed.NAME, encode(seal)],
            )
            connection.execute(
                "insert into seal_leaves (number, leaves) values (%s, %s)",
                [seal.number, pack_leaves(block.leaves)],
            )
        return True


def last_seal(connection: psycopg.Connection[Any]) -> LogSealed | None:
    """The seal of the newest block; its header is what may be published elsewhere, so that a cut tail shows."""
    row = connection.execute(
        "select state from events where originator_id = %s order by originator_version desc limit 1", [STREAM]
    ).fetchone()
    return msgspec.json.decode(row[0], type=LogSealed) if row else None


def prove(connection: psycopg.Connection[Any], position: int) -> Proof | None:
    """The path from the event at that position to its block's root; None if no block has such an event (yet)."""
    row = connection.execute(
        "select e.state, l.leaves from events e join seal_leaves l on l.number = e.originator_version"
        " where e.originator_id = %s and (convert_from(e.state, 'utf8')::json ->> 'last')::bigint >= %s"
        " order by e.originator_version limit 1",
        [STREAM, position],
    ).fetchone()
    if row is None:
        return None
    leaves = unpack_leaves(row[1])
    positions = [place for place, _ in leaves]
    if position not in positions:
        return None
    index = positions.index(position)
    path = path_of([leaf for _, leaf in leaves], index)
    return Proof(
        position=position,
        leaf=leaves[index][1].hex(),
        path=tuple((side, partner.hex()) for side, partner in path),
        seal=msgspec.json.decode(row[0], type=LogSealed),
    )


def _head(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("select coalesce(max(notification_id), 0) from events").fetchone()
    assert row is not None
    return int(row[0])
