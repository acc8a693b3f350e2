"""Monitoring of collections as callers write and read it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.times import moment
from domain.kernel.errors import Invalid
from domain.monitoring.alerts import ALL_PPM
from domain.monitoring.events import Metric, Ping
from domain.monitoring.monitors import WINDOW_MINUTES_DEFAULT, Alert

_THRESHOLD = "Of `error_rate` a share, above 0 and at most 1; of `latency_p95` whole milliseconds"


class Monitored(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"monitored": True}})

    monitored: bool


class RouteRow(BaseModel):
    model: str
    provider: str | None = Field(description="Null where no route could be chosen")
    uptime: float = Field(description="Share of checks that were answered, 0 to 1")
    p95_ms: int | None = Field(description="95 of 100 answers came within; off by a sixteenth at most")
    checks: int
    last_check: str


class MonitorHealth(BaseModel):
    monitored: bool
    paused: Literal["no_credit", "daily_limit"] | None = Field(
        description="Why there are no checks at the moment: the org has no credit, or the day's checks are used up"
    )
    health: list[RouteRow]


class CheckedStep(BaseModel):
    step: int = Field(description="Counts from 0")
    model: str
    provider: str | None
    answered: bool
    end: str = Field(description="`answered`, `no_route`, or how it failed, as in the attempts of requests")
    status: int | None
    latency_ms: int


class CheckResult(BaseModel):
    checked_at: str
    steps: list[CheckedStep]


class NewAlert(BaseModel):
    """Tells when a figure reaches its threshold, and when it is below again."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"metric": "error_rate", "threshold": 0.5, "email": "asha@example.com"}},
    )

    metric: Metric
    threshold: Decimal = Field(description=_THRESHOLD)
    window_minutes: int = Field(default=WINDOW_MINUTES_DEFAULT, description="15 to 1440")
    step: int | None = Field(default=None, description="Counts from 0; null looks at all steps")
    email: str | None = Field(default=None, description="A member of the org")
    webhook_url: str | None = None


class AlertRow(BaseModel):
    object: str = "alert"
    id: str
    metric: Metric
    threshold: float = Field(description=_THRESHOLD)
    window_minutes: int
    step: int | None
    email: str | None = Field(description="Null also when that person is no member any more")
    webhook_url: str | None
    state: Literal["ok", "breached"] = Field(description="What was told last")
    created_at: str


class MadeAlert(AlertRow):
    webhook_secret: str | None = Field(description="What notices are signed with, by Standard Webhooks; shown once")


class AlertList(BaseModel):
    object: str = "list"
    data: list[AlertRow]


class DeletedAlert(BaseModel):
    id: str
    deleted: bool = True


def threshold_of(metric: Metric, given: Decimal) -> int:
    """Millionths of a share, or milliseconds. Raises Invalid for more decimals than that has."""
    whole = given * ALL_PPM if metric == "error_rate" else given
    if not whole.is_finite() or whole != whole.to_integral_value() or abs(whole) > ALL_PPM:
        raise Invalid("invalid_request", f"'threshold': {_THRESHOLD[0].lower()}{_THRESHOLD[1:]}.", param="threshold")
    return int(whole)


def alert_row(alert: Alert, *, email: str | None, webhook_url: str | None, breached: bool) -> dict[str, Any]:
    return {
        "object": "alert",
        "id": alert.id,
        "metric": alert.metric,
        "threshold": alert.threshold / ALL_PPM if alert.metric == "error_rate" else alert.threshold,
        "window_minutes": alert.window_minutes,
        "step": alert.step,
        "email": email,
        "webhook_url": webhook_url,
        "state": "breached" if breached else "ok",
        "created_at": moment(alert.created),
    }


def check_result(pings: Sequence[Ping], *, at: int) -> dict[str, Any]:
    return {
        "checked_at": moment(at),
        "steps": [
            {
                "step": ping.step,
                "model": ping.model,
                "provider": ping.provider or None,
                "answered": ping.answered,
                "end": ping.end,
                "status": ping.status or None,
                "latency_ms": ping.milliseconds,
            }
            for ping in pings
        ],
    }
