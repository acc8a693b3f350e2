"""What can be called."""

from fastapi import APIRouter, Depends, Request

from api.caller import Services, public
from api.errors import documented
from api.route_health import health_of
from api.schemas.catalog import ModelList, ModelRow, find_model, model_list, model_row
from api.schemas.comparison import ModelStats, model_stats, route_names
from domain.kernel.clock import ist_day
from projections.route_stats import route_stats

router = APIRouter(tags=["Catalog"], dependencies=[Depends(public)])


@router.get(
    "/v1/models", response_model=ModelList, response_model_exclude_unset=True, responses=documented("invalid_api_key")
)
async def list_models(app: Services, request: Request) -> object:
    """Every model with its routes and prices, a chat model first. No key is needed; a bad one is refused."""
    return model_list(app.catalog, health_of(request))


# Before the next one, whose id would take in the end of this path.
@router.get(
    "/v1/models/{id:path}/stats",
    response_model=ModelStats,
    responses=documented("invalid_api_key", "model_not_found", "ledger_unavailable"),
)
def show_model_stats(id: str, app: Services) -> object:
    """How each route of a model did in the last 7 days (India time), by all calls of the product. What nobody has
    called is null."""
    find_model(app.catalog, id, param="id")
    now = app.clock()
    with app.reading() as connection:
        found = route_stats(connection, route_names(app.catalog, [id]), now=now)
    return model_stats(id, app.catalog.routes_of(id), found, as_of=ist_day(now))


@router.get(
    "/v1/models/{id:path}",
    response_model=ModelRow,
    response_model_exclude_unset=True,
    responses=documented("invalid_api_key", "model_not_found"),
)
async def show_model(id: str, app: Services, request: Request) -> object:
    """One model; its id may hold slashes, as they are or as `%2F`."""
    return model_row(find_model(app.catalog, id, param="id"), app.catalog.routes_of(id), health_of(request))
