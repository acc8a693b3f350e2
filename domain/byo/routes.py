"""The catalog as an org with keys and endpoints of its own has it: what it brought stands among the platform's routes,
free of charge. Made anew for each call, of the steps that the call names, so there is nothing to keep up to date."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.byo.own import Own, OwnEndpoint, OwnKey
from domain.catalog.catalog import Catalog
from domain.catalog.model import OWN_ENDPOINT, Modality, Model, Provider, Route
from domain.catalog.price import Rates
from domain.inference.metering import TOKENS_MAX
from domain.inference.wires.registry import WIRES
from domain.routing.needs import Step

FREE = Rates(id="own", priced_on="", input=0, cached_input=0, cache_write=0, output=0)
"""What calls cost on an org's own key or endpoint."""
OUTPUT_TOKENS_UNKNOWN = 4_096
"""What a model that no catalog describes is told where its wire demands a limit and the caller has set none."""

_Routes = tuple[Route, ...]


class _Brought(msgspec.Struct):
    """What goes on top of the platform's catalog."""

    providers: dict[str, Provider] = {}
    models: dict[str, Model] = {}
    routes: dict[str, _Routes] = {}

    def over(self, catalog: Catalog) -> Catalog:
        if not self.routes:
            return catalog
        return Catalog(
            providers={**catalog.providers, **self.providers},
            models={**catalog.models, **self.models},
            routes={**catalog.routes, **self.routes},
            digest=catalog.digest,
        )


def with_own(catalog: Catalog, own: Own, org: str, steps: Sequence[Step]) -> tuple[Catalog, tuple[Step, ...]]:
    """The catalog with what the org has brought for these steps, and the steps as they are to be looked up there.

    A model of the catalog has, at providers that the org has a key for, a route on that key, and with `always_use` no
    other there. `provider/model-id` is a route on the org's key alone, `byoe:<slug>` one of its endpoints, which is
    also meant by a step of the endpoint's model that is pinned to it.
    """
    steps = tuple([_named_by_itself(step, own) for step in steps])
    brought = _Brought()
    for step in steps:
        name = step.model
        if name.startswith(OWN_ENDPOINT):
            endpoint = own.endpoints.get(name.removeprefix(OWN_ENDPOINT))
            if endpoint is not None:
                brought.providers[name] = provider_of(endpoint)
                brought.models[name] = _described(endpoint.model, name, catalog, modality="chat")
                brought.routes[name] = (_route_to(endpoint, org, catalog),)
        elif name in catalog.models:
            routes = _with_keys(catalog.routes_of(name), own.keys, org)
            if routes is not None:
                brought.routes[name] = routes
        else:
            provider, _, id = name.partition("/")
            key = own.keys.get(provider)
            route = None if key is None else _opened_by(key, id, org, catalog)
            if route is not None:
                brought.models[name] = _described(route.model, name, catalog, modality=_modality(id))
                brought.routes[name] = (route,)
    return brought.over(catalog), steps


def with_given_key(catalog: Catalog, org: str, steps: Sequence[Step]) -> tuple[Catalog, tuple[Step, ...]]:
    """The catalog for a request that brings a key, and its steps.

    The key is for the primary alone: for the provider that it is pinned to, else for whichever comes first, and then
    there are no other steps. Its routes stand under a name of their own, so that no further step finds them.
    """
    primary, *rest = steps
    provider, _, id = primary.model.partition("/")
    pinned = primary.provider
    name = primary.model
    if name not in catalog.models and provider in catalog.providers and id in catalog.models:
        pinned, name = pinned or provider, id
    model = catalog.models.get(name)
    if model is None:
        return catalog, tuple(steps)
    routes = tuple(
        _on_own_key(route, org, given=True)
        for route in catalog.routes_of(name)
        if pinned in (None, route.provider) and not catalog.providers[route.provider].keyless
    )
    apart = f"{name} on the key given"
    brought = _Brought(models={apart: model}, routes={apart: routes})
    given = msgspec.structs.replace(primary, model=apart, provider=pinned)
    return brought.over(catalog), (given, *(rest if pinned is not None else ()))


