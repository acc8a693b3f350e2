"""An API key as its facts make it, and the pure rules of its form. The key itself is shown once and kept nowhere."""

import hmac
from dataclasses import dataclass, replace
from typing import Literal

from domain.accounts.events import Role
from domain.kernel.errors import Invalid
from domain.kernel.events import Event
from domain.keys.events import (
    KeyDisabled,
    KeyEnabled,
    KeyLimitsChanged,
    KeyMinted,
    KeyModelsChanged,
    KeyMoved,
    KeyRenamed,
    KeyRevoked,
    KeyRotated,
    Tier,
)

SECRET_BYTES = 24
PREFIX_LENGTH = 12
SCOPES = ("full", "inference")
MODELS_MAX = 100
MODEL_LENGTH_MAX = 200
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Key:
    """Budget in nano-rupees; moments in microseconds since 1970, None where they have not come; no `models` is all.

    `role` is what a key of full scope was minted with, `minter` the person behind it: see `Org.role_of`. `former` are
    the digests of secrets before the present one, each with the moment until which it opens the key. A trial key is one
    while the trial of its org runs: see `Trial`. The key of an agent has a `claim` and its `subject` in place of a
    secret."""

    id: str
    org: str
    workspace: str
    name: str
    prefix: str
    digest: str
    scope: str
    created: int
    monthly_budget: int | None = None
    rpm_limit: int | None = None
    daily_limit: int | None = None
    expires: int | None = None
    models: tuple[str, ...] = ()
    disabled: bool = False
    revoked: int | None = None
    role: Role = "owner"
    minter: str = ""
    tier: Tier = "standard"
    claim: str = ""
    subject: str = ""
    former: tuple[tuple[str, int], ...] = ()

    def active(self, at: int) -> bool:
        """Neither revoked nor expired; a disabled key is active, since it can be enabled at any time."""
        return self.revoked is None and (self.expires is None or self.expires > at)

    def evolve(self, event: Event) -> "Key":
        match event:
            case KeyRenamed():
                return replace(self, name=event.name)
            case KeyLimitsChanged():
                return replace(
                    self,
                    monthly_budget=event.monthly_budget,
                    rpm_limit=event.rpm_limit,
                    daily_limit=event.daily_limit,
                )
            case KeyModelsChanged():
                return replace(self, models=event.models)
            case KeyDisabled():
                return replace(self, disabled=True)
            case KeyEnabled():
                return replace(self, disabled=False)
            case KeyMoved():
                return replace(self, workspace=event.workspace)
            case KeyRotated():
                living = [(digest, until) for digest, until in self.former if until > event.at]
                return replace(
                    self,
                    prefix=event.prefix,
                    digest=event.digest,
                    former=(*living, (event.old_digest, event.old_until)),
                )
            case KeyRevoked():
                return replace(self, revoked=event.at)
            case _:
                return self


def minted_key(id: str, event: KeyMinted) -> Key:
    return Key(
        id=id,
        org=event.org,
        workspace=event.workspace,
        name=event.name,
        prefix=event.prefix,
        digest=event.digest,
        scope=event.scope,
        created=event.at,
        monthly_budget=event.monthly_budget,
        rpm_limit=event.rpm_limit,
        daily_limit=event.daily_limit,
        expires=event.expires,
        models=event.models,
        role=event.role,
        minter=event.minter,
        tier=event.tier,
        claim=event.claim,
        subject=event.subject,
    )


def make_secret(entropy: bytes, *, kind: Literal["", "trial-", "eph-"] = "") -> str:
    """`br-`, the kind, and 33 letters and digits that carry all 192 bits of `entropy`, 24 random bytes."""
    if len(entropy) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    number, letters = int.from_bytes(entropy), ""
    for _ in range(33):
        number, digit = divmod(number, 62)
        letters = DIGITS[digit] + letters
    return f"br-{kind}{letters}"


def key_digest(pepper: bytes, raw: bytes) -> bytes:
    """The keyed hash under which a key is known: HMAC-SHA-256, 32 bytes. No key can be made of what is in the log."""
    return hmac.digest(pepper, raw, "sha256")


def check_models(models: tuple[str, ...]) -> tuple[str, ...]:
    """The models without repeats. Raises Invalid `invalid_request` for too many of them, or names that cannot be."""
    if len(models) > MODELS_MAX or any(not 1 <= len(model) <= MODEL_LENGTH_MAX for model in models):
        raise Invalid(
            "invalid_request",
            f"models takes at most {MODELS_MAX} model ids of 1 to {MODEL_LENGTH_MAX} characters; none means all.",
            param="models",
        )
    return tuple(dict.fromkeys(models))
