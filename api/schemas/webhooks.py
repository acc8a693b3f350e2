"""Webhooks and their deliveries as callers write and read them."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.times import moment, moment_optional
from domain.webhooks.endpoints import Endpoint


class NewWebhook(BaseModel):
    """`events` are some of `balance.low`, `budget.reached`, `receipt.issued`, `alert.breached`, `alert.recovered`; all
    of them unless given."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"url": "https://hooks.example.com/br", "events": ["balance.low"]}},
    )

    url: str
    events: list[str] | None = None


class WebhookPatch(BaseModel):
    """What is not given stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    url: str | None = None
    events: list[str] | None = None
    enabled: bool | None = None


class WebhookRow(BaseModel):
    """`alert_id` where it belongs to an alert of a collection, and is told of that alone. `disabled_reason` is `asked`,
    `gone` (it answered 410) or `failing` (nothing was delivered for five days)."""

    object: str = "webhook"
    id: str
    url: str | None
    events: list[str]
    alert_id: str | None
    enabled: bool
    disabled_reason: str | None
    created_at: str
    old_secret_until: str | None = Field(description="Until then, notices are signed with the secret before, too")


class WebhookWithSecret(WebhookRow):
    """`secret` is shown this once."""

    secret: str = Field(description="Begins with `whsec_`", json_schema_extra={"example": "whsec_MfKQ9r8GKYqrTwjU…"})


class WebhookList(BaseModel):
    object: str = "list"
    data: list[WebhookRow]


class RemovedWebhook(BaseModel):
    id: str
    deleted: bool = True


class QueuedDelivery(BaseModel):
    """It is in the list of deliveries a moment later; `id` is its `webhook-id`."""

    id: str
    status: str = "pending"


class DeliveryRow(BaseModel):
    """`status` is `pending`, `delivered` or `failed`; `problem` is that of the last attempt. `data` is what the notice
    tells; `created_at` its `timestamp`."""

    object: str = "webhook_delivery"
    id: str
    type: str
    status: str
    attempts: int
    response_code: int | None
    problem: str | None
    created_at: str
    last_attempt_at: str | None
    next_attempt_at: str | None
    data: dict[str, Any]


class DeliveryList(BaseModel):
    object: str = "list"
    data: list[DeliveryRow]
    next_before: str | None


def webhook_row(endpoint: Endpoint, *, now: int, opened: Callable[[str], str | None]) -> dict[str, Any]:
    """`opened` reads what is sealed for the org."""
    return {
        "object": "webhook",
        "id": endpoint.id,
        "url": opened(endpoint.url),
        "events": list(endpoint.types),
        "alert_id": endpoint.alert or None,
        "enabled": not endpoint.disabled,
        "disabled_reason": endpoint.disabled or None,
        "created_at": moment(endpoint.created),
        "old_secret_until": moment(endpoint.old_until) if now < endpoint.old_until else None,
    }


def delivery_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` is one of `projections.webhooks`."""
    return {
        "object": "webhook_delivery",
        "id": row["delivery"],
        "type": row["type"],
        "status": row["status"],
        "attempts": row["attempts"],
        "response_code": row["response_code"],
        "problem": row["problem"] or None,
        "created_at": moment(row["at"]),
        "last_attempt_at": moment_optional(row["tried_at"]),
        "next_attempt_at": moment_optional(row["next_at"]),
        "data": row["data"],
    }
