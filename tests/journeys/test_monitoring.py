"""A collection is watched: its provider fails, its owner is told once, everybody can see it; it recovers, and they are
told that too."""

import email
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.customers import until
from tests.product import Product

pytestmark = pytest.mark.journeys

QUICK = {"WEB_PROCESSES": "1", "BR_CANARY_SECONDS": "1", "BR_ALERT_QUIET_SECONDS": "0"}


def mails(product: Product) -> list[EmailMessage]:
    files = sorted((product.home / "mail").glob("alert.*.eml"))
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in files]


def test_from_the_first_check_to_the_recovery(new_home: Callable[[], Path]) -> None:
    with Product(new_home(), settings=QUICK) as product:
        key = product.key(product.org(inr="10"))
        simulator = f"{product.simulator_url}/script"

        def play(script: str) -> None:
            rule = {"provider": "sim-india", "model": "steady", "script": script}
            httpx.post(simulator, json=rule, trust_env=False, verify=False)

        with product.client(key) as http:

            def get(path: str) -> Any:
                reply = http.get(path)
                assert reply.status_code == 200, reply.text
                return reply.json()

            steps = [{"model": "steady", "provider": "sim-india"}]
            made = http.post("/me/collections", json={"name": "Desk", "model": "steady", "steps": steps}).json()
            path = f"/me/collections/{made['slug']}"
            alert = {"metric": "error_rate", "threshold": 0.6, "email": "a@example.org"}
            assert http.post(f"{path}/alerts", json=alert).status_code == 201
            play("err503")
            assert http.post(f"{path}/monitor", json={"monitored": True}).json() == {"monitored": True}
            until(lambda: mails(product), within=40)
            until(lambda: get("/status.json")["incidents"], within=20)
            play("")
            until(lambda: len(mails(product)) == 2, within=60)

            (row,) = get(f"{path}/health")["health"]
            assert (row["model"], row["provider"]) == ("steady", "sim-india")
            assert 0 < row["uptime"] < 1
            balance = get("/me/billing")["balance_inr"]
            page, feed = http.get("/status"), http.get("/status.rss")
            (incident,) = get("/status.json")["incidents"]
        told = {str(mail["subject"]).partition(",")[0] for mail in mails(product)}
        assert told == {"Desk: alert", "Desk: recovered"}
        assert {str(mail["to"]) for mail in mails(product)} == {"a@example.org"}
        assert (incident["provider"], incident["severity"], incident["models"]) == ("sim-india", "down", ["steady"])
        assert "sim-india is down" in page.text
        assert incident["id"] in feed.text
        assert balance == "10"
        product.verify()
