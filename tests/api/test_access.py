"""Every route × every caller, against the one table; and the page that is made of it."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from adapters.settings import Settings
from adapters.wiring import App
from api.access import CALLERS, DEMANDS, PAGE, ROUTES, render
from api.app import build as build_web
from api.caller import DEMANDS as DEMANDED
from api.caller import demands
from api.errors import status_and_type
from api.schemas.inference import PATHS
from domain.accounts.members import remove_member
from domain.keys.agents import AgentTerms, register_agent
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.key import make_secret
from domain.keys.service import KeyTerms
from domain.keys.trial import TrialTerms
from tests.api import edge
from tests.api.browser import ORIGIN, signed_in
from tests.given import PEPPER, given_key, given_member, given_person, given_session, given_team
from tests.issuer import AUDIENCE, ISSUER, Issuer

INFERENCE = {f"{method.upper()} {path}" for path, methods in PATHS.items() for method in methods}
"""The routes that never reach the framework."""
LAST = {"POST /auth/logout"}
"""What would keep a caller from asking anything else."""


def settings_for_everybody(home: Path, issuer: Issuer) -> Settings:
    return Settings(
        home=home,
        operator_token=SecretStr("the operator's own"),
        public_url=ORIGIN,
        agent_issuer=ISSUER,
        agent_audience=AUDIENCE,
        agent_jwks_url=issuer.url,
    )


@pytest.fixture
def settings(tmp_path: Path, issuer: Issuer) -> Settings:
    return settings_for_everybody(tmp_path, issuer)


def everybody(app: App, issuer: Issuer) -> dict[str, dict[str, str]]:
    """The headers that each caller of the table sends."""
    store, seal, at = app.store, app.vault.seal, app.clock()
    given_person(store, "asha", seal=seal, at=at)
    given_team(store, "usr_asha", at=at)
    person = {"owner": "usr_asha"}
    for name, role in (("admin", "admin"), ("member", "member"), ("other owner", "admin")):
        person[name] = given_member(
            store, "org_team", name.replace(" ", "-"), role=role, by="user:usr_asha", seal=seal, at=at
        )
    given_team(store, person["other owner"], "org_other", at=at)
    remove_member(store, org="org_team", person=person["other owner"], at=at, by="user:usr_asha")
    headers = {"anonymous": {"origin": ORIGIN}}
    for name, id in person.items():
        session = given_session(store, id, active="org_team", at=at)
        headers[name] = signed_in(id, session, "org_team")
    inference, on_trial = (KeyTerms(name=name, scope="inference") for name in ("i", "t"))
    terms = TrialTerms(models=frozenset({"small"}))
    owners = given_key(store, "org_team", at=at, by="user:usr_asha")
    ephemeral = make_secret(bytes(24), kind="eph-")
    mint_ephemeral_key(
        store,
        key="eph_1",
        secret=ephemeral,
        pepper=PEPPER,
        parent=owners.key,
        parent_models=None,
        parent_expires=None,
        terms=EphemeralTerms(),
        at=at,
    )
    register_agent(
        store,
        org="org_team",
        key="agt_1",
        terms=AgentTerms(name="bot", subject="bot"),
        claims=app.settings.agent_claims,
        org_of=lambda _: None,
        agents_max=5,
        at=at,
        by="user:usr_asha",
    )
    keys = {
        "inference key": given_key(store, "org_team", terms=inference, at=at, by="user:usr_asha").secret,
        "trial key": given_key(store, "org_team", terms=on_trial, trial=terms, at=at, by="user:usr_asha").secret,
        "ephemeral key": ephemeral,
        "agent": issuer.token(sub="bot"),
        "admin's key": given_key(store, "org_team", at=at, by=f"user:{person['admin']}").secret,
        "owner's key": owners.secret,
    }
    app.directory.catch_up()
    return headers | {name: {"authorization": f"Bearer {secret}"} for name, secret in keys.items()}


def test_the_table_has_every_route_with_what_it_demands(services: App) -> None:
    found = {f"{method} {path}": demand for (method, path), demand in demands(build_web(services)).items()}
    assert found | dict.fromkeys(INFERENCE, "key") == ROUTES
    assert set(DEMANDS) == set(DEMANDED.values())
    for _, answers in DEMANDS.values():
        assert set(answers) == set(CALLERS)


def test_every_route_answers_every_caller_as_the_table_says(services: App, issuer: Issuer) -> None:
    web, callers = build_web(services), everybody(services, issuer)
    assert set(callers) == set(CALLERS)
    wrong = asyncio.run(_walk(web, callers))
    assert not wrong, "\n".join(wrong)


async def _walk(web: FastAPI, callers: dict[str, dict[str, str]]) -> list[str]:
    """Everything that is answered otherwise. No call can change anything: its ids are nobody's, its body is empty."""
    transport = httpx.ASGITransport(app=web, client=("203.0.113.9", 1))
    at_once = asyncio.Semaphore(8)  # the directory must get its turn, or it is too old to let anyone in
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:

        async def ask(route: str, caller: str) -> str:
            method, _, path = route.partition(" ")
            body = {} if method in ("POST", "PUT", "PATCH") else None
            async with at_once:
                reply = await client.request(
                    method, re.sub(r"\{[^}]+\}", "x", path), headers=callers[caller], json=body
                )
            told = reply.headers.get("content-type") == "application/json"
            code = reply.json()["error"]["code"] if told and reply.status_code >= 400 else ""
            refused = DEMANDS[ROUTES[route]][1][caller]
            if refused:
                right = (reply.status_code, code) == (status_and_type(refused)[0], refused)
            else:
                right = reply.status_code not in (401, 403, 500)
            return "" if right else f"{route} by {caller}: {reply.status_code} {code}, not {refused or 'let in'}"

        async def ask_all(routes: Iterable[str]) -> list[str]:
            return await asyncio.gather(*[ask(route, caller) for route in routes for caller in callers])

        answers = await ask_all(route for route in ROUTES if route not in INFERENCE | LAST)
        answers += await ask_all(LAST)
    return [answer for answer in answers if answer]


@pytest.mark.parametrize("route", sorted(INFERENCE))
def test_models_are_called_with_a_key_and_nothing_else(route: str) -> None:
    """Every key of the table is one of these to the gateway: tiers differ in what they may do, not in whether."""

    async def codes() -> list[int]:
        async with edge.gateway() as gateway:
            gateway.keys.add("br-inference", scope="inference")
            gateway.keys.add("br-agent", tier="agent", scope="inference")
            gateway.keys.add("br-eph-child", tier="ephemeral", scope="inference", child="eph_1")
            path = route.partition(" ")[2]
            body = {"model": "embed", "input": "x"} if path == "/v1/embeddings" else edge.chat()
            by_session = signed_in("usr_asha", "ses_1", "org_a")
            requests = [
                edge.request(body, path=path, key=None),
                edge.request(body, path=path, key=None, headers=by_session),
                *(
                    edge.request(body, path=path, key=key)
                    for key in (edge.KEY, "br-inference", "br-agent", "br-eph-child")
                ),
            ]
            return [(await gateway.ask(request)).status for request in requests]

    assert asyncio.run(codes()) == [401, 401, 200, 200, 200, 200]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(), "run `python -m api.access`"
