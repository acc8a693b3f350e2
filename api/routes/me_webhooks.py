"""An org's webhooks: where it is told what happens, and what became of each notice."""

from typing import Annotated

from fastapi import APIRouter, Query
from msgspec import UNSET

from adapters.wiring import App
from api.caller import WHO, AdminActor, Services
from api.errors import documented
from api.schemas.webhooks import (
    DeliveryList,
    NewWebhook,
    QueuedDelivery,
    RemovedWebhook,
    WebhookList,
    WebhookPatch,
    WebhookRow,
    WebhookWithSecret,
    delivery_row,
    webhook_row,
)
from domain.kernel.errors import NotFound
from domain.webhooks.deliveries import SECRET_BYTES, ask_again, delivery_id, make_secret
from domain.webhooks.endpoints import (
    TYPES,
    Endpoint,
    add_endpoint,
    ask_test,
    change_endpoint,
    remove_endpoint,
    rotate_secret,
)
from projections import webhooks

router = APIRouter(tags=["Webhooks"])


@router.get("/me/webhooks", response_model=WebhookList, responses=documented(*WHO))
def list_webhooks(caller: AdminActor, app: Services) -> object:
    """All webhooks of the org, oldest first, those of its alerts included. Secrets are never shown again."""
    return {
        "object": "list",
        "data": [_row(app, caller.org, each) for each in app.webhooks_of(caller.org).by_id.values()],
    }


@router.post(
    "/me/webhooks",
    status_code=201,
    response_model=WebhookWithSecret,
    responses=documented(*WHO, "invalid_request", "address_refused", "webhook_limit"),
)
def add_webhook(wanted: NewWebhook, caller: AdminActor, app: Services) -> object:
    """Adds a URL that is POSTed to when something happens, signed as Standard Webhooks say
    (https://www.standardwebhooks.com), so that their libraries verify it. The reply is the only time that the secret is
    shown.

    Any 2xx within 10 seconds counts as delivered. Else it is tried again after 1, 5 and 30 minutes, 2 and 8 hours,
    under the same `webhook-id`; redirects are not followed. The URL must be https, at an address of the open
    internet."""
    url = app.egress.check_url(wanted.url)
    secret, endpoint = make_secret(app.entropy(SECRET_BYTES)), app.new_id("wh")
    add_endpoint(
        app.store,
        org=caller.org,
        endpoint=endpoint,
        url=app.vault.seal(caller.org, url),
        secret=app.vault.seal(caller.org, secret),
        types=[*TYPES] if wanted.events is None else wanted.events,
        endpoints_max=app.settings.webhooks_max,
        at=app.clock(),
        by=caller.by,
    )
    return _shown(app, caller.org, endpoint) | {"secret": secret}


@router.patch(
    "/me/webhooks/{id}",
    response_model=WebhookRow,
    responses=documented(*WHO, "invalid_request", "address_refused", "not_found"),
)
def change_webhook(id: str, wanted: WebhookPatch, caller: AdminActor, app: Services) -> object:
    """Changes what is given. What happens while it is not enabled is not sent later."""
    url = UNSET if wanted.url is None else app.vault.seal(caller.org, app.egress.check_url(wanted.url))
    change_endpoint(
        app.store,
        org=caller.org,
        endpoint=id,
        url=url,
        types=wanted.events,
        enabled=wanted.enabled,
        at=app.clock(),
        by=caller.by,
    )
    return _shown(app, caller.org, id)


@router.post("/me/webhooks/{id}/rotate", response_model=WebhookWithSecret, responses=documented(*WHO, "not_found"))
def rotate_webhook(id: str, caller: AdminActor, app: Services) -> object:
    """Gives it a new secret, shown this once. For 24 hours notices carry two signatures, by the new one and the one
    before."""
    secret = make_secret(app.entropy(SECRET_BYTES))
    sealed = app.vault.seal(caller.org, secret)
    rotate_secret(app.store, org=caller.org, endpoint=id, secret=sealed, at=app.clock(), by=caller.by)
    return _shown(app, caller.org, id) | {"secret": secret}


@router.delete("/me/webhooks/{id}", response_model=RemovedWebhook, responses=documented(*WHO, "not_found"))
def remove_webhook(id: str, caller: AdminActor, app: Services) -> object:
    """Nothing is sent to it any more, and its deliveries are not listed any more."""
    remove_endpoint(app.store, org=caller.org, endpoint=id, at=app.clock(), by=caller.by)
    return {"id": id, "deleted": True}


@router.post(
    "/me/webhooks/{id}/test",
    status_code=202,
    response_model=QueuedDelivery,
    responses=documented(*WHO, "not_found", "webhook_disabled", "rate_limit_exceeded"),
)
def test_webhook(id: str, caller: AdminActor, app: Services) -> object:
    """Sends a `webhook.test` within seconds, once; what came of it is in the list of deliveries."""
    app.webhooks_of(caller.org).enabled(id)
    position = ask_test(app.store, org=caller.org, endpoint=id, at=app.clock(), by=caller.by)
    return {"id": delivery_id(position=position, endpoint=id), "status": "pending"}


@router.get(
    "/me/webhooks/{id}/deliveries",
    response_model=DeliveryList,
    responses=documented(*WHO, "invalid_request", "not_found"),
)
def list_deliveries(
    id: str,
    caller: AdminActor,
    app: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**62, description="`next_before` of the page before")] = None,
) -> object:
    """What was sent to this webhook and is still to be sent, newest first."""
    app.webhooks_of(caller.org).endpoint(id)
    with app.reading() as connection:
        rows = webhooks.deliveries_of(connection, caller.org, id, before=before, limit=limit + 1)
    page = rows[:limit]
    return {
        "object": "list",
        "data": [delivery_row(row) for row in page],
        "next_before": str(page[-1]["position"]) if len(rows) > limit else None,
    }


@router.post(
    "/me/webhooks/{id}/deliveries/{delivery}/redeliver",
    status_code=202,
    response_model=QueuedDelivery,
    responses=documented(*WHO, "not_found", "webhook_disabled"),
)
def redeliver(id: str, delivery: str, caller: AdminActor, app: Services) -> object:
    """Sends it once more, under the same `webhook-id`, with as many attempts as at first."""
    app.webhooks_of(caller.org).enabled(id)
    with app.reading() as connection:
        known = webhooks.has_delivery(connection, caller.org, id, delivery)
    if not known:
        raise NotFound("not_found", "No such delivery; list them with GET …/deliveries.", param="delivery")
    ask_again(app.store, org=caller.org, endpoint=id, delivery=delivery, at=app.clock(), by=caller.by)
    return {"id": delivery, "status": "pending"}


def _shown(app: App, org: str, id: str) -> dict[str, object]:
    return _row(app, org, app.webhooks_of(org).endpoint(id))


def _row(app: App, org: str, endpoint: Endpoint) -> dict[str, object]:
    return webhook_row(endpoint, now=app.clock(), opened=lambda sealed: app.vault.open(org, sealed))
