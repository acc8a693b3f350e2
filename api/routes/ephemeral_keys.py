"""Keys for a short while, minted by a key."""

from fastapi import APIRouter, Depends, Request

from api.caller import Services, StandardKeyCaller
from api.errors import documented
from api.inference import limits_of, require_room
from api.schemas.keys import EphemeralKeyMade, NewEphemeralKey
from api.schemas.times import moment
from domain.kernel.errors import Invalid
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.key import SECRET_BYTES, make_secret

router = APIRouter(tags=["Keys"])


async def within_limits(caller: StandardKeyCaller, app: Services, request: Request) -> None:
    """A mint is a call: it counts in the windows of its key."""
    limits, gateway = limits_of(caller, app.settings.gateway_rpm), request.app.state.gateway
    if limits and gateway is not None:
        require_room(await gateway.rates.take(*limits), caller)


@router.post(
    "/v1/ephemeral_keys",
    status_code=201,
    dependencies=[Depends(within_limits)],
    response_model=EphemeralKeyMade,
    responses=documented("invalid_request", "invalid_api_key", "forbidden_scope", "key_limit", "ledger_unavailable"),
)
def create_ephemeral_key(wanted: NewEphemeralKey, caller: StandardKeyCaller, app: Services) -> object:
    """Mints a key that calls models for minutes or hours, to be given to a browser or a device. It spends the budget of
    the key that mints it, and its own if it has one; counts against that key's limits; and ends with that key at the
    latest. Only a standard key can mint."""
    if app.directory.directory.children(caller.key_id) >= app.settings.ephemeral_keys_max:
        raise Invalid(
            "key_limit",
            f"This key has {app.settings.ephemeral_keys_max} ephemeral keys already; wait until some have expired.",
        )
    secret, key = make_secret(app.entropy(SECRET_BYTES), kind="eph-"), app.new_id("eph")
    expires = mint_ephemeral_key(
        app.store,
        key=key,
        secret=secret,
        pepper=app.pepper,
        parent=caller.key_id,
        parent_models=caller.models,
        parent_expires=caller.expires,
        terms=EphemeralTerms(
            ttl_seconds=wanted.ttl_seconds,
            budget=wanted.budget_inr,
            rpm_limit=wanted.rpm_limit,
            models=tuple(wanted.models or ()),
        ),
        at=app.clock(),
    )
    app.directory.catch_up()
    return {"key": secret, "id": key, "expires_at": moment(expires)}
