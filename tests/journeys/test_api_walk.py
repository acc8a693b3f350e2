"""A customer's programs walk through everything the API offers beside inference."""

import asyncio
import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, nanos, until, wait_until_known
from tests.journeys.models import PIECES, PROMPT_TOKENS, cost_nanos
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

CHAT = "/v1/chat/completions"
THREE_PIECES = cost_nanos(PROMPT_TOKENS, PIECES)
EVENTS = 450


def call(http: httpx.Client, model: str = "sim-3c-crlf", **fields: Any) -> httpx.Response:
    return http.post(CHAT, json=chat_body(model, **fields))


def assert_code(reply: httpx.Response, status: int, code: str) -> None:
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text


def india_today() -> date:
    return (datetime.now(UTC) + timedelta(hours=5, minutes=30)).date()


def test_keys_are_made_changed_listed_and_revoked(customer: Customer) -> None:
    with customer.http() as http:
        terms = {"name": "ci", "scope": "inference", "budget_inr": "12.5", "rpm_limit": 60, "daily_limit": 9}
        made = http.post("/me/keys", json=terms | {"expires_days": 30, "models": ["steady"]})
        assert made.status_code == 201, made.text
        key = made.json()
        assert re.fullmatch(r"br-[0-9A-Za-z]{33}", key["key"])
        assert key["prefix"] == key["key"][:12]
        assert (key["tier"], key["scope"], key["monthly_budget"]) == ("standard", "inference", "12.5")
        assert (key["rpm_limit"], key["daily_limit"], key["models"]) == (60, 9, ["steady"])
        assert (key["spent_month_inr"], key["held_inr"], key["revoked_at"]) == ("0", "0", None)
        expires = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
        assert expires == timedelta(days=30)

        rows = http.get("/me/keys").json()["data"]
        assert [row["name"] for row in rows] == ["first", "ci"]
        assert all("key" not in row for row in rows)
        path = f"/me/keys/{key['id']}"
        changed = http.patch(path, json={"name": "build", "budget_inr": 99, "models": None, "disabled": True}).json()
        assert (changed["name"], changed["monthly_budget"], changed["models"]) == ("build", "99", None)
        assert changed["disabled"] is True
        assert changed["rpm_limit"] == 60
        assert http.patch(path, json={"monthly_budget": None, "rpm_limit": None}).json()["rpm_limit"] is None
        assert_code(http.patch(path, json={"name": "first"}), 400, "duplicate_key_name")
        assert_code(http.patch(path, json={"colour": "red"}), 400, "invalid_request")
        assert_code(http.patch(path, json={"rpm_limit": -1}), 400, "invalid_request")
        assert_code(http.patch(path, json={"daily_limit": "9"}), 400, "invalid_request")
        assert_code(http.patch("/me/keys/key_nobody", json={"name": "x"}), 404, "not_found")

        gone = http.delete(path)
        assert gone.status_code == 200
        assert http.delete(path).json()["revoked_at"] == gone.json()["revoked_at"]
        assert http.get("/me/keys").json()["data"][1]["revoked_at"] == gone.json()["revoked_at"]
        for wrong in (
            {},
            {"name": ""},
            {"name": "x" * 81},
            {"name": "x", "scope": "all"},
            {"name": "x", "expires_days": 0},
            {"name": "x", "expires_days": 366},
            {"name": "x", "budget_inr": "-1"},
            {"name": "x", "budget_inr": "0.0000000001"},
            {"name": "x", "daily_limit": 1.5},
        ):
            assert_code(http.post("/me/keys", json=wrong), 400, "invalid_request")
        assert_code(http.post("/me/keys", json={"name": "x", "workspace_id": "ws_nobody"}), 404, "not_found")
        assert_code(http.post("/me/keys", json={"name": "first"}), 400, "duplicate_key_name")


def test_an_org_has_five_active_keys(customer: Customer) -> None:
    with customer.http() as http:
        ids = [http.post("/me/keys", json={"name": f"key {number}"}).json()["id"] for number in range(2, 6)]
        assert_code(http.post("/me/keys", json={"name": "sixth"}), 400, "key_limit")
        http.delete(f"/me/keys/{ids[0]}")
        assert http.post("/me/keys", json={"name": "sixth"}).status_code == 201


