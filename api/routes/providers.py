"""Who is called."""

from fastapi import APIRouter, Depends, Request

from api.caller import Services, public
from api.errors import documented
from api.route_health import health_of
from api.schemas.catalog import ProviderList, provider_list

router = APIRouter(tags=["Catalog"], dependencies=[Depends(public)])


@router.get("/v1/providers", response_model=ProviderList, responses=documented("invalid_api_key"))
async def list_providers(app: Services, request: Request) -> object:
    """Every provider, its residency (an ISO country; null counts as abroad), whether it can be called, and how it
    does at the moment."""
    return provider_list(app.catalog, app.configured_providers(), health_of(request))
