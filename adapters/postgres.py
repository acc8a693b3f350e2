"""Connections to PostgreSQL, and the migrations that lay out what it holds."""

import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

MIGRATION_LOCK = 7300
LOG_LOCK = 7301
"""The advisory lock under which every append to the log is made, so that readers see its positions in order."""


def connect(url: str, *, statement_seconds: int = 0) -> psycopg.Connection[Any]:
    """A connection that commits each statement by itself and notices within seconds that the server is gone.

    `statement_seconds` ends a statement that runs longer; 0 lets it run. Raises psycopg.OperationalError.
    """
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        keepalives_idle=10,
        keepalives_interval=2,
        keepalives_count=3,
        application_name="bharatrouter",
    )
    if statement_seconds:
        connection.execute(f"set statement_timeout = '{statement_seconds}s'")
    return connection


def make_pool(url: str, *, size: int) -> ConnectionPool[psycopg.Connection[Any]]:
    """A pool for short reads. It opens at the first use; who waits 5 s for a connection meets psycopg's PoolTimeout."""
    return ConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        timeout=5,
        kwargs={"autocommit": True, "connect_timeout": 5, "application_name": "bharatrouter-reads"},
        configure=_limit_reads,
        check=ConnectionPool.check_connection,
        name="reads",
    )


def _limit_reads(connection: psycopg.Connection[Any]) -> None:
    connection.execute("set statement_timeout = '30s'")
    connection.execute("set idle_in_transaction_session_timeout = '30s'")


def migrate(url: str) -> list[str]:
    """Brings the database to the newest layout and returns the names of the migrations that it lacked.

    Each file runs in a transaction of its own; of several that migrate at once, one works and the others wait.
    Raises RuntimeError if a migration that ran has been edited since, or if the database is newer than this program.
    """
    done = []
    with connect(url) as connection:
        connection.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        connection.execute(
            "create table if not exists migration (number int primary key, name text not null,"
            " sha256 text not null, at timestamptz not null default now())"
        )
        ran: dict[int, str] = dict(connection.execute("select number, sha256 from migration").fetchall())
        files = list(_migrations())
        if newer := sorted(set(ran) - {number for number, _, _ in files}):
            raise RuntimeError(f"the database is newer than this program: it has migration {newer[-1]:04d}")
        for number, name, sql in files:
            sha256 = hashlib.sha256(sql.encode()).hexdigest()
            if number in ran:
                if ran[number] != sha256:
                    raise RuntimeError(f"{name} was edited after it ran; write a new migration instead")
                continue
            with connection.transaction():
                connection.execute(sql.encode())
                connection.execute(
                    "insert into migration (number, name, sha256) values (%s, %s, %s)", [number, name, sha256]
                )
            done.append(name)
    return done


def _migrations() -> Iterator[tuple[int, str, str]]:
    for entry in sorted(resources.files("migrations").iterdir(), key=lambda entry: entry.name):
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name):
            yield int(match[1]), entry.name, entry.read_text()
