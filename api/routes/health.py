"""Whether the product lives, can serve, and how its providers do."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from api.caller import Services, public
from api.errors import documented
from domain.kernel.errors import Unavailable

router = APIRouter(tags=["Health"], dependencies=[Depends(public)])


@router.get("/livez")
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses=documented("ledger_unavailable"))
def ready(app: Services, request: Request) -> dict[str, str]:
    """This process can serve: it knows all keys, and the ledger can be reached."""
    if not app.directory.fresh():
        raise Unavailable("ledger_unavailable", "Keys cannot be checked at the moment.", retry_after=1)
    gateway = request.app.state.gateway
    if gateway is not None and not getattr(gateway.services.ledger, "connected", True):
        raise Unavailable("ledger_unavailable", "The ledger cannot be written at the moment.", retry_after=1)
    return {"status": "ok"}


@router.get("/health")
def health(app: Services) -> dict[str, Any]:
    """`status` is `ok`; `degraded` while limits per minute and jobs do without their shared store; `down` while the
    ledger cannot be reached. A provider is `up`, or `not_configured` where there is no key for it."""
    configured = app.configured_providers()
    status = "ok" if app.valkey_is_up() else "degraded"
    return {
        "status": status if app.directory.fresh() else "down",
        "providers": [
            {
                "id": provider,
                "state": "up" if provider in configured else "not_configured",
                "routes_open": 0,
                "routes_total": sum(
                    route.provider == provider for routes in app.catalog.routes.values() for route in routes
                ),
            }
            for provider in app.catalog.providers
        ],
    }
