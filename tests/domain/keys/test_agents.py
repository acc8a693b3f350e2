"""Agents: whose an identity is, and which claims of a token are good."""

from typing import Any

import pytest

from domain.accounts.org import Org
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, Refusal, Unauthenticated
from domain.kernel.store import fold
from domain.keys.agents import AgentTerms, agent_of, check_claims, register_agent
from domain.keys.directory import Caller, Directory
from domain.keys.service import KeyWishes, revoke_key, rotate_key, update_key
from tests.given import NOON, PEPPER, given_org
from tests.memory_store import MemoryStore

ISSUER, AUDIENCE = "https://issuer.example", "bharatrouter"
NOW = NOON // SECOND


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for org in ("org_a", "org_b"):
        given_org(store, org)
    return store


def register(store: MemoryStore, key: str, subject: str, *, org: str = "org_a", **more: Any) -> None:
    register_agent(
        store,
        org=org,
        key=key,
        terms=AgentTerms(**{"name": key, "subject": subject} | more),
        claims=("sub", "client_id"),
        org_of=fold(Directory(), store.facts).orgs.get,
        agents_max=3,
        at=NOON,
        by="test",
    )


def find(store: MemoryStore, **claims: Any) -> Caller | None:
    return fold(Directory(), store.facts).find_agent(claims, ("sub", "client_id"))


def test_an_agent_is_found_by_its_identity_with_limits_of_its_own(store: MemoryStore) -> None:
    register(store, "agt_1", "bot", rpm_limit=3, daily_limit=4, monthly_budget=5, models=("m",))
    caller = find(store, sub="bot", client_id="x")
    assert caller is not None
    assert (caller.key_id, caller.by, caller.tier, caller.scope) == ("agt_1", "key:agt_1", "agent", "inference")
    assert (caller.rpm_limit, caller.daily_limit, caller.models) == (3, 4, frozenset({"m"}))
    assert find(store, sub="Bot") is find(store, sub=["bot"]) is find(store, client_id="bot") is None


def test_an_identity_is_one_living_agents_of_whatever_org(store: MemoryStore) -> None:
    register(store, "agt_1", "bot")
    for org in ("org_a", "org_b"):
        with pytest.raises(Conflict) as refused:
            register(store, "agt_2", "bot", org=org)
        assert refused.value.code == "identity_taken"
    register(store, "agt_3", "bot", claim="client_id", org="org_b")
    revoke_key(store, org="org_a", key="agt_1", reason="deleted", at=NOON, by="t")
    assert find(store, sub="bot") is None
    register(store, "agt_2", "bot", org="org_b")
    assert (found := find(store, sub="bot")) is not None
    assert found.org == "org_b"


def test_agents_are_no_keys_and_have_no_secret(store: MemoryStore) -> None:
    register(store, "agt_1", "bot")
    org = fold(Directory(), store.facts).orgs["org_a"]
    assert org.active_keys(NOON) == []
    assert [agent.id for agent in org.live_agents()] == ["agt_1"]
    with pytest.raises(NotFound):
        rotate_key(store, org="org_a", key="agt_1", secret="br-x", pepper=PEPPER, grace_minutes=0, at=NOON, by="test")
    assert fold(Directory(), store.facts).find(b"") is None
    update_key(store, org="org_a", key="agt_1", wishes=KeyWishes(disabled=True), at=NOON, by="t")
    assert find(store, sub="bot") is None
    with pytest.raises(NotFound):
        agent_of(Org(), "agt_1")


def test_names_numbers_and_claims_are_bounded(store: MemoryStore) -> None:
    register(store, "agt_1", "bot")
    for terms in ({"name": "agt_1"}, {"claim": "iss"}, {"subject": ""}, {"subject": "x" * 256}, {"models": ("",)}):
        with pytest.raises(Invalid):
            register(store, "agt_2", **{"subject": "other"} | terms)
    for number in (2, 3):
        register(store, f"agt_{number}", f"bot {number}")
    with pytest.raises(Invalid) as refused:
        register(store, "agt_4", "bot 4")
    assert refused.value.code == "agent_limit"


def good(**changed: Any) -> dict[str, Any]:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300, "scope": "openid models:invoke", "sub": "bot"} | changed
    return {name: value for name, value in claims.items() if value is not None}


def check(claims: dict[str, Any]) -> int:
    return check_claims(claims, issuer=ISSUER, audience=AUDIENCE, at=NOON)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"aud": ["other", AUDIENCE]},
        {"scope": ["models:invoke"]},
        {"scope": None, "scp": ["models:invoke"]},
        {"nbf": NOW + 29, "iat": NOW - 5.5},
        {"exp": NOW - 29},
        {"exp": NOW + 3_630},
        {"exp": NOW + 300.25},
    ],
)
def test_claims_that_hold_are_taken(changed: dict[str, Any]) -> None:
    claims = good(**changed)
    assert check(claims) == (int(claims["exp"]) + 30) * SECOND


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"aud": None},
        {"aud": "other"},
        {"aud": f"x {AUDIENCE}"},
        {"aud": {AUDIENCE: 1}},
        {"exp": None},
        {"exp": str(NOW + 300)},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"exp": NOW - 30},
        {"exp": NOW + 3_631},
        {"nbf": NOW + 31},
        {"nbf": "soon"},
        {"iat": NOW + 31},
        {"scope": None},
        {"scope": "models:invoke-not"},
        {"scope": "models:read"},
        {"scope": {"models:invoke": True}},
    ],
)
def test_claims_that_do_not_hold_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        check(good(**changed))
    assert isinstance(refused.value, Refusal)
    assert refused.value.code == "invalid_api_key"
