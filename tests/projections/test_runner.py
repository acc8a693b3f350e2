"""The runner: follows the log, stops only what fails, rebuilds without a gap."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from domain.accounts.events import OrgCreated
from domain.kernel.clock import DAY, SECOND
from domain.ledger.events import CreditGranted
from projections.activity import activity_events
from projections.balances import balance_as_of, balance_of
from projections.base import Cursor, Fold, Projection, find_all, on
from projections.runner import Copy, Runner, wait_for
from tests.projections.history import START, append, play

STEPS = [(kind, 7 * n % 1000, 13 * n % 1000) for n in range(30) for kind in ("hold", "settle", "hold", "extend")]


class Names(Fold):
    """Fails at an org called Poison."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @on(OrgCreated, "name")
    def created(self, event: OrgCreated, stream: str, position: int) -> None:
        if event.name == "Poison":
            raise ValueError("poisoned")
        self.names.append(event.name)

    def flush(self, cursor: Cursor) -> None:
        cursor.executemany("insert into names values (%s)", [[name] for name in self.names])


class Tolerant(Names):
    @on(OrgCreated, "name")
    def created(self, event: OrgCreated, stream: str, position: int) -> None:
        self.names.append(event.name.lower())


NAMES = Projection("names", 1, "create table names (name text)", Names)


