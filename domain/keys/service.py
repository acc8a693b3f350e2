"""What can be done with keys: mint, change, revoke. Each function decides on the org as a whole and appends once."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from domain.accounts.org import Org, check_limit, clean_name, require_org
from domain.kernel.clock import DAY
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import (
    KeyDisabled,
    KeyEnabled,
    KeyLimitsChanged,
    KeyMinted,
    KeyModelsChanged,
    KeyRenamed,
    KeyRevoked,
)
from domain.keys.key import PREFIX_LENGTH, SCOPES, Key, key_digest

EXPIRY_DAYS_MAX = 365
MODELS_MAX = 100
MODEL_LENGTH_MAX = 200


class KeyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key may do. Budget in nano-rupees; None is no limit; no `workspace` is the default one; no `models`
    is all."""

    name: str
    scope: str = "full"
    workspace: str | None = None
    monthly_budget: int | None = None
    rpm_limit: int | None = None
    daily_limit: int | None = None
    expires_days: int | None = None
    models: tuple[str, ...] = ()


class KeyWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a key; what is left out stays. None lifts a limit."""

    name: str | UnsetType = UNSET
    monthly_budget: int | UnsetType | None = UNSET
    rpm_limit: int | UnsetType | None = UNSET
    daily_limit: int | UnsetType | None = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


def mint_key(
    store: Store,
    *,
    org: str,
    key: str,
    secret: str,
    pepper: bytes,
    terms: KeyTerms,
    active_max: int,
    at: int,
    by: str,
    replacing: str | None = None,
) -> int | None:
    """Records the new key under its keyed hash; the active key named `replacing`, if there is one, is revoked with it.

    A repeat with the same id changes nothing. Raises Invalid `key_limit`, `duplicate_key_name` or `invalid_request`,
    and NotFound where the org or workspace is unknown.
    """

    def decide(state: Org) -> Decision:
        require_org(state)
        if key in state.keys:
            return []
        old = [other for other in state.active_keys(at) if other.name == replacing]
        active = [other for other in state.active_keys(at) if other not in old]
        if len(active) >= active_max:
            raise Invalid("key_limit", f"An org has at most {active_max} active keys; revoke one you no longer need.")
        minted = KeyMinted(
            org=org,
            workspace=_workspace(state, terms.workspace),
            name=_free_name(active, terms.name),
            prefix=secret[:PREFIX_LENGTH],
            digest=key_digest(pepper, secret.encode()).hex(),
            scope=_scope(terms.scope),
            monthly_budget=check_limit(terms.monthly_budget, param="budget_inr"),
            rpm_limit=check_limit(terms.rpm_limit, param="rpm_limit", least=1),
            daily_limit=check_limit(terms.daily_limit, param="daily_limit"),
            expires=_expiry(terms.expires_days, at=at),
            models=_models(terms.models),
        )
        revoked = [(f"key:{other.id}", KeyRevoked(org=org, reason="replaced")) for other in old]
        return [*revoked, (f"key:{key}", minted)]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def update_key(store: Store, *, org: str, key: str, wishes: KeyWishes, at: int, by: str) -> int | None:
    """Changes what is asked for. A budget below what is used already is taken, and only refuses further holds.

    Raises NotFound for an unknown or revoked key, Invalid `duplicate_key_name` or `invalid_request`.
    """

    def decide(state: Org) -> Decision:
        now = state.key(key)
        if now.revoked is not None:
            raise NotFound("not_found", "This key is revoked and cannot be changed; mint another.", param="id")
        others = [other for other in state.active_keys(at) if other.id != key]
        facts: list[Event] = []
        if wishes.name is not UNSET and (name := _free_name(others, wishes.name)) != now.name:
            facts.append(KeyRenamed(org=org, name=name))
        facts += _limit_changes(now, wishes)
        if wishes.models is not UNSET and (models := _models(wishes.models)) != now.models:
            facts.append(KeyModelsChanged(org=org, models=models))
        if wishes.disabled is not UNSET and wishes.disabled != now.disabled:
            facts.append(KeyDisabled(org=org) if wishes.disabled else KeyEnabled(org=org))
        return [(f"key:{key}", fact) for fact in facts]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def revoke_key(store: Store, *, org: str, key: str, reason: str, at: int, by: str) -> int | None:
    """Ends the key for good; a repeat changes nothing. Raises NotFound where the org never had such a key."""

    def decide(state: Org) -> Decision:
        return [] if state.key(key).revoked is not None else [(f"key:{key}", KeyRevoked(org=org, reason=reason))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def _limit_changes(now: Key, wishes: KeyWishes) -> list[Event]:
    budget = now.monthly_budget if wishes.monthly_budget is UNSET else wishes.monthly_budget
    rpm = now.rpm_limit if wishes.rpm_limit is UNSET else wishes.rpm_limit
    daily = now.daily_limit if wishes.daily_limit is UNSET else wishes.daily_limit
    if (budget, rpm, daily) == (now.monthly_budget, now.rpm_limit, now.daily_limit):
        return []
    return [
        KeyLimitsChanged(
            org=now.org,
            monthly_budget=check_limit(budget, param="monthly_budget"),
            rpm_limit=check_limit(rpm, param="rpm_limit", least=1),
            daily_limit=check_limit(daily, param="daily_limit"),
        )
    ]


def _free_name(others: Sequence[Key], name: str) -> str:
    name = clean_name(name)
    if any(other.name == name for other in others):
        raise Invalid(
            "duplicate_key_name", f"An active key is called {name!r} already; choose another name.", param="name"
        )
    return name


def _workspace(state: Org, wanted: str | None) -> str:
    return state.default_workspace.id if wanted is None else state.workspace(wanted).id


def _scope(scope: str) -> str:
    if scope not in SCOPES:
        raise Invalid("invalid_request", f"scope must be one of {', '.join(SCOPES)}.", param="scope")
    return scope


def _expiry(days: int | None, *, at: int) -> int | None:
    if days is None:
        return None
    if not 1 <= days <= EXPIRY_DAYS_MAX:
        raise Invalid("invalid_request", f"expires_days must be 1 to {EXPIRY_DAYS_MAX}, or null.", param="expires_days")
    return at + days * DAY


def _models(models: tuple[str, ...]) -> tuple[str, ...]:
    if len(models) > MODELS_MAX or any(not 1 <= len(model) <= MODEL_LENGTH_MAX for model in models):
        raise Invalid(
            "invalid_request",
            f"models takes at most {MODELS_MAX} model ids of 1 to {MODEL_LENGTH_MAX} characters; none means all.",
            param="models",
        )
    return tuple(dict.fromkeys(models))
