"""Whether the product lives, can serve, and how its providers do."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from api.caller import Services, public
from api.errors import documented
from api.route_health import health_of, provider_state, routes_by_provider, routes_open
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
def health(app: Services, request: Request) -> dict[str, Any]:
    """`status` is `ok`; `degraded` while limits per minute and jobs do without their shared store; `down` while the
    ledger cannot be reached. `reasons` says in sentences why it is not `ok`. A provider is `up`, `degraded` where some
    of its routes fail and rest, `down` where all do, or `not_configured` where there is no key for it."""
    configured, standings = app.configured_providers(), health_of(request)
    gateway = request.app.state.gateway
    shared = app.valkey_is_up() and not (gateway is not None and gateway.rates.degraded)
    reachable = app.directory.fresh()
    return {
        "status": ("ok" if shared else "degraded") if reachable else "down",
        "reasons": [
            *([] if reachable else ["The ledger cannot be reached: no call is served."]),
            *([] if shared else ["Valkey cannot be used: each process counts requests a minute alone, and jobs wait."]),
        ],
        "providers": [
            {
                "id": provider,
                "state": provider_state(routes, standings, configured=provider in configured),
                "routes_open": routes_open(routes, standings),
                "routes_total": len(routes),
            }
            for provider, routes in routes_by_provider(app.catalog).items()
        ],
    }
