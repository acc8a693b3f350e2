"""Webhooks through the API: what is told, what is kept back, and what is refused."""

import time

import pytest

from domain.webhooks.endpoints import TYPES
from domain.webhooks.events import SampleAsked
from tests.api.client import Client
from tests.given import Minted

URL = "https://hooks.example.com/br?token=x"


def test_a_webhook_is_added_listed_changed_and_removed(client: Client, key: Minted) -> None:
    added = client("POST", "/me/webhooks", key.secret, {"url": "HTTPS://Hooks.Example.com:443/br?token=x"})
    assert added.status_code == 201, added.text
    row = added.json()
    secret = row.pop("secret")
    assert secret.startswith("whsec_")
    assert (row["url"], row["events"], row["enabled"], row["alert_id"]) == (URL, [*TYPES], True, None)
    assert client("GET", "/me/webhooks", key.secret).json() == {"object": "list", "data": [row]}
    path = f"/me/webhooks/{row['id']}"
    changed = client("PATCH", path, key.secret, {"events": ["budget.reached", "balance.low"], "enabled": False}).json()
    assert changed["events"] == ["balance.low", "budget.reached"]
    assert (changed["enabled"], changed["disabled_reason"], changed["url"]) == (False, "asked", URL)
    assert client.code("POST", f"{path}/test", key.secret) == (409, "webhook_disabled")
    changed = client("PATCH", path, key.secret, {"url": "https://other.example.com", "enabled": True}).json()
    assert (changed["enabled"], changed["url"]) == (True, "https://other.example.com")
    assert client("DELETE", path, key.secret).json() == {"id": row["id"], "deleted": True}
    for method, there in (("DELETE", path), ("PATCH", path), ("POST", f"{path}/test"), ("GET", f"{path}/deliveries")):
        assert client.code(method, there, key.secret, {} if method == "PATCH" else None) == (404, "not_found")


def test_a_secret_is_shown_when_it_is_made_and_never_again(client: Client, key: Minted) -> None:
    row = client("POST", "/me/webhooks", key.secret, {"url": URL}).json()
    rotated = client("POST", f"/me/webhooks/{row['id']}/rotate", key.secret).json()
    assert rotated["secret"] != row["secret"]
    assert rotated["old_secret_until"] is not None
    listed = client("GET", "/me/webhooks", key.secret).text
    assert row["secret"] not in listed
    assert rotated["secret"] not in listed


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"url": "http://hooks.example.com/"}, "address_refused", "url"),
        ({"url": "https://127.0.0.1/"}, "address_refused", "url"),
        ({"url": "https://metadata.google.internal/"}, "address_refused", "url"),
        ({"url": URL, "events": []}, "invalid_request", "events"),
        ({"url": URL, "events": ["webhook.test"]}, "invalid_request", "events"),
        ({"url": URL, "events": ["everything"]}, "invalid_request", "events"),
        ({"url": URL, "secret": "mine"}, "invalid_request", "secret"),
        ({}, "invalid_request", "url"),
    ],
)
def test_what_cannot_be_called_or_told_is_refused(
    client: Client, key: Minted, body: dict[str, object], code: str, param: str
) -> None:
    reply = client("POST", "/me/webhooks", key.secret, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, code, param)
    assert client("GET", "/me/webhooks", key.secret).json()["data"] == []


def test_an_org_has_ten_at_most(client: Client, key: Minted) -> None:
    for _ in range(10):
        assert client("POST", "/me/webhooks", key.secret, {"url": URL}).status_code == 201
    assert client.code("POST", "/me/webhooks", key.secret, {"url": URL}) == (409, "webhook_limit")


def test_a_test_is_in_the_log_of_deliveries_and_can_be_sent_again(client: Client, key: Minted) -> None:
    row = client("POST", "/me/webhooks", key.secret, {"url": URL}).json()
    path = f"/me/webhooks/{row['id']}"
    asked = client("POST", f"{path}/test", key.secret)
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    again = client("POST", f"{path}/test", key.secret)
    assert (again.status_code, again.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(again.headers["retry-after"]) <= 10
    client.project()
    (delivery,) = client("GET", f"{path}/deliveries", key.secret).json()["data"]
    assert delivery["id"] == asked.json()["id"]
    assert (delivery["type"], delivery["status"], delivery["attempts"]) == ("webhook.test", "pending", 0)
    assert (delivery["response_code"], delivery["problem"], delivery["last_attempt_at"]) == (None, None, None)
    redelivered = client("POST", f"{path}/deliveries/{delivery['id']}/redeliver", key.secret)
    assert (redelivered.status_code, redelivered.json()["id"]) == (202, delivery["id"])
    for wrong in ("msg_0_0", "%00"):
        assert client.code("POST", f"{path}/deliveries/{wrong}/redeliver", key.secret) == (404, "not_found")


def test_changes_are_in_the_audit_trail_without_secrets(client: Client, key: Minted) -> None:
    row = client("POST", "/me/webhooks", key.secret, {"url": URL, "events": ["balance.low"]}).json()
    path = f"/me/webhooks/{row['id']}"
    client("PATCH", path, key.secret, {"events": ["receipt.issued"]})
    client("POST", f"{path}/rotate", key.secret)
    client("DELETE", path, key.secret)
    client.project()
    trail = client("GET", "/me/audit", key.secret).json()["data"]
    rows = [each for each in reversed(trail) if each["thing"] == f"webhook:{row['id']}"]
    actions = [each["action"] for each in rows]
    assert actions == ["endpoint_added", "endpoint_changed", "secret_rotated", "endpoint_removed"]
    assert rows[0]["after"]["url"] == URL
    assert (rows[1]["before"], rows[1]["after"]) == ({"types": ["balance.low"]}, {"types": ["receipt.issued"]})
    assert row["secret"] not in str(trail)


def test_deliveries_come_in_pages(client: Client, key: Minted) -> None:
    row = client("POST", "/me/webhooks", key.secret, {"url": URL}).json()
    path = f"/me/webhooks/{row['id']}/deliveries"
    asked = SampleAsked(owner="org_a", endpoint=row["id"])
    for _ in range(3):
        client.services.store.locked(lambda _: [("webhook_test:x", asked)], at=time.time_ns() // 1000, by="test")
    client.project()
    first = client("GET", f"{path}?limit=2", key.secret).json()
    assert len(first["data"]) == 2
    second = client("GET", f"{path}?limit=2&before={first['next_before']}", key.secret).json()
    assert (len(second["data"]), second["next_before"]) == (1, None)
    ids = [each["id"] for each in first["data"] + second["data"]]
    assert len(set(ids)) == 3
    assert client.code("GET", f"{path}?before=x", key.secret) == (400, "invalid_request")
