"""The whole application on a real PostgreSQL, and who calls it as programs do."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx

from adapters.ledger import LedgerWriter
from adapters.settings import Settings
from adapters.wiring import App, build
from api.app import build as build_web
from domain.catalog.price import make_rates
from domain.inference.metering import Usage
from domain.kernel.clock import SECOND
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.ledger.events import Attempt, CreditHeld, RequestSettled
from projections.runner import Runner
from tests.given import PEPPER, Minted, given_key
from tests.workers.scene import project


@contextmanager
def started(settings: Settings, database_url: str, **given: Any) -> Iterator[App]:
    """The services of one gateway process until the end of the block; by default without Valkey or a provider's key."""
    given = {"redis_url": "", "environment": {}, "pepper": PEPPER} | given
    with closing(build(settings, database_url=database_url, **given)) as services:
        Runner(database_url).prepare()
        services.directory.start()
        yield services


class Client:
    """Calls the application as a program would, and checks what every reply must have."""

    def __init__(self, services: App) -> None:
        self.services = services
        self._web = build_web(services)

    def __call__(self, method: str, path: str, key: str = "", json: Any = None, **more: Any) -> httpx.Response:
        headers = ({"authorization": f"Bearer {key}"} if key else {}) | more.pop("headers", {})
        beside = more.pop("beside", ())
        if json is not None:
            more["json"] = json

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._web, client=(more.pop("client", "127.0.0.1"), 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers, **more)

        reply = asyncio.run(call())
        assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"]
        if reply.status_code >= 400:
            assert set(reply.json()) == {"error", *beside}
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        return reply

    def code(self, method: str, path: str, key: str = "", json: Any = None, **more: Any) -> tuple[int, str]:
        reply = self(method, path, key, json, **more)
        return reply.status_code, reply.json()["error"]["code"]

    def project(self) -> None:
        project(self.services)


def minted(client: Client, org: str, terms: KeyTerms) -> Minted:
    key = given_key(client.services.store, org, terms=terms, at=client.services.clock())
    client.services.directory.catch_up()
    return key


def served(client: Client, key: Minted, request: str, *, at: int | None = None, model: str = "sarvam-105b") -> int:
    """Puts a served request on record through the ledger; returns its cost."""
    at = client.services.clock() if at is None else at
    rates = make_rates(provider="sarvam", model=model, priced_on="2026-09-20", input=29_280, output=73_200)
    usage = Usage(input=100, output=50)
    cost, held = 100 * 29_280 + 50 * 73_200, rupees(1)
    who: dict[str, Any] = {"org": key.org, "key": key.key, "workspace": key.workspace}
    who |= {"endpoint": "chat", "model": model, "by": f"key:{key.key}"}
    hold = CreditHeld(
        at=at,
        amount=held,
        expires=at + 900 * SECOND,
        candidates=(f"sarvam/{model}", f"other/{model}"),
        excluded={f"far/{model}": "residency"},
        constraints=("india_only",),
        **who,
    )
    settled = RequestSettled(
        at=at + 2_000_000,
        provider="sarvam",
        residency="IN",
        held=held,
        cost=cost,
        usage=usage,
        rates=rates,
        attempts=(Attempt(f"other/{model}", "status", 500, 7), Attempt(f"sarvam/{model}", "served", 200, 100)),
        first_byte_ms=100,
        duration_ms=2_000,
        **who,
    )

    async def record() -> None:
        writer = LedgerWriter(client.services.database_url, clock=client.services.clock)
        await writer.start()
        assert await writer.hold(request, hold) is None
        assert await writer.end(request, settled) is None
        await writer.close()

    asyncio.run(record())
    client.project()
    return cost
