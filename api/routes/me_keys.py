"""An org's keys."""

from typing import Any

from fastapi import APIRouter
from msgspec import UNSET

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.keys import CreatedKey, KeyList, KeyPatch, KeyRow, NewKey, Revoked, RotatedKey, Rotation, key_row
from api.schemas.times import moment
from domain.keys.key import SECRET_BYTES, make_secret
from domain.keys.service import KeyTerms, KeyWishes, mint_key, revoke_key, rotate_key, update_key
from projections import keys

router = APIRouter(tags=["Keys"])
IN_AN_HOUR = Rotation()


@router.get("/me/keys", response_model=KeyList, responses=documented(*WHO))
def list_keys(caller: MemberActor, app: Services) -> object:
    """All keys of the org in the order of their making, revoked ones included."""
    with app.reading() as connection:
        figures = {row["id"]: row for row in keys.keys_of(connection, caller.org, now=app.clock())}
    org = app.directory.directory.orgs[caller.org]
    listed = [key for key in org.keys.values() if key.tier != "agent"]
    return {"object": "list", "data": [key_row(org, key, figures.get(key.id)) for key in listed]}


@router.post(
    "/me/keys",
    status_code=201,
    response_model=CreatedKey,
    responses=documented(*WHO, "invalid_request", "duplicate_key_name", "key_limit", "trial_ceiling", "not_found"),
)
def create_key(wanted: NewKey, caller: AdminActor, app: Services) -> object:
    """Mints a key. The reply is the only time that it is shown; it works at once, on every gateway within a second.

    An org that never paid and has no balance gets a trial key: free, of scope `inference`, for the models that the
    operator opens to trials, 60 requests a minute and 200 a day for all trial keys together. With the first credit it
    becomes a standard key."""
    trial = app.trial_for(caller.org)
    secret = make_secret(app.entropy(SECRET_BYTES), kind="" if trial is None else "trial-")
    key = app.new_id("key")
    mint_key(
        app.store,
        org=caller.org,
        key=key,
        secret=secret,
        pepper=app.pepper,
        terms=KeyTerms(
            name=wanted.name,
            scope=wanted.scope if trial is None or "scope" in wanted.model_fields_set else "inference",
            workspace=wanted.workspace_id,
            monthly_budget=wanted.budget_inr,
            rpm_limit=wanted.rpm_limit,
            daily_limit=wanted.daily_limit,
            expires_days=wanted.expires_days,
            models=tuple(wanted.models or ()),
        ),
        active_max=app.settings.keys_max,
        at=app.clock(),
        by=caller.by,
        trial=trial,
    )
    app.directory.catch_up()
    return {"key": secret} | _row(app, caller.org, key)


@router.patch(
    "/me/keys/{id}",
    response_model=KeyRow,
    responses=documented(*WHO, "invalid_request", "duplicate_key_name", "trial_ceiling", "not_found"),
)
def change_key(id: str, wanted: KeyPatch, caller: AdminActor, app: Services) -> object:
    """Changes what is given; null lifts a limit. In force within a second on every gateway. A budget below what is
    spent already is taken: it refuses all that would come on top."""
    given = wanted.model_fields_set
    update_key(
        app.store,
        org=caller.org,
        key=id,
        wishes=KeyWishes(
            name=wanted.name if "name" in given else UNSET,
            monthly_budget=wanted.monthly_budget if "monthly_budget" in given else UNSET,
            rpm_limit=wanted.rpm_limit if "rpm_limit" in given else UNSET,
            daily_limit=wanted.daily_limit if "daily_limit" in given else UNSET,
            models=tuple(wanted.models or ()) if "models" in given else UNSET,
            disabled=wanted.disabled if "disabled" in given else UNSET,
        ),
        at=app.clock(),
        by=caller.by,
    )
    app.directory.catch_up()
    return _row(app, caller.org, id)


@router.post(
    "/me/keys/{id}/rotate", response_model=RotatedKey, responses=documented(*WHO, "invalid_request", "not_found")
)
def rotate(id: str, caller: AdminActor, app: Services, wanted: Rotation = IN_AN_HOUR) -> object:
    """Gives the key a new secret, shown this once; the one before it stays good for `grace_minutes`, 0 to 1,440. Id,
    limits, budget and usage go on, and both secrets count against the same limits."""
    key = app.directory.directory.orgs[caller.org].key(id)
    secret = make_secret(app.entropy(SECRET_BYTES), kind="trial-" if key.tier == "trial" else "")
    until = rotate_key(
        app.store,
        org=caller.org,
        key=id,
        secret=secret,
        pepper=app.pepper,
        grace_minutes=wanted.grace_minutes,
        at=app.clock(),
        by=caller.by,
    )
    app.directory.catch_up()
    return {"key": secret, "old_key_expires_at": moment(until)} | _row(app, caller.org, id)


@router.delete("/me/keys/{id}", response_model=Revoked, responses=documented(*WHO, "not_found"))
def delete_key(id: str, caller: AdminActor, app: Services) -> object:
    """Revokes the key for good, within a second on every gateway. Calls that it has in flight are finished. A repeat is
    harmless."""
    revoke_key(app.store, org=caller.org, key=id, reason="deleted", at=app.clock(), by=caller.by)
    app.directory.catch_up()
    revoked = app.directory.directory.orgs[caller.org].key(id).revoked
    assert revoked is not None, f"{id} was revoked a moment ago"
    return {"id": id, "deleted": True, "revoked_at": moment(revoked)}


def _row(app: App, org: str, key: str) -> dict[str, Any]:
    with app.reading() as connection:
        figures = keys.key_row(connection, org, key, now=app.clock())
    state = app.directory.directory.orgs[org]
    return key_row(state, state.key(key), figures)
