"""The supervisor in a process of its own, over stand-in commands: real processes, real signals."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from adapters.settings import Settings, beside_product
from adapters.supervisor import FAILED, LOCKED, STOPPED, has_provider_key
from tests.folders import folder_for_servers
from tests.machine import is_alive

STAND_IN = Path(__file__).with_name("stand_in.py")
PROGRAM = f"""
import sys
from adapters.settings import Settings
from adapters.supervisor import up
sys.exit(up(Settings(), program=[sys.executable, "-I", {str(STAND_IN)!r}]))
"""
ELSEWHERE = {"DATABASE_URL": "postgresql://elsewhere/db", "REDIS_URL": "redis://elsewhere"}
APPLICATION = ("gateway-1", "projector", "worker", "scheduler", "simulator", "payments", "identity")


class Product:
    """A supervisor under test. `output` is what it has said so far."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self._said = home.parent / f"said-{time.monotonic_ns()}"
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=kept | {"BHARATROUTER_HOME": str(home), "PORT": "0"} | dict(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._said.read_text()

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "run.json").read_text()))

    @property
    def pids(self) -> dict[str, int]:
        return dict(self.facts["pids"])

    def until_ready(self) -> "Product":
        eventually(lambda: "stop with Ctrl-C" in self.output or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.output
        return self

    def ask(self, path: str = "/") -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.facts['address']}{path}", timeout=10) as answer:
            return dict(json.load(answer))

    def notes(self) -> list[str]:
        return (self.home / "notes").read_text().splitlines()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def launch() -> Iterator[Callable[..., Product]]:
    launched: list[Product] = []
    with folder_for_servers() as root:

        def start(environment: Mapping[str, str] = ELSEWHERE) -> Product:
            launched.append(Product(root / "home", environment))
            return launched[-1]

        yield start
        for product in launched:
            if product.process.poll() is None:
                product.end()


