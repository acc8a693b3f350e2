"""Jobs run through the queue while it stands, and without it when it does not: credit comes back either way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import workers
from adapters.postgres import connect
from adapters.settings import Settings
from adapters.wiring import App
from domain.kernel.clock import SECOND
from domain.ledger.events import CreditHeld
from tests.given import Minted, given_hold, given_key, given_org
from workers.expire_holds import run as expire_holds
from workers.jobs import Job, find_jobs
from workers.schedule import keep_asking


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_url)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app()


@pytest.fixture
def key(app: App) -> Minted:
    given_org(app.store, at=app.clock())
    return given_key(app.store, "org_a", at=app.clock())


def overdue(app: App, key: Minted, request: str, *, by_seconds: int = 1) -> None:
    at = app.clock()
    given_hold(app.database_url, request, key, amount=1_000, at=at, expires=at - by_seconds * SECOND)


def open_holds(app: App) -> int:
    with connect(app.database_url) as connection:
        row = connection.execute("select count(*) from hold").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def command(app: App, *words: str, redis_url: str = "") -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BR_")} | {
        "DATABASE_URL": app.database_url,
        "REDIS_URL": redis_url or app.redis_url,
        "BHARATROUTER_HOME": str(app.settings.home),
    }
    process = subprocess.Popen([sys.executable, "-m", "api.cli", *words], env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def wait_until_none_is_open(app: App, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while open_holds(app):
        assert time.monotonic() < deadline, "nobody gave the credit back"
        time.sleep(0.05)


def test_every_job_of_the_folder_is_found() -> None:
    jobs, machinery = find_jobs(), {"__init__", "each", "jobs", "main", "queue", "schedule"}
    assert set(jobs) == {file.stem for file in Path(workers.__path__[0]).glob("*.py")} - machinery
    assert "expire_credit" in jobs
    assert jobs["expire_holds"].every_seconds == 2


def test_only_what_is_overdue_is_given_back_and_once(app: App, key: Minted) -> None:
    before = app.available("org_a")
    overdue(app, key, "req_old")
    overdue(app, key, "req_new", by_seconds=-60)
    assert expire_holds(app) == 1
    assert expire_holds(app) == 0
    assert open_holds(app) == 1
    assert app.available("org_a") == before - 1_000
    assert [type(fact.event).__name__ for fact in app.log.stream("request:req_old")] == ["CreditHeld", "HoldExpired"]
    held = app.log.stream("request:req_new")[0].event
    assert isinstance(held, CreditHeld)


def test_a_worker_does_what_the_scheduler_asks_for(app: App, key: Minted) -> None:
    overdue(app, key, "req_old")
    with command(app, "work"), command(app, "schedule"):
        wait_until_none_is_open(app, seconds=15)


def test_credit_comes_back_without_any_queue(app: App, key: Minted) -> None:
    overdue(app, key, "req_old")
    with command(app, "schedule", redis_url="redis://127.0.0.1:1"):
        wait_until_none_is_open(app, seconds=15)


def test_the_scheduler_asks_when_jobs_are_due_and_runs_what_nobody_takes(app: App) -> None:
    ran: dict[str, int] = {"quick": 0, "taken": 0, "slow": 0}
    asked: list[str] = []

    def count(name: str) -> Job:
        def run(_: App) -> int:
            ran[name] += 1
            raise RuntimeError("a job that fails must not stop the others")

        return Job(name, 60 if name == "slow" else 0.1, run)

    jobs = {name: count(name) for name in ran}
    stop = threading.Event()

    def ask(job: Job) -> bool:
        asked.append(job.name)
        if asked.count("quick") == 3:
            stop.set()
        return job.name == "taken"

    keep_asking(jobs, ask=ask, app=app, stop=stop)
    assert ran == {"quick": 3, "taken": 0, "slow": 1}
    assert asked.count("slow") == 1
    assert asked.count("taken") == 3
