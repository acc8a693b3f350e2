"""An org's saved fallback chains, one for each model."""

from fastapi import APIRouter

from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.routing import ChainList, ChainRow, ClearedChain, NewChain, chain_row
from domain.routing.chains import clear_chain, set_chain

router = APIRouter(tags=["Routing"])


@router.get("/me/routing", response_model=ChainList, responses=documented(*WHO))
async def list_chains(caller: MemberActor, app: Services) -> object:
    """All chains of the org, in the order in which the models got theirs."""
    chains = app.directory.directory.chains(caller.org).by_model.values()
    return {"object": "list", "data": [chain_row(chain) for chain in chains]}


@router.get("/me/routing/{model:path}", response_model=ChainRow, responses=documented(*WHO, "not_found"))
async def show_chain(model: str, caller: MemberActor, app: Services) -> object:
    """The chain of one model; its id may hold slashes."""
    return chain_row(app.directory.directory.chains(caller.org).chain(model))


@router.put(
    "/me/routing/{model:path}",
    response_model=ChainRow,
    responses=documented(*WHO, "invalid_request", "model_not_found"),
)
def save_chain(model: str, wanted: NewChain, caller: AdminActor, app: Services) -> object:
    """Saves the steps that calls of this model go on with when it fails, in place of those before. In force within a
    second on every gateway. A call's own `fallbacks` beat the chain; a call that names a `provider` ignores it. A step
    whose key or endpoint is missing, or whose model the calling key may not use, is skipped."""
    set_chain(
        app.store,
        org=caller.org,
        model=model,
        steps=wanted.steps,
        catalog=app.catalog,
        at=app.clock(),
        by=caller.by,
    )
    app.directory.catch_up()
    return chain_row(app.directory.directory.chains(caller.org).chain(model))


@router.delete("/me/routing/{model:path}", response_model=ClearedChain, responses=documented(*WHO))
def remove_chain(model: str, caller: AdminActor, app: Services) -> object:
    """Forgets the chain of this model, within a second on every gateway. A repeat is harmless."""
    clear_chain(app.store, org=caller.org, model=model, at=app.clock(), by=caller.by)
    app.directory.catch_up()
    return {"model": model, "deleted": True}