def test_workspaces_are_made_changed_and_deleted_with_their_keys_kept(customer: Customer) -> None:
    with customer.http() as http:
        made = http.post("/me/workspaces", json={"name": "staging", "monthly_budget_inr": 200})
        assert made.status_code == 201, made.text
        staging = made.json()
        assert (staging["default"], staging["monthly_budget_inr"]) == (False, "200")
        key = http.post("/me/keys", json={"name": "s", "workspace_id": staging["id"]}).json()
        assert key["workspace_id"] == staging["id"]
        path = f"/me/workspaces/{staging['id']}"
        changed = http.patch(path, json={"name": "stage", "monthly_budget_inr": None}).json()
        assert (changed["name"], changed["monthly_budget_inr"]) == ("stage", None)
        assert_code(http.post("/me/workspaces", json={"name": "stage"}), 400, "duplicate_workspace_name")
        assert_code(http.delete(f"/me/workspaces/{customer.workspace}"), 400, "default_workspace")
        assert_code(http.delete("/me/workspaces/ws_nobody"), 404, "not_found")
        gone = http.delete(path).json()
        assert gone == {"id": staging["id"], "deleted": True, "keys_moved_to": customer.workspace}
        rows = {row["id"]: row for row in http.get("/me/keys").json()["data"]}
        assert rows[key["id"]]["workspace_id"] == customer.workspace
        assert_code(http.patch(path, json={"name": "again"}), 404, "not_found")
        for number in range(19):
            assert http.post("/me/workspaces", json={"name": f"w{number}"}).status_code == 201
        assert_code(http.post("/me/workspaces", json={"name": "w20"}), 400, "workspace_limit")
        listed = http.get("/me/workspaces").json()["data"]
        assert len(listed) == 20
        assert [row["id"] for row in listed if row["default"]] == [customer.workspace]
    used = Customer(customer.product, customer.org, customer.workspace, key["id"], key["key"])
    with used.http() as http:
        until(lambda: call(http).status_code == 200)
    record = until(lambda: customer.get("/me/activity/events", workspace_id=customer.workspace)["events"])
    assert record[0]["key_id"] == key["id"]


def test_what_belongs_to_another_org_is_not_there(customer: Customer, new_customer: NewCustomer) -> None:
    stranger = new_customer()
    with customer.http() as http:
        request = call(http).headers["x-request-id"]
    customer.record(request)
    with stranger.http() as http:
        assert_code(http.get(f"/v1/requests/{request}"), 404, "not_found")
        assert_code(http.get("/v1/requests/req_nobody"), 404, "not_found")
        assert_code(http.patch(f"/me/keys/{customer.key_id}", json={"name": "mine"}), 404, "not_found")
        assert_code(http.delete(f"/me/keys/{customer.key_id}"), 404, "not_found")
        assert_code(http.delete(f"/me/workspaces/{customer.workspace}"), 404, "not_found")
        foreign = {"name": "x", "workspace_id": customer.workspace}
        assert_code(http.post("/me/keys", json=foreign), 404, "not_found")
        assert http.get("/me/activity/events", params={"key_id": customer.key_id}).json()["events"] == []
    assert customer.get("/v1/key")["revoked_at"] is None


def test_a_quote_says_what_the_call_then_holds_and_costs_at_most(customer: Customer) -> None:
    body = chat_body("sim-3c-crlf", max_tokens=20)
    with customer.http() as http:
        quoted = http.post("/v1/quote", json=body).json()
        routes = {route["provider"]: route for route in quoted["routes"]}
        assert [route["provider"] for route in quoted["routes"]] == ["sim-india", "sim-abroad"]
        dearest = max(nanos(route["ceiling_inr"]) for route in quoted["routes"])
        assert nanos(quoted["hold_inr"]) == dearest == nanos(routes["sim-abroad"]["ceiling_inr"])
        india = http.post("/v1/quote", json=body | {"data_policy": "india_only"}).json()
        assert [route["provider"] for route in india["routes"]] == ["sim-india"]
        assert india["excluded"] == [{"provider": "sim-abroad", "model": "sim-3c-crlf", "reasons": ["residency"]}]
        embedding = http.post("/v1/quote", json={"model": "steady-embedding", "input": "words"}).json()
        assert embedding["output_tokens_max"] == 0
        reply = http.post(CHAT, json=body)
    assert customer.get("/me/activity")["totals"]["requests"] <= 1  # quotes are no requests
    record = customer.record(reply.headers["x-request-id"])
    assert record["hold"]["amount_inr"] == quoted["hold_inr"]
    assert nanos(record["cost_inr"]) <= nanos(quoted["hold_inr"])


