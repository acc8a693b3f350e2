"""Keys as callers write and read them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas.money import Amount, Rupees, show, show_optional
from api.schemas.times import moment, moment_optional
from domain.accounts.org import Org
from domain.keys.ephemeral import TTL_SECONDS, EphemeralKey
from domain.keys.key import Key
from domain.keys.trial import Trial

Count = Annotated[int, Field(strict=True)]


class NewKey(BaseModel):
    """What a new key may do; what is left out is without limit."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "ci", "budget_inr": 50, "daily_limit": 1000}}
    )

    name: str
    scope: str = "full"
    workspace_id: str | None = None
    budget_inr: Rupees | None = None
    monthly_budget: Rupees | None = Field(None, description="The same as `budget_inr`")
    rpm_limit: Count | None = None
    daily_limit: Count | None = None
    expires_days: Count | None = None
    models: list[str] | None = Field(None, description="Only these models; null or empty for all")

    _one_budget = model_validator(mode="before")(lambda given: _same_budget(given, into="budget_inr"))


class KeyPatch(BaseModel):
    """What to change; null lifts a limit, what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"monthly_budget": 100, "disabled": False}})

    name: str = ""
    monthly_budget: Rupees | None = None
    budget_inr: Rupees | None = Field(None, description="The same as `monthly_budget`")
    rpm_limit: Count | None = None
    daily_limit: Count | None = None
    models: list[str] | None = None
    disabled: bool = False

    _one_budget = model_validator(mode="before")(lambda given: _same_budget(given, into="monthly_budget"))


class Rotation(BaseModel):
    """How long the secret before the new one stays good."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"grace_minutes": 60}})

    grace_minutes: Count = 60


class NewEphemeralKey(BaseModel):
    """What the key may do, for so many seconds; what is left out is bounded by the key that mints it alone."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"ttl_seconds": 600, "budget_inr": 5}})

    ttl_seconds: Count = TTL_SECONDS
    budget_inr: Rupees | None = Field(None, description="For the whole life of the key")
    models: list[str] | None = Field(None, description="Only these models; null or empty for all of the minting key")
    rpm_limit: Count | None = None


class EphemeralKeyMade(BaseModel):
    key: str = Field(description="The key itself, shown this once")
    id: str
    expires_at: str


class NewAgent(BaseModel):
    """Whose tokens are taken, and what they may do; what is left out is without limit."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "support bot", "value": "support-bot", "budget_inr": 500}},
    )

    name: str
    value: str = Field(description="What the claim must be in the agent's tokens")
    claim: str = "sub"
    workspace_id: str | None = None
    budget_inr: Rupees | None = None
    monthly_budget: Rupees | None = Field(None, description="The same as `budget_inr`")
    rpm_limit: Count | None = None
    daily_limit: Count | None = None
    models: list[str] | None = Field(None, description="Only these models; null or empty for all")

    _one_budget = model_validator(mode="before")(lambda given: _same_budget(given, into="budget_inr"))


class AgentRow(BaseModel):
    id: str
    name: str
    claim: str
    value: str
    workspace_id: str
    rpm_limit: int | None
    daily_limit: int | None
    monthly_budget: Amount | None
    spent_month_inr: Amount
    held_inr: Amount
    models: list[str] | None
    last_used_at: str | None
    created_at: str
    deleted_at: str | None


class AgentList(BaseModel):
    object: str = "list"
    data: list[AgentRow]


class AgentDeleted(BaseModel):
    id: str
    deleted: bool = True
    deleted_at: str


class KeyRow(BaseModel):
    id: str
    name: str
    prefix: str
    tier: str = Field(description="`standard`, `trial`, `ephemeral` or `agent`")
    scope: str
    workspace_id: str
    rpm_limit: int | None
    daily_limit: int | None
    monthly_budget: Amount | None
    spent_month_inr: Amount
    held_inr: Amount
    models: list[str] | None
    disabled: bool
    expires_at: str | None
    last_used_at: str | None
    created_at: str
    revoked_at: str | None


class CreatedKey(KeyRow):
    key: str = Field(description="The key itself, shown this once")


class RotatedKey(CreatedKey):
    old_key_expires_at: str = Field(description="Until then the secret before this one opens the key too")


class KeyList(BaseModel):
    object: str = "list"
    data: list[KeyRow]


class Left(BaseModel):
    """What the key can still do: calls today, and rupees by each budget and by the balance. Null is without limit."""

    daily_calls: int | None
    monthly_budget_inr: Amount | None
    workspace_budget_inr: Amount | None
    balance_inr: Amount


class OwnKey(KeyRow):
    left: Left


class Revoked(BaseModel):
    id: str
    deleted: bool = True
    revoked_at: str


def key_row(org: Org, key: Key, figures: dict[str, Any] | None) -> dict[str, Any]:
    """`figures` are the row of the key in the read model, which may not know it yet. The limits of a trial key are
    those of the trial where it has no lower ones."""
    known, tier = figures or {}, org.tier_of(key)
    trial = org.trial if tier == "trial" else Trial()
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "tier": tier,
        "scope": key.scope,
        "workspace_id": key.workspace,
        "rpm_limit": trial.rpm_limit if key.rpm_limit is None else key.rpm_limit,
        "daily_limit": trial.daily_limit if key.daily_limit is None else key.daily_limit,
        "monthly_budget": show_optional(key.monthly_budget),
        "spent_month_inr": show(known.get("spent_month", 0)),
        "held_inr": show(known.get("held", 0)),
        "models": list(key.models) or None,
        "disabled": key.disabled,
        "expires_at": moment_optional(key.expires),
        "last_used_at": moment_optional(known.get("last_used_at")),
        "created_at": moment(key.created),
        "revoked_at": moment_optional(key.revoked),
    }


def ephemeral_row(child: EphemeralKey) -> dict[str, Any]:
    """What differs between the row of an ephemeral key and that of the key that it spends by."""
    return {
        "id": child.id,
        "prefix": child.prefix,
        "tier": "ephemeral",
        "scope": "inference",
        "rpm_limit": child.rpm_limit,
        "monthly_budget": show_optional(child.budget),
        "models": list(child.models) or None,
        "expires_at": moment(child.expires),
        "created_at": moment(child.minted),
    }


def agent_row(org: Org, key: Key, figures: dict[str, Any] | None) -> dict[str, Any]:
    """An agent as the key that it is."""
    row = key_row(org, key, figures) | {"claim": key.claim, "value": key.subject}
    return {**row, "deleted_at": row["revoked_at"]}


def _same_budget(given: Any, *, into: str) -> Any:
    """`budget_inr` and `monthly_budget` are one field with two names; both at once must agree."""
    if not isinstance(given, dict):
        return given
    named = [name for name in ("budget_inr", "monthly_budget") if name in given]
    if len(named) == 2 and given["budget_inr"] != given["monthly_budget"]:
        raise ValueError("budget_inr and monthly_budget are the same; give one of them")
    rest = {name: value for name, value in given.items() if name not in named}
    return {**rest, into: given[named[0]]} if named else rest
