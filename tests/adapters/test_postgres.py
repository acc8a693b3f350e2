"""Migrations run forward, once, alone, and never change after they ran."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from adapters.postgres import connect, migrate


def test_an_empty_database_gets_everything_and_the_next_run_nothing(new_database: Callable[..., str]) -> None:
    url = new_database()
    done = migrate(url)
    assert done == sorted(done)
    assert done[0] == "0001_log.sql"
    assert migrate(url) == []


def test_of_many_that_migrate_at_once_one_does_the_work(new_database: Callable[..., str]) -> None:
    url = new_database()
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(migrate, [url] * 4))
    assert sum(bool(names) for names in done) == 1


def test_an_edited_migration_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("update migration set sha256 = 'other' where number = 2")
    with pytest.raises(RuntimeError, match=r"0002_guards\.sql was edited"):
        migrate(database_url)


def test_a_database_of_a_newer_program_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("insert into migration values (9999, 'x', 'y')")
    with pytest.raises(RuntimeError, match="newer than this program"):
        migrate(database_url)


def test_a_statement_that_runs_too_long_is_ended(database_url: str) -> None:
    with connect(database_url, statement_seconds=1) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(5)")
