"""Ephemeral keys: for minutes or hours in hands that should not have more, such as a browser's.

One lives by its parent: what the parent may not do (any more), it may not either, and what it spends the parent spends.
"""

from dataclasses import dataclass

import msgspec

from domain.accounts.org import check_limit
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Forbidden, Invalid
from domain.kernel.events import Event
from domain.kernel.ids import make_id
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import EphemeralKeyMinted
from domain.keys.key import PREFIX_LENGTH, check_models, key_digest

TTL_SECONDS_MIN, TTL_SECONDS_MAX = 10, 7_200
TTL_SECONDS = 600
ALLOWANCE_KEPT = DAY
"""How long the allowance of a key that has ended stays, for calls under way and for clocks that differ."""


class EphemeralTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Budget in nano-rupees, for the whole life of the key; None is no limit but the parent's, no `models` all that the
    parent may use."""

    ttl_seconds: int = TTL_SECONDS
    budget: int | None = None
    rpm_limit: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """`id` is empty until it is minted; `expires` in microseconds since 1970."""

    id: str = ""
    parent: str = ""
    prefix: str = ""
    digest: bytes = b""
    minted: int = 0
    expires: int = 0
    budget: int | None = None
    rpm_limit: int | None = None
    models: tuple[str, ...] = ()

    def evolve(self, stream: str, event: Event) -> "EphemeralKey":
        if not isinstance(event, EphemeralKeyMinted):
            return self
        return EphemeralKey(
            id=stream.removeprefix("ephemeral:"),
            parent=event.parent,
            prefix=event.prefix,
            digest=bytes.fromhex(event.digest),
            minted=event.at,
            expires=event.expires,
            budget=event.budget,
            rpm_limit=event.rpm_limit,
            models=event.models,
        )


def first_id(*, minted: int) -> str:
    """The least id of keys that were minted at that moment or later: ids sort by time."""
    return make_id("eph", at=minted, entropy=b"")


def mint_ephemeral_key(
    store: Store,
    *,
    key: str,
    secret: str,
    pepper: bytes,
    parent: str,
    parent_models: frozenset[str] | None,
    parent_expires: int | None,
    terms: EphemeralTerms,
    at: int,
) -> int:
    """Records the new key under its keyed hash, and returns when it expires: never after its parent.

    Whether the parent lives is for every call of it to see. Raises Invalid `invalid_request`, and Forbidden
    `forbidden_scope` for models that the parent may not use.
    """
    if not TTL_SECONDS_MIN <= terms.ttl_seconds <= TTL_SECONDS_MAX:
        raise Invalid(
            "invalid_request", f"ttl_seconds must be {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX}.", param="ttl_seconds"
        )
    models = check_models(terms.models)
    if parent_models is not None and (beyond := [model for model in models if model not in parent_models]):
        raise Forbidden("forbidden_scope", f"This key itself may not use '{beyond[0]}'.", param="models")
    expires = at + terms.ttl_seconds * SECOND
    if parent_expires is not None:
        expires = min(expires, parent_expires)
    minted = EphemeralKeyMinted(
        parent=parent,
        digest=key_digest(pepper, secret.encode()).hex(),
        prefix=secret[:PREFIX_LENGTH],
        expires=expires,
        budget=check_limit(terms.budget, param="budget_inr"),
        rpm_limit=check_limit(terms.rpm_limit, param="rpm_limit", least=1),
        models=models,
    )

    def decide(state: EphemeralKey) -> Decision:
        return [] if state.id else [(f"ephemeral:{key}", minted)]

    store.change(Change(f"ephemeral:{key}", EphemeralKey(), decide), at=at, by=f"key:{parent}")
    return expires
