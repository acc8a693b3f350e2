"""The command line beside a product, as a person or a program uses it: real processes on a real PostgreSQL."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader
from adapters.postgres import connect, make_pool
from tests.given import given_person

PROGRAM = [sys.executable, "-m", "api.cli"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database_url: str, redis_url: str, tmp_path: Path) -> Run:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BR_")}
    environment |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "BHARATROUTER_HOME": str(tmp_path)}

    def run(*words: str, expect: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PROGRAM, *words], capture_output=True, text=True, env=environment | more, timeout=60, check=False
        )
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def told(run: Run, *words: str, expect: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run(*words, "--json", expect=expect).stdout)
    return made


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        shown = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.4
    for command in ("up", "serve", "work", "migrate", "simulate", "org", "key", "credit", "replay", "verify", "events"):
        assert command in shown.stdout


def test_an_org_a_key_and_credit_are_made_and_the_books_agree(run: Run, database_url: str) -> None:
    run("migrate")
    org = told(run, "org", "create", "--name", "Asha", "--email", "asha@example.in", "--credit-inr", "50")
    assert org["balance_inr"] == "50"
    key = told(run, "key", "create", "--org", org["org"], "--name", "ci", "--budget-inr", "12.5", "--daily", "9")
    assert key["key"].startswith("br-")
    assert key["prefix"] == key["key"][:12]
    grant = ("credit", "grant", "--org", org["org"], "--inr", "7.25", "--reason", "thanks", "--id", "g1")
    assert told(run, *grant)["available_inr"] == "57.25"
    assert told(run, *grant) | {"granted": True} == told(run, *grant) | {"granted": True}
    assert told(run, *grant)["available_inr"] == "57.25"
    with connect(database_url) as connection:
        log = str(connection.execute("select convert_from(state, 'UTF8') from events").fetchall())
    assert "asha@example.in" not in log
    assert key["key"] not in log

    run("replay", "all")
    assert told(run, "verify")["ok"] is True
    sealed = told(run, "seal")
    assert len(sealed["blocks"]) == 1
    assert told(run, "seal")["blocks"] == []
    assert "as the log says" in run("verify").stdout


def test_a_person_is_erased_and_the_history_still_verifies(run: Run, database_url: str) -> None:
    pool = make_pool(database_url, size=1)
    store = EventStore(database_url, LogReader(pool))
    given_person(store)
    assert told(run, "person", "erase", "usr_asha") == {"id": "usr_asha", "erased": True}
    assert LogReader(pool).stream("user:usr_asha")[-1].event.NAME == "accounts.person_erased.v1"
    assert "No such person" in run("person", "erase", "usr_nobody", expect=1).stderr
    run("replay", "all")
    run("verify")
    store.close()
    pool.close()


def test_a_touched_balance_fails_the_verification(run: Run, database_url: str) -> None:
    run("migrate")
    org = told(run, "org", "create", "--name", "Asha", "--email", "a@example.in", "--credit-inr", "50")
    run("replay", "all")
    with connect(database_url) as connection:
        connection.execute("update balance set available = available + 1")
    report = told(run, "verify", expect=1)
    assert report["ok"] is False
    assert org["org"] in str(report["findings"])


def test_the_log_is_exported_and_tailed_as_json_lines(run: Run, tmp_path: Path) -> None:
    run("migrate")
    run("org", "create", "--name", "Āśā ₹", "--email", "a@example.in", "--credit-inr", "50")
    run("seal")
    file = tmp_path / "log.jsonl"
    run("events", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["position"] for line in lines] == [*range(1, len(lines) + 1)]
    recorded = len([line for line in lines if line["name"].startswith("catalog.")])
    assert recorded > 100
    lines = lines[recorded:]
    assert [line["name"] for line in lines] == [
        "accounts.org_created.v1",
        "accounts.workspace_created.v1",
        "ledger.credit_granted.v1",
        "log.sealed.v1",
    ]
    assert lines[0]["data"]["name"] == "Āśā ₹"
    assert lines[0]["by"] == "operator"
    assert lines[0]["at"].endswith("Z")
    assert len(lines[0]["leaf"]) == 64
    assert lines[3]["data"]["count"] == recorded + 3
    assert run("events", "export").stdout == file.read_text()
    assert run("events", "tail", "--lines", "2").stdout.splitlines() == file.read_text().splitlines()[-2:]


def test_a_moment_of_the_past_can_be_replayed(run: Run) -> None:
    run("migrate")
    run("org", "create", "--name", "A", "--email", "a@example.in", "--credit-inr", "50")
    rows = [json.loads(line) for line in run("replay", "balances", "--as-of", "2999-01-01").stdout.splitlines()]
    assert [row["credit"] for row in rows if row["table"] == "balances"] == [50_000_000_000]
    assert run("replay", "balances", "--as-of", "2020-01-01").stdout == ""


def test_the_demo_org_gets_its_credit_once_and_a_new_key_each_time(run: Run) -> None:
    run("migrate")
    first, second = told(run, "dev-key"), told(run, "dev-key")
    assert first["key"] != second["key"]
    assert (first["balance_inr"], second["balance_inr"]) == ("100", "100")
    names = [json.loads(line)["name"] for line in run("events", "tail").stdout.splitlines()]
    assert names.count("ledger.credit_granted.v1") == 1
    assert names[-2:] == ["keys.key_revoked.v1", "keys.key_minted.v1"]


def test_migrating_again_changes_nothing(run: Run) -> None:
    run("migrate")
    assert "newest layout already" in run("migrate").stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("dance",),
        ("org", "create"),
        ("credit", "grant", "--org", "x", "--inr", "much", "--reason", "r"),
        ("replay", "all", "--as-of", "whenever"),
    ],
)
def test_bad_usage_exits_with_2_and_says_how(run: Run, words: tuple[str, ...]) -> None:
    assert "usage:" in run(*words, expect=2).stderr


def test_what_goes_wrong_is_said_in_one_line(run: Run) -> None:
    run("migrate")
    unknown = run("key", "create", "--org", "org_none", "--name", "k", expect=1)
    assert unknown.stderr == "bharatrouter: No such org.\n"
    gone = run("verify", expect=1, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert gone.stderr.count("\n") == 1
    assert "cannot be reached" in gone.stderr
    bad = run("migrate", expect=1, PORT="many")
    assert bad.stderr.startswith("bharatrouter: setting PORT")
    nothing = run("verify", expect=1, DATABASE_URL="")
    assert "DATABASE_URL" in nothing.stderr
    assert "no read model nonsense" in run("replay", "nonsense", expect=1).stderr


def test_settings_catalog_and_routes_can_be_checked(run: Run, tmp_path: Path) -> None:
    assert "in order" in run("serve", "--check").stdout
    assert "in order" in run("catalog", "check").stdout
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "bad.toml").write_text('id = "bad"\nname = 7\n')
    found = run("catalog", "check", expect=1, BHARATROUTER_CATALOG_DIR=str(tmp_path))
    assert "bad.toml" in found.stdout


def test_what_is_sealed_is_sealed_anew_by_the_first_sealing_key(run: Run) -> None:
    run("org", "create", "--name", "A", "--email", "a@example.org")
    first, second = "a" * 40, "b" * 40
    for keys, resealed in ((first, 1), (f"{second},{first}", 1), (second, 0)):
        made = json.loads(run("vault", "reseal", "--json", BR_SEALING_KEYS=keys).stdout)
        assert made == {"resealed": resealed, "keys": 1}
    assert "BR_SEALING_KEYS" in run("vault", "reseal", expect=1, BR_SEALING_KEYS=first).stderr
    assert "32" in run("vault", "reseal", expect=1, BR_SEALING_KEYS="short").stderr
