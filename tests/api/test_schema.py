"""Requests made up from the API's own description, sensible and not, by every kind of caller: no fault of ours, and no
answer that the description does not have."""

import asyncio
import json
import unittest
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from adapters.wiring import App
from api.access import CALLERS
from api.app import build as build_web
from api.schemas.document import describe
from api.schemas.inference import PATHS
from tests.api import edge
from tests.api.browser import ORIGIN
from tests.api.client import started
from tests.api.test_access import everybody, settings_for_everybody
from tests.issuer import Issuer
from tests.workers.scene import project

EXAMPLES = 4
AT_ONCE = 40
LAST = {"POST /auth/logout"}
"""What would keep a caller from asking anything else."""
OPERATOR = {"authorization": "Bearer the operator's own"}


@dataclass(frozen=True)
class Call:
    """A request without credentials, and the statuses that the description has for it."""

    operation: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    statuses: frozenset[int]


@pytest.fixture
def services(database_url: str, tmp_path: Path, issuer: Issuer) -> Iterator[App]:
    with started(settings_for_everybody(tmp_path, issuer), database_url) as services:
        yield services


def calls(document: dict[str, Any]) -> list[Call]:
    """The same ones each time: for every operation some that fit its description, and some that do not."""
    found = []
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        statuses = frozenset(map(int, document["paths"][operation.path][operation.method]["responses"]))
        for mode in GenerationMode:
            found += [_call(case, statuses) for case in _cases(operation, mode)]
    return found


def _cases(operation: Any, mode: GenerationMode) -> list[Any]:
    drawn: list[Any] = []

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def draw(case: Any) -> None:
        drawn.append(case)

    with suppress(Unsatisfiable, unittest.SkipTest):  # nothing can be wrong with what takes no input
        draw()
    return drawn


def _call(case: Any, statuses: frozenset[int]) -> Call:
    prepared = requests.Request(**case.as_transport_kwargs(base_url=ORIGIN)).prepare()
    body = prepared.body or b""
    headers = {name: value for name, value in prepared.headers.items() if name.lower() == "content-type"}
    return Call(
        operation=f"{case.operation.method.upper()} {case.operation.path}",
        method=str(prepared.method),
        url=str(prepared.url),
        headers=headers,
        body=body.encode() if isinstance(body, str) else body,
        statuses=statuses,
    )


def test_whatever_is_asked_by_whomever_is_answered_as_described(services: App, issuer: Issuer) -> None:
    callers = everybody(services, issuer) | {"operator": OPERATOR}
    assert set(callers) == {*CALLERS, "operator"}
    web = build_web(services)
    project(services)
    made = [call for call in calls(describe(web)) if call.operation.split()[1] not in PATHS]
    wrong, served = asyncio.run(_ask_all(web, callers, made))
    assert not wrong, "\n".join(sorted(wrong))
    assert len(served) > len({call.operation for call in made}) / 3, "most were refused before they did anything"


def test_an_org_that_the_read_models_have_not_heard_of_is_asked_to_wait(services: App, issuer: Issuer) -> None:
    headers = everybody(services, issuer)["owner"]

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=build_web(services))
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            return await client.get("/me/billing/statement", headers=headers)

    reply = asyncio.run(ask())
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "ledger_unavailable")


def test_whatever_is_asked_of_a_model_is_answered_as_described(services: App, issuer: Issuer) -> None:
    document = describe(build_web(services))
    document["paths"] = PATHS
    by_session = everybody(services, issuer)["owner"]
    by_key = {"authorization": f"Bearer {edge.KEY}"}
    wrong = []

    async def ask_all() -> int:
        served = 0
        async with edge.gateway(inr=10**6) as gateway:
            for call in calls(document):
                path = call.operation.split()[1]
                model = b"embed" if path == "/v1/embeddings" else b"sim-2c"
                for body in (call.body, _with_model(call.body, model)):
                    for headers in ({}, by_session, by_key, {"x-br-api-key": "br-nobodys"}):
                        sent = edge.request(body, path=path, key=None, headers=call.headers | headers)
                        reply = await gateway.ask(sent)
                        served += reply.status == 200
                        if reply.status not in call.statuses or reply.status == 500:
                            wrong.append(f"{call.operation}: {reply.status} {reply.body!r:.120} for {body!r:.200}")
        return served

    served = asyncio.run(ask_all())
    assert not wrong, "\n".join(wrong)
    assert served


def _with_model(body: bytes, model: bytes) -> bytes:
    """The same question to a model that there is."""
    try:
        asked = json.loads(body)
    except ValueError:
        return body
    return json.dumps(asked | {"model": model.decode()}).encode() if isinstance(asked, dict) else body


async def _ask_all(web: Any, callers: dict[str, dict[str, str]], made: list[Call]) -> tuple[set[str], set[str]]:
    """What was answered otherwise than described; and the operations that served somebody."""
    served = set()
    transport = httpx.ASGITransport(app=web, client=("203.0.113.9", 1))
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:

        async def ask(call: Call, caller: str) -> str:
            async with gate:
                reply = await client.request(
                    call.method, call.url, headers=call.headers | callers[caller], content=call.body
                )
            if reply.status_code < 300:
                served.add(call.operation)
            if reply.status_code in call.statuses and (reply.status_code < 500 or reply.status_code == 503):
                return ""
            return (
                f"{call.operation} by {caller}: {reply.status_code} {reply.text[:120]} for {call.url} {call.body!r:.80}"
            )

        first = [call for call in made if call.operation not in LAST]
        answers = await asyncio.gather(*[ask(call, caller) for call in first for caller in callers])
        last = [call for call in made if call.operation in LAST]
        answers += await asyncio.gather(*[ask(call, caller) for call in last for caller in callers])
    return {answer for answer in answers if answer}, served