def eventually(true: Callable[[], object], product: Product, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"it did not happen in time; the supervisor said:\n{product.output}"
        time.sleep(0.02)


def test_when_ready_it_says_the_address_a_key_and_a_line_to_paste(launch: Callable[..., Product]) -> None:
    product = launch().until_ready()
    address = product.facts["address"]
    assert f"ready at {address}" in product.output
    assert "₹100" in product.output
    [line] = [line.strip() for line in product.output.splitlines() if line.strip().startswith("curl")]
    assert line.startswith(f"curl {address}/v1/chat/completions -H 'Authorization: Bearer br-stand-in'")
    assert '"model": "sarvam-105b"' in line


def test_the_servers_start_first_and_their_addresses_reach_every_child(
    launch: Callable[..., Product],
) -> None:
    product = launch({}).until_ready()
    seen = product.ask()
    with psycopg.connect(seen["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("bharatrouter",)
    with redis.Redis.from_url(seen["REDIS_URL"]) as client:
        assert client.ping()
    assert seen["BHARATROUTER_HOME"] == str(product.home)
    assert product.notes()[0] == "migrate begins"
    pids = product.pids
    assert set(pids) == {"postgres", "valkey", *APPLICATION}
    assert product.end() == STOPPED
    assert not any(is_alive(pid) for pid in pids.values())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_the_gateways_before_the_workers_and_the_simulator_last(
    launch: Callable[..., Product], how: signal.Signals
) -> None:
    product = launch(ELSEWHERE | {"WEB_PROCESSES": "2"}).until_ready()
    pids = product.pids
    everybody = {"serve", "project", "schedule", "work", "simulate"}
    eventually(lambda: everybody <= {note.split()[0] for note in product.notes()}, product)
    assert product.end(how) == STOPPED
    ends = [note.split()[0] for note in product.notes() if note.endswith(" ends")]
    assert ends[:2] == ["serve", "serve"]
    assert sorted(ends[2:5]) == ["project", "schedule", "work"]
    assert ends[5:] == ["simulate"] * 3
    assert not any(is_alive(pid) for pid in pids.values())
    assert not (product.home / "run.json").exists()


def test_gateways_share_one_port(launch: Callable[..., Product]) -> None:
    product = launch(ELSEWHERE | {"WEB_PROCESSES": "2"}).until_ready()
    both = {product.pids["gateway-1"], product.pids["gateway-2"]}
    answered: set[int] = set()

    def ask() -> bool:
        answered.add(product.ask()["pid"])
        return answered == both

    eventually(ask, product)


def test_a_gateway_that_does_not_stop_is_killed_after_its_time(launch: Callable[..., Product]) -> None:
    product = launch(ELSEWHERE | {"STAND_IN_LINGERS": "serve", "BR_STOP_SECONDS": "0.5"}).until_ready()
    pid = product.pids["gateway-1"]
    began = time.monotonic()
    assert product.end() == STOPPED
    assert 0.5 < time.monotonic() - began < 5
    assert not is_alive(pid)


def test_a_second_wish_to_stop_does_not_wait_for_the_gateways(launch: Callable[..., Product]) -> None:
    product = launch(ELSEWHERE | {"STAND_IN_LINGERS": "serve", "BR_STOP_SECONDS": "600"}).until_ready()
    product.process.send_signal(signal.SIGINT)
    eventually(lambda: "Stopping" in product.output, product)
    assert product.process.poll() is None
    assert product.end(signal.SIGINT) == STOPPED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_supervisor_leaves_nothing_running_and_the_next_one_finds_everything(
    launch: Callable[..., Product],
) -> None:
    product = launch({}).until_ready()
    with psycopg.connect(product.facts["database_url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE facts (n int)")
        for number in range(50):
            connection.execute("INSERT INTO facts VALUES (%s)", [number])
    pids = product.pids
    product.end(signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid) for pid in pids.values()), product)
    again = launch({}).until_ready()
    with psycopg.connect(again.facts["database_url"]) as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (50,)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_the_next_one_need_not_wait_until_the_servers_of_a_killed_supervisor_are_down(
    launch: Callable[..., Product],
) -> None:
    for _ in range(3):
        product = launch({}).until_ready()
        product.end(signal.SIGKILL)
    again = launch({}).until_ready()
    with psycopg.connect(again.facts["database_url"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("name", APPLICATION)
def test_a_child_that_dies_is_started_again(launch: Callable[..., Product], name: str) -> None:
    product = launch().until_ready()
    before = product.pids
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: product.pids[name] != before[name], product)
    after = product.pids
    assert is_alive(after[name])
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    assert f"{name} ended (by SIGKILL), starting it again in 0.1 s" in product.output


@pytest.mark.parametrize("name", ["simulator", "payments", "identity"])
def test_a_simulator_keeps_its_address_when_it_is_started_again(launch: Callable[..., Product], name: str) -> None:
    product = launch().until_ready()
    url, before = product.facts[f"{name}_url"], product.pids[name]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: product.pids[name] != before, product)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(json.load(answer)["pid"] == product.pids[name])
        except urllib.error.URLError:
            return False

    eventually(answers, product)


@pytest.mark.faults
def test_killed_servers_are_started_again_with_all_that_they_acknowledged(
    launch: Callable[..., Product],
) -> None:
    product = launch({}).until_ready()
    url, redis_url = product.facts["database_url"], product.facts["redis_url"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE facts (n int)")
        connection.execute("INSERT INTO facts SELECT generate_series(1, 1000)")
        for name in ("postgres", "valkey"):
            before = product.pids[name]
            os.kill(before, signal.SIGKILL)
            eventually(lambda name=name, before=before: product.pids[name] != before, product)

    def counted() -> bool:
        try:
            with psycopg.connect(url) as connection:
                return connection.execute("SELECT count(*) FROM facts").fetchone() == (1000,)
        except psycopg.OperationalError:
            return False

    def answers() -> bool:
        try:
            with redis.Redis.from_url(redis_url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    eventually(counted, product)
    eventually(answers, product)
    assert is_alive(product.pids["gateway-1"])


def test_a_child_that_keeps_dying_is_started_less_and_less_often(launch: Callable[..., Product]) -> None:
    product = launch().until_ready()
    for delay in ("0.1", "0.2", "0.4"):
        before = product.pids["worker"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: product.pids["worker"] != before, product)
        assert f"starting it again in {delay} s" in product.output


def test_a_second_one_says_who_holds_the_home_and_leaves_it_alone(launch: Callable[..., Product]) -> None:
    first = launch().until_ready()
    second = launch()
    assert second.process.wait(30) == LOCKED
    assert f"process {first.process.pid} holds {first.home}" in second.output
    assert first.facts["address"] in second.output
    assert first.ask()["pid"] == first.pids["gateway-1"]


def test_two_that_start_at_once_on_an_empty_home_are_one_product(launch: Callable[..., Product]) -> None:
    both = [launch(), launch()]
    eventually(lambda: any(product.process.poll() is not None for product in both), both[0])
    [loser] = [product for product in both if product.process.poll() is not None]
    [winner] = [product for product in both if product is not loser]
    assert loser.process.returncode == LOCKED
    winner.until_ready()


@pytest.mark.parametrize("command", ["migrate", "simulate", "serve"])
def test_what_fails_before_it_is_ready_stops_everything_and_is_shown(
    launch: Callable[..., Product], command: str
) -> None:
    product = launch(ELSEWHERE | {"STAND_IN_FAILS": command})
    assert product.process.wait(30) == FAILED
    assert f"{command} cannot go on" in product.output
    assert "Traceback" not in product.output
    assert not (product.home / "run.json").exists()


def test_without_a_development_key_it_serves_all_the_same(launch: Callable[..., Product]) -> None:
    product = launch(ELSEWHERE | {"STAND_IN_FAILS": "dev-key"}).until_ready()
    assert "no development key" in product.output
    assert product.ask()["pid"] == product.pids["gateway-1"]


def test_a_taken_port_is_said_before_anything_starts(launch: Callable[..., Product]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        product = launch(ELSEWHERE | {"PORT": str(taken.getsockname()[1])})
        assert product.process.wait(30) == FAILED
    assert "Set PORT to another" in product.output
    assert not (product.home / "notes").exists()


@pytest.mark.parametrize(
    "configured", [{"BR_KEY_SARVAM": "sk-1"}, {"BR_SIMULATOR_URL": "http://127.0.0.1:9"}], ids=["key", "url"]
)
def test_no_simulator_is_started_where_a_provider_or_another_simulator_is_configured(
    launch: Callable[..., Product], configured: dict[str, str]
) -> None:
    product = launch(ELSEWHERE | configured).until_ready()
    assert "simulator" not in product.pids
    assert product.ask()["BR_SIMULATOR_URL"] == configured.get("BR_SIMULATOR_URL")


def test_payments_are_simulated_with_fresh_secrets_and_other_commands_know_them(
    launch: Callable[..., Product],
) -> None:
    product = launch().until_ready()
    assert "payments are simulated" in product.output
    seen, facts = product.ask(), product.facts
    assert seen["BR_RAZORPAY_URL"] == facts["payments_url"] != facts["simulator_url"]
    assert seen["BR_RAZORPAY_KEY_ID"].startswith("rzp_test_")
    secrets = (seen["BR_RAZORPAY_KEY_SECRET"], seen["BR_RAZORPAY_WEBHOOK_SECRETS"])
    assert all(len(secret) >= 32 for secret in secrets)
    assert not any(secret in product.output for secret in secrets)
    beside = beside_product(Settings(home=product.home))
    assert beside.razorpay_url == facts["payments_url"]
    assert beside.razorpay_key_id == seen["BR_RAZORPAY_KEY_ID"]
    assert beside.razorpay_key_secret is not None
    known = (beside.razorpay_key_secret, *beside.razorpay_webhook_secrets)
    assert tuple(secret.get_secret_value() for secret in known) == secrets
    product.end()
    assert launch().until_ready().ask()["BR_RAZORPAY_KEY_SECRET"] != secrets[0]


def test_payments_are_not_simulated_when_there_is_a_key_and_it_is_written_nowhere(
    launch: Callable[..., Product],
) -> None:
    key = {"BR_RAZORPAY_KEY_ID": "rzp_test_x", "BR_RAZORPAY_KEY_SECRET": "s3cret-of-the-account"}
    product = launch(ELSEWHERE | key).until_ready()
    assert "payments" not in product.pids
    assert "payments are simulated" not in product.output
    assert product.facts["payments_url"] is None
    assert product.ask()["BR_RAZORPAY_KEY_ID"] == "rzp_test_x"
    assert "s3cret" not in (product.home / "run.json").read_text()
    assert beside_product(Settings(home=product.home)).razorpay_key_id is None


def test_sign_in_is_simulated_for_this_machine_with_fresh_secrets_that_are_written_nowhere(
    launch: Callable[..., Product],
) -> None:
    product = launch().until_ready()
    seen, facts = product.ask(), product.facts
    assert f"Sign-in is simulated too, for this machine alone; be whoever you like at {facts['address']}/sign-in" in (
        product.output
    )
    url = facts["identity_url"]
    assert (seen["BR_GITHUB_URL"], seen["BR_GITHUB_API_URL"]) == (f"{url}/github", f"{url}/github/api")
    assert seen["BR_GOOGLE_URL"] == f"{url}/google"
    secrets = {seen[f"BR_{name}_CLIENT_SECRET"] for name in ("GITHUB", "GOOGLE")}
    assert all(len(secret) >= 32 for secret in secrets)
    assert len(secrets) == 2
    assert not any(secret in product.output + (product.home / "run.json").read_text() for secret in secrets)


@pytest.mark.parametrize(
    "why_not",
    [
        {"BR_GITHUB_CLIENT_ID": "id", "BR_GITHUB_CLIENT_SECRET": "secret"},
        {"BR_GOOGLE_CLIENT_ID": "id", "BR_GOOGLE_CLIENT_SECRET": "secret"},
        {"BR_PUBLIC_URL": "https://bharatrouter.example"},
        {"HOST": "0.0.0.0"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_sign_in_is_not_simulated_where_it_is_set_up_or_others_could_reach_it(
    launch: Callable[..., Product], why_not: dict[str, str]
) -> None:
    product = launch(ELSEWHERE | why_not).until_ready()
    assert "identity" not in product.pids
    assert "Sign-in is simulated" not in product.output
    assert product.facts["identity_url"] is None
    assert ("payments" in product.pids) == (not {"HOST", "BR_PUBLIC_URL"} & set(why_not))
    seen = product.ask()
    assert seen["BR_GITHUB_URL"] is None
    assert seen["BR_GOOGLE_CLIENT_ID"] == why_not.get("BR_GOOGLE_CLIENT_ID")


def test_the_pepper_of_our_own_keys_is_no_provider_key() -> None:
    assert not has_provider_key({"BR_KEY_PEPPER": "x", "BR_KEYS_MAX": "5", "BR_KEY_EMPTY": ""})
    assert has_provider_key({"BR_KEY_PEPPER": "x", "BR_KEY_SARVAM": "y"})


def test_other_commands_find_the_running_product_and_never_one_that_is_gone(
    launch: Callable[..., Product],
) -> None:
    product = launch().until_ready()
    alone = Settings(home=product.home, database_url=None, redis_url="redis://mine")
    beside = beside_product(alone)
    assert (beside.database_url, beside.redis_url) == (ELSEWHERE["DATABASE_URL"], "redis://mine")
    assert beside.simulator_url == product.facts["simulator_url"]
    assert stat.S_IMODE((product.home / "run.json").stat().st_mode) == 0o600
    product.end(signal.SIGKILL)
    assert (product.home / "run.json").exists()
    assert beside_product(alone) == alone


def test_a_secret_for_keys_is_made_once_and_kept(launch: Callable[..., Product]) -> None:
    product = launch().until_ready()
    pepper = product.home / "key.pepper"
    first = pepper.read_bytes()
    assert len(first) >= 32
    assert stat.S_IMODE(pepper.stat().st_mode) == 0o600
    assert product.end() == STOPPED
    launch().until_ready()
    assert pepper.read_bytes() == first
