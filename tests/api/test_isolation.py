"""Two orgs that know each other's ids: whatever one asks of the other's is not there, be it read or written."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.settings import Settings
from api.access import ROUTES
from domain.keys.agents import AgentTerms, register_agent
from tests.api.browser import ORIGIN
from tests.api.client import Client, served
from tests.api.test_people import Browser, browser, join, team_of
from tests.api.test_refunds import ADDRESS, ask, pay
from tests.given import (
    Minted,
    given_endpoint,
    given_invitation,
    given_key,
    given_own_key,
    given_session,
    given_workspace,
)
from tests.simulated_razorpay import KEY_ID, KEY_SECRET, Simulated, simulated_razorpay

NOBODYS = {
    "GET /me/billing/pin/{pin}",
    "PUT /me/byok/{provider}",
    "PUT /me/routing/{model:path}",
    "DELETE /me/routing/{model:path}",
}
"""What is named in these is of no org; all but the first act on what the caller's own org has of it."""
WALKED = sorted(
    route for route in ROUTES if "{" in route and re.search(r" /(me|v1/requests)/", route) and route not in NOBODYS
)
BODIES = {
    "PATCH /me/webhooks/{id}": {"events": ["balance.low"]},
    "POST /me/collections/{slug}/alerts": {"metric": "latency_p95", "threshold": 9, "email": "asha@example.com"},
    "POST /me/collections/{slug}/monitor": {"monitored": True},
    "POST /me/keys/{id}/rotate": {"grace_minutes": 0},
    "PATCH /me/collections/{slug}": {"name": "mine now"},
    "PATCH /me/keys/{id}": {"name": "mine now"},
    "PATCH /me/members/{id}": {"role": "admin"},
    "PATCH /me/workspaces/{id}": {"name": "mine now"},
    "POST /me/requests/{id}/dispute": {"reason": "I want it back."},
}
MODEL = "gpt-5"


@pytest.fixture(scope="module")
def razorpay() -> Iterator[Simulated]:
    with simulated_razorpay() as simulated:
        yield simulated


@pytest.fixture
def settings(razorpay: Simulated, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        public_url=ORIGIN,
        razorpay_url=razorpay.url,
        razorpay_key_id=KEY_ID,
        razorpay_key_secret=KEY_SECRET,
        simulator_url="http://127.0.0.1:9",  # where nobody listens
    )


def everything_of(asha: Browser, razorpay: Simulated) -> Mapping[str, str]:
    """One of each thing that the team of `asha` can have; its id by the route's path up to the id."""
    client, app = asha.client, asha.client.services
    team, at, by = asha.org, asha.client.services.clock(), "user:usr_asha"
    join(asha, browser(client, "meera"), "meera")
    key = given_key(app.store, team, key="key_theirs", at=at, by=by)
    workspace = given_workspace(app.store, team, "ws_theirs", at=at)
    home = next(iter(app.directory.directory.orgs[team].workspaces))
    key = Minted(team, home, key.key, key.secret)
    terms = AgentTerms(name="bot", subject="bot")
    register_agent(
        app.store,
        org=team,
        key="agt_theirs",
        terms=terms,
        claims=["sub"],
        org_of=app.directory.directory.orgs.get,
        agents_max=5,
        at=at,
        by=by,
    )
    given_invitation(app.store, team, "pending@example.com", by=by, at=at, invitation="inv_pending")
    given_session(app.store, "usr_asha", active=team, session="ses_theirs", at=at)
    app.directory.catch_up()
    assert asha("PUT", "/me/billing/address", ADDRESS).status_code == 200
    assert asha("PUT", f"/me/routing/{MODEL}", {"fallbacks": [{"model": "gpt-5-mini"}]}).status_code == 200
    chain = {"name": "Theirs", "model": MODEL, "steps": [{"model": MODEL}, {"model": "gpt-5-mini"}]}
    collection = asha("POST", "/me/collections", chain).json()["slug"]
    alert = {"metric": "error_rate", "threshold": 0.5, "email": "asha@example.com"}
    alert = asha("POST", f"/me/collections/{collection}/alerts", alert).json()["id"]
    webhook = asha("POST", "/me/webhooks", {"url": "https://hooks.example.com/"}).json()["id"]
    delivery = asha("POST", f"/me/webhooks/{webhook}/test").json()["id"]
    given_own_key(app.store, app.vault, team, "openai", host="127.0.0.1", at=at, by=by)
    given_endpoint(app.store, team, "end_theirs", at=at, by=by)
    app.directory.catch_up()
    payment = pay(client, razorpay, key)
    refund = ask(client, key, payment, amount_inr=25).json()["id"]
    served(client, key, "req_theirs")
    client.project()
    document = asha("GET", "/me/billing/receipts").json()["data"][-1]["number"]
    return {
        "agents": "agt_theirs",
        "billing/documents": document,
        "billing/receipts": payment,
        "billing/refunds": refund,
        "byok": "openai",
        "endpoints": "end_theirs",
        "collections": collection,
        "collections/import": collection,
        "invitations": "inv_asha",
        "keys": key.key,
        "members/pending": "inv_pending",
        "members": "usr_meera",
        "orgs": team,
        "requests": "req_theirs",
        "routing": MODEL,
        "sessions": "ses_theirs",
        "webhooks": webhook,
        "workspaces": workspace,
        "{delivery}": delivery,
        "{alert}": alert,
    } | {"key": key.secret}


