"""The facts of API keys. Stream: `key:<id>`. The key itself is nowhere; `digest` is its keyed hash in hex."""

from domain.kernel.events import Event, fact


@fact("keys.key_minted.v1")
class KeyMinted(Event, frozen=True, kw_only=True):
    """`prefix` is what is shown of the key; `scope` is `full` or `inference`; `monthly_budget` in nano-rupees;
    `expires` in microseconds since 1970; no `models` means all."""

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


@fact("keys.key_revoked.v1")
class KeyRevoked(Event, frozen=True, kw_only=True):
    org: str
    reason: str = ""
