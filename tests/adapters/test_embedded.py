"""The embedded servers keep what they acknowledged, and end when whoever started them does."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import conninfo

from adapters.embedded import CannotStart, Postgres, Valkey, running
from tests.machine import is_alive


@pytest.fixture
def home() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="bharatrouter-test-"))
    root.chmod(0o711)
    yield root / "home"
    shutil.rmtree(root)


def eventually(true: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def start_elsewhere(home: Path, kind: str) -> tuple[subprocess.Popen[str], int]:
    """Another Python that starts the server and then sleeps; answers it and the server's pid."""
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from adapters.embedded import {kind}, running
        server = {kind}(Path(sys.argv[1]))
        with running(server):
            print(server.process.pid, flush=True)
            time.sleep(600)
    """)
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert starter.stdout is not None
    with starter.stdout:
        return starter, int(starter.stdout.readline())


def test_postgres_is_durable_by_default_and_keeps_its_data_over_restarts(home: Path) -> None:
    for expected in ([], [(1,)]):
        with running(Postgres(home)) as url, psycopg.connect(url) as connection:
            for promise in ("fsync", "synchronous_commit", "full_page_writes"):
                assert connection.execute(f"SHOW {promise}").fetchone() == ("on",)
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            assert connection.execute("SELECT n FROM kept").fetchall() == expected
            connection.execute("INSERT INTO kept VALUES (1)")


def test_the_database_is_utf8_with_byte_order_collation_and_the_clock_of_utc(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
        assert connection.execute("SELECT lower('É'), 'Z' < 'a'").fetchone() == ("é", True)


def test_secrets_and_sockets_are_closed_to_others(home: Path) -> None:
    with running(Postgres(home, durable=False)), running(Valkey(home, durable=False)):
        assert stat.S_IMODE((home / "postgres.password").stat().st_mode) == 0o600
        for folder in ("postgres", "valkey", "run", "log"):
            assert stat.S_IMODE((home / folder).stat().st_mode) == 0o700, folder
        assert not (home / "run" / "password").exists()


def test_a_wrong_password_is_refused(home: Path) -> None:
    with running(Postgres(home, durable=False)) as url:
        password = (home / "postgres.password").read_text()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url.replace(password, "guess"))


def test_acknowledged_commits_outlive_a_killed_server_and_the_same_home_starts_again(home: Path) -> None:
    server = Postgres(home)
    with running(server) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE facts (n int)")
        for number in range(200):
            connection.execute("INSERT INTO facts VALUES (%s)", [number])
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    with running(Postgres(home)) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (200,)


def test_a_pid_file_whose_number_another_program_has_by_now_is_no_obstacle(home: Path) -> None:
    server = Postgres(home, durable=False)
    with running(server):
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    left = home / "postgres" / "postmaster.pid"
    _, _, rest = left.read_text().partition("\n")
    stranger = subprocess.Popen(["sleep", "600"], user="bharatrouter" if os.geteuid() == 0 else None)
    try:
        left.write_text(f"{stranger.pid}\n{rest}")
        with running(Postgres(home, durable=False)) as url, psycopg.connect(url):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_database_whose_making_was_cut_short_is_made_anew(home: Path) -> None:
    with running(Valkey(home, durable=False)):
        pass  # makes the home
    (home / "postgres.unfinished").mkdir()
    (home / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    with running(Postgres(home, durable=False)) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_home_with_a_long_path_still_has_sockets(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(parents=True)
    home.chmod(0o711)
    with running(Postgres(deep, durable=False)) as url, running(Valkey(deep, durable=False)) as redis_url:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with redis.Redis.from_url(redis_url) as client:
            assert client.ping()
    sockets = Path(str(conninfo.conninfo_to_dict(url)["host"]))
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    shutil.rmtree(sockets)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has its servers run as another user")
def test_for_root_the_servers_run_as_another_user_and_no_folder_above_changes_its_mode(home: Path) -> None:
    before = home.parent.stat()
    server = Postgres(home, durable=False)
    with running(server):
        assert server.process is not None
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == (home / "postgres").stat().st_uid != 0
    after = home.parent.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has its servers run as another user")
def test_for_root_a_home_that_the_other_user_cannot_reach_is_refused_with_the_folder_in_the_way(
    home: Path,
) -> None:
    home.parent.chmod(0o700)
    with pytest.raises(CannotStart, match=f"because {home.parent} is closed to other users"):
        Postgres(home).start()
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("kind", [Postgres, Valkey])
def test_a_killed_starter_leaves_no_server_behind_and_the_home_starts_at_once(
    home: Path, kind: type[Postgres | Valkey]
) -> None:
    starter, server_pid = start_elsewhere(home, kind.__name__)
    starter.kill()
    starter.wait()
    with running(kind(home)):
        assert not is_alive(server_pid)


def test_an_orphan_on_the_same_data_is_ended_before_the_new_server_starts(home: Path) -> None:
    starter, orphan_pid = start_elsewhere(home, "Postgres")
    try:
        with running(Postgres(home)) as url, psycopg.connect(url):
            assert not is_alive(orphan_pid)
    finally:
        starter.kill()
        starter.wait()


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with running(Postgres(home, durable=False)):
        pass
    (home / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(CannotStart, match="not compatible"), running(Postgres(home, durable=False)):
        pass


def test_valkey_keeps_what_it_acknowledged_over_a_stop(home: Path) -> None:
    with running(Valkey(home)) as url, redis.Redis.from_url(url) as client:
        client.set("job", "waiting")
    with running(Valkey(home)) as url, redis.Redis.from_url(url) as client:
        assert client.get("job") == b"waiting"


def test_stopping_is_quick_and_clean_even_with_open_sessions(home: Path) -> None:
    server = Postgres(home, durable=False)
    with running(server) as url, psycopg.connect(url):
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
    assert server.process is not None
    assert server.process.returncode == 0
