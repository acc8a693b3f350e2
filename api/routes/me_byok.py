"""An org's own keys for providers: what is called on them costs nothing here."""

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.byo import (
    NewOwnKey,
    OwnKeyList,
    OwnKeyRow,
    OwnModelList,
    RemovedOwnKey,
    TestedOwnKey,
    key_row,
    model_row,
)
from domain.byo.own import NOTHING_OWN, Own, mask_of, note_check, remove_key, save_key, takes_keys
from domain.byo.routes import models_of
from domain.catalog.model import Provider
from domain.kernel.errors import Invalid, NotFound

router = APIRouter(prefix="/me/byok", tags=["Own keys and endpoints"])


@router.get("", response_model=OwnKeyList, responses=documented(*WHO))
async def list_own_keys(caller: MemberActor, app: Services) -> object:
    """The org's keys for providers, one for each; only their last signs are shown."""
    return {"object": "list", "data": [key_row(key) for key in _own(app, caller.org).keys.values()]}


@router.put(
    "/{provider}",
    response_model=OwnKeyRow,
    responses=documented(*WHO, "invalid_request", "not_found", "overloaded", "provider_not_configured"),
)
def save_own_key(provider: str, wanted: NewOwnKey, caller: AdminActor, app: Services) -> object:
    """Saves the org's key for a provider, in place of the one before. It is tried at once: one that the provider
    refuses is not saved, and `verified` says whether it was taken or the provider could not tell.

    From then on, within a second on every gateway, the provider's routes are called on this key first, and with
    `always_use` on no other; the models that the provider lists can be called as `provider/model-id`. Such calls cost
    nothing here. The key is sealed for the org and the provider's host, and never shown again.
    """
    chosen = takes_keys(_provider(app, provider))
    key = wanted.secret
    host = app.own_checks.host(chosen)
    check = app.own_checks.check_key(chosen, key)
    if check.verdict == "refused":
        raise Invalid("invalid_request", f"{chosen.name} does not take this key; it was not saved.", param="key")
    save_key(
        app.store,
        org=caller.org,
        provider=chosen.id,
        host=host,
        sealed=app.vault.seal(caller.org, key, bound_to=host),
        mask=mask_of(key),
        label=wanted.label,
        always_use=wanted.always_use,
        verified=check.verdict == "good",
        discovered=check.models,
        at=app.clock(),
        by=caller.by,
    )
    app.directory.catch_up()
    return key_row(_own(app, caller.org).key(chosen.id))


@router.post(
    "/{provider}/test",
    response_model=TestedOwnKey,
    responses=documented(*WHO, "not_found", "overloaded", "provider_not_configured"),
)
def test_own_key(provider: str, caller: AdminActor, app: Services) -> object:
    """Tries the saved key once more, and takes note of what the provider lists now."""
    saved = _own(app, caller.org).key(provider)
    chosen = _provider(app, provider)
    try:
        key = app.vault.open(caller.org, saved.sealed, bound_to=app.own_checks.host(chosen))
    except ValueError:  # the provider has moved to another host
        key = None
    check = None if key is None else app.own_checks.check_key(chosen, key)
    if check is None or check.verdict != "unsure":
        note_check(
            app.store,
            org=caller.org,
            provider=provider,
            sealed=saved.sealed,
            verified=check is not None and check.verdict == "good",
            discovered=() if check is None else check.models,
            at=app.clock(),
            by=caller.by,
        )
        app.directory.catch_up()
    good = check is not None and check.verdict == "good"
    return key_row(_own(app, caller.org).key(provider)) | {"ok": good}


@router.get("/{provider}/models", response_model=OwnModelList, responses=documented(*WHO, "not_found"))
async def list_own_models(provider: str, caller: MemberActor, app: Services) -> object:
    """The models that the key opens: those that the provider lists, and those of the catalog that it serves."""
    key = _own(app, caller.org).key(provider)
    return {"object": "list", "data": [model_row(provider, id) for id in models_of(key, app.catalog)]}


@router.delete("/{provider}", response_model=RemovedOwnKey, responses=documented(*WHO, "not_found"))
def delete_own_key(provider: str, caller: AdminActor, app: Services) -> object:
    """Forgets the key, within a second on every gateway. Calls in flight are finished."""
    remove_key(app.store, org=caller.org, provider=provider, at=app.clock(), by=caller.by)
    app.directory.catch_up()
    return {"provider": provider, "deleted": True}


def _own(app: App, org: str) -> Own:
    return app.directory.directory.own(org) or NOTHING_OWN


def _provider(app: App, id: str) -> Provider:
    provider = app.catalog.providers.get(id)
    if provider is None:
        raise NotFound(
            "not_found", f"There is no provider '{id}'. GET /v1/providers lists those there are.", param="provider"
        )
    return provider
