"""Trials, rotation, ephemeral keys and agents through the whole application on a real PostgreSQL."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapters.ledger import LedgerWriter
from adapters.settings import Settings
from domain.kernel.clock import DAY, SECOND
from domain.kernel.money import parse_inr, rupees
from domain.keys.directory import Caller
from domain.keys.key import key_digest
from domain.keys.service import KeyTerms
from domain.ledger.credit import grant_credit
from domain.ledger.events import CreditHeld
from domain.ledger.guards import Denied
from projections.verify import verify
from tests.api.client import Client, minted, started
from tests.fakes import ClockAhead
from tests.given import PEPPER, Minted, given_org, put_on_hold
from tests.issuer import AUDIENCE, ISSUER, Issuer
from workers.jobs import find_jobs

OpenClient = Callable[..., AbstractContextManager[Client]]


@pytest.fixture
def clock() -> ClockAhead:
    return ClockAhead()


@pytest.fixture
def open_client(database_url: str, tmp_path: Path, clock: ClockAhead) -> OpenClient:
    """Makes the application with these settings. What it has done must stand before the recomputation."""

    @contextmanager
    def opened(**settings: Any) -> Iterator[Client]:
        with started(Settings(home=tmp_path, **settings), database_url, clock=clock) as services:
            client = Client(services)
            yield client
            client.project()
        report = verify(database_url)
        assert report.ok, report.findings

    return opened


@pytest.fixture
def client(open_client: OpenClient) -> Iterator[Client]:
    with open_client(trial_models=("small",), ephemeral_keys_max=3) as client:
        yield client


def owner(client: Client, *, org: str = "org_a", inr: int = 100, **terms: Any) -> Minted:
    given_org(client.services.store, org, inr=inr, at=client.services.clock())
    return minted(client, org, KeyTerms(name="first", **terms))


def caller_of(client: Client, secret: str) -> Caller | None:
    return client.services.directory.find(key_digest(PEPPER, secret.encode()))


# Trials


def test_a_trial_key_is_shown_as_one_until_credit_comes(client: Client) -> None:
    first = owner(client, inr=0)
    assert client("GET", "/v1/key", first.secret).json()["tier"] == "standard"  # an operator minted it
    made = client("POST", "/me/keys", first.secret, {"name": "trial", "rpm_limit": 10}).json()
    assert (made["tier"], made["rpm_limit"], made["daily_limit"]) == ("trial", 10, 200)
    assert made["key"].startswith("br-trial-")
    assert made["scope"] == "inference"
    full = {"name": "x", "scope": "full"}
    assert client.code("POST", "/me/keys", first.secret, full) == (400, "trial_ceiling")
    assert made["prefix"] == made["key"][:12]
    for limits in ({"rpm_limit": 61}, {"daily_limit": 201}):
        assert client.code("POST", "/me/keys", first.secret, {"name": "x"} | limits) == (400, "trial_ceiling")
        assert client.code("PATCH", f"/me/keys/{made['id']}", first.secret, limits) == (400, "trial_ceiling")
    assert client.code("POST", "/v1/ephemeral_keys", made["key"], {}) == (403, "forbidden_scope")
    assert client("GET", "/me", first.secret).json()["tier"] == "trial"
    store, at = client.services.store, client.services.clock()
    grant_credit(store, org="org_a", grant="g", amount=rupees(1), reason="r", at=at, by="test")
    client.services.directory.catch_up()
    assert client("GET", "/me", first.secret).json()["tier"] == "standard"
    row = client("GET", "/v1/key", made["key"]).json()
    assert (row["tier"], row["rpm_limit"], row["daily_limit"]) == ("standard", 10, None)
    assert client("POST", "/me/keys", first.secret, {"name": "next"}).json()["tier"] == "standard"


def test_a_trial_key_is_told_what_is_left_of_the_day_that_all_trial_keys_share(
    client: Client, clock: ClockAhead
) -> None:
    first = owner(client, inr=0)
    made = [client("POST", "/me/keys", first.secret, {"name": name}).json() for name in ("one", "two")]
    tight = client("POST", "/me/keys", first.secret, {"name": "three", "daily_limit": 50}).json()
    at = client.services.clock()
    for number in range(3):
        hold = CreditHeld(
            at=at,
            by=f"key:{made[0]['id']}",
            org="org_a",
            key=made[0]["id"],
            workspace=first.workspace,
            amount=0,
            expires=at + DAY,
            endpoint="chat",
            model="small",
            candidates=("p/small",),
            allowance="trial:org_a",
        )
        put_on_hold(client.services.database_url, f"req_{number}", hold)
    client.project()

    def left(key: dict[str, Any]) -> int:
        return int(client("GET", "/v1/key", key["key"]).json()["left"]["daily_calls"])

    assert [left(key) for key in (*made, tight)] == [197, 197, 50]
    clock.ahead += DAY
    assert [left(key) for key in made] == [200, 200]


def test_the_end_of_a_trial_is_known_to_another_process_within_a_second(client: Client, tmp_path: Path) -> None:
    first = owner(client, inr=0)
    secret = client("POST", "/me/keys", first.secret, {"name": "trial"}).json()["key"]
    with started(Settings(home=tmp_path), client.services.database_url) as other:
        digest = key_digest(PEPPER, secret.encode())
        known = other.directory.find(digest)
        assert known is not None
        assert known.tier == "trial"
        store, at = client.services.store, client.services.clock()
        grant_credit(store, org="org_a", grant="g", amount=rupees(1), reason="r", at=at, by="test")
        began = time.monotonic()
        while (now := other.directory.find(digest)) is None or now.tier == "trial":
            assert time.monotonic() - began < 1
            time.sleep(0.01)


def test_without_models_for_trials_an_org_needs_credit_first(open_client: OpenClient) -> None:
    with open_client() as client:
        first = owner(client, inr=0)
        assert client.code("POST", "/me/keys", first.secret, {"name": "x"}) == (400, "trial_ceiling")


# Rotation


def test_a_rotated_key_has_two_secrets_for_the_grace(client: Client, clock: ClockAhead) -> None:
    first = owner(client)
    made = client("POST", "/me/keys", first.secret, {"name": "ci", "daily_limit": 7}).json()
    new = client("POST", f"/me/keys/{made['id']}/rotate", first.secret, {"grace_minutes": 5}).json()
    assert (new["id"], new["daily_limit"], new["name"]) == (made["id"], 7, "ci")
    assert new["prefix"] == new["key"][:12] != made["prefix"]
    for secret in (made["key"], new["key"]):
        assert client("GET", "/v1/key", secret).json()["id"] == made["id"]
    clock.ahead = 299 * SECOND
    assert client("GET", "/v1/key", made["key"]).status_code == 200
    clock.ahead = 301 * SECOND
    assert client.code("GET", "/v1/key", made["key"]) == (401, "invalid_api_key")
    assert client("GET", "/v1/key", new["key"]).status_code == 200
    at_once = client("POST", f"/me/keys/{made['id']}/rotate", first.secret, {"grace_minutes": 0}).json()
    assert client.code("GET", "/v1/key", new["key"]) == (401, "invalid_api_key")
    in_an_hour = client("POST", f"/me/keys/{made['id']}/rotate", first.secret).json()
    assert client("GET", "/v1/key", at_once["key"]).status_code == 200
    client("DELETE", f"/me/keys/{made['id']}", first.secret)
    for secret in (at_once["key"], in_an_hour["key"]):
        assert client.code("GET", "/v1/key", secret) == (401, "invalid_api_key")
    path = f"/me/keys/{made['id']}/rotate"
    assert client.code("POST", path, first.secret) == (404, "not_found")
    assert client.code("POST", path, first.secret, {"grace_minutes": 1441}) == (400, "invalid_request")


# Ephemeral keys


def ephemeral(client: Client, parent: Minted, **wanted: Any) -> dict[str, Any]:
    reply = client("POST", "/v1/ephemeral_keys", parent.secret, wanted)
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def test_an_ephemeral_key_calls_models_and_no_more(client: Client, clock: ClockAhead) -> None:
    parent = owner(client, daily_limit=9)
    made = ephemeral(client, parent, budget_inr=5, models=["small"], rpm_limit=3, ttl_seconds=60)
    assert made["key"].startswith("br-eph-")
    row = client("GET", "/v1/key", made["key"]).json()
    assert (row["id"], row["tier"], row["scope"], row["models"]) == (made["id"], "ephemeral", "inference", ["small"])
    assert (row["expires_at"], row["rpm_limit"], row["monthly_budget"]) == (made["expires_at"], 3, "5")
    assert row["left"] == {
        "daily_calls": 9,
        "monthly_budget_inr": "5",
        "workspace_budget_inr": None,
        "balance_inr": row["left"]["balance_inr"],
    }
    assert client.code("POST", "/v1/ephemeral_keys", made["key"], {}) == (403, "forbidden_scope")
    assert client.code("GET", "/me/keys", made["key"]) == (403, "forbidden_scope")
    assert [key["id"] for key in client("GET", "/me/keys", parent.secret).json()["data"]] == [parent.key]
    for _ in range(2):
        ephemeral(client, parent)
    assert client.code("POST", "/v1/ephemeral_keys", parent.secret, {}) == (400, "key_limit")
    clock.ahead = 61 * SECOND
    assert client.code("GET", "/v1/key", made["key"]) == (401, "invalid_api_key")


def test_an_ephemeral_key_ends_with_its_parent(client: Client) -> None:
    first = owner(client)
    parent = minted(client, "org_a", KeyTerms(name="parent", scope="inference", models=("a",)))
    secret = ephemeral(client, parent)["key"]
    assert client.code("POST", "/v1/ephemeral_keys", parent.secret, {"models": ["b"]}) == (403, "forbidden_scope")
    for disabled, status in ((True, 401), (False, 200)):
        client("PATCH", f"/me/keys/{parent.key}", first.secret, {"disabled": disabled})
        assert client("GET", "/v1/key", secret).status_code == status
    client("DELETE", f"/me/keys/{parent.key}", first.secret)
    assert client.code("GET", "/v1/key", secret) == (401, "invalid_api_key")


def test_a_hundred_calls_at_once_spend_the_budgets_of_both_and_never_more(client: Client) -> None:
    """₹1 a call. The key's own ₹7 stop it first; a second key of the same parent then finds what that has left."""
    parent = owner(client, monthly_budget=rupees(10))
    small, large = ephemeral(client, parent, budget_inr=7), ephemeral(client, parent, budget_inr=50)

    def held(secret: str, count: int) -> list[Denied | None]:
        caller = caller_of(client, secret)
        assert caller is not None
        at = client.services.clock()
        hold = CreditHeld(
            at=at,
            by=caller.by,
            org=caller.org,
            key=caller.key_id,
            workspace=caller.workspace,
            amount=rupees(1),
            expires=at + DAY,
            endpoint="chat",
            model="small",
            candidates=("p/small",),
            allowance=caller.allowance,
        )

        async def storm() -> list[Denied | None]:
            writers = [LedgerWriter(client.services.database_url, clock=client.services.clock) for _ in range(2)]
            for writer in writers:
                await writer.start()
            calls = [writers[n % 2].hold(client.services.new_id("req"), hold) for n in range(count)]
            answers = await asyncio.gather(*calls)
            for writer in writers:
                await writer.close()
            return list(answers)

        return asyncio.run(storm())

    refused = Denied("ephemeral_budget", rupees(7), rupees(7))
    url = client.services.database_url
    first = held(small["key"], 100)
    assert (first.count(None), first.count(refused)) == (7, 93)
    assert client("GET", "/v1/key", small["key"]).json()["left"]["monthly_budget_inr"] == "0"
    client.project()
    with psycopg.connect(url, autocommit=True) as connection:
        for spoil, mend in (
            ("update hold set allowance = null", f"update hold set allowance = '{small['id']}'"),
            (f"update allowance set held = held + 1 where scope = '{small['id']}'", None),
            (f"update allowance set held = held - 1 where scope = '{small['id']}'", None),
        ):
            connection.execute(spoil.encode())
            found = {finding.check for finding in verify(url).findings}
            assert found == ({"guard"} if "- 1" not in spoil else set())
            connection.execute((mend or "select 1").encode())
    second = held(large["key"], 100)
    assert second.count(None) == 3
    assert {denied.code for denied in second if denied} == {"key_budget"}
    assert parse_inr(client("GET", "/v1/key", large["key"]).json()["left"]["balance_inr"]) <= rupees(100)


