"""The live services of one gateway process, opened on its event loop and closed in order.

Apart from `wiring.py` because these belong to a running loop, while everything there can be made without one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from adapters.http import HttpPool
from adapters.ledger import LedgerWriter
from adapters.own_calls import OwnCalls
from adapters.rates import SharedRateWindows
from adapters.route_health import SharedRouteHealth
from adapters.tokenizer import ThreadedTokenizer
from adapters.upstream import ProviderCalls
from adapters.wiring import App
from domain.accounts.ports import SIGN_IN_SECONDS
from domain.inference.outlet import Patience, Services
from domain.inference.rates import RateWindows
from domain.inference.sizes import OutputSizes
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event


@dataclass(frozen=True)
class Gateway:
    """What the inference routes of this process stand on."""

    app: App
    services: Services
    rates: RateWindows
    sign_ins: RateWindows

    async def read_stream(self, stream: str) -> list[Event]:
        """The facts of one stream, without holding up the event loop. Raises Unavailable."""
        try:
            found = await asyncio.to_thread(self.app.log.stream, stream)
        except psycopg.OperationalError as error:
            raise Unavailable("ledger_unavailable", "The ledger cannot be read; try again.", retry_after=1) from error
        return [recorded.event for recorded in found]


@asynccontextmanager
async def open_gateway(app: App) -> AsyncIterator[Gateway]:
    """Connects to the ledger, loads the directory of keys, and opens the pool to the providers.

    On the way out, everything that was handed to the ledger is recorded before the connections close.
    """
    settings = app.settings
    ledger = LedgerWriter(app.database_url, clock=app.clock)
    await ledger.start()
    pool = HttpPool(connect_seconds=settings.connect_seconds, idle_seconds=settings.idle_seconds)
    rates = SharedRateWindows(app.redis_url)
    await rates.start()
    sign_ins = SharedRateWindows(app.redis_url, window_seconds=SIGN_IN_SECONDS)
    await sign_ins.start()
    if app.agents is not None:
        app.agents.start()
    health = SharedRouteHealth(
        app.redis_url, clock=app.clock, process=app.new_id("gateway"), rest_seconds=settings.circuit_seconds
    )
    await health.start()
    upstream = provider_calls(app, pool)
    services = Services(
        catalog=lambda: app.catalog,
        configured=upstream.configured,
        ledger=ledger,
        upstream=upstream,
        tokenizer=ThreadedTokenizer(),
        sizes=OutputSizes(),
        patience=Patience(
            first_byte=settings.first_byte_seconds,
            reasoning_first_byte=settings.reasoning_first_byte_seconds,
            disconnect_grace=settings.disconnect_grace_seconds,
            hold=settings.hold_seconds,
        ),
        clock=app.clock,
        health=health,
        chain=lambda org, model: app.directory.directory.chains(org).steps(model),
        own=lambda org: app.directory.directory.own(org),
    )
    try:
        yield Gateway(app=app, services=services, rates=rates, sign_ins=sign_ins)
    finally:
        await ledger.close()
        await pool.close()
        await rates.close()
        await health.close()
        await sign_ins.close()


def provider_calls(app: App, pool: HttpPool) -> ProviderCalls:
    """Whoever calls providers over this pool, on the platform's keys and on what orgs have brought."""
    settings = app.settings
    own = OwnCalls(
        pool,
        catalog=lambda: app.catalog,
        own=lambda org: app.directory.directory.own(org),
        open_seal=lambda org, sealed, host: app.vault.open(org, sealed, bound_to=host),
        resolve=app.egress.resolve,
        environment=app.environment,
        simulator_url=settings.simulator_url,
    )
    return ProviderCalls(
        pool,
        catalog=lambda: app.catalog,
        environment=app.environment,
        simulator_url=settings.simulator_url,
        own=own,
    )