def test_billing_shows_the_past_as_it_was(product: Product, customer: Customer) -> None:
    with customer.http() as http:
        call(http)
        until(lambda: customer.spent_nanos() == THREE_PIECES)
        between = customer.get("/me/billing")["as_of"]
        call(http)
        until(lambda: customer.spent_nanos() == 2 * THREE_PIECES)
        granted = product.cli_json("credit", "grant", "--org", customer.org, "--inr", "7.25", "--reason", "thanks")
        assert nanos(granted["available_inr"]) == nanos("107.25") - 2 * THREE_PIECES
        now = until(lambda: len((found := customer.get("/me/billing"))["events"]) == 2 and found)
        then = customer.get("/me/billing", as_of=between)
        assert nanos(then["balance_inr"]) == nanos("100") - THREE_PIECES
        assert len(then["events"]) == 1
        assert nanos(now["balance_inr"]) == nanos("107.25") - 2 * THREE_PIECES
        newest, oldest = now["events"]
        assert (newest["amount_inr"], newest["note"], newest["type"]) == ("7.25", "thanks", "adjustment")
        assert nanos(newest["balance_after_inr"]) == nanos("107.25") - 2 * THREE_PIECES
        assert oldest["balance_after_inr"] == "100"
        assert customer.get("/me/billing", as_of="2020-01-01")["balance_inr"] == "0"
        assert customer.get("/me/billing", as_of=india_today().isoformat())["balance_inr"] == now["balance_inr"]
        page = customer.get("/me/billing", limit=1)
        rest = customer.get("/me/billing", limit=1, before=page["next_before"])
        assert [page["events"][0]["id"], rest["events"][0]["id"]] == [newest["id"], oldest["id"]]
        assert rest["next_before"] is None
        assert_code(http.get("/me/billing", params={"as_of": "yesterday"}), 400, "invalid_range")


