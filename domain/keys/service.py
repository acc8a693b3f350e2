"""What can be done with keys: mint, change, rotate, revoke. Each function decides on the org as a whole, and takes an
admin of it at that very moment (Forbidden `forbidden_role`).
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from domain.accounts.org import Org, check_limit, clean_name, require_org
from domain.accounts.roles import require_role
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store, fold
from domain.keys.events import (
    KeyDisabled,
    KeyEnabled,
    KeyLimitsChanged,
    KeyMinted,
    KeyModelsChanged,
    KeyRenamed,
    KeyRevoked,
    KeyRotated,
    TrialBegan,
)
from domain.keys.key import PREFIX_LENGTH, SCOPES, Key, check_models, key_digest
from domain.keys.trial import TrialTerms, check_ceiling, check_trial_models, end_overtaken_trial, trial_stream

EXPIRY_DAYS_MAX = 365
GRACE_MINUTES_MAX = 1_440


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
    trial: TrialTerms | None = None,
) -> int | None:
    """Records the new key under its keyed hash; the active key named `replacing`, if there is one, is revoked with it.

    It gets the role that `by` has in the org. With `trial` it is a trial key unless the org had its trial; the first
    begins it.
    A repeat with the same id changes nothing. Raises Invalid `key_limit`, `duplicate_key_name`, `trial_ceiling` or
    `invalid_request`, Forbidden `forbidden_role` where `by` is no admin, and NotFound where the org or workspace is
    unknown.
    """

    def decide(state: Org) -> Decision:
        require_org(state)
        if key in state.keys:
            return []
        role = require_role(state.role_of(by), "admin")
        old = [other for other in state.active_keys(at) if other.name == replacing]
        active = [other for other in state.active_keys(at) if other not in old]
        began = [] if trial is None else _begin_trial(state, trial)
        on_trial = fold(state.trial, began)
        if trial is not None and on_trial.running:
            check_ceiling(on_trial, rpm_limit=terms.rpm_limit, daily_limit=terms.daily_limit)
            if terms.scope == "full":
                raise Invalid("trial_ceiling", "A trial key has scope 'inference'; add credit first.", param="scope")
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
            models=check_models(terms.models),
            role=role,
            minter=state.person_behind(by),
            tier="trial" if trial is not None and on_trial.running else "standard",
        )
        revoked = [(f"key:{other.id}", KeyRevoked(org=org, reason="replaced")) for other in old]
        return [*revoked, *began, (f"key:{key}", minted)]

    position = store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)
    if trial is not None:
        end_overtaken_trial(store, org=org, at=at, by=by)
    return position


def update_key(store: Store, *, org: str, key: str, wishes: KeyWishes, at: int, by: str) -> int | None:
    """Changes what is asked for. A budget below what is used already is taken, and only refuses further holds.

    Raises NotFound for an unknown or revoked key, Invalid `duplicate_key_name` or `invalid_request`.
    """

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        now = state.key(key)
        if now.revoked is not None:
            raise NotFound("not_found", "This key is revoked and cannot be changed; mint another.", param="id")
        others = [other for other in state.active_keys(at) if other.id != key]
        facts: list[Event] = []
        if wishes.name is not UNSET and (name := _free_name(others, wishes.name)) != now.name:
            facts.append(KeyRenamed(org=org, name=name))
        facts += _limit_changes(now, wishes)
        if state.tier_of(now) == "trial":
            given = (None if limit is UNSET else limit for limit in (wishes.rpm_limit, wishes.daily_limit))
            rpm_limit, daily_limit = given
            check_ceiling(state.trial, rpm_limit=rpm_limit, daily_limit=daily_limit)
        if wishes.models is not UNSET and (models := check_models(wishes.models)) != now.models:
            facts.append(KeyModelsChanged(org=org, models=models))
        if wishes.disabled is not UNSET and wishes.disabled != now.disabled:
            facts.append(KeyDisabled(org=org) if wishes.disabled else KeyEnabled(org=org))
        return [(f"key:{key}", fact) for fact in facts]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def rotate_key(
    store: Store, *, org: str, key: str, secret: str, pepper: bytes, grace_minutes: int, at: int, by: str
) -> int:
    """Gives the key a new secret; the one before it is good for so many minutes more. Returns until when, in
    microseconds since 1970. All else of the key goes on, and both secrets count against its limits.

    Raises NotFound for a key that is unknown, revoked, expired or an agent's, and Invalid `invalid_request`.
    """
    if not 0 <= grace_minutes <= GRACE_MINUTES_MAX:
        raise Invalid("invalid_request", f"grace_minutes must be 0 to {GRACE_MINUTES_MAX}.", param="grace_minutes")
    until = at + grace_minutes * 60 * SECOND
    digest = key_digest(pepper, secret.encode()).hex()

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        now = state.key(key)
        if not now.active(at) or not now.digest:
            raise NotFound("not_found", "This key is over, or has no secret; mint another.", param="id")
        if now.digest == digest:
            return []
        rotated = KeyRotated(
            org=org, prefix=secret[:PREFIX_LENGTH], digest=digest, old_digest=now.digest, old_until=until
        )
        return [(f"key:{key}", rotated)]

    store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)
    return until


def revoke_key(store: Store, *, org: str, key: str, reason: str, at: int, by: str) -> int | None:
    """Ends the key for good; a repeat changes nothing. Raises NotFound where the org never had such a key."""

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        return [] if state.key(key).revoked is not None else [(f"key:{key}", KeyRevoked(org=org, reason=reason))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def _begin_trial(state: Org, terms: TrialTerms) -> list[tuple[str, Event]]:
    """The fact that begins the org's trial, unless it has begun or is over. Raises Invalid `trial_ceiling`."""
    if state.trial.ended:
        return []
    check_trial_models(terms.models)
    if state.trial.running:
        return []
    began = TrialBegan(org=state.id, rpm_limit=terms.rpm_limit, daily_limit=terms.daily_limit)
    return [(trial_stream(state.id), began)]


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
