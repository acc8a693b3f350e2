"""The catalog in force: immutable, with nearly every look-up a dictionary access. A change makes a new one."""

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from domain.catalog.model import Model, Provider, Route


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """`models` and each model's `routes` stand in catalog order. `digest` differs when anything in it
    differs.
    """

    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    routes: Mapping[str, tuple[Route, ...]]
    digest: str

    def routes_of(self, model: str) -> tuple[Route, ...]:
        return self.routes.get(model, ())

    def routes_at(self, provider: str) -> list[Route]:
        """In catalog order. This look-up goes through all routes."""
        return [route for routes in self.routes.values() for route in routes if route.provider == provider]

    def route(self, *, provider: str, model: str) -> Route | None:
        return next((route for route in self.routes_of(model) if route.provider == provider), None)


def assemble(*, providers: Iterable[Provider], models: Iterable[Model], routes: Iterable[Route]) -> Catalog:
    """A catalog of these, in the order given.

    Raises ValueError for an id given twice, or for a route of an unknown provider or model.
    """
    providers, models, routes = tuple(providers), tuple(models), tuple(routes)
    provider_by_id = {provider.id: provider for provider in providers}
    model_by_id = {model.id: model for model in models}
    route_keys = {(route.provider, route.model) for route in routes}
    if len(provider_by_id) + len(model_by_id) + len(route_keys) < len(providers) + len(models) + len(routes):
        raise ValueError("a provider, model or route is in the catalog twice")
    grouped: dict[str, list[Route]] = {model: [] for model in model_by_id}
    for route in routes:
        if route.provider not in provider_by_id or route.model not in model_by_id:
            raise ValueError(f"the route {route.provider}/{route.model} leads to nothing known")
        grouped[route.model].append(route)
    canonical = msgspec.json.encode((providers, models, routes), order="sorted")
    return Catalog(
        providers=MappingProxyType(provider_by_id),
        models=MappingProxyType(model_by_id),
        routes=MappingProxyType({model: tuple(found) for model, found in grouped.items()}),
        digest=hashlib.sha256(canonical).hexdigest(),
    )
