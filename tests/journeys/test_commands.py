"""The command line beside the running product, as an operator and their scripts use it."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections.base import find_all
from tests.journeys.customers import Customer, Operator, until
from tests.machine import free_port
from tests.product import BHARATROUTER, Product, chat_body

pytestmark = pytest.mark.journeys

READ_MODELS = sorted(find_all())


@pytest.fixture
def own(new_home: Callable[[], Path]) -> Iterator[Product]:
    """A product to be mistreated."""
    with Product(new_home(), settings={"WEB_PROCESSES": "1"}) as product:
        yield product


def test_an_operator_makes_an_org_a_key_and_credit_that_work_at_once(product: Product) -> None:
    org = product.cli_json("org", "create", "--name", "Asha", "--email", "asha@example.in", "--credit-inr", "12.5")
    assert org["balance_inr"] == "12.5"
    options = ("--scope", "inference", "--budget-inr", "5", "--rpm", "100", "--daily", "2")
    key = product.cli_json("key", "create", "--org", org["id"], "--name", "ci", *options)
    until(lambda: product.chat(key["key"]).status_code == 200)
    assert product.chat(key["key"]).status_code == 200
    assert product.chat(key["key"]).json()["error"]["code"] == "daily_limit_reached"
    with product.client(key["key"]) as http:
        row = http.get("/v1/key").json()
    assert (row["id"], row["scope"], row["rpm_limit"], row["monthly_budget"]) == (key["id"], "inference", 100, "5")
    grant = ("credit", "grant", "--org", org["id"], "--inr", "7", "--reason", "pilot", "--id", "pilot-1")
    first, again = product.cli_json(*grant), product.cli_json(*grant)
    assert (first["granted"], again["granted"]) == (True, False)
    assert first["available_inr"] == again["available_inr"]
    for words in (
        ("key", "create", "--org", org["id"], "--name", "ci"),
        ("key", "create", "--org", "org_nobody", "--name", "x"),
        ("credit", "grant", "--org", org["id"], "--inr", "-1", "--reason", "x"),
        ("replay", "nonsense"),
    ):
        done = product.cli(*words, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert product.cli("org", "create", check=False).returncode == 2
    printed = product.cli("key", "create", "--org", org["id"], "--name", "for people").stdout
    assert printed.startswith("br-")


def test_settings_and_catalog_are_found_in_order(product: Product) -> None:
    assert "in order" in product.cli("catalog", "check").stdout
    assert "in order" in product.cli("serve", "--check").stdout
    assert "newest layout already" in product.cli("migrate").stdout


def test_replay_shows_the_same_pages_afterwards(product: Product, customer: Customer) -> None:
    with customer.http() as http:
        for _ in range(3):
            http.post("/v1/chat/completions", json=chat_body("steady"))
        http.post("/v1/chat/completions", json=chat_body("sim-err500"))
    until(lambda: len(customer.get("/me/activity/events")["events"]) == 4)

    def pages() -> list[Any]:
        billing = customer.get("/me/billing")
        return [
            {name: value for name, value in billing.items() if name != "as_of"},
            *[
                customer.get(path)
                for path in ("/me/activity", "/me/activity/events", "/me/usage", "/me/usage/daily", "/me/keys")
            ],
        ]

    before = pages()
    assert sorted(product.cli_json("replay", "all")["rebuilt"]) == READ_MODELS
    assert pages() == before
    assert product.cli_json("replay", "balances")["rebuilt"] == ["balances"]
    assert pages() == before
    lines = product.cli("replay", "balances", "--as-of", "2999-01-01").stdout.splitlines()
    balances = [json.loads(line) for line in lines]
    mine = [row for row in balances if row["table"] == "balances" and row["org"] == customer.org]
    assert [row["credit"] for row in mine] == [100 * 10**9]


def test_the_log_is_exported_sealed_and_verified(product: Product, customer: Customer, tmp_path: Path) -> None:
    with customer.http() as http:
        request = http.post("/v1/chat/completions", json=chat_body("steady")).headers["x-request-id"]
    before = product.verify()
    file = tmp_path / "log.jsonl"
    product.cli("events", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    after = product.verify()
    assert before["events"] <= len(lines) <= after["events"]
    positions = [line["position"] for line in lines]
    assert positions == sorted(set(positions))
    assert {line["name"] for line in lines if line["stream"] == f"request:{request}"} == {
        "ledger.credit_held.v1",
        "ledger.request_settled.v1",
    }
    assert customer.key not in file.read_text()

    sealed = product.cli_json("seal")
    if sealed["blocks"]:
        assert sealed["header"] == sealed["blocks"][-1]["header"]
    report = product.verify()
    assert report["ok"] is True
    assert report["blocks"] >= 1
    assert report["unsealed"] <= 5
    assert set(report["projections"]) == set(READ_MODELS)


def test_the_tail_follows_a_call_as_it_happens(product: Product, customer: Customer) -> None:
    command = [BHARATROUTER, "events", "tail", "--follow", "--lines", "1"]
    with subprocess.Popen(command, env=product.environment, stdout=subprocess.PIPE, text=True) as tail:
        patience = threading.Timer(30, tail.kill)
        patience.start()
        try:
            assert tail.stdout is not None
            tail.stdout.readline()  # the newest event so far: from now on it follows
            with customer.http() as http:
                reply = http.post("/v1/chat/completions", json=chat_body("steady"))
            stream = f"request:{reply.headers['x-request-id']}"
            seen: list[str] = []
            for line in tail.stdout:
                event = json.loads(line)
                if event["stream"] == stream:
                    seen.append(event["name"])
                if len(seen) == 2:
                    break
        finally:
            tail.send_signal(signal.SIGINT)
            patience.cancel()
    assert seen == ["ledger.credit_held.v1", "ledger.request_settled.v1"]
    assert tail.returncode == 128 + signal.SIGINT


def test_another_gateway_serves_beside_the_product(product: Product, customer: Customer) -> None:
    port = free_port()
    environment = product.environment | {"PORT": str(port)}
    with subprocess.Popen([BHARATROUTER, "serve"], env=environment, stderr=subprocess.DEVNULL) as gateway:
        try:
            headers = {"authorization": f"Bearer {customer.key}"}
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False) as http:

                def ready() -> bool:
                    try:
                        return http.get("/readyz").status_code == 200
                    except httpx.TransportError:
                        return False

                until(ready)
                reply = http.post("/v1/chat/completions", json=chat_body("steady"))
            assert reply.status_code == 200
            assert customer.record(reply.headers["x-request-id"])["state"] == "settled"
        finally:
            gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(20) == 0


def test_a_simulator_can_be_started_alone(product: Product, tmp_path: Path) -> None:
    announced = tmp_path / "url"
    command = [BHARATROUTER, "simulate", "--announce", str(announced)]
    with subprocess.Popen(command, env=product.environment) as simulator:
        try:
            url = until(lambda: announced.exists() and announced.read_text().strip())
            body = chat_body("sim-err429")
            reply = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, verify=False)
            assert reply.status_code == 429
        finally:
            simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(20) == 0


def test_a_touched_event_is_found_and_named(own: Product) -> None:
    operator = Operator(own)
    customer = operator.customer()
    operator.close()
    request = own.chat(customer.key).headers["x-request-id"]
    customer.record(request)
    own.cli("seal")
    assert own.verify()["ok"] is True
    with psycopg.connect(own.database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("update events set state = state where originator_id = %s", [f"request:{request}"])
        connection.execute("alter table events disable trigger events_are_immutable")
        connection.execute(
            "update events set state = convert_to(replace(convert_from(state, 'UTF8'), '\"duration_ms\":',"
            " '\"duration_ms\":1'), 'UTF8') where originator_id = %s and topic = 'ledger.request_settled.v1'",
            [f"request:{request}"],
        )
        connection.execute("alter table events enable trigger events_are_immutable")
    done = own.cli("verify", "--json", check=False)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert f"request:{request}" in json.dumps(report["findings"])
    said = own.cli("verify", check=False)
    assert said.returncode == 1
    assert f"request:{request}" in said.stdout
    assert "NOT as the log says" in said.stdout


def test_a_command_without_a_product_says_what_to_do(new_home: Callable[[], Path]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    environment["BHARATROUTER_HOME"] = str(new_home())
    done = subprocess.run(
        [BHARATROUTER, "verify"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "bharatrouter up" in done.stderr