def test_the_allowances_of_keys_that_have_long_ended_are_cleared_away_and_no_others(
    client: Client, clock: ClockAhead
) -> None:
    parent = owner(client)
    clock.ahead = -2 * DAY
    over = [ephemeral(client, parent, budget_inr=7) for _ in range(2)]
    clock.ahead = 0
    living = ephemeral(client, parent, budget_inr=7)
    held = CreditHeld(
        at=client.services.clock() - 2 * DAY,
        by=f"key:{over[1]['id']}",
        org="org_a",
        key=parent.key,
        workspace=parent.workspace,
        amount=rupees(1),
        expires=client.services.clock() + DAY,
        endpoint="chat",
        model="small",
        candidates=("p/small",),
        allowance=over[1]["id"],
    )
    put_on_hold(client.services.database_url, "req_1", held)
    assert [job.run(client.services) for job in [find_jobs()["forget_ended_keys"]] * 2] == [1, 0]
    with psycopg.connect(client.services.database_url) as connection:
        rows = connection.execute("select scope from allowance where scope like 'eph%' order by 1").fetchall()
        assert rows == [(over[1]["id"],), (living["id"],)]
        connection.execute("delete from allowance where scope = %s", [living["id"]])
        connection.commit()
        client.project()
        assert [finding.stream for finding in verify(client.services.database_url).findings] == [living["id"]]
        connection.execute("insert into allowance (scope, budget) values (%s, %s)", [living["id"], rupees(7)])


