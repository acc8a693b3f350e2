"""When a provider has an incident: what was seen of its routes, minute by minute, against a rule that opens at once and
closes with care.

What is seen are calls of customers on the product's own keys, and checks. Where nothing is seen nothing is known: a
provider that nobody calls is neither up nor down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.monitoring.events import IncidentChanged, IncidentClosed, IncidentOpened, Severity

State = Literal["up", "degraded", "down", "no_data"]

MINUTE = 60 * SECOND
FAILING_CALLS = 5
"""So many of the newest calls tell whether a route fails."""
FAILURES_MIN = 3
WELL_CALLS = 10
WELL_MINUTES = 3
"""It takes so many calls, over so many minutes, to tell that it is well again."""
WELL_FAILURES_MAX = 10
"""One call of so many may fail."""
NEWS_MINUTES = 15
"""What is older says nothing of now."""
FORGOTTEN_MINUTES = 60
"""A route that was not seen for so long is neither failing nor well."""


class Minute(NamedTuple):
    """What became of the calls of a route in one minute since 1970."""

    minute: int
    answered: int
    failed: int


@dataclass(frozen=True, slots=True)
class Incidents:
    """Of one provider: the open incident's id ("" for none), its severity, and the models that fail."""

    id: str = ""
    severity: Severity = "degraded"
    models: frozenset[str] = frozenset()

    def evolve(self, stream: str, event: Event) -> "Incidents":
        match event:
            case IncidentOpened() | IncidentChanged():
                return Incidents(event.incident, event.severity, frozenset(event.models))
            case IncidentClosed():
                return Incidents()
            case _:
                return self


def state_now(severity: Severity | None, *, answered: int, failed: int) -> State:
    """How a provider does: as its open incident says (None: there is none), else by what was seen of late. Nothing
    seen is no data, and not well."""
    if severity is not None:
        return severity
    if not answered + failed:
        return "no_data"
    return "up" if answered else "degraded"


def incident_stream(provider: str) -> str:
    return f"incident:{provider}"


def is_failing(seen: Sequence[Minute], *, minute: int) -> bool:
    """Whether at least three, and at least half, of the newest calls failed."""
    answered, failed = _newest(seen, minute=minute, calls=FAILING_CALLS, minutes=1)
    return failed >= FAILURES_MIN and failed >= answered


def is_well(seen: Sequence[Minute], *, minute: int) -> bool:
    """Whether nearly all of the newest calls were answered, over some minutes."""
    answered, failed = _newest(seen, minute=minute, calls=WELL_CALLS, minutes=WELL_MINUTES)
    return answered >= FAILURES_MIN and failed * WELL_FAILURES_MAX <= answered + failed


def is_seen(seen: Sequence[Minute], *, minute: int, within: int) -> bool:
    """Whether anything was called within so many minutes."""
    return any(minute - within < each.minute <= minute for each in seen)


def next_facts(
    incidents: Incidents, routes: Mapping[str, Sequence[Minute]], *, provider: str, id: str, at: int
) -> list[Event]:
    """What is to be put on record of a provider, given what was seen of its models; `id` names an incident that begins
    now. Asked again over the same, with that on record, it says nothing."""
    minute = at // MINUTE
    begins = {model for model, seen in routes.items() if is_failing(seen, minute=minute)}
    recovered = {model for model in incidents.models - begins if is_well(routes.get(model, ()), minute=minute)}
    unseen = {
        model
        for model in incidents.models - begins
        if not is_seen(routes.get(model, ()), minute=minute, within=FORGOTTEN_MINUTES)
    }
    models = (incidents.models | begins) - recovered - unseen
    if not models:
        if not incidents.id:
            return []
        reason = IncidentClosed(
            provider=provider, incident=incidents.id, reason="recovered" if recovered else "unobserved"
        )
        return [reason]
    others = {
        model
        for model, seen in routes.items()
        if model not in models and is_seen(seen, minute=minute, within=FORGOTTEN_MINUTES)
    }
    severity: Severity = "degraded" if others else "down"
    named = tuple(sorted(models))
    if not incidents.id:
        return [IncidentOpened(provider=provider, incident=id, severity=severity, models=named)]
    if (models, severity) == (incidents.models, incidents.severity):
        return []
    return [IncidentChanged(provider=provider, incident=incidents.id, severity=severity, models=named)]


def judge_provider(
    store: Store, provider: str, routes: Mapping[str, Sequence[Minute]], *, id: str, at: int, by: str
) -> bool:
    """Opens, changes or closes the provider's incident as far as that is due; whether anything changed."""
    stream = incident_stream(provider)

    def decide(incidents: Incidents) -> Decision:
        return [(stream, fact) for fact in next_facts(incidents, routes, provider=provider, id=id, at=at)]

    return store.change(Change(stream, Incidents(), decide), at=at, by=by) is not None


def _newest(seen: Sequence[Minute], *, minute: int, calls: int, minutes: int) -> tuple[int, int]:
    """How many were answered and failed in the newest minutes that hold at least so many calls, or all that are new."""
    answered = failed = taken = 0
    for each in sorted(seen, reverse=True):
        if not minute - NEWS_MINUTES < each.minute <= minute:
            continue
        if answered + failed >= calls and taken >= minutes:
            break
        answered, failed, taken = answered + each.answered, failed + each.failed, taken + 1
    return answered, failed


def minutes_within(opened: int, closed: int | None, *, first: int, last: int) -> int:
    """Whole minutes, rounded up, that an incident lasted between two moments; one that is open lasts on."""
    lasted = min(last, last if closed is None else closed) - max(first, opened)
    return -(-max(lasted, 0) // MINUTE)
