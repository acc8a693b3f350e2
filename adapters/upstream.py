"""Calls providers: knows each route's address and credential, and nothing of what is sent."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from adapters.http import HttpPool, Target
from domain.catalog.catalog import Catalog
from domain.catalog.model import Provider, Route
from domain.inference.messages import Endpoint
from domain.inference.ports import Reply

PATHS: dict[Endpoint, str] = {"chat": "/chat/completions", "embeddings": "/embeddings"}


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
        self._targets: dict[tuple[str, Endpoint], Target] = {}
        self._targets_of = ""
        self._configured: frozenset[str] = frozenset()

    def configured(self) -> Collection[str]:
        """The ids of the providers that can be called."""
        self._refresh()
        return self._configured

    def call(self, route: Route, endpoint: Endpoint, body: bytes, *, first_byte_seconds: float) -> Awaitable[Reply]:
        self._refresh()
        target = self._targets[route.provider, endpoint]
        return self._pool.post(target, body, first_byte_seconds=first_byte_seconds)

    def _refresh(self) -> None:
        catalog = self._catalog()
        if catalog.digest == self._targets_of:
            return
        targets: dict[tuple[str, Endpoint], Target] = {}
        for provider in catalog.providers.values():
            address = address_of(provider, environment=self._environment, simulator_url=self._simulator_url)
            if address is None:
                continue
            base_url, headers = address
            for endpoint, path in PATHS.items():
                targets[provider.id, endpoint] = Target.of(base_url.rstrip("/") + path, headers)
        self._targets = targets
        self._configured = frozenset(provider for provider, _ in targets)
        self._targets_of = catalog.digest


def address_of(
    provider: Provider, *, environment: Mapping[str, str], simulator_url: str | None
) -> tuple[str, dict[str, str]] | None:
    """Where a provider is called and with which headers; None where there is no key for it."""
    if provider.keyless:
        return provider.base_url, {}
    key = environment.get(provider.key_env, "") if provider.key_env else ""
    if not key:
        return None if simulator_url is None else (f"{simulator_url}/{provider.id}/v1", {})
    if provider.auth == "bearer":
        return provider.base_url, {"Authorization": f"Bearer {key}"}
    return provider.base_url, {provider.auth.removeprefix("header:"): key}
