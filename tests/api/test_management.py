"""The management API and the reads beside it, through the whole application on a real PostgreSQL."""

import time
from pathlib import Path
from typing import Any

import pytest

from adapters.settings import Settings
from adapters.wiring import build
from domain.accounts.service import update_workspace
from domain.kernel.clock import SECOND, day_to_date, ist_day
from domain.kernel.money import rupees
from domain.keys.directory import Caller
from domain.keys.key import key_digest
from domain.keys.service import KeyTerms
from domain.ledger.credit import grant_credit
from tests.api.client import Client, minted, served, started
from tests.given import PEPPER, Minted, given_key, given_org

# Keys


def test_a_key_can_be_made_used_changed_and_revoked(client: Client, key: Minted) -> None:
    wanted = {"name": "ci", "budget_inr": 50.5, "rpm_limit": 10, "daily_limit": 100, "expires_days": 30}
    made = client("POST", "/me/keys", key.secret, wanted | {"scope": "inference", "models": ["gpt-5"]})
    assert made.status_code == 201
    row = made.json()
    assert row["key"].startswith("br-")
    assert row["prefix"] == row["key"][:12]
    assert (row["tier"], row["scope"], row["models"]) == ("standard", "inference", ["gpt-5"])
    assert (row["monthly_budget"], row["rpm_limit"], row["daily_limit"]) == ("50.5", 10, 100)
    assert (row["spent_month_inr"], row["held_inr"], row["last_used_at"], row["revoked_at"]) == ("0", "0", None, None)
    assert client("GET", "/v1/key", row["key"]).json()["id"] == row["id"]

    changed = client("PATCH", f"/me/keys/{row['id']}", key.secret, {"monthly_budget": None, "name": "cd", "models": []})
    assert (changed.json()["name"], changed.json()["monthly_budget"], changed.json()["models"]) == ("cd", None, None)
    assert changed.json()["daily_limit"] == 100
    assert client("PATCH", f"/me/keys/{row['id']}", key.secret, {"budget_inr": "7"}).json()["monthly_budget"] == "7"

    assert client("PATCH", f"/me/keys/{row['id']}", key.secret, {"disabled": True}).json()["disabled"] is True
    assert client.code("GET", "/v1/key", row["key"]) == (401, "invalid_api_key")
    client("PATCH", f"/me/keys/{row['id']}", key.secret, {"disabled": False})
    assert client("GET", "/v1/key", row["key"]).status_code == 200

    first = client("DELETE", f"/me/keys/{row['id']}", key.secret).json()
    assert first["deleted"] is True
    assert client("DELETE", f"/me/keys/{row['id']}", key.secret).json() == first
    assert client.code("GET", "/v1/key", row["key"]) == (401, "invalid_api_key")
    assert client.code("PATCH", f"/me/keys/{row['id']}", key.secret, {"name": "x"}) == (404, "not_found")
    listed = client("GET", "/me/keys", key.secret).json()["data"]
    assert [(each["name"], each["revoked_at"] is None) for each in listed] == [("first", True), ("cd", False)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "x", "scope": "admin"}, "scope"),
        ({"name": "x", "budget_inr": -1}, "budget_inr"),
        ({"name": "x", "budget_inr": "lots"}, "budget_inr"),
        ({"name": "x", "budget_inr": True}, "budget_inr"),
        ({"name": "x", "budget_inr": 1e300}, "budget_inr"),
        ({"name": "x", "rpm_limit": 0}, "rpm_limit"),
        ({"name": "x", "daily_limit": -1}, "daily_limit"),
        ({"name": "x", "daily_limit": "7"}, "daily_limit"),
        ({"name": "x", "expires_days": 366}, "expires_days"),
        ({"name": "x", "expires_days": 0}, "expires_days"),
        ({"name": "x", "models": [""]}, "models"),
        ({"name": "x", "montly_budget": 5}, "montly_budget"),
        ([], None),
    ],
)
def test_what_is_wrong_with_a_new_key_is_named(client: Client, key: Minted, body: Any, param: str | None) -> None:
    reply = client("POST", "/me/keys", key.secret, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("invalid_request", param, "invalid_request_error")


def test_names_are_unique_among_active_keys_and_keys_are_few(client: Client, key: Minted) -> None:
    for number in range(4):
        made = client("POST", "/me/keys", key.secret, {"name": f"key {number}"})
        assert made.status_code == 201
    assert client.code("POST", "/me/keys", key.secret, {"name": "sixth"}) == (400, "key_limit")
    client("DELETE", f"/me/keys/{made.json()['id']}", key.secret)
    assert client.code("POST", "/me/keys", key.secret, {"name": "key 0"}) == (400, "duplicate_key_name")
    assert client.code("PATCH", f"/me/keys/{key.key}", key.secret, {"name": "key 0"}) == (400, "duplicate_key_name")
    assert client("POST", "/me/keys", key.secret, {"name": "key 3"}).status_code == 201


def test_a_body_that_is_no_json_or_too_large_is_refused(client: Client, key: Minted) -> None:
    more = {"content": b"{", "headers": {"content-type": "application/json"}}
    assert client.code("POST", "/me/keys", key.secret, **more) == (400, "invalid_request")
    more["content"] = b" " * 10_000_001
    assert client.code("POST", "/me/keys", key.secret, **more) == (413, "payload_too_large")


def test_an_expired_key_opens_nothing(client: Client, key: Minted) -> None:
    old = given_key(
        client.services.store,
        "org_a",
        terms=KeyTerms(name="old", expires_days=1),
        at=client.services.clock() - 90_000 * SECOND,
    )
    client.services.directory.catch_up()
    assert client.code("GET", "/v1/key", old.secret) == (401, "invalid_api_key")


def test_a_key_is_taken_from_any_of_the_three_headers(client: Client, key: Minted) -> None:
    for headers in (
        {"x-br-api-key": key.secret},
        {"x-api-key": key.secret},
        {"authorization": f"bearer {key.secret}"},
        {"authorization": "Bearer sk-of-somebody-else", "x-br-api-key": key.secret},
    ):
        assert client("GET", "/v1/key", headers=headers).status_code == 200
    for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer br-" + "x" * 33}):
        assert client.code("GET", "/v1/key", headers=headers) == (401, "invalid_api_key")


def test_a_stale_directory_lets_nobody_in(client: Client, key: Minted) -> None:
    client.services.directory.close()
    time.sleep(1.1)
    assert client.code("GET", "/v1/key", key.secret) == (503, "ledger_unavailable")
    assert client.code("GET", "/readyz") == (503, "ledger_unavailable")
    assert client("GET", "/health").json()["status"] == "down"
    assert client("GET", "/v1/models").status_code == 200


def test_a_second_process_refuses_a_revoked_key_within_a_second(client: Client, key: Minted, tmp_path: Path) -> None:
    with started(Settings(home=tmp_path), client.services.database_url) as other:
        victim = client("POST", "/me/keys", key.secret, {"name": "victim", "rpm_limit": 5}).json()

        def known() -> Caller | None:
            return other.directory.find(key_digest(PEPPER, victim["key"].encode()))

        def wait(what: str) -> None:
            started = time.monotonic()
            while not eval_(what, known()):
                assert time.monotonic() - started < 1, what
                time.sleep(0.01)

        def eval_(what: str, caller: Caller | None) -> bool:
            return {
                "minted": caller is not None,
                "limited": caller is not None and caller.rpm_limit == 6,
                "revoked": caller is None,
            }[what]

        wait("minted")
        client("PATCH", f"/me/keys/{victim['id']}", key.secret, {"rpm_limit": 6})
        wait("limited")
        client("DELETE", f"/me/keys/{victim['id']}", key.secret)
        wait("revoked")


# Workspaces


def test_workspaces_are_made_changed_and_deleted(client: Client, key: Minted) -> None:
    made = client("POST", "/me/workspaces", key.secret, {"name": "staging", "monthly_budget_inr": "12.25"})
    assert made.status_code == 201
    workspace = made.json()
    assert (workspace["name"], workspace["default"], workspace["monthly_budget_inr"]) == ("staging", False, "12.25")
    inside = client("POST", "/me/keys", key.secret, {"name": "inside", "workspace_id": workspace["id"]}).json()
    assert inside["workspace_id"] == workspace["id"]

    path = f"/me/workspaces/{workspace['id']}"
    assert client("PATCH", path, key.secret, {"monthly_budget_inr": None}).json()["monthly_budget_inr"] is None
    assert client("PATCH", path, key.secret, {"name": "prod"}).json()["name"] == "prod"
    assert client.code("PATCH", path, key.secret, {"name": "Default"}) == (400, "duplicate_workspace_name")
    assert client.code("POST", "/me/workspaces", key.secret, {"name": "prod"}) == (400, "duplicate_workspace_name")
    assert client.code("POST", "/me/workspaces", key.secret, {"name": ""}) == (400, "invalid_request")

    gone = client("DELETE", path, key.secret).json()
    assert gone == {"id": workspace["id"], "deleted": True, "keys_moved_to": "ws_org_a"}
    assert client("GET", "/v1/key", inside["key"]).json()["workspace_id"] == "ws_org_a"
    assert client.code("DELETE", path, key.secret) == (404, "not_found")
    assert client.code("DELETE", "/me/workspaces/ws_org_a", key.secret) == (400, "default_workspace")
    assert [each["name"] for each in client("GET", "/me/workspaces", key.secret).json()["data"]] == ["Default"]


def test_an_org_has_at_most_twenty_workspaces(client: Client, key: Minted) -> None:
    for number in range(19):
        assert client("POST", "/me/workspaces", key.secret, {"name": f"w{number}"}).status_code == 201
    assert client.code("POST", "/me/workspaces", key.secret, {"name": "one more"}) == (400, "workspace_limit")


# Money, usage, requests


def test_the_story_of_a_request_lets_anyone_compute_its_cost(client: Client, key: Minted) -> None:
    cost = served(client, key, "req_1")
    story = client("GET", "/v1/requests/req_1", key.secret).json()
    assert story["state"] == "settled"
    lines = story["arithmetic"]["lines"]
    assert [(line["part"], line["quantity"], line["nanos_each"]) for line in lines] == [
        ("input", 100, 29_280),
        ("output", 50, 73_200),
    ]
    assert sum(line["quantity"] * line["nanos_each"] for line in lines) == cost
    assert story["cost_inr"] == story["settle"]["debited_inr"] == story["arithmetic"]["sum_inr"] == "0.006588"
    assert story["settle"]["returned_inr"] == "0.993412"
    assert story["price"]["version"].startswith("sarvam/sarvam-105b@2026-09-20.")
    assert (story["provider"], story["region"], story["policy"]) == ("sarvam", "IN", ["india_only"])
    assert story["routing"]["excluded"] == {"far/sarvam-105b": ["residency"]}
    assert [attempt["end"] for attempt in story["attempts"]] == ["status", "served"]
    assert [(event["name"], event["version"]) for event in story["events"]] == [
        ("ledger.credit_held.v1", 1),
        ("ledger.request_settled.v1", 2),
    ]
    assert client.code("GET", "/v1/requests/req_none", key.secret) == (404, "not_found")


def test_billing_agrees_with_what_was_granted_and_spent(client: Client, key: Minted) -> None:
    before = client.services.clock()
    cost = served(client, key, "req_1", at=before - 10 * SECOND)
    grant_credit(
        client.services.store,
        org="org_a",
        grant="g2",
        amount=rupees(5),
        reason="thanks",
        at=client.services.clock(),
        by="t",
    )
    client.project()
    now = client("GET", "/me/billing", key.secret).json()
    assert (now["balance_inr"], now["held_inr"], now["available_inr"]) == ("104.993412", "0", "104.993412")
    assert cost == 6_588_000
    assert [(event["amount_inr"], event["note"], event["type"]) for event in now["events"]] == [
        ("5", "thanks", "adjustment"),
        ("100", "test", "adjustment"),
    ]
    assert now["events"][0]["balance_after_inr"] == "104.993412"
    page = client("GET", "/me/billing?limit=1", key.secret).json()
    assert len(page["events"]) == 1
    rest = client("GET", f"/me/billing?limit=1&before={page['next_before']}", key.secret).json()
    assert [event["note"] for event in rest["events"]] == ["test"]
    assert rest["next_before"] is None
    past = client("GET", "/me/billing?as_of=2020-01-01", key.secret).json()
    assert (past["balance_inr"], past["events"]) == ("0", [])
    assert client.code("GET", "/me/billing?as_of=yesterday", key.secret) == (400, "invalid_range")
    assert client.code("GET", "/me/billing?before=x", key.secret) == (400, "invalid_request")


def test_usage_activity_and_the_key_agree_on_what_was_spent(client: Client, key: Minted) -> None:
    client("PATCH", f"/me/keys/{key.key}", key.secret, {"monthly_budget": 10, "daily_limit": 5})
    update_workspace(
        client.services.store,
        org="org_a",
        workspace="ws_org_a",
        monthly_budget=rupees(20),
        at=client.services.clock(),
        by="t",
    )
    client.services.directory.catch_up()
    for number in range(3):
        served(client, key, f"req_{number}")
    spent = "0.019764"
    own = client("GET", "/v1/key", key.secret).json()
    assert own["spent_month_inr"] == spent
    assert own["left"] == {
        "daily_calls": 2,
        "monthly_budget_inr": "9.980236",
        "workspace_budget_inr": "19.980236",
        "balance_inr": "99.980236",
    }
    assert own["last_used_at"] is not None
    usage = client("GET", "/me/usage", key.secret).json()
    assert (usage["today"], usage["last_30d"]) == (spent, spent)
    assert usage["keys"] == [{"id": key.key, "name": "first", "today": spent, "last_30d": spent}]
    daily = client("GET", "/me/usage/daily", key.secret).json()["data"]
    assert [(row["model"], row["requests"], row["tokens"], row["cost_inr"]) for row in daily] == [
        ("sarvam-105b", 3, 450, spent)
    ]
    activity = client("GET", "/me/activity", key.secret).json()
    assert (activity["totals"]["requests"], activity["totals"]["cost_inr"]) == (3, spent)
    assert (activity["totals"]["errors"], activity["totals"]["byok"]) == (0, 0)
    assert activity["top_keys"][0]["name"] == "first"
    assert activity["model_providers"][0]["provider"] == "sarvam"
    assert activity["filters"]["models"] == ["sarvam-105b"]
    assert client("GET", "/me/activity?model=other", key.secret).json()["totals"]["requests"] == 0


def test_the_feed_pages_through_every_request_once_newest_first(client: Client, key: Minted) -> None:
    for number in range(5):
        served(client, key, f"req_{number}")
    seen, before = [], ""
    while True:
        page = client("GET", f"/me/activity/events?limit=2{before}", key.secret).json()
        seen += [event["request_id"] for event in page["events"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert seen == [f"req_{number}" for number in (4, 3, 2, 1, 0)]
    event = page["events"][0]
    assert (event["status"], event["key_name"], event["tokens"], event["cost_inr"]) == (200, "first", 150, "0.006588")
    assert "error_code" not in event


@pytest.mark.parametrize(
    "query",
    ["from=2026-02-30", "from=yesterday", "from=2026-01-02&to=2026-01-01", "from=2024-01-01&to=2025-01-01", "to=1"],
)
def test_a_range_that_is_none_is_refused(client: Client, key: Minted, query: str) -> None:
    assert client.code("GET", f"/me/activity?{query}", key.secret) == (400, "invalid_range")
    assert client.code("GET", f"/me/activity/events?{query}", key.secret) == (400, "invalid_range")


def test_a_range_of_a_leap_year_is_taken(client: Client, key: Minted) -> None:
    assert client("GET", "/me/activity?from=2024-01-01&to=2024-12-31", key.secret).status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=x", "before=1-"])
def test_a_page_that_is_none_is_refused(client: Client, key: Minted, query: str) -> None:
    assert client.code("GET", f"/me/activity/events?{query}", key.secret) == (400, "invalid_request")


def test_rankings_hide_models_of_few_orgs_and_show_the_past(client: Client, key: Minted) -> None:
    keys = [key]
    for org in ("org_b", "org_c"):
        given_org(client.services.store, org, at=client.services.clock())
        keys.append(minted(client, org, KeyTerms(name="k")))
    for number, each in enumerate(keys):
        served(client, each, f"req_{number}")
    served(client, key, "req_x", model="rare")
    today = day_to_date(ist_day(client.services.clock())).isoformat()
    shown = client("GET", "/v1/rankings").json()
    assert shown["as_of"] == today
    assert [row["model"] for row in shown["windows"]["7d"]] == ["sarvam-105b"]
    assert set(shown["windows"]) == {"7d", "30d"}
    past = client("GET", "/v1/rankings?window=30d&by=requests&as_of=2026-01-01").json()
    assert past == {"as_of": "2026-01-01", "windows": {"30d": []}}
    assert client.code("GET", "/v1/rankings?as_of=2999-01-01") == (400, "invalid_range")
    assert client.code("GET", "/v1/rankings?window=8d") == (400, "invalid_request")


# Catalog and health


def test_the_catalog_lists_chat_models_first_and_shows_each(client: Client) -> None:
    listed = client("GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"][0]["modality"] == "chat"
    for row in listed["data"]:
        assert client("GET", f"/v1/models/{row['id']}").json() == row
        assert row["routes"]
    assert client.code("GET", "/v1/models/none/such") == (404, "model_not_found")
    assert client.code("GET", "/v1/models/a%2Fb") == (404, "model_not_found")


def test_a_bad_key_is_refused_even_where_none_is_needed(client: Client, key: Minted) -> None:
    bad = "br-" + "x" * 33
    for path in ("/v1/models", "/v1/models/gpt-5", "/v1/providers", "/v1/rankings"):
        assert client.code("GET", path, bad) == (401, "invalid_api_key")
        assert client("GET", path, key.secret).status_code == 200


def test_providers_say_where_they_are_and_whether_they_can_be_called(client: Client) -> None:
    rows = {row["id"]: row for row in client("GET", "/v1/providers").json()["data"]}
    assert rows["sarvam"]["residency"] == "IN"
    assert rows["sarvam"]["configured"] is False
    health = client("GET", "/health").json()
    assert health["status"] == "degraded"
    assert {provider["id"] for provider in health["providers"]} == set(rows)


def test_the_process_says_that_it_lives_and_is_ready(client: Client) -> None:
    assert client("GET", "/livez").json() == {"status": "ok"}
    assert client("GET", "/readyz").json() == {"status": "ok"}


# Edges


def test_unknown_paths_and_methods_get_the_envelope(client: Client) -> None:
    assert client.code("GET", "/nothing/here") == (404, "not_found")
    assert client.code("GET", "/v1") == (404, "not_found")
    reply = client("DELETE", "/v1/models")
    assert reply.status_code == 405
    assert reply.json()["error"]["code"] == "method_not_allowed"
    assert reply.headers["allow"] == "GET"


def test_browsers_of_any_origin_may_call_v1_but_not_me(client: Client, key: Minted) -> None:
    ask = {
        "origin": "https://example.in",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-os",
    }
    preflight = client("OPTIONS", "/v1/chat/completions", headers=ask)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    read = client("GET", "/v1/models", headers={"origin": "https://example.in"})
    assert read.headers["access-control-allow-origin"] == "*"
    assert "x-br-request-id" in read.headers["access-control-expose-headers"]
    assert client("OPTIONS", "/me/keys", headers=ask).status_code == 405
    assert "access-control-allow-origin" not in client("GET", "/me/keys", key.secret).headers


def test_me_needs_a_key_of_full_scope(client: Client, key: Minted) -> None:
    narrow = minted(client, "org_a", KeyTerms(name="narrow", scope="inference"))
    for path in ("keys", "workspaces", "billing", "usage", "usage/daily", "activity", "activity/events"):
        assert client.code("GET", f"/me/{path}") == (401, "no_session")
        assert client.code("GET", f"/me/{path}", "br-" + "x" * 33) == (401, "invalid_api_key")
        assert client.code("GET", f"/me/{path}", narrow.secret) == (403, "forbidden_scope")
    assert client("GET", "/v1/key", narrow.secret).status_code == 200


def test_metrics_are_for_the_operator(client: Client, tmp_path: Path) -> None:
    assert "python_info" in client("GET", "/metrics").text
    assert client.code("GET", "/metrics", client="203.0.113.7") == (403, "forbidden_scope")
    proxied = {"x-forwarded-for": "203.0.113.7"}
    assert client.code("GET", "/metrics", headers=proxied) == (403, "forbidden_scope")
    guarded = build(
        Settings(home=tmp_path, operator_token="of the operator"),  # read as a secret
        database_url=client.services.database_url,
        pepper=PEPPER,
    )
    try:
        assert Client(guarded).code("GET", "/metrics") == (401, "invalid_api_key")
        assert Client(guarded)("GET", "/metrics", "of the operator").status_code == 200
    finally:
        guarded.close()


# Two orgs


def test_no_org_sees_or_changes_anything_of_another(client: Client, key: Minted) -> None:
    given_org(client.services.store, "org_b", at=client.services.clock())
    stranger = minted(client, "org_b", KeyTerms(name="stranger"))
    workspace = client("POST", "/me/workspaces", key.secret, {"name": "ours"}).json()["id"]
    served(client, key, "req_ours")
    head = client.services.log.head()

    assert client.code("GET", "/v1/requests/req_ours", stranger.secret) == (404, "not_found")
    for method, path, body in (
        ("PATCH", f"/me/keys/{key.key}", {"name": "theirs"}),
        ("DELETE", f"/me/keys/{key.key}", None),
        ("PATCH", f"/me/workspaces/{workspace}", {"name": "theirs"}),
        ("DELETE", f"/me/workspaces/{workspace}", None),
        ("POST", "/me/keys", {"name": "x", "workspace_id": workspace}),
    ):
        assert client.code(method, path, stranger.secret, body) == (404, "not_found")
    assert client.services.log.head() == head

    for path in (
        "/v1/key",
        "/me/keys",
        "/me/workspaces",
        "/me/billing",
        "/me/usage",
        "/me/usage/daily",
        "/me/activity",
        f"/me/activity?key_id={key.key}",
        f"/me/activity?workspace_id={key.workspace}",
        "/me/activity/events",
        f"/me/activity/events?key_id={key.key}",
    ):
        reply = client("GET", path, stranger.secret)
        assert reply.status_code == 200
        for secret in (key.key, key.workspace, workspace, "req_ours", "org_a", "sarvam-105b"):
            assert secret not in reply.text, path
    assert client("GET", "/v1/requests/req_ours", key.secret).status_code == 200
