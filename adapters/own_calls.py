"""Calls providers and endpoints on what orgs have brought. Keys are opened when they are first needed, and are kept in
memory under the seal that they were opened from, so that a new key or host is a new look."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout
from pydantic import SecretStr

from adapters.http import HttpPool, Resolve, Target
from adapters.upstream import base_url_of, headers_of, path_of
from domain.byo.own import NOTHING_OWN, Own, host_of
from domain.byo.routes import provider_of
from domain.catalog.catalog import Catalog
from domain.catalog.model import OWN_ENDPOINT, Provider, Route
from domain.inference.messages import Endpoint
from domain.inference.ports import Reply, UpstreamFault

TARGETS_MAX = 10_000

OpenSeal = Callable[[str, str, str], str | None]
"""What was sealed for an org and a host. None where the org was erased; raises ValueError for any other seal."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Where a route leads that an org has brought: the address, and the key for it as it is sealed, if it takes one."""

    provider: Provider
    base_url: str
    sealed: str
    guarded: bool


class OwnCalls:
    """Implements `domain.inference.outlet.Upstream` for routes that have an owner. `own` gives what an org has brought,
    `open_seal` its keys; addresses that orgs have given are connected to by `resolve`, the guard's."""

    def __init__(
        self,
        pool: HttpPool,
        *,
        catalog: Callable[[], Catalog],
        own: Callable[[str], Own | None],
        open_seal: OpenSeal,
        resolve: Resolve,
        environment: Mapping[str, str],
        simulator_url: str | None = None,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._own = own
        self._open_seal = open_seal
        self._resolve = resolve
        self._environment = environment
        self._simulator_url = simulator_url
        self._targets: dict[tuple[str, str, str], Target] = {}

    async def call(
        self,
        route: Route,
        endpoint: Endpoint,
        body: bytes,
        *,
        streamed: bool,
        first_byte_seconds: float,
        key: SecretStr | None = None,
    ) -> Reply:
        account = self._account_of(route, given=key is not None)
        url = account.base_url + path_of(account.provider, route.upstream, endpoint, streamed=streamed)
        if key is not None:
            target = self._target(account, url, key.get_secret_value())  # for this call, and kept by nobody
        else:
            target = await self._kept(route.owner, account, url)
        return await self._pool.post(target, body, first_byte_seconds=first_byte_seconds)

    def _account_of(self, route: Route, *, given: bool) -> _Account:
        own = self._own(route.owner) or NOTHING_OWN
        if route.provider.startswith(OWN_ENDPOINT):
            endpoint = own.endpoints.get(route.provider.removeprefix(OWN_ENDPOINT))
            if endpoint is None:
                raise _missing("The endpoint was deleted.")
            return _Account(provider_of(endpoint), endpoint.base_url, endpoint.sealed, guarded=True)
        provider = self._catalog().providers[route.provider]
        base_url = base_url_of(provider, environment=self._environment, simulator_url=self._simulator_url)
        if base_url is None:
            raise _missing("Its address is not set up here.")
        if given:
            return _Account(provider, base_url, "", guarded=False)
        key = own.keys.get(provider.id)
        if key is None:
            raise _missing("Your key was deleted.")
        return _Account(provider, base_url, key.sealed, guarded=False)

    async def _kept(self, org: str, account: _Account, url: str) -> Target:
        name = org, account.sealed, url
        target = self._targets.get(name)
        if target is None:
            key = await self._opened(org, account)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            target = self._targets[name] = self._target(account, url, key)
        return target

    async def _opened(self, org: str, account: _Account) -> str:
        if not account.sealed:
            return ""
        try:
            key = await asyncio.to_thread(self._open_seal, org, account.sealed, host_of(account.base_url))
        except (ValueError, psycopg.Error, PoolTimeout):
            key = None  # sealed for another host, or the vault cannot be read: in both cases nobody gets it
        if key is None:
            raise _missing("Your key for it cannot be opened; save it again.")
        return key

    def _target(self, account: _Account, url: str, key: str) -> Target:
        resolve = self._resolve if account.guarded else None
        return Target.of(url, headers_of(account.provider, key), resolve=resolve)


def _missing(message: str) -> UpstreamFault:
    return UpstreamFault("connect", message, started=False)