@contextmanager
def following(runner: Runner) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=runner.run, args=[stop])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def eventually(true: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_names_of_tables_are_unique_over_all_projections(database_url: str, connection: psycopg.Connection) -> None:
    Runner(database_url).prepare()
    cursor = connection.cursor()
    tables = [table for item in find_all().values() for table in Copy([item]).tables_of(cursor, item)]
    assert len(tables) == len(set(tables))


def test_what_is_appended_is_soon_seen(database_url: str, connection: psycopg.Connection) -> None:
    runner = Runner(database_url)
    with following(runner):
        for number in range(3):
            org = f"org{number}"
            last = append(connection, [(f"org:{org}", OrgCreated(name=org))])
            last = append(connection, [(f"account:{org}", CreditGranted(org=org, grant="1", amount=7, reason=""))])
            assert wait_for(connection, "balances", last, timeout_seconds=5)
            balance = balance_of(connection, org)
            assert balance is not None
            assert (balance["balance"], balance["available"], balance["position"]) == (7, 7, last)
    assert not runner.stopped


def test_waiting_ends_in_time(database_url: str, connection: psycopg.Connection) -> None:
    Runner(database_url).prepare()
    assert not wait_for(connection, "balances", 1, timeout_seconds=0.05)


def test_a_projection_that_fails_stops_alone_and_skips_nothing(
    database_url: str, connection: psycopg.Connection
) -> None:
    runner = Runner(database_url, [NAMES, *find_all().values()])
    with following(runner):
        before = append(connection, [("org:a", OrgCreated(name="Good"))])
        assert eventually(lambda: wait_for(connection, "names", before, timeout_seconds=5))
        append(connection, [("org:b", OrgCreated(name="Poison"))])
        last = append(connection, [("org:c", OrgCreated(name="Late"))])
        assert wait_for(connection, "orgs", last, timeout_seconds=5)
        assert eventually(lambda: "poisoned" in runner.stopped.get("names", ""))
        last = append(connection, [("org:d", OrgCreated(name="Later"))])
        assert wait_for(connection, "orgs", last, timeout_seconds=5)
    assert connection.execute("select name from view_names.names").fetchall() == [("Good",)]
    assert connection.execute("select at from view_names.position").fetchone() == (before,)


def test_a_raised_version_rebuilds_by_itself(database_url: str, connection: psycopg.Connection) -> None:
    with following(Runner(database_url, [NAMES])):
        last = append(connection, [("org:a", OrgCreated(name="Good"))])
        assert eventually(lambda: wait_for(connection, "names", last, timeout_seconds=5))
        append(connection, [("org:b", OrgCreated(name="Poison"))])
    with following(Runner(database_url, [replace(NAMES, version=2, fold=Tolerant)])):
        assert eventually(
            lambda: (
                connection.execute("select name from view_names.names order by name").fetchall()
                == [("good",), ("poison",)]
            )
        )
        last = append(connection, [("org:c", OrgCreated(name="New"))])
        assert wait_for(connection, "names", last, timeout_seconds=5)


def test_a_second_runner_waits_for_the_first(database_url: str, connection: psycopg.Connection) -> None:
    class Other(Names):
        pass

    second = Runner(database_url, [replace(NAMES, fold=Other)])
    with following(Runner(database_url, [NAMES])):
        last = append(connection, [("org:a", OrgCreated(name="One"))])
        assert eventually(lambda: wait_for(connection, "names", last, timeout_seconds=5))
        with following(second):
            last = append(connection, [("org:b", OrgCreated(name="Two"))])
            assert wait_for(connection, "names", last, timeout_seconds=5)
    with following(second):
        last = append(connection, [("org:c", OrgCreated(name="Three"))])
        assert wait_for(connection, "names", last, timeout_seconds=5)
    assert connection.execute("select name from view_names.names").fetchall() == [("One",), ("Two",), ("Three",)]


def test_readers_find_tables_and_whole_figures_through_rebuilds(
    database_url: str, connection: psycopg.Connection
) -> None:
    append(connection, [("org:a", OrgCreated(name="A"))])
    runner = Runner(database_url)
    done = threading.Event()
    seen: list[int] = []
    problems: list[Exception] = []

    def read() -> None:
        try:
            with psycopg.connect(database_url, autocommit=True) as reader:
                while not done.is_set():
                    balance = balance_of(reader, "a")
                    assert balance is not None
                    seen.append(balance["balance"])
        except Exception as problem:
            problems.append(problem)

    with following(runner):
        assert eventually(lambda: wait_for(connection, "balances", 1, timeout_seconds=5))
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(60):
            last = append(connection, [("account:a", CreditGranted(org="a", grant=str(number), amount=1, reason=""))])
            if number % 20 == 10:
                Runner(database_url).rebuild(["balances", "activity"], processes=1)
        assert wait_for(connection, "balances", last, timeout_seconds=5)
        done.set()
        reader.join(10)
    assert not problems
    assert seen == sorted(seen)
    balance = balance_of(connection, "a")
    assert balance is not None
    assert (balance["balance"], balance["available"]) == (60, 60)


def test_the_runner_outlives_its_connection(database_url: str, connection: psycopg.Connection) -> None:
    with following(Runner(database_url)):
        last = append(connection, [("org:a", OrgCreated(name="A"))])
        assert eventually(lambda: wait_for(connection, "orgs", last, timeout_seconds=5))
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        last = append(connection, [("org:b", OrgCreated(name="B"))])
        assert wait_for(connection, "orgs", last, timeout_seconds=10)


def test_a_long_request_was_in_flight_all_along(database_url: str, connection: psycopg.Connection) -> None:
    lines = play([("hold", 0, 500)])
    hold = lines[-1][1].at
    lines = play([("hold", 0, 500), *[("wait", 1, 0)] * 30, ("settle", 0, 3)])
    append(connection, lines)
    runner = Runner(database_url)
    runner.prepare()
    runner.step(connection)
    assert lines[-1][1].at - hold > 3600 * SECOND
    assert balance_as_of(connection, "org0", at=hold + SECOND)["held"] == 5_000


def test_a_replay_leaves_nothing_behind(database_url: str, connection: psycopg.Connection) -> None:
    append(connection, play(STEPS))
    schemas = "select oid, nspname from pg_namespace order by oid"
    before = connection.execute(schemas).fetchall()
    rows = Runner(database_url).replay("orgs", rows_max=2)
    assert [row["name"] for row in rows["orgs"]] == ["Org 0", "Org 1"]
    assert connection.execute(schemas).fetchall() == before


def test_the_feed_pages_without_gap_or_repeat(database_url: str, connection: psycopg.Connection) -> None:
    append(connection, play(STEPS))
    runner = Runner(database_url)
    runner.prepare()
    runner.step(connection)
    bounds = {"start": START, "end": START + 400 * DAY}
    whole = activity_events(connection, "org0", **bounds, limit=200)
    assert len(whole) > 8
    paged, before = [], None
    while page := activity_events(connection, "org0", **bounds, limit=3, before=before):
        paged += page
        before = page[-1]["at"], page[-1]["id"]
    assert paged == whole
    assert [row["at"] for row in whole] == sorted((row["at"] for row in whole), reverse=True)
