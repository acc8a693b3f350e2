"""Usage and activity as an org sees them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from api.errors import status_and_type
from api.schemas.money import Amount, show
from api.schemas.times import moment, show_day


class KeyUsage(BaseModel):
    id: str
    name: str
    today: Amount
    last_30d: Amount


class Usage(BaseModel):
    """Rupees spent today and in the last 30 days (India time), in all and by key."""

    today: Amount
    last_30d: Amount
    keys: list[KeyUsage]


class Sums(BaseModel):
    requests: int
    errors: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost_inr: Amount


class DailyModel(Sums):
    day: str
    model: str


class DailyUsage(BaseModel):
    object: str = "list"
    data: list[DailyModel]


class Totals(Sums):
    byok: int


class DaySums(Sums):
    day: str


class ModelSums(Sums):
    model: str


class KeySums(Sums):
    id: str
    name: str | None


class ModelProviderSums(Sums):
    model: str
    provider: str | None


class Filters(BaseModel):
    models: list[str]
    keys: list[str]
    workspaces: list[str]


class Activity(BaseModel):
    """`from` and `to` are days of India's calendar, both included."""

    range: dict[str, str]
    totals: Totals
    days: list[DaySums]
    top_models: list[ModelSums]
    top_keys: list[KeySums]
    model_providers: list[ModelProviderSums]
    filters: Filters


class ActivityEvent(BaseModel):
    id: int
    at: str
    request_id: str
    endpoint: str
    model: str
    provider: str | None
    status: int
    ending: str
    latency_ms: int
    duration_ms: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    cost_inr: Amount
    key_source: str
    key_id: str
    key_name: str | None
    workspace_id: str
    streamed: bool
    error_code: str | None = None


class ActivityEvents(BaseModel):
    events: list[ActivityEvent]
    next_before: str | None


def sums(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its sums as they are shown; what else it has stays."""
    shown = {name: value for name, value in row.items() if name not in ("cost", "day", "provider")}
    if "day" in row:
        shown["day"] = show_day(row["day"])
    if "provider" in row:
        shown["provider"] = row["provider"] or None
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    return shown | {"tokens": tokens, "cost_inr": show(row["cost"])}


def all_sums(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [sums(row) for row in rows]


def activity_event(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in ("cost", "first_byte_ms", "error_code", "own")}
    shown |= {
        "at": moment(row["at"]),
        "provider": row["provider"] or None,
        "status": status_and_type(row["error_code"])[0] if row["error_code"] else 200,
        "latency_ms": row["first_byte_ms"],
        "cost_inr": show(row["cost"]),
        "key_source": "own" if row["own"] else "platform",
    }
    return shown | ({"error_code": row["error_code"]} if row["error_code"] else {})
