"""The catalog keeps its order, answers by id, and has a fingerprint that any change alters."""

from typing import Any

import msgspec
import pytest

from domain.catalog.catalog import Catalog, assemble
from domain.catalog.events import (
    CatalogEvent,
    CatalogRecord,
    ModelListed,
    ModelWithdrawn,
    PriceChanged,
    RouteListed,
    RouteWithdrawn,
    differences,
    leaping_prices,
    stream_of,
)
from domain.catalog.model import Model, Provider, Route
from domain.catalog.price import make_rates
from domain.kernel.events import REGISTER
from domain.kernel.store import fold


def provider(id: str, residency: str = "") -> Provider:
    return Provider(id=id, name=id, base_url=f"https://{id}.example/v1", residency=residency)


def model(id: str, **changes: Any) -> Model:
    described = Model(
        id=id,
        name=id,
        created=0,
        owned_by="someone",
        modality="chat",
        context_length=1000,
        max_output_tokens=100,
        openness="permissive",
    )
    return msgspec.structs.replace(described, **changes)


def route(of: Provider, to: Model, *, input: int = 100, output: int = 200, **changes: Any) -> Route:
    priced = Route(
        provider=of.id,
        model=to.id,
        upstream=to.id,
        residency=of.residency,
        rates=make_rates(provider=of.id, model=to.id, priced_on="2026-11-01", input=input, output=output),
        context_length=to.context_length,
        max_output_tokens=to.max_output_tokens,
    )
    return msgspec.structs.replace(priced, **changes)


HOME, ABROAD = provider("home", "IN"), provider("abroad")
SMALL, LARGE = model("small"), model("large")


def catalog(**changes: Any) -> Catalog:
    routes = [route(HOME, SMALL), route(ABROAD, SMALL), route(ABROAD, LARGE)]
    parts: dict[str, Any] = {"providers": [HOME, ABROAD], "models": [SMALL, LARGE], "routes": routes}
    return assemble(**parts | changes)


def test_models_and_routes_keep_their_order_and_are_found_by_id() -> None:
    found = catalog()
    assert list(found.models) == ["small", "large"]
    assert [each.provider for each in found.routes_of("small")] == ["home", "abroad"]
    assert found.routes_of("none") == ()
    assert found.route(provider="abroad", model="large") == route(ABROAD, LARGE)
    assert found.route(provider="home", model="large") is None


def test_the_catalog_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        catalog().models["other"] = model("other")


def test_the_digest_is_stable_and_changes_with_any_rate() -> None:
    assert catalog().digest == catalog().digest
    dearer = catalog(routes=[route(HOME, SMALL, output=201), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    assert dearer.digest != catalog().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"providers": [HOME, ABROAD, HOME]},
        {"models": [SMALL, LARGE, SMALL]},
        {"routes": [route(HOME, SMALL), route(HOME, SMALL)]},
        {"providers": [HOME]},
        {"models": [SMALL]},
    ],
)
def test_duplicates_and_dangling_routes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"twice|nothing known"):
        catalog(**changes)


def recorded(events: list[CatalogEvent]) -> CatalogRecord:
    return fold(CatalogRecord(), [(stream_of(event), event) for event in events])


def news(record_of: list[CatalogEvent], now: Catalog) -> list[CatalogEvent]:
    return differences(recorded(record_of), now)


def test_a_first_start_records_every_model_route_and_price_and_the_second_nothing() -> None:
    first = news([], catalog())
    assert [type(event) for event in first].count(ModelListed) == 2
    assert [type(event) for event in first].count(RouteListed) == 3
    assert [type(event) for event in first].count(PriceChanged) == 3
    assert differences(recorded(stamped(first)), catalog()) == []


def stamped(events: list[CatalogEvent]) -> list[CatalogEvent]:
    return [msgspec.structs.replace(event, at=99, by="someone") for event in events]


def test_a_changed_price_is_one_event_on_the_stream_of_that_price() -> None:
    dearer = catalog(routes=[route(HOME, SMALL, output=201), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    (event,) = news(news([], catalog()), dearer)
    assert isinstance(event, PriceChanged)
    assert event.rates is not None
    assert (event.provider, event.model, event.rates.output) == ("home", "small", 201)
    assert stream_of(event) == "price:home/small"


def test_a_route_that_moves_abroad_is_recorded() -> None:
    moved = catalog(routes=[route(HOME, SMALL, residency="US"), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    (event,) = news(news([], catalog()), moved)
    assert isinstance(event, RouteListed)
    assert (event.provider, event.residency, stream_of(event)) == ("home", "US", "catalog")


def test_what_left_the_files_is_withdrawn_and_stays_withdrawn() -> None:
    before = news([], catalog())
    smaller = catalog(models=[SMALL], routes=[route(HOME, SMALL), route(ABROAD, SMALL)])
    after = news(before, smaller)
    assert {type(event) for event in after} == {ModelWithdrawn, RouteWithdrawn, PriceChanged}
    assert news(before + after, smaller) == []
    assert len(news(before + after, catalog())) == 3


def test_a_route_that_loses_its_price_is_recorded_without_one() -> None:
    unpriced = catalog(routes=[route(HOME, SMALL, rates=None), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    before = news([], catalog())
    (event,) = news(before, unpriced)
    assert isinstance(event, PriceChanged)
    assert event.rates is None
    assert news([*before, event], unpriced) == []


def test_a_tenfold_price_is_pointed_out_before_it_is_recorded() -> None:
    slipped = catalog(routes=[route(HOME, SMALL, output=200_000), route(ABROAD, SMALL), route(ABROAD, LARGE)])
    record = recorded(news([], catalog()))
    assert [new.output for _, new in leaping_prices(record, slipped)] == [200_000]
    assert leaping_prices(record, catalog()) == []


def test_events_of_the_catalog_survive_their_stored_form() -> None:
    for event in news([], catalog()):
        assert REGISTER[event.NAME] is type(event)
        assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
