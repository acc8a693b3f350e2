"""What the log knows of the catalog. Files say what is offered; these say since when, so that old money
replays.

Models and routes are facts of the stream `catalog`; each price has its own, `price:<provider>/<model>`.
"""

from typing import Self

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Model, Route
from domain.catalog.price import Rates, leaps
from domain.kernel.events import Event, fact

CATALOG_STREAM = "catalog"


@fact("catalog.model_listed.v1")
class ModelListed(Event, frozen=True, kw_only=True):
    """A model entered the catalog, or is described anew."""

    model: Model


@fact("catalog.model_withdrawn.v1")
class ModelWithdrawn(Event, frozen=True, kw_only=True):
    model: str


@fact("catalog.route_listed.v1")
class RouteListed(Event, frozen=True, kw_only=True):
    """A provider serves a model from now on, or serves it differently: another address, residency, name or
    limit.
    """

    provider: str
    model: str
    upstream: str
    base_url: str
    residency: str
    context_length: int
    max_output_tokens: int


@fact("catalog.route_withdrawn.v1")
class RouteWithdrawn(Event, frozen=True, kw_only=True):
    provider: str
    model: str


@fact("catalog.price_changed.v1")
class PriceChanged(Event, frozen=True, kw_only=True):
    """What a route costs from now on; None where it has no price any more and serves only callers' own
    keys.
    """

    provider: str
    model: str
    rates: Rates | None


CatalogEvent = ModelListed | ModelWithdrawn | RouteListed | RouteWithdrawn | PriceChanged
RouteKey = tuple[str, str]


class CatalogRecord(msgspec.Struct):
    """The catalog as recorded so far: the fold of the events above. Routes and rates by (provider, model)."""

    models: dict[str, Model] = {}
    routes: dict[RouteKey, RouteListed] = {}
    rates: dict[RouteKey, Rates] = {}

    def evolve(self, stream: str, event: Event, /) -> Self:
        record = type(self)(dict(self.models), dict(self.routes), dict(self.rates))
        match event:
            case ModelListed(model=model):
                record.models[model.id] = model
            case ModelWithdrawn(model=model_id):
                record.models.pop(model_id, None)
            case RouteListed(provider=provider, model=model_id):
                record.routes[provider, model_id] = event
            case RouteWithdrawn(provider=provider, model=model_id):
                record.routes.pop((provider, model_id), None)
            case PriceChanged(provider=provider, model=model_id, rates=None):
                record.rates.pop((provider, model_id), None)
            case PriceChanged(provider=provider, model=model_id, rates=Rates() as rates):
                record.rates[provider, model_id] = rates
        return record


def stream_of(event: CatalogEvent) -> str:
    """The stream that an event of the catalog belongs to."""
    if isinstance(event, PriceChanged):
        return f"price:{event.provider}/{event.model}"
    return CATALOG_STREAM


def differences(record: CatalogRecord, catalog: Catalog) -> list[CatalogEvent]:
    """The events that take what is recorded to what the files say now; none where they agree. `at` in
    microseconds.
    """
    events: list[CatalogEvent] = []
    for model in catalog.models.values():
        if record.models.get(model.id) != model:
            events.append(ModelListed(model=model))
    offered = {(route.provider, route.model): route for routes in catalog.routes.values() for route in routes}
    for key, route in offered.items():
        listed = _listed(route, catalog)
        recorded = record.routes.get(key)
        if recorded is None or msgspec.structs.replace(recorded, at=0, by="", cause="") != listed:
            events.append(listed)
        if record.rates.get(key) != route.rates:
            events.append(PriceChanged(provider=key[0], model=key[1], rates=route.rates))
    for provider, model_id in sorted(record.routes.keys() - offered.keys()):
        events.append(RouteWithdrawn(provider=provider, model=model_id))
    for provider, model_id in sorted(record.rates.keys() - offered.keys()):
        events.append(PriceChanged(provider=provider, model=model_id, rates=None))
    for model_id in sorted(record.models.keys() - catalog.models.keys()):
        events.append(ModelWithdrawn(model=model_id))
    return events


def leaping_prices(record: CatalogRecord, catalog: Catalog) -> list[tuple[Rates, Rates]]:
    """Recorded and new rates of each route whose price moved tenfold or more: to be confirmed by a person."""
    return [
        (record.rates[key], route.rates)
        for routes in catalog.routes.values()
        for route in routes
        if route.rates and (key := (route.provider, route.model)) in record.rates
        if leaps(record.rates[key], route.rates)
    ]


def _listed(route: Route, catalog: Catalog) -> RouteListed:
    return RouteListed(
        provider=route.provider,
        model=route.model,
        upstream=route.upstream,
        base_url=catalog.providers[route.provider].base_url,
        residency=route.residency,
        context_length=route.context_length,
        max_output_tokens=route.max_output_tokens,
    )
