"""Monitoring of collections through the whole application: who may watch what, what is shown, and what is refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.gateway import open_gateway
from adapters.wiring import App
from api.app import build as build_web
from domain.kernel.money import rupees
from domain.kernel.store import fold_recorded
from domain.monitoring.alerts import Found, judge
from domain.monitoring.checks import record_checks
from domain.monitoring.events import Checked, Ping
from domain.monitoring.monitors import Monitors, monitor_stream
from tests.api.browser import ORIGIN, signed_in
from tests.api.client import Client, started
from tests.api.test_people import Browser, browser, join, team_of
from tests.given import given_key, given_org
from tests.simulated_providers import Simulated

STEPS = [{"model": "steady"}, {"model": "other", "provider": "sim-abroad"}]
ALERT = {"metric": "error_rate", "threshold": 0.25, "email": "asha@example.com"}


@pytest.fixture
def services(database_url: str, redis_url: str, tmp_path: Path, providers: Simulated) -> Iterator[App]:
    settings = providers.settings(tmp_path, "other", public_url=ORIGIN, redis_url=redis_url, monitored_max=2)
    with started(settings, database_url, redis_url=redis_url) as services:
        yield services


@pytest.fixture
def asha(services: App) -> Browser:
    """She owns a team that has credit."""
    asha = browser(Client(services), "asha")
    team_of(asha, "Team of asha")
    return asha


def collection(who: Browser, name: str = "Ours") -> str:
    made = who("POST", "/me/collections", {"name": name, "model": "steady", "steps": STEPS})
    assert made.status_code == 201, made.text
    who.client.project()
    return f"/me/collections/{made.json()['slug']}"


def found(who: Browser, path: str, *ends: str, at: int | None = None) -> None:
    app = who.client.services
    pings = tuple(
        Ping(step=step, model=f"m{step}", provider="p", end=end, milliseconds=100) for step, end in enumerate(ends)
    )
    check = Checked(owner=who.org, collection=path.rpartition("/")[2], pings=pings)
    record_checks(app.store, [check], at=at or app.clock(), by="test")
    who.client.project()


def test_a_collection_is_watched_until_it_is_not(asha: Browser) -> None:
    path = collection(asha)
    nothing = {"monitored": False, "paused": None, "health": []}
    assert asha("GET", f"{path}/health").json() == nothing
    for _ in range(2):
        assert asha("POST", f"{path}/monitor", {"monitored": True}).json() == {"monitored": True}
    assert asha("GET", f"{path}/health").json() == nothing | {"monitored": True}
    found(asha, path, "answered", "timeout")
    found(asha, path, "answered", "no_route")
    health = asha("GET", f"{path}/health?days=1").json()["health"]
    assert [{name: row[name] for name in row if name != "last_check"} for row in health] == [
        {"model": "m0", "provider": "p", "uptime": 1.0, "p95_ms": 100, "checks": 2},
        {"model": "m1", "provider": "p", "uptime": 0.0, "p95_ms": None, "checks": 2},
    ]
    assert all(row["last_check"].endswith("Z") for row in health)
    assert asha("POST", f"{path}/monitor", {"monitored": False}).json() == {"monitored": False}
    assert not asha("GET", f"{path}/health").json()["monitored"]
    for days in ("0", "91", "x"):
        assert asha.code("GET", f"{path}/health?days={days}") == (400, "invalid_request")
    assert asha("GET", f"{path}/health?days=90").status_code == 200


def test_as_many_are_watched_as_may_be(asha: Browser) -> None:
    paths = [collection(asha, name) for name in ("One", "Two", "Three")]
    for path in paths[:2]:
        assert asha("POST", f"{path}/monitor", {"monitored": True}).status_code == 200
    assert asha.code("POST", f"{paths[2]}/monitor", {"monitored": True}) == (409, "monitor_limit")
    asha("POST", f"{paths[0]}/monitor", {"monitored": False})
    assert asha("POST", f"{paths[2]}/monitor", {"monitored": True}).status_code == 200


def test_members_see_and_admins_change_and_others_find_nothing(asha: Browser) -> None:
    path = collection(asha)
    meera, ravi = browser(asha.client, "meera"), browser(asha.client, "ravi")
    join(asha, meera, "meera")
    team_of(ravi, "Team of ravi")
    assert asha("PATCH", path, {"public": True}).status_code == 200
    assert meera("GET", f"{path}/health").status_code == meera("GET", f"{path}/alerts").status_code == 200
    for method, rest, body in (
        ("POST", "monitor", {"monitored": True}),
        ("POST", "check", None),
        ("POST", "alerts", ALERT),
        ("DELETE", "alerts/alr_1", None),
    ):
        assert meera.code(method, f"{path}/{rest}", body) == (403, "forbidden_role")
        assert ravi.code(method, f"{path}/{rest}", body) == (404, "not_found")
    assert ravi.code("GET", f"{path}/health") == ravi.code("GET", f"{path}/alerts") == (404, "not_found")


def test_why_there_are_no_checks_is_told(asha: Browser, services: App) -> None:
    given_org(services.store, "org_poor", inr=0, at=services.clock())
    poor = given_key(services.store, "org_poor", at=services.clock()).secret
    services.directory.catch_up()
    made = asha.client("POST", "/me/collections", poor, {"name": "Ours", "model": "steady", "steps": STEPS}).json()
    path = f"/me/collections/{made['slug']}"
    asha.client("POST", f"{path}/monitor", poor, {"monitored": True})
    assert asha.client("GET", f"{path}/health", poor).json()["paused"] == "no_credit"
    assert asha.client.code("POST", f"{path}/check", poor) == (402, "insufficient_credits")
    path = collection(asha)
    asha("POST", f"{path}/monitor", {"monitored": True})
    worth = rupees(services.settings.canary_inr)
    check = Checked(owner=asha.org, collection=path.rpartition("/")[2], pings=(), worth=worth)
    record_checks(services.store, [check], at=services.clock(), by="test")
    asha.client.project()
    assert asha("GET", f"{path}/health").json()["paused"] == "daily_limit"
    refused = asha("POST", f"{path}/check")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "daily_limit_reached")
    assert 0 < int(refused.headers["retry-after"]) <= 86_401


def test_a_check_now_answers_what_was_found_once_a_minute(asha: Browser, services: App, providers: Simulated) -> None:
    path, other = collection(asha), collection(asha, "Other")
    headers = signed_in(asha.person, asha.session, asha.org)
    providers.play("err500", provider="sim-abroad")

    async def ask() -> list[httpx.Response]:
        async with open_gateway(services) as gateway:
            transport = httpx.ASGITransport(app=build_web(services, gateway=gateway))
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as http:
                return [await http.post(f"{one}/check", headers=headers) for one in (path, path, other)]

    first, second, third = asyncio.run(ask())
    assert first.status_code == 200, first.text
    shown = first.json()
    assert [{name: step[name] for name in step if name != "latency_ms"} for step in shown["steps"]] == [
        {"step": 0, "model": "steady", "provider": "sim-india", "answered": True, "end": "answered", "status": 200},
        {"step": 1, "model": "other", "provider": "sim-abroad", "answered": False, "end": "status", "status": 500},
    ]
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(second.headers["retry-after"]) <= 60
    assert third.status_code == 200
    asha.client.project()
    rows = asha("GET", f"{path}/health").json()["health"]
    assert [(row["model"], row["uptime"]) for row in rows] == [("other", 0.0), ("steady", 1.0)]
    by = {fact.event.by for fact in _checks(services)}
    assert by == {f"user:{asha.person}"}


def _checks(services: App) -> list[Any]:
    names = [row[1] for row in services.log.after(0, limit=10_000) if row[1].startswith("check:")]
    return [fact for name in names for fact in services.log.stream(name)]


def raise_alert(who: Browser, path: str, checks: list[Found]) -> None:
    """The first alert of the collection has looked at these."""
    app = who.client.services
    known = fold_recorded(Monitors(), app.log.stream(monitor_stream(who.org)))
    alert = known.alerts_of(path.rpartition("/")[2])[0]
    assert judge(app.store, alert, checks, org=who.org, at=app.clock(), by="test")
    who.client.project()


def test_an_alert_is_set_shown_and_deleted(asha: Browser) -> None:
    path = collection(asha)
    made = asha("POST", f"{path}/alerts", ALERT)
    assert made.status_code == 201, made.text
    row = made.json()
    assert row.pop("webhook_secret") is None
    assert {name: row[name] for name in row if name not in ("id", "created_at")} == {
        "object": "alert",
        "metric": "error_rate",
        "threshold": 0.25,
        "window_minutes": 30,
        "step": None,
        "email": "asha@example.com",
        "webhook_url": None,
        "state": "ok",
    }
    assert asha("GET", f"{path}/alerts").json() == {"object": "list", "data": [row]}
    now = asha.client.services.clock()
    raise_alert(asha, path, [Found(now - number, False, 0) for number in range(3)])
    assert asha("GET", f"{path}/alerts").json()["data"][0]["state"] == "breached"
    assert asha("DELETE", f"{path}/alerts/{row['id']}").json() == {"id": row["id"], "deleted": True}
    assert asha.code("DELETE", f"{path}/alerts/{row['id']}") == (404, "not_found")
    assert asha("GET", f"{path}/alerts").json()["data"] == []


def test_who_changed_what_is_watched_is_in_the_trail(asha: Browser) -> None:
    path = collection(asha)
    slug = path.rpartition("/")[2]
    asha("POST", f"{path}/monitor", {"monitored": True})
    alert = asha("POST", f"{path}/alerts", ALERT).json()["id"]
    asha("DELETE", f"{path}/alerts/{alert}")
    asha("POST", f"{path}/monitor", {"monitored": False})
    asha.client.project()
    rows = asha("GET", "/me/audit").json()["data"][:4]
    assert [(row["action"], row["thing"], row["after"]["status"]) for row in reversed(rows)] == [
        ("watch_started", f"monitoring:{slug}", "active"),
        ("alert_set", f"alert:{alert}", "active"),
        ("alert_removed", f"alert:{alert}", "deleted"),
        ("watch_stopped", f"monitoring:{slug}", "stopped"),
    ]
    assert {row["actor"] for row in rows} == {f"user:{asha.person}"}
    assert all(row["address"] for row in rows)
    assert rows[2]["after"]["threshold"] == 250_000


def test_an_alert_goes_to_members_alone(asha: Browser) -> None:
    path, meera = collection(asha), browser(asha.client, "meera")
    assert asha.code("POST", f"{path}/alerts", ALERT | {"email": "meera@example.com"}) == (400, "invalid_request")
    join(asha, meera, "meera")
    made = asha("POST", f"{path}/alerts", ALERT | {"email": " Meera@Example.com "})
    assert made.json()["email"] == "meera@example.com"
    assert "meera" not in str([fact.event for fact in asha.client.services.log.stream(f"monitor:{asha.org}")]).replace(
        "usr_meera", ""
    )
    assert asha("DELETE", f"/me/members/{meera.person}").status_code == 200
    assert asha("GET", f"{path}/alerts").json()["data"][0]["email"] is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.01}, "threshold"),
        ({"threshold": "0.00000001"}, "threshold"),
        ({"threshold": 1e300}, "threshold"),
        ({"metric": "latency_p95", "threshold": 0.5}, "threshold"),
        ({"metric": "latency_p95", "threshold": 600_001}, "threshold"),
        ({"metric": "price"}, "metric"),
        ({"window_minutes": 14}, "window_minutes"),
        ({"window_minutes": 1_441}, "window_minutes"),
        ({"step": 2}, "step"),
        ({"step": -1}, "step"),
        ({"email": None}, "email"),
        ({"email": "nobody"}, "email"),
        ({"more": 1}, "more"),
    ],
)
def test_slips_in_an_alert_are_named(asha: Browser, change: dict[str, Any], param: str) -> None:
    refused = asha("POST", f"{collection(asha)}/alerts", ALERT | change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_collection_has_ten_alerts_at_most(asha: Browser) -> None:
    path = collection(asha)
    for step in (None, 0, 1) * 3 + (None,):
        assert asha("POST", f"{path}/alerts", ALERT | {"step": step}).status_code == 201
    assert asha.code("POST", f"{path}/alerts", ALERT) == (409, "alert_limit")


def test_a_webhook_of_an_alert_has_a_secret_and_leads_to_the_open_internet(asha: Browser) -> None:
    path = collection(asha)
    wanted = {"metric": "latency_p95", "threshold": 2_000, "webhook_url": "https://hooks.example.com/x"}
    made = asha("POST", f"{path}/alerts", wanted).json()
    assert made["webhook_secret"].startswith("whsec_")
    assert (made["webhook_url"], made["threshold"]) == ("https://hooks.example.com/x", 2_000)
    assert "webhook_secret" not in asha("GET", f"{path}/alerts").json()["data"][0]
    asha.client.project()
    now = asha.client.services.clock()
    raise_alert(asha, path, [Found(now - number, True, 3_000) for number in range(3)])
    (webhook,) = asha("GET", "/me/webhooks").json()["data"]
    (delivery,) = asha("GET", f"/me/webhooks/{webhook['id']}/deliveries").json()["data"]
    assert (webhook["alert_id"], delivery["type"]) == (made["id"], "alert.breached")
    for url in ("http://hooks.example.com", "https://127.0.0.1/x", "https://localhost", "ftp://x.example"):
        assert asha.code("POST", f"{path}/alerts", wanted | {"webhook_url": url}) == (400, "address_refused")
    assert asha("DELETE", f"{path}/alerts/{made['id']}").status_code == 200