def test_what_is_another_orgs_is_not_there(client: Client, razorpay: Simulated) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team_of(asha, "Theirs")
    theirs = everything_of(asha, razorpay)
    team_of(ravi, "Mine")
    mine = given_key(client.services.store, ravi.org, at=client.services.clock(), by="user:usr_ravi").secret
    client.services.directory.catch_up()
    store, at, by = client.services.store, client.services.clock(), "user:usr_asha"
    wrong, seen = [], []
    # What ends something goes last, and the org itself last of all: each thing is there until its owner has shown it.
    for route in sorted(WALKED, key=lambda route: (route.startswith("DELETE"), "/orgs/" in route, -route.count("{"))):
        method, _, path = route.partition(" ")
        of = re.sub(r"^/(me|v1)/|/\{.*", "", path)
        there = re.sub(r"\{[^}]+\}", lambda place, of=of: theirs.get(place[0], theirs[of]), path)
        body = BODIES.get(route)
        if of == "invitations":  # each is answered once
            there = there.replace("inv_asha", given_invitation(store, theirs["orgs"], "asha@example.com", by=by, at=at))
            client.services.directory.catch_up()
        intruders = [client(method, there, mine, body)]
        if ROUTES[route] != "key":
            intruders.append(ravi(method, there, body))
        for reply in intruders:
            refused = ROUTES[route] == "person" and reply.status_code == 403
            if not refused and (reply.status_code, reply.json()["error"]["code"]) != (404, "not_found"):
                wrong.append(f"{route}: {reply.status_code} {reply.text[:200]}")
        owner = client(method, there, theirs["key"], body) if ROUTES[route] == "key" else asha(method, there, body)
        if owner.status_code in (401, 403, 404, 500):
            seen.append(f"{route}: {owner.status_code} {owner.text[:200]} to its owner")
    assert not wrong, "\n".join(wrong)
    assert not seen, "\n".join(seen)


def test_ids_elsewhere_than_in_the_path_lead_nowhere_either(client: Client, razorpay: Simulated) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team_of(asha, "Theirs")
    theirs = everything_of(asha, razorpay)
    mine = team_of(ravi, "Mine")
    payment = theirs["billing/receipts"]
    order = asha("GET", "/me/billing/payments").json()["orders"][0]["order_id"]
    proof = {"razorpay_order_id": order, "razorpay_payment_id": payment, "razorpay_signature": "00"}
    for path, body in (
        ("/me/keys", {"name": "in theirs", "workspace_id": theirs["workspaces"]}),
        ("/me/orgs/switch", {"org": theirs["orgs"]}),
        ("/me/billing/refunds", {"payment_id": payment}),
        ("/me/billing/verify", proof),
    ):
        assert ravi.code("POST", path, body) == (404, "not_found"), path
    for query in (f"key_id={theirs['keys']}", f"workspace_id={theirs['workspaces']}"):
        assert ravi("GET", f"/me/activity/events?{query}").json()["events"] == []
        assert ravi("GET", f"/me/activity?{query}").json()["totals"]["requests"] == 0
    client.project()
    shown = "".join(ravi("GET", path.split()[1]).text for path in ROUTES if re.fullmatch(r"GET /me(/[a-z./-]+)?", path))
    assert mine in shown
    for name, id in theirs.items():
        assert id not in shown or name == "routing", f"{name} is shown to another org"
    assert theirs["orgs"] not in shown
