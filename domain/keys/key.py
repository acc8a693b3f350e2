"""An API key as its facts make it, and the pure rules of its form. The key itself is shown once and kept nowhere."""

import hmac
from dataclasses import dataclass, replace

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
)

SECRET_BYTES = 24
PREFIX_LENGTH = 12
SCOPES = ("full", "inference")
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Key:
    """Budget in nano-rupees; moments in microseconds since 1970, None where they have not come; no `models` is all."""

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
    )


def make_secret(entropy: bytes) -> str:
    """`br-` and 33 letters and digits that carry all 192 bits of `entropy`, 24 random bytes."""
    if len(entropy) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    number, letters = int.from_bytes(entropy), ""
    for _ in range(33):
        number, digit = divmod(number, 62)
        letters = DIGITS[digit] + letters
    return f"br-{letters}"


def key_digest(pepper: bytes, raw: bytes) -> bytes:
    """The keyed hash under which a key is known: HMAC-SHA-256, 32 bytes. No key can be made of what is in the log."""
    return hmac.digest(pepper, raw, "sha256")
