"""Claims to a piece of work, so that only one is at it at a time, be it in this process or in another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

CLAIM_LOCK = 7310
"""The first half of the advisory locks of claims; the second is a hash of what is claimed."""


@contextmanager
def claimed(pool: ConnectionPool[psycopg.Connection[Any]], what: str) -> Iterator[bool]:
    """See `App.claimed`. The claim is a connection's, which serves nothing else until the block ends."""
    pool.open()
    with pool.connection() as connection:
        row = connection.execute("select pg_try_advisory_lock(%s, hashtext(%s))", [CLAIM_LOCK, what]).fetchone()
        ours = row is not None and bool(row[0])
        try:
            yield ours
        finally:
            if ours:
                connection.execute("select pg_advisory_unlock(%s, hashtext(%s))", [CLAIM_LOCK, what])
