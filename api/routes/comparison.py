"""Prices and routes side by side, for whoever has yet to choose."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from adapters.wiring import exchange
from api.caller import Services, public
from api.errors import documented
from api.schemas.catalog import find_model
from api.schemas.comparison import (
    ModelComparison,
    PricingComparison,
    model_comparison,
    pricing_comparison,
    route_names,
)
from projections.route_stats import route_stats

router = APIRouter(tags=["Catalog"], dependencies=[Depends(public)])


@router.get(
    "/v1/pricing/compare",
    response_model=PricingComparison,
    response_model_exclude_unset=True,
    responses=documented("invalid_api_key", "model_not_found"),
)
async def compare_prices(
    app: Services, model: Annotated[str | None, Query(description="An id; every model unless given")] = None
) -> object:
    """What each route costs in rupees, beside what the model costs abroad by its list price, in dollars and at the
    exchange rate."""
    catalog = app.catalog
    models = [*catalog.models.values()] if model is None else [find_model(catalog, model, param="model")]
    return pricing_comparison(models, catalog, app.list_prices, exchange(app.settings))


@router.get(
    "/v1/compare/models",
    response_model=ModelComparison,
    response_model_exclude_unset=True,
    responses=documented("invalid_api_key", "ledger_unavailable"),
)
def compare_models(app: Services) -> object:
    """The models we would try for seven uses, and every model's routes with their prices and how they did in 7 days."""
    with app.reading() as connection:
        stats = route_stats(connection, route_names(app.catalog, app.catalog.models), now=app.clock())
    return model_comparison(app.catalog, stats)
