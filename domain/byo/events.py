"""The facts of what orgs bring: keys for providers, and endpoints. Streams: `credential:<org>/<provider>`, and
`endpoint:<id>`. Keys are in them as sealed by the vault for the org and the host that they are for."""

from domain.kernel.events import Event, fact


@fact("byo.key_saved.v1")
class OwnKeySaved(Event, frozen=True, kw_only=True):
    """The org's key for a provider, in place of the one before. `mask` shows its end; `verified`: the provider took it
    when it was saved, and listed the models `discovered`, by its own ids."""

    org: str
    provider: str
    host: str
    sealed: str
    mask: str
    label: str = ""
    always_use: bool = False
    verified: bool = False
    discovered: tuple[str, ...] = ()


@fact("byo.key_checked.v1")
class OwnKeyChecked(Event, frozen=True, kw_only=True):
    """The saved key was tried again, and what was found is not what was known."""

    org: str
    provider: str
    verified: bool
    discovered: tuple[str, ...] = ()


@fact("byo.key_removed.v1")
class OwnKeyRemoved(Event, frozen=True, kw_only=True):
    """The org has no key for this provider any more."""

    org: str
    provider: str


@fact("byo.endpoint_added.v1")
class OwnEndpointAdded(Event, frozen=True, kw_only=True):
    """An endpoint of the org that has passed the compliance test. `model` is what callers read, `upstream` what the
    endpoint calls it; `residency` is as the org declares it, an ISO country or empty. Without a key, `sealed` and
    `mask` are empty."""

    org: str
    slug: str
    name: str
    model: str
    base_url: str
    upstream: str
    residency: str = ""
    sealed: str = ""
    mask: str = ""


@fact("byo.endpoint_removed.v1")
class OwnEndpointRemoved(Event, frozen=True, kw_only=True):
    org: str
    slug: str
