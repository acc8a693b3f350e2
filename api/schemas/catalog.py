"""Models and providers as the catalog shows them."""

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from api.route_health import provider_health, route_health, routes_by_provider
from domain.catalog.catalog import Catalog
from domain.catalog.model import Model, Provider, Route
from domain.kernel.errors import NotFound
from domain.routing.health import Health as Standings


class Health(BaseModel):
    state: str
    latency_ms: int | None
    failure_rate: float | None


class PricedRoute(BaseModel):
    provider: str
    upstream_model: str
    residency: str | None
    inputINRPerMtok: float | None
    outputINRPerMtok: float | None
    cachedInputINRPerMtok: float | None = None
    inrPerMinute: float | None = None
    inrPerMchar: float | None = None
    byok_required: bool


class RouteRow(PricedRoute):
    health: Health


class ModelRow(BaseModel):
    id: str
    object: str = "model"
    created: int
    name: str
    owned_by: str
    modality: str
    context_length: int
    max_output_tokens: int
    openness: str
    capabilities: list[str]
    residency: list[str]
    routes: list[RouteRow]


class ModelList(BaseModel):
    object: str = "list"
    data: list[ModelRow]


class ProviderRow(BaseModel):
    id: str
    name: str
    residency: str | None
    configured: bool
    byok: bool
    health: Health


class ProviderList(BaseModel):
    object: str = "list"
    data: list[ProviderRow]


def model_list(catalog: Catalog, health: Standings) -> dict[str, Any]:
    """Chat models first: clients that take the first entry of a list want one that talks."""
    models = sorted(catalog.models.values(), key=lambda model: model.modality != "chat")
    return {"object": "list", "data": [model_row(model, catalog.routes_of(model.id), health) for model in models]}


def find_model(catalog: Catalog, id: str, *, param: str) -> Model:
    """Raises NotFound, with the name of the `param` that said so."""
    model = catalog.models.get(id)
    if model is None:
        message = f"There is no model '{id}'. GET /v1/models lists those there are."
        raise NotFound("model_not_found", message, param=param)
    return model


def model_row(model: Model, routes: Collection[Route], health: Standings) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "name": model.name,
        "owned_by": model.owned_by,
        "modality": model.modality,
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "openness": model.openness,
        "capabilities": list(model.capabilities),
        "residency": sorted({route.residency for route in routes if route.residency}),
        "routes": [priced_route(route) | {"health": route_health(route, health)} for route in routes],
    }


def provider_list(catalog: Catalog, configured: Collection[str], health: Standings) -> dict[str, Any]:
    data = [
        provider_row(catalog.providers[id], routes, health, configured=id in configured)
        for id, routes in routes_by_provider(catalog).items()
    ]
    return {"object": "list", "data": data}


def provider_row(
    provider: Provider, routes: Collection[Route], health: Standings, *, configured: bool
) -> dict[str, Any]:
    return {
        "id": provider.id,
        "name": provider.name,
        "residency": provider.residency or None,
        "configured": configured,
        "byok": not provider.keyless,
        "health": provider_health(routes, health, configured=configured),
    }


def priced_route(route: Route) -> dict[str, Any]:
    """A route and what it costs under ordinary conditions."""
    rates = route.rates
    row: dict[str, Any] = {
        "provider": route.provider,
        "upstream_model": route.upstream,
        "residency": route.residency or None,
        "inputINRPerMtok": per_mtok(rates.input if rates else None),
        "outputINRPerMtok": per_mtok(rates.output if rates else None),
    }
    if rates and rates.cached_input != rates.input:
        row["cachedInputINRPerMtok"] = per_mtok(rates.cached_input)
    if rates and rates.seconds is not None:
        row["inrPerMinute"] = float(Decimal(60 * rates.seconds).scaleb(-9))
    if rates and rates.characters is not None:
        row["inrPerMchar"] = per_mtok(rates.characters)
    return row | {"byok_required": route.byok_only}


def per_mtok(nanos_per_token: int | None) -> float | None:
    """A rate to look at and sort by; what is billed is counted in whole nano-rupees."""
    return None if nanos_per_token is None else float(Decimal(nanos_per_token).scaleb(-3))
