"""The facts of webhooks. Streams: `webhooks:<org>` has the endpoints of an org; `delivery:<id>` what became of a notice
at one of them; `webhook_test:<endpoint>` that one was tried out; `budget:<scope>` what was told of a budget.

Only the first belongs to what an org has configured, and names it as `org`; the others grow, and have it as `owner`.
"""

from msgspec import UNSET, UnsetType

from domain.kernel.events import Event, fact


@fact("webhooks.endpoint_added.v1")
class EndpointAdded(Event, frozen=True, kw_only=True):
    """`url` and `secret` are sealed for the org. `types` are those of the notices that it gets; with `alert` only
    those of that alert."""

    org: str
    endpoint: str
    url: str
    secret: str
    types: tuple[str, ...]
    alert: str = ""


@fact("webhooks.endpoint_changed.v1")
class EndpointChanged(Event, frozen=True, kw_only=True):
    """As it is from now on; `url` is sealed, and left out where it stays."""

    org: str
    endpoint: str
    types: tuple[str, ...]
    url: str | UnsetType = UNSET


@fact("webhooks.secret_rotated.v1")
class SecretRotated(Event, frozen=True, kw_only=True):
    """`secret` is sealed; the one before signs too until `old_until`, in microseconds since 1970."""

    org: str
    endpoint: str
    secret: str
    old_until: int


@fact("webhooks.endpoint_disabled.v1")
class EndpointDisabled(Event, frozen=True, kw_only=True):
    """`reason` is `asked` by somebody of the org, `gone` where the endpoint itself said so (410), or `failing`."""

    org: str
    endpoint: str
    reason: str


@fact("webhooks.endpoint_enabled.v1")
class EndpointEnabled(Event, frozen=True, kw_only=True):
    org: str
    endpoint: str


@fact("webhooks.endpoint_removed.v1")
class EndpointRemoved(Event, frozen=True, kw_only=True):
    org: str
    endpoint: str


@fact("webhooks.sample_asked.v1")
class SampleAsked(Event, frozen=True, kw_only=True):
    """A notice that tells of nothing is to be sent."""

    owner: str
    endpoint: str


@fact("webhooks.delivery_tried.v1")
class DeliveryTried(Event, frozen=True, kw_only=True):
    """The notice was sent. `attempt` counts from 1, and again from 1 after a redelivery was asked for. `status` is that
    of the answer, 0 where there was none; `problem` says why it does not count as delivered, if it does not; `again` is
    when it is tried again, in microseconds since 1970, None for never."""

    owner: str
    endpoint: str
    delivery: str
    attempt: int
    milliseconds: int
    status: int = 0
    problem: str = ""
    again: int | None = None


@fact("webhooks.redelivery_asked.v1")
class RedeliveryAsked(Event, frozen=True, kw_only=True):
    owner: str
    endpoint: str
    delivery: str


@fact("webhooks.budget_reached.v1")
class BudgetReached(Event, frozen=True, kw_only=True):
    """So many `percent` of the month's budget of a key or workspace (`scope`) are used. `month` is `yyyymm` on India's
    calendar; amounts are nano-rupees."""

    owner: str
    scope: str
    name: str
    month: int
    percent: int
    used: int
    budget: int
