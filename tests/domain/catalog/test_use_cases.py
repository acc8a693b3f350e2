"""The models we would try for each use: always such as can be called."""

from domain.catalog.catalog import assemble
from domain.catalog.model import Model, Provider, Route
from domain.catalog.use_cases import USE_CASES, ranked


def test_what_the_catalog_has_no_route_for_is_left_out_and_the_order_kept() -> None:
    last, missing, first = USE_CASES["chat"].models[2], USE_CASES["chat"].models[1], USE_CASES["chat"].models[0]
    catalog = assemble(
        providers=[Provider(id="sim", name="Sim", base_url="http://sim")],
        models=[_model(id) for id in (last, missing, first)],
        routes=[_route(id) for id in (last, first)],
    )
    assert ranked(USE_CASES["chat"], catalog) == [first, last]
    assert ranked(USE_CASES["voice"], catalog) == []


def _model(id: str) -> Model:
    return Model(
        id=id,
        name=id,
        created=0,
        owned_by="sim",
        modality="chat",
        context_length=1,
        max_output_tokens=1,
        openness="open",
    )


def _route(id: str) -> Route:
    return Route(
        provider="sim", model=id, upstream=id, residency="IN", rates=None, context_length=1, max_output_tokens=1
    )
