"""The facts of monitoring. Streams: `monitor:<org>` has what an org wants watched, `check:<collection>/<moment>` what
was found (`check:product/…` by the product for itself), `alert:<id>` what was told, `incident:<provider>` how one did.

A collection is named by its slug, and the org that has it as `owner`: as with collections themselves, none of this is
part of the history that every change of an org reads.
"""

from typing import Literal

import msgspec

from domain.kernel.events import Event, fact

Metric = Literal["error_rate", "latency_p95"]
Severity = Literal["degraded", "down"]


class Ping(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call of one token came to, for the step of that number, from 0.

    `end` is `answered`; as for attempts of calls why it was not; or `no_route`, where nobody could be asked: then
    `provider` is the one that the step is pinned to, if it is. `milliseconds` until the whole answer, or the failure.
    `own`: on a key or endpoint of the org's own.
    """

    step: int
    model: str
    provider: str
    end: str
    status: int = 0
    milliseconds: int = 0
    own: bool = False

    @property
    def answered(self) -> bool:
        return self.end == "answered"


@fact("monitoring.watch_started.v1")
class MonitoringStarted(Event, frozen=True, kw_only=True):
    owner: str
    collection: str


@fact("monitoring.watch_stopped.v1")
class MonitoringStopped(Event, frozen=True, kw_only=True):
    owner: str
    collection: str


@fact("monitoring.checked.v1")
class Checked(Event, frozen=True, kw_only=True):
    """All steps of a collection were tried. `worth` is the most, in nano-rupees, that providers may have charged the
    product for it; nobody is debited. `owner` and `collection` are empty where the product looked after itself."""

    pings: tuple[Ping, ...]
    owner: str = ""
    collection: str = ""
    worth: int = 0


@fact("monitoring.alert_set.v1")
class AlertSet(Event, frozen=True, kw_only=True):
    """`threshold` is in millionths for `error_rate`, in milliseconds for `latency_p95`. `step` is None for all steps.
    `mail` is the person who is written to, or `org` for the address that the org was made with; `webhook` is the
    endpoint that is told. Either may be empty."""

    owner: str
    collection: str
    alert: str
    metric: Metric
    threshold: int
    window_minutes: int
    step: int | None = None
    mail: str = ""
    webhook: str = ""


@fact("monitoring.alert_removed.v1")
class AlertRemoved(Event, frozen=True, kw_only=True):
    owner: str
    collection: str
    alert: str


@fact("monitoring.alert_breached.v1")
class AlertBreached(Event, frozen=True, kw_only=True):
    """The figure of the alert, over so many checks, has reached its threshold, both as in `AlertSet`. `notice` counts
    what the alert has said, from 1."""

    owner: str
    collection: str
    alert: str
    notice: int
    figure: int
    checks: int
    metric: Metric
    threshold: int


@fact("monitoring.alert_recovered.v1")
class AlertRecovered(Event, frozen=True, kw_only=True):
    """The figure is below the threshold again."""

    owner: str
    collection: str
    alert: str
    notice: int
    figure: int
    checks: int
    metric: Metric
    threshold: int


@fact("monitoring.alert_told.v1")
class AlertTold(Event, frozen=True, kw_only=True):
    """The notice was handed over, or `problem` says why it cannot be."""

    owner: str
    alert: str
    notice: int
    problem: str = ""


@fact("monitoring.incident_opened.v1")
class IncidentOpened(Event, frozen=True, kw_only=True):
    """Calls of these models fail at the provider: `down` where nothing else of it was seen to work."""

    provider: str
    incident: str
    severity: Severity
    models: tuple[str, ...]


@fact("monitoring.incident_changed.v1")
class IncidentChanged(Event, frozen=True, kw_only=True):
    """As it stands now."""

    provider: str
    incident: str
    severity: Severity
    models: tuple[str, ...]


@fact("monitoring.incident_closed.v1")
class IncidentClosed(Event, frozen=True, kw_only=True):
    """`recovered`, or `unobserved`: so long without a call that nobody can say."""

    provider: str
    incident: str
    reason: Literal["recovered", "unobserved"]
