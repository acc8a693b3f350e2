"""What can be called."""

from fastapi import APIRouter, Depends, Request

from api.caller import Services, public
from api.errors import documented
from api.route_health import health_of
from api.schemas.catalog import ModelList, ModelRow, model_list, model_row
from domain.kernel.errors import NotFound

router = APIRouter(tags=["Catalog"], dependencies=[Depends(public)])


@router.get(
    "/v1/models", response_model=ModelList, response_model_exclude_unset=True, responses=documented("invalid_api_key")
)
async def list_models(app: Services, request: Request) -> object:
    """Every model with its routes and prices, a chat model first. No key is needed; a bad one is refused."""
    return model_list(app.catalog, health_of(request))


@router.get(
    "/v1/models/{id:path}",
    response_model=ModelRow,
    response_model_exclude_unset=True,
    responses=documented("invalid_api_key", "model_not_found"),
)
async def show_model(id: str, app: Services, request: Request) -> object:
    """One model; its id may hold slashes, as they are or as `%2F`."""
    model = app.catalog.models.get(id)
    if model is None:
        raise NotFound(
            "model_not_found", f"There is no model '{id}'. GET /v1/models lists those there are.", param="id"
        )
    return model_row(model, app.catalog.routes_of(id), health_of(request))
