"""The facts of API keys, trials, ephemeral keys and agents. Streams: `key:<id>`, `trial:<org>`, `ephemeral:<id>`,
`identity:<digest>`. The key itself is nowhere; `digest` is its keyed hash in hex.
"""

from typing import Literal

from domain.accounts.events import Role
from domain.kernel.events import Event, fact

Tier = Literal["standard", "trial", "agent"]


@fact("keys.key_minted.v1")
class KeyMinted(Event, frozen=True, kw_only=True):
    """`prefix` is what is shown of the key; `scope` is `full` or `inference`; `monthly_budget` in nano-rupees;
    `expires` in microseconds since 1970; no `models` means all.

    `minter` is the person who minted it, be it by another key; nobody where an operator did. A key of full scope acts
    in its org with `role`, but never with more than the minter has at the time.

    A key of the `tier` trial is free until the org's trial has ended, and standard from then on. That of an agent has
    no secret: the agent shows a token of an identity provider, in which `claim` is `subject`."""

    org: str
    workspace: str
    name: str
    prefix: str
    digest: str
    scope: str = "full"
    monthly_budget: int | None = None
    rpm_limit: int | None = None
    daily_limit: int | None = None
    expires: int | None = None
    models: tuple[str, ...] = ()
    role: Role = "owner"
    minter: str = ""
    tier: Tier = "standard"
    claim: str = ""
    subject: str = ""


@fact("keys.key_renamed.v1")
class KeyRenamed(Event, frozen=True, kw_only=True):
    org: str
    name: str


@fact("keys.key_limits_changed.v1")
class KeyLimitsChanged(Event, frozen=True, kw_only=True):
    """All limits as they are from now on; None is no limit."""

    org: str
    monthly_budget: int | None = None
    rpm_limit: int | None = None
    daily_limit: int | None = None


@fact("keys.key_models_changed.v1")
class KeyModelsChanged(Event, frozen=True, kw_only=True):
    org: str
    models: tuple[str, ...] = ()


@fact("keys.key_disabled.v1")
class KeyDisabled(Event, frozen=True, kw_only=True):
    org: str


@fact("keys.key_enabled.v1")
class KeyEnabled(Event, frozen=True, kw_only=True):
    org: str


@fact("keys.key_moved.v1")
class KeyMoved(Event, frozen=True, kw_only=True):
    """Counts from now on against another workspace of the org."""

    org: str
    workspace: str


@fact("keys.key_rotated.v1")
class KeyRotated(Event, frozen=True, kw_only=True):
    """The key has a new secret, known by `digest` and shown by `prefix`. The one before it, known by `old_digest`,
    opens the same key until `old_until`, in microseconds since 1970."""

    org: str
    prefix: str
    digest: str
    old_digest: str
    old_until: int


@fact("keys.key_revoked.v1")
class KeyRevoked(Event, frozen=True, kw_only=True):
    org: str
    reason: str = ""


@fact("keys.trial_began.v1")
class TrialBegan(Event, frozen=True, kw_only=True):
    """The org's first trial key was minted. All its trial keys together may make so many calls in a rolling minute and
    in a day of India time."""

    org: str
    rpm_limit: int
    daily_limit: int


@fact("keys.trial_ended.v1")
class TrialEnded(Event, frozen=True, kw_only=True):
    """Credit came in: the org's trial keys are standard from now on, and for good."""

    org: str


@fact("keys.ephemeral_key_minted.v1")
class EphemeralKeyMinted(Event, frozen=True, kw_only=True):
    """A key for a short while, `parent` being the id of the key that it lives and spends by. `budget`, in nano-rupees,
    is for its whole life; no `models` means all that the parent may use.

    It names no org, since it is nothing that the org has configured: there may be thousands."""

    parent: str
    digest: str
    prefix: str
    expires: int
    budget: int | None = None
    rpm_limit: int | None = None
    models: tuple[str, ...] = ()


@fact("keys.identity_taken.v1")
class IdentityTaken(Event, frozen=True, kw_only=True):
    """The identity whose hash names the stream belongs to the agent of this key, of the org `holder`, for as long as
    that is not revoked."""

    agent: str
    holder: str
