"""What an org wants watched: which of its collections are checked, and which alerts they have."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.monitoring.events import AlertRemoved, AlertSet, Metric, MonitoringStarted, MonitoringStopped

ALERTS_MAX = 10
WINDOW_MINUTES = (15, 1440)
WINDOW_MINUTES_DEFAULT = 30
THRESHOLDS: Mapping[Metric, tuple[int, int]] = {"error_rate": (1, 1_000_000), "latency_p95": (1, 600_000)}
"""Lowest and highest: millionths, and milliseconds."""


@dataclass(frozen=True, slots=True)
class Alert:
    """As in `AlertSet`; `created` in microseconds since 1970."""

    id: str
    collection: str
    metric: Metric
    threshold: int
    window_minutes: int
    step: int | None
    mail: str
    webhook: str
    created: int


@dataclass(frozen=True, slots=True)
class Monitors:
    """Of one org: the moment since when each watched collection is, and all alerts by id."""

    since: Mapping[str, int] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Monitors":
        match event:
            case MonitoringStarted(collection=started):
                return Monitors({**self.since, started: event.at}, self.alerts)
            case MonitoringStopped(collection=stopped):
                return Monitors({id: at for id, at in self.since.items() if id != stopped}, self.alerts)
            case AlertSet():
                return Monitors(self.since, {**self.alerts, event.alert: _alert(event)})
            case AlertRemoved(alert=removed):
                return Monitors(self.since, {id: alert for id, alert in self.alerts.items() if id != removed})
            case _:
                return self

    def alerts_of(self, collection: str) -> list[Alert]:
        """Oldest first."""
        return [alert for alert in self.alerts.values() if alert.collection == collection]


def monitor_stream(org: str) -> str:
    return f"monitor:{org}"


def set_monitored(
    store: Store, *, org: str, collection: str, monitored: bool, monitored_max: int, at: int, by: str
) -> None:
    """Begins or ends to watch a collection; harmless when repeated. Raises Conflict `monitor_limit`."""

    def decide(state: Monitors) -> Decision:
        if (collection in state.since) == monitored:
            return []
        if not monitored:
            return [(monitor_stream(org), MonitoringStopped(owner=org, collection=collection))]
        if len(state.since) >= monitored_max:
            raise Conflict(
                "monitor_limit", f"An org may have {monitored_max} collections monitored; stop another one first."
            )
        return [(monitor_stream(org), MonitoringStarted(owner=org, collection=collection))]

    store.change(Change(monitor_stream(org), Monitors(), decide), at=at, by=by)


def set_alert(store: Store, wanted: AlertSet, *, steps: int, at: int, by: str) -> None:
    """Adds an alert to a collection of so many steps. Raises Invalid `invalid_request`, Conflict `alert_limit`."""
    _check(wanted, steps)

    def decide(state: Monitors) -> Decision:
        if len(state.alerts_of(wanted.collection)) >= ALERTS_MAX:
            raise Conflict("alert_limit", f"A collection may have {ALERTS_MAX} alerts; delete one first.")
        return [(monitor_stream(wanted.owner), wanted)]

    store.change(Change(monitor_stream(wanted.owner), Monitors(), decide), at=at, by=by)


def remove_alert(store: Store, *, org: str, collection: str, alert: str, at: int, by: str) -> None:
    """Raises NotFound where the collection has no such alert."""

    def decide(state: Monitors) -> Decision:
        if alert not in [each.id for each in state.alerts_of(collection)]:
            raise NotFound("not_found", "No such alert; list them with GET …/alerts.", param="alert")
        return [(monitor_stream(org), AlertRemoved(owner=org, collection=collection, alert=alert))]

    store.change(Change(monitor_stream(org), Monitors(), decide), at=at, by=by)


def _check(wanted: AlertSet, steps: int) -> None:
    least, most = THRESHOLDS[wanted.metric]
    if not least <= wanted.threshold <= most:
        told = "above 0 and at most 1" if wanted.metric == "error_rate" else f"{least} to {most} milliseconds"
        raise Invalid("invalid_request", f"The threshold of {wanted.metric} must be {told}.", param="threshold")
    shortest, longest = WINDOW_MINUTES
    if not shortest <= wanted.window_minutes <= longest:
        raise Invalid("invalid_request", f"'window_minutes' must be {shortest} to {longest}.", param="window_minutes")
    if wanted.step is not None and not 0 <= wanted.step < steps:
        raise Invalid("invalid_request", f"'step' counts from 0; this collection has {steps}.", param="step")
    if not wanted.mail and not wanted.webhook:
        raise Invalid("invalid_request", "Say whom to tell: 'email', 'webhook_url', or both.", param="email")


def _alert(event: AlertSet) -> Alert:
    return Alert(
        id=event.alert,
        collection=event.collection,
        metric=event.metric,
        threshold=event.threshold,
        window_minutes=event.window_minutes,
        step=event.step,
        mail=event.mail,
        webhook=event.webhook,
        created=event.at,
    )
