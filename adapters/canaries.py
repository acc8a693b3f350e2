"""Calls of one token outside of any gateway: a pool of their own for as long as they run, and services that cannot
touch the ledger or the health of routes, because they have neither.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

from adapters.gateway import provider_calls
from adapters.http import HttpPool
from adapters.route_health import read_health
from adapters.tokenizer import ThreadedTokenizer
from adapters.wiring import App
from domain.inference.canary import check
from domain.inference.outlet import Patience, Services
from domain.inference.sizes import OutputSizes
from domain.kernel.events import Event
from domain.monitoring.checks import Wanted
from domain.monitoring.events import Checked
from domain.routing.health import Health, Outcome

AT_ONCE = 48

_log = logging.getLogger(__name__)


def run_checks(app: App, wanted: Sequence[Wanted]) -> list[Checked]:
    """What was found of each; without those that would cost too much. One that cannot be made keeps no other from it.

    May not be called on an event loop.
    """
    return asyncio.run(_run_checks(app, wanted))


async def _run_checks(app: App, wanted: Sequence[Wanted]) -> list[Checked]:
    at_once = asyncio.Semaphore(AT_ONCE)
    async with _open_services(app) as services:
        found = await asyncio.gather(*[check(each, services, at_once) for each in wanted], return_exceptions=True)
    checks = []
    for each, result in zip(wanted, found, strict=True):
        if isinstance(result, Checked):
            checks.append(result)
        elif result is not None:
            _log.error("the check of %s failed, the others go on", each.collection or "the product", exc_info=result)
    return checks


@asynccontextmanager
async def _open_services(app: App) -> AsyncIterator[Services]:
    settings = app.settings
    pool = HttpPool(connect_seconds=settings.connect_seconds, idle_seconds=settings.idle_seconds)
    upstream = provider_calls(app, pool)
    health = read_health(app.redis_url, at=app.clock(), rest_seconds=settings.circuit_seconds)
    try:
        yield Services(
            catalog=lambda: app.catalog,
            configured=upstream.configured,
            ledger=NoLedger(),
            upstream=upstream,
            tokenizer=ThreadedTokenizer(),
            sizes=OutputSizes(),
            patience=Patience(),
            clock=app.clock,
            health=StandingHealth(health),
            own=lambda org: app.directory.directory.own(org),
        )
    finally:
        await pool.close()


class NoLedger:
    """The port of the ledger for those that must never reach it."""

    def hold(self, request: str, event: Event) -> NoReturn:
        raise AssertionError("a canary holds, ends and notes nothing")

    extend = end = note = hold


class StandingHealth:
    """The port of route health for those that only look: as it was when they began."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def health(self) -> Health:
        return self._health

    def observe(self, outcome: Outcome) -> None:
        raise AssertionError("a canary feeds no circuit and no average")

    def take_probe(self, route: str) -> bool:
        return False

    def end_probe(self, route: str) -> None:
        pass