def test_activity_is_filtered_summed_and_paged_without_gap_or_repeat(customer: Customer) -> None:
    """450 requests of three kinds by two keys; then page after page of 60, newest first."""
    with customer.http() as http:
        other = http.post("/me/keys", json={"name": "other"}).json()
        twin = Customer(customer.product, customer.org, customer.workspace, other["id"], other["key"])
    wait_until_known(twin)

    async def storm() -> None:
        async def work(key: str, numbers: range) -> None:
            headers = {"authorization": f"Bearer {key}"}
            url = customer.product.url
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, verify=False) as client:
                for number in numbers:
                    if number % 3 == 0:
                        reply = await client.post(CHAT, json=chat_body("sim-3c-crlf", stream=True))
                    elif number % 3 == 1:
                        body = {"model": "steady-embedding", "input": "12345678", "dimensions": 2}
                        reply = await client.post("/v1/embeddings", json=body)
                    else:
                        reply = await client.post(CHAT, json=chat_body("sim-err500"))
                    assert reply.status_code == (502 if number % 3 == 2 else 200)

        keys = [customer.key, twin.key]
        await asyncio.gather(*[work(keys[n % 2], range(n * 45, n * 45 + 45)) for n in range(10)])

    asyncio.run(storm())
    until(lambda: customer.get("/me/activity")["totals"]["requests"] == EVENTS)
    pages, before = [], {}
    while True:
        page = customer.get("/me/activity/events", limit=60, **before)
        pages.append(page["events"])
        if page["next_before"] is None:
            break
        before = {"before": page["next_before"]}
    assert [len(page) for page in pages] == [60] * 7 + [30]
    events = [event for page in pages for event in page]
    assert len({event["request_id"] for event in events}) == EVENTS
    moments = [event["at"] for event in events]
    assert moments == sorted(moments, reverse=True)
    assert {event["status"] for event in events} == {200, 502}
    assert all((event["status"] == 502) == ("error_code" in event) for event in events)
    assert {event["streamed"] for event in events if event["model"] == "sim-3c-crlf"} == {True}

    activity = customer.get("/me/activity")
    third = EVENTS // 3
    spent = third * (THREE_PIECES + cost_nanos(2, 0))
    assert nanos(activity["totals"]["cost_inr"]) == sum(nanos(event["cost_inr"]) for event in events) == spent
    assert (activity["totals"]["requests"], activity["totals"]["errors"]) == (EVENTS, third)
    assert activity["totals"]["tokens"] == third * (PROMPT_TOKENS + PIECES + 2)
    assert {row["model"]: row["requests"] for row in activity["top_models"]} == dict.fromkeys(
        ("sim-3c-crlf", "steady-embedding", "sim-err500"), third
    )
    assert {row["id"]: row["requests"] for row in activity["top_keys"]} == dict.fromkeys(
        (customer.key_id, twin.key_id), EVENTS // 2
    )
    assert sum(row["requests"] for row in activity["days"]) == EVENTS
    assert set(activity["filters"]["keys"]) == {customer.key_id, twin.key_id}
    usage = customer.get("/me/usage")
    assert nanos(usage["last_30d"]) == spent == sum(nanos(row["last_30d"]) for row in usage["keys"])

    today, tomorrow = india_today(), india_today() + timedelta(days=1)
    one = customer.get("/me/activity", model="steady-embedding", key_id=twin.key_id)
    assert 0 < one["totals"]["requests"] < third
    assert {row["model"] for row in one["top_models"]} == {"steady-embedding"}
    filtered = customer.get("/me/activity/events", model="sim-err500", key_id=twin.key_id, limit=200)["events"]
    assert {(event["model"], event["key_id"]) for event in filtered} == {("sim-err500", twin.key_id)}
    assert customer.get("/me/activity", workspace_id="ws_other")["totals"]["requests"] == 0
    ranged = {"from": today.isoformat(), "to": tomorrow.isoformat()}
    assert customer.get("/me/activity", **ranged)["totals"]["requests"] == EVENTS
    past = {"from": "2026-01-01", "to": "2026-01-31"}
    assert customer.get("/me/activity", **past)["totals"]["requests"] == 0
    assert customer.get("/me/activity/events", **past)["events"] == []
    with customer.http() as http:
        for path in ("/me/activity", "/me/activity/events"):
            for wrong in (
                {"from": "tomorrow"},
                {"from": "2026-13-01"},
                {"to": "23-11-2026"},
                {"from": "2026-02-01", "to": "2026-01-01"},
                {"from": "2024-01-01", "to": "2025-06-01"},
            ):
                assert_code(http.get(path, params=wrong), 400, "invalid_range")
            longest = {"from": "2024-01-01", "to": "2024-12-31"}
            assert http.get(path, params=longest).status_code == 200
        for wrong in ({"limit": 0}, {"limit": 201}, {"before": "soon"}):
            assert_code(http.get("/me/activity/events", params=wrong), 400, "invalid_request")


def test_rankings_hide_what_few_use_and_history_stays(product: Product, new_customer: NewCustomer) -> None:
    customers = [new_customer() for _ in range(3)]
    for number, customer in enumerate(customers):
        with customer.http() as http:
            for model in ("popular", "popular", "popular-too", *(["rare"] if number else [])):
                assert call(http, model).status_code == 200
    for customer in customers:
        until(lambda customer=customer: customer.get("/me/activity")["totals"]["requests"] >= 3)

    def ranked(**query: str) -> dict[str, list[dict[str, Any]]]:
        windows: dict[str, list[dict[str, Any]]] = customers[0].get("/v1/rankings", **query)["windows"]
        return windows

    until(lambda: {"popular", "popular-too"} <= {row["model"] for row in ranked()["7d"]})
    today = india_today()
    windows = ranked(by="requests")
    assert set(windows) == {"7d", "30d"}
    rows = {row["model"]: row for row in windows["7d"]}
    assert "rare" not in rows
    assert (rows["popular"]["requests"], rows["popular-too"]["requests"]) == (6, 3)
    assert rows["popular"]["rank"] < rows["popular-too"]["rank"]
    assert rows["popular"]["previous_rank"] is None
    assert set(ranked(window="30d")) == {"30d"}
    yesterday = today - timedelta(days=1)
    assert ranked(as_of=yesterday.isoformat()) == {"7d": [], "30d": []}
    assert customers[0].get("/v1/rankings", as_of=yesterday.isoformat())["as_of"] == yesterday.isoformat()
    with customers[0].http() as http:
        for wrong in ("someday", (today + timedelta(days=1)).isoformat()):
            assert_code(http.get("/v1/rankings", params={"as_of": wrong}), 400, "invalid_range")
        assert_code(http.get("/v1/rankings", params={"window": "1y"}), 400, "invalid_request")

    assert replayed_rankings(product, today) == ranked(as_of=today.isoformat())["7d"]
    assert replayed_rankings(product, yesterday) == []


