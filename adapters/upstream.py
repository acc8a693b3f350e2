"""Calls providers: knows each route's address and credential, and nothing of what is sent."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import quote

from pydantic import SecretStr

from adapters.http import HttpPool, Target
from domain.catalog.catalog import Catalog
from domain.catalog.model import Provider, Route
from domain.inference.messages import Endpoint
from domain.inference.outlet import Upstream
from domain.inference.ports import Reply
from domain.inference.wires.registry import WIRES

TARGETS_MAX = 10_000

_PLACE = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_PLACE_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # nothing that could lead to another host or path


class ProviderCalls:
    """Implements `domain.inference.outlet.Upstream` with the platform's own keys, taken from `environment`; what an org
    has brought itself is called by `own`.

    With `simulator_url`, providers without a key are played by the simulator there, under a path of their own.
    """

    def __init__(
        self,
        pool: HttpPool,
        *,
        catalog: Callable[[], Catalog],
        environment: Mapping[str, str],
        simulator_url: str | None = None,
        own: Upstream | None = None,
    ) -> None:
        self._pool = pool
        self._own = own
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
        self,
        route: Route,
        endpoint: Endpoint,
        body: bytes,
        *,
        streamed: bool,
        first_byte_seconds: float,
        key: SecretStr | None = None,
    ) -> Awaitable[Reply]:
        if route.owner:
            assert self._own is not None, "nobody calls what orgs have brought"
            return self._own.call(
                route, endpoint, body, streamed=streamed, first_byte_seconds=first_byte_seconds, key=key
            )
        self._refresh()
        called = (route.provider, route.upstream, endpoint, streamed)
        target = self._targets.get(called) or self._prepare(called)
        return self._pool.post(target, body, first_byte_seconds=first_byte_seconds)

    def _prepare(self, called: tuple[str, str, Endpoint, bool]) -> Target:
        provider, upstream, endpoint, streamed = called
        base_url, headers = self._addresses[provider]
        path = path_of(self._catalog().providers[provider], upstream, endpoint, streamed=streamed)
        if len(self._targets) >= TARGETS_MAX:
            self._targets.clear()
        target = self._targets[called] = Target.of(base_url.rstrip("/") + path, headers)
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
    key = _platform_key(provider, environment)
    if not key and not provider.keyless and simulator_url is None:
        return None
    base_url = base_url_of(provider, environment=environment, simulator_url=simulator_url)
    return None if base_url is None else (base_url, headers_of(provider, key))


def base_url_of(provider: Provider, *, environment: Mapping[str, str], simulator_url: str | None) -> str | None:
    """Where a provider is called, on whosever key: at the simulator, if there is one and it plays this provider. None
    where not all is known that the address is made of.
    """
    if simulator_url is not None and not provider.keyless and not _platform_key(provider, environment):
        return f"{simulator_url}/{provider.id}/v1"
    places = {name: environment.get(name, "") for name in _PLACE.findall(provider.base_url)}
    if not all(_PLACE_VALUE.fullmatch(value) for value in places.values()):
        return None
    return _PLACE.sub(lambda place: places[place[1]], provider.base_url)


def headers_of(provider: Provider, key: str) -> dict[str, str]:
    """The headers that go with every call on this key, in the provider's own form; without a key, the others alone."""
    if provider.keyless or not key:
        return provider.headers
    if provider.auth == "bearer":
        return provider.headers | {"Authorization": f"Bearer {key}"}
    return provider.headers | {provider.auth.removeprefix("header:"): key}


def _platform_key(provider: Provider, environment: Mapping[str, str]) -> str:
    return environment.get(provider.key_env, "") if provider.key_env else ""
