"""Calls providers: knows each route's address and credential, and nothing of what is sent."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import quote

from adapters.http import HttpPool, Target
from domain.catalog.catalog import Catalog
from domain.catalog.model import Provider, Route
from domain.inference.messages import Endpoint
from domain.inference.ports import Reply
from domain.inference.wires.registry import WIRES

TARGETS_MAX = 10_000

_PLACE = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_PLACE_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # nothing that could lead to another host or path


class ProviderCalls:
    """Implements `domain.inference.outlet.Upstream` with the platform's own keys, taken from `environment`.

    With `simulator_url`, providers without a key are played by the simulator there, under a path of their own.
    """

    def __init__(
        self,
        pool: HttpPool,
        *,
        catalog: Callable[[], Catalog],
        environment: Mapping[str, str],
        simulator_url: str | None = None,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._environment = environment
        self._simulator_url = simulator_url
        self._addresses: dict[str, tuple[str, dict[str, str]]] = {}
        self._targets: dict[tuple[str, str, Endpoint, bool], Target] = {}
        self._targets_of = ""
        self._configured: frozenset[str] = frozenset()

    def configured(self) -> Collection[str]:
        """The ids of the providers that can be called."""
        self._refresh()
        return self._configured

    def call(
        self, route: Route, endpoint: Endpoint, body: bytes, *, streamed: bool, first_byte_seconds: float
    ) -> Awaitable[Reply]:
        self._refresh()
        key = (route.provider, route.upstream, endpoint, streamed)
        target = self._targets.get(key) or self._prepare(key)
        return self._pool.post(target, body, first_byte_seconds=first_byte_seconds)

    def _prepare(self, key: tuple[str, str, Endpoint, bool]) -> Target:
        provider, upstream, endpoint, streamed = key
        base_url, headers = self._addresses[provider]
        path = path_of(self._catalog().providers[provider], upstream, endpoint, streamed=streamed)
        if len(self._targets) >= TARGETS_MAX:
            self._targets.clear()
        target = self._targets[key] = Target.of(base_url.rstrip("/") + path, headers)
        return target

    def _refresh(self) -> None:
        catalog = self._catalog()
        if catalog.digest == self._targets_of:
            return
        addresses = {
            provider.id: address_of(provider, environment=self._environment, simulator_url=self._simulator_url)
            for provider in catalog.providers.values()
        }
        self._addresses = {provider: address for provider, address in addresses.items() if address is not None}
        self._targets = {}
        self._configured = frozenset(self._addresses)
        self._targets_of = catalog.digest


def path_of(provider: Provider, upstream: str, endpoint: Endpoint, *, streamed: bool) -> str:
    """Where below the provider's address this kind of call goes, with the query if there is one."""
    kind = "stream" if streamed and endpoint == "chat" else str(endpoint)
    paths = provider.paths or WIRES[provider.wire].paths
    template = paths.get(kind) or paths[endpoint]
    return template.replace("{model}", quote(upstream, safe="")) if "{model}" in template else template


def address_of(
    provider: Provider, *, environment: Mapping[str, str], simulator_url: str | None
) -> tuple[str, dict[str, str]] | None:
    """Where a provider is called and with which headers; None where there is no key for it, or not all that its
    address is made of.
    """
    key = environment.get(provider.key_env, "") if provider.key_env else ""
    if not key and not provider.keyless:
        return None if simulator_url is None else (f"{simulator_url}/{provider.id}/v1", provider.headers)
    places = {name: environment.get(name, "") for name in _PLACE.findall(provider.base_url)}
    if not all(_PLACE_VALUE.fullmatch(value) for value in places.values()):
        return None
    base_url = _PLACE.sub(lambda place: places[place[1]], provider.base_url)
    if provider.keyless:
        return base_url, provider.headers
    if provider.auth == "bearer":
        return base_url, provider.headers | {"Authorization": f"Bearer {key}"}
    return base_url, provider.headers | {provider.auth.removeprefix("header:"): key}
