"""What in a catalog is more likely a slip than meant: found before a price is in force, as afterwards it is a bill."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Model, Route
from domain.catalog.price import Rates

# Providers of one model differ by a few times at most; a power of ten is a slip of the point.
LIST_PRICE_FACTOR = 6


class ListPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a model usually costs: nano-rupees per token, and the dollars per million that these come from, as of the
    day `on`. An output of 0 is not compared."""

    input: int
    output: int
    input_usd: Decimal
    output_usd: Decimal
    on: str


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """`route` is `provider/model`."""

    route: str
    message: str


def doubts(catalog: Catalog, listed: Mapping[str, ListPrice]) -> list[Doubt]:
    """All that should be looked at by a person; `listed` by model."""
    return [
        Doubt(route=f"{route.provider}/{route.model}", message=message)
        for model in catalog.models.values()
        for route in catalog.routes_of(model.id)
        for message in _doubts_of(route, model, listed.get(model.id))
    ]


def _doubts_of(route: Route, model: Model, listed: ListPrice | None) -> Iterator[str]:
    if model.modality == "chat" and route.context_length < route.max_output_tokens:
        yield f"writes up to {route.max_output_tokens} tokens into a context of {route.context_length}"
    if route.rates is None or model.modality not in ("chat", "embedding"):
        return
    for rates in (route.rates, *[variant.rates for variant in route.rates.variants]):
        if not rates.input and not rates.output:
            continue  # free, which must be said in so many words
        if model.modality == "chat" and rates.output < rates.input:
            yield f"{rates.id}: output is cheaper than input"
        if rates.cached_input > rates.input:
            yield f"{rates.id}: cached input is dearer than input"
        if 0 < rates.cache_write < rates.cached_input:
            yield f"{rates.id}: writing the cache is cheaper than reading it"
    if listed is not None:
        yield from _far_from_list(route.rates, listed)


def _far_from_list(rates: Rates, listed: ListPrice) -> Iterator[str]:
    for name, ours, theirs in (("input", rates.input, listed.input), ("output", rates.output, listed.output)):
        if ours and theirs and not (theirs <= ours * LIST_PRICE_FACTOR and ours <= theirs * LIST_PRICE_FACTOR):
            yield (
                f"{rates.id}: {name} is {ours} nano-rupees a token, and {theirs} by the list price of {listed.on}:"
                " is the point in the right place?"
            )