# Agents


@pytest.fixture
def with_agents(open_client: OpenClient, issuer: Issuer) -> Iterator[Client]:
    names = {"agent_issuer": ISSUER, "agent_audience": AUDIENCE, "agent_jwks_url": issuer.url}
    with open_client(**names, agent_claims=("sub", "client_id")) as client:
        yield client


def test_an_agent_calls_by_its_token_until_it_is_deleted(with_agents: Client, issuer: Issuer) -> None:
    client, first = with_agents, owner(with_agents)
    token = issuer.token(sub="support-bot")
    assert client.code("GET", "/v1/key", token) == (401, "invalid_api_key")
    wanted = {"name": "support", "value": "support-bot", "budget_inr": 5, "rpm_limit": 6, "models": ["small"]}
    made = client("POST", "/me/agents", first.secret, wanted)
    assert made.status_code == 201
    row = made.json()
    assert (row["claim"], row["value"], row["monthly_budget"], row["deleted_at"]) == ("sub", "support-bot", "5", None)
    own = client("GET", "/v1/key", token).json()
    assert (own["id"], own["tier"], own["scope"], own["models"]) == (row["id"], "agent", "inference", ["small"])
    assert own["left"]["monthly_budget_inr"] == "5"
    assert client("GET", "/v1/key", headers={"x-api-key": token}).status_code == 200
    assert client.code("GET", "/me/agents", token) == (403, "forbidden_scope")
    assert client.code("POST", "/v1/ephemeral_keys", token, {}) == (403, "forbidden_scope")
    assert client.code("GET", "/v1/key", issuer.token(sub="another")) == (401, "invalid_api_key")

    assert client("GET", "/me/agents", first.secret).json()["data"] == [row]
    assert [key["name"] for key in client("GET", "/me/keys", first.secret).json()["data"]] == ["first"]
    taken = client.code("POST", "/me/agents", first.secret, wanted | {"name": "twin"})
    assert taken == (409, "identity_taken")
    other = owner(client, org="org_b")
    assert client.code("POST", "/me/agents", other.secret, wanted) == (409, "identity_taken")
    assert client.code("DELETE", f"/me/agents/{row['id']}", other.secret) == (404, "not_found")
    assert client.code("DELETE", f"/me/agents/{first.key}", first.secret) == (404, "not_found")

    gone = client("DELETE", f"/me/agents/{row['id']}", first.secret).json()
    assert gone["deleted"] is True
    assert client("DELETE", f"/me/agents/{row['id']}", first.secret).json() == gone
    assert client.code("GET", "/v1/key", token) == (401, "invalid_api_key")
    assert client("POST", "/me/agents", other.secret, wanted).status_code == 201
    assert client("GET", "/v1/key", token).status_code == 200


def test_without_an_issuer_there_are_no_agents(client: Client, issuer: Issuer) -> None:
    first = owner(client)
    wanted = {"name": "x", "value": "y"}
    assert client.code("POST", "/me/agents", first.secret, wanted) == (503, "provider_not_configured")
    assert client.code("GET", "/v1/key", issuer.token()) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"value": ""}, "value"), ({"claim": "email"}, "claim"), ({"name": " "}, "name"), ({"rpm_limit": 0}, "rpm_limit")],
)
def test_what_is_wrong_with_a_new_agent_is_named(with_agents: Client, wrong: dict[str, Any], param: str) -> None:
    first = owner(with_agents)
    reply = with_agents("POST", "/me/agents", first.secret, {"name": "x", "value": "y"} | wrong)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