def provider_of(endpoint: OwnEndpoint) -> Provider:
    """The endpoint as a provider of OpenAI's wire."""
    return Provider(
        id=endpoint.provider_ref,
        name=endpoint.name,
        base_url=endpoint.base_url,
        residency=endpoint.residency,
        auth="bearer" if endpoint.sealed else "none",
    )


def models_of(key: OwnKey, catalog: Catalog) -> list[str]:
    """The ids that the key opens, each to be called as `provider/id`: those that the provider lists, and ours."""
    return sorted({*key.discovered, *(route.model for route in catalog.routes_at(key.provider))})


def _named_by_itself(step: Step, own: Own) -> Step:
    """A step that is pinned to an endpoint of the org, as one of that endpoint."""
    pinned = step.provider
    if pinned is None or not pinned.startswith(OWN_ENDPOINT):
        return step
    endpoint = own.endpoints.get(pinned.removeprefix(OWN_ENDPOINT))
    if endpoint is None or step.model not in (endpoint.model, pinned):
        return step
    return msgspec.structs.replace(step, model=pinned)


def _with_keys(routes: _Routes, keys: Mapping[str, OwnKey], org: str) -> _Routes | None:
    """The routes of a model with those on the org's keys before them; None where it has no key for any."""
    on_keys = tuple([_on_own_key(route, org) for route in routes if route.provider in keys])
    if not on_keys:
        return None
    closed = {provider for provider, key in keys.items() if key.always_use}
    return on_keys + tuple([route for route in routes if route.provider not in closed])


def _opened_by(key: OwnKey, id: str, org: str, catalog: Catalog) -> Route | None:
    """The route to the provider's model of that id, theirs or ours."""
    route = catalog.route(provider=key.provider, model=id)
    if route is None and id not in key.discovered:
        return None
    if route is None:
        route = next((each for each in catalog.routes_at(key.provider) if each.upstream == id), None)
    if route is not None:
        return _on_own_key(route, org)
    provider = catalog.providers.get(key.provider)
    if provider is None:
        return None
    return Route(
        provider=provider.id,
        model=id,
        upstream=id,
        residency=provider.residency,
        rates=FREE,
        context_length=TOKENS_MAX,
        max_output_tokens=OUTPUT_TOKENS_UNKNOWN,
        takes=WIRES[provider.wire].takes,
        owner=org,
    )


def _on_own_key(route: Route, org: str, *, given: bool = False) -> Route:
    return msgspec.structs.replace(route, owner=org, given=given, rates=FREE, listed=route.rates, priced_to_tokens=0)


def _route_to(endpoint: OwnEndpoint, org: str, catalog: Catalog) -> Route:
    known = catalog.models.get(endpoint.model)
    return Route(
        provider=endpoint.provider_ref,
        model=endpoint.model,
        upstream=endpoint.upstream,
        residency=endpoint.residency,
        rates=FREE,
        context_length=TOKENS_MAX,
        max_output_tokens=OUTPUT_TOKENS_UNKNOWN if known is None else known.max_output_tokens,
        owner=org,
    )


def _described(id: str, name: str, catalog: Catalog, *, modality: Modality) -> Model:
    """The model as the catalog has it; one that it does not know is taken for closed, since nobody says otherwise."""
    known = catalog.models.get(id)
    if known is not None:
        return known
    return Model(
        id=id,
        name=name,
        created=0,
        owned_by="",
        modality=modality,
        context_length=TOKENS_MAX,
        max_output_tokens=OUTPUT_TOKENS_UNKNOWN,
        openness="proprietary",
    )


def _modality(id: str) -> Modality:
    """Lists of models seldom say what a model is for; those of embeddings are called so."""
    return "embedding" if "embed" in id.lower() else "chat"
