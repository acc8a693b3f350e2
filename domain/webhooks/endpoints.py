"""The endpoints that an org wants to be told at: adding, changing, disabling them, and the secrets they check us by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import UNSET, UnsetType

from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, TooMany
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.webhooks.events import (
    EndpointAdded,
    EndpointChanged,
    EndpointDisabled,
    EndpointEnabled,
    EndpointRemoved,
    SampleAsked,
    SecretRotated,
)

TYPES: Mapping[str, str] = {
    "balance.low": "less credit is left than the org wants to have",
    "budget.reached": "80 or 100 % of the month's budget of a key or workspace are used",
    "receipt.issued": "a receipt, an invoice, or the document of a refund was issued",
    "alert.breached": "a figure that an alert watches has reached its threshold",
    "alert.recovered": "it is below the threshold again",
}
"""What an endpoint can be told of."""

ALERT_TYPES = ("alert.breached", "alert.recovered")
TEST_TYPE = "webhook.test"

GRACE = DAY
"""Microseconds for which a secret still signs, beside the one that has taken its place."""
BETWEEN_TESTS = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url`, `secret` and `old_secret` are sealed; the latter counts until `old_until`. `disabled` is why nothing is
    sent, empty while it is. Moments in microseconds since 1970."""

    id: str
    url: str
    secret: str
    types: tuple[str, ...]
    alert: str
    created: int
    disabled: str = ""
    old_secret: str = ""
    old_until: int = 0

    def secrets(self, at: int) -> list[str]:
        """What a notice of this moment is signed with, the newest first, sealed."""
        return [self.secret, self.old_secret] if self.old_secret and at < self.old_until else [self.secret]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Those of one org by id, oldest first."""

    by_id: Mapping[str, Endpoint] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Endpoints":
        match event:
            case EndpointAdded():
                return self._with(
                    Endpoint(event.endpoint, event.url, event.secret, event.types, event.alert, created=event.at)
                )
            case EndpointChanged():
                known = self.by_id[event.endpoint]
                return self._with(replace(known, types=event.types, url=known.url if event.url is UNSET else event.url))
            case SecretRotated():
                known = self.by_id[event.endpoint]
                return self._with(
                    replace(known, secret=event.secret, old_secret=known.secret, old_until=event.old_until)
                )
            case EndpointDisabled():
                return self._with(replace(self.by_id[event.endpoint], disabled=event.reason))
            case EndpointEnabled():
                return self._with(replace(self.by_id[event.endpoint], disabled=""))
            case EndpointRemoved():
                return Endpoints({id: each for id, each in self.by_id.items() if id != event.endpoint})
            case _:
                return self

    def _with(self, endpoint: Endpoint) -> "Endpoints":
        return Endpoints({**self.by_id, endpoint.id: endpoint})

    def endpoint(self, id: str) -> Endpoint:
        """Raises NotFound where the org has no such endpoint."""
        endpoint = self.by_id.get(id)
        if endpoint is None:
            raise NotFound("not_found", "No such webhook; list yours with GET /me/webhooks.", param="id")
        return endpoint

    def enabled(self, id: str) -> Endpoint:
        """Raises NotFound where the org has no such endpoint, Conflict `webhook_disabled` where it is off."""
        endpoint = self.endpoint(id)
        if endpoint.disabled:
            raise Conflict("webhook_disabled", f"PATCH /me/webhooks/{id} with enabled: true first.", param="id")
        return endpoint

    def of_alert(self, alert: str) -> Endpoint | None:
        """The endpoint that is told of this alert alone."""
        return next((each for each in self.by_id.values() if each.alert == alert), None)


def webhooks_stream(org: str) -> str:
    return f"webhooks:{org}"


def add_endpoint(
    store: Store,
    *,
    org: str,
    endpoint: str,
    url: str,
    secret: str,
    types: Sequence[str],
    alert: str = "",
    endpoints_max: int,
    at: int,
    by: str,
) -> None:
    """Adds an endpoint, its URL and secret sealed for the org. That of an alert does not count towards the limit:
    alerts have one of their own. Raises Invalid `invalid_request`, Conflict `webhook_limit`."""
    added = EndpointAdded(org=org, endpoint=endpoint, url=url, secret=secret, types=check_types(types), alert=alert)

    def decide(state: Endpoints) -> Decision:
        if not alert and sum(not each.alert for each in state.by_id.values()) >= endpoints_max:
            raise Conflict("webhook_limit", f"An org may have {endpoints_max} webhooks; delete one first.")
        return [(webhooks_stream(org), added)]

    _change(store, org, decide, at=at, by=by)


def change_endpoint(
    store: Store,
    *,
    org: str,
    endpoint: str,
    url: str | UnsetType = UNSET,
    types: Sequence[str] | None = None,
    enabled: bool | None = None,
    at: int,
    by: str,
) -> None:
    """Changes what is given; `url` is sealed. What was not sent while it was disabled is not sent later. Raises
    NotFound, Invalid `invalid_request`."""
    wanted = None if types is None else check_types(types)

    def decide(state: Endpoints) -> Decision:
        now = state.endpoint(endpoint)
        if wanted is not None and now.alert and wanted != now.types:
            raise Invalid("invalid_request", "The webhook of an alert is told of that alert alone.", param="events")
        facts: list[Event] = []
        if url is not UNSET or (wanted is not None and wanted != now.types):
            facts.append(EndpointChanged(org=org, endpoint=endpoint, url=url, types=wanted or now.types))
        if enabled is True and now.disabled:
            facts.append(EndpointEnabled(org=org, endpoint=endpoint))
        if enabled is False and not now.disabled:
            facts.append(EndpointDisabled(org=org, endpoint=endpoint, reason="asked"))
        return [(webhooks_stream(org), fact) for fact in facts]

    _change(store, org, decide, at=at, by=by)


def rotate_secret(store: Store, *, org: str, endpoint: str, secret: str, at: int, by: str) -> None:
    """A new secret, sealed; for a day, notices are signed with both. Raises NotFound."""

    def decide(state: Endpoints) -> Decision:
        state.endpoint(endpoint)
        rotated = SecretRotated(org=org, endpoint=endpoint, secret=secret, old_until=at + GRACE)
        return [(webhooks_stream(org), rotated)]

    _change(store, org, decide, at=at, by=by)


def disable_endpoint(store: Store, *, org: str, endpoint: str, reason: str, at: int, by: str) -> bool:
    """Ends deliveries to an endpoint for `gone` or `failing`; whether it was on until now."""
    disabled = False

    def decide(state: Endpoints) -> Decision:
        nonlocal disabled
        now = state.by_id.get(endpoint)
        disabled = now is not None and not now.disabled
        fact = EndpointDisabled(org=org, endpoint=endpoint, reason=reason)
        return [(webhooks_stream(org), fact)] if disabled else []

    _change(store, org, decide, at=at, by=by)
    return disabled


def remove_endpoint(store: Store, *, org: str, endpoint: str, at: int, by: str) -> None:
    """Raises NotFound where the org has no such endpoint."""

    def decide(state: Endpoints) -> Decision:
        state.endpoint(endpoint)
        return [(webhooks_stream(org), EndpointRemoved(org=org, endpoint=endpoint))]

    _change(store, org, decide, at=at, by=by)


def remove_alert_endpoint(store: Store, *, org: str, alert: str, at: int, by: str) -> None:
    """Forgets the endpoint of an alert that is removed; harmless where it has none."""

    def decide(state: Endpoints) -> Decision:
        endpoint = state.of_alert(alert)
        if endpoint is None:
            return []
        return [(webhooks_stream(org), EndpointRemoved(org=org, endpoint=endpoint.id))]

    _change(store, org, decide, at=at, by=by)


def ask_test(store: Store, *, org: str, endpoint: str, at: int, by: str) -> int:
    """Asks for a notice that tells of nothing; the position of that fact. The endpoint must be there and enabled.
    Raises TooMany `rate_limit_exceeded` for more than one in ten seconds."""
    stream = f"webhook_test:{endpoint}"

    def decide(state: _Tests) -> Decision:
        if state.last is not None and at - state.last < BETWEEN_TESTS:
            seconds = max(1, (state.last + BETWEEN_TESTS - at) // SECOND)
            raise TooMany("rate_limit_exceeded", "One test in ten seconds; wait a moment.", retry_after=seconds)
        return [(stream, SampleAsked(owner=org, endpoint=endpoint))]

    position = store.change(Change(stream, _Tests(), decide), at=at, by=by)
    assert position is not None
    return position


@dataclass(frozen=True, slots=True)
class _Tests:
    last: int | None = None

    def evolve(self, stream: str, event: Event) -> "_Tests":
        return _Tests(event.at)


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """The types, each once and in the order of `TYPES`. Raises Invalid `invalid_request`."""
    unknown = next((name for name in types if name not in TYPES), None)
    if unknown is not None or not types:
        told = "Name at least one event" if unknown is None else f"There is no event '{unknown}'"
        raise Invalid("invalid_request", f"{told}; there are {', '.join(TYPES)}.", param="events")
    return tuple(name for name in TYPES if name in types)


def _change(store: Store, org: str, decide: Callable[[Endpoints], Decision], *, at: int, by: str) -> None:
    store.change(Change(webhooks_stream(org), Endpoints(), decide), at=at, by=by)
