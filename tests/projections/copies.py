"""Read models over a history of a test's own, with batches that end where the test says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import psycopg
from psycopg import sql

from projections.base import Cursor, Projection
from projections.runner import Copy
from projections.verify import checksum
from tests.projections.history import Line, append


@contextmanager
def history_in(url: str, lines: Sequence[Line]) -> Iterator[tuple[Cursor, int, int]]:
    """A transaction that is rolled back, with these facts in the log: a cursor, the positions before and at the end.
    Positions are not given twice, so another history in the same database begins behind those of this one."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        head = append(connection, lines)
        yield cursor, head - len(lines), head
        connection.rollback()


def filled(
    cursor: Cursor,
    projections: Sequence[Projection],
    suffix: str = "",
    *,
    stops: Sequence[int],
    as_of: int | None = None,
    indexes: bool = True,
) -> Copy:
    """These projections over the log between the stops, which are where the batches end."""
    copy = Copy(projections, suffix=suffix)
    copy.create(cursor, indexes=indexes)
    for after, until in pairwise(stops):
        copy.fill(cursor, after=after, until=until, as_of=as_of)
    return copy


def sums_of(cursor: Cursor, copy: Copy) -> dict[str, tuple[int, int]]:
    return {
        f"{item.name}.{table}": checksum(cursor, sql.Identifier(copy.schema_of(item), table))
        for item in copy.projections
        for table in copy.tables_of(cursor, item)
    }