def replayed_rankings(product: Product, day: date) -> list[dict[str, Any]]:
    """The 7 days up to `day`, by tokens, worked out from what `replay` prints."""
    lines = product.cli("replay", "rankings", "--as-of", day.isoformat()).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    last = (day - date(1970, 1, 1)).days
    rows = [row for row in rows if last - 7 < row["day"] <= last]
    models = {row["model"] for row in rows}
    sums = {
        model: {
            "tokens": sum(row["tokens"] for row in rows if row["model"] == model),
            "requests": sum(row["requests"] for row in rows if row["model"] == model),
            "orgs": len({row["org"] for row in rows if row["model"] == model}),
        }
        for model in models
    }
    shown = [(model, found) for model, found in sums.items() if found["orgs"] >= 3]
    total = sum(found["tokens"] for found in sums.values())
    return [
        {
            "rank": 1 + sum(other["tokens"] > found["tokens"] for _, other in shown),
            "previous_rank": None,
            "model": model,
            "tokens": found["tokens"],
            "requests": found["requests"],
            "share": f"{found['tokens'] / total:.4f}",
        }
        for model, found in sorted(shown, key=lambda one: (-one[1]["tokens"], one[0]))
    ]


def test_the_description_is_openapi_3_1_and_every_path_in_it_answers(customer: Customer) -> None:
    document = customer.get("/openapi.json")
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "BharatRouter"
    assert document["info"]["version"]
    with customer.http() as http:
        request = call(http).headers["x-request-id"]
        customer.record(request)
        steady = {"name": "Walk", "model": "steady", "steps": [{"model": "steady"}], "public": True}
        slug = http.post("/me/collections", json=steady).json()["slug"]
        known = {"/v1/requests": request, "/v1/models": "steady", "/v1/collections": slug}
        until(lambda: http.get(f"/v1/collections/{slug}").is_success)
        for path, item in document["paths"].items():
            for method, operation in item.items():
                assert operation["responses"], path
                named = {
                    parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"
                }
                assert named == set(re.findall(r"{(\w+)}", path)), path
                body = None
                if "requestBody" in operation:
                    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                    body = document["components"]["schemas"][reference.rsplit("/", 1)[1]]["example"]
                id = next((id for start, id in known.items() if path.startswith(start)), "nobody")
                reply = http.request(method, re.sub(r"{\w+}", id, path), json=body, follow_redirects=False)
                assert str(reply.status_code) in operation["responses"], (method, path, reply.text)
                assert reply.status_code != 500, (method, path, reply.text)
                if path.startswith("/v1/"):
                    assert reply.status_code in (200, 201), (method, path, reply.text)


def test_health_and_providers_tell_what_can_be_called(customer: Customer) -> None:
    health = customer.get("/health")
    assert health["status"] == "ok"
    states = {row["id"]: row for row in health["providers"]}
    assert states["sim-india"]["routes_total"] > 50
    providers = {row["id"]: row for row in customer.get("/v1/providers")["data"]}
    assert (providers["sim-india"]["residency"], providers["sim-abroad"]["residency"]) == ("IN", None)
    assert providers["sim-india"]["configured"] is True
    row = customer.get("/v1/models/steady")
    rates = {route["provider"]: (route["inputINRPerMtok"], route["outputINRPerMtok"]) for route in row["routes"]}
    assert rates == {"sim-india": (10.0, 40.0), "sim-abroad": (20.0, 80.0)}
    assert row["residency"] == ["IN"]
