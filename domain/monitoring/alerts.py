"""When somebody is told: once when a figure reaches its threshold, once when it is below again, and never twice within
an hour. What is due within the hour is told when it is over, if it still holds then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.monitoring.events import AlertBreached, AlertRecovered, AlertTold, Metric
from domain.monitoring.monitors import Alert

CHECKS_MIN = 3
QUIET = 3_600 * SECOND
"""Microseconds between two notices of an alert."""
ALL_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found at a step; `at` in microseconds since 1970, the same for all steps of a check."""

    at: int
    answered: bool
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What an alert has said so far: how often, whether a breach was the last of it, and when; `told` is the last
    notice that was handed over."""

    notices: int = 0
    breached: bool = False
    noticed: int | None = None
    told: int = 0

    def evolve(self, stream: str, event: Event) -> "Standing":
        match event:
            case AlertBreached() | AlertRecovered():
                return Standing(event.notice, isinstance(event, AlertBreached), event.at, self.told)
            case AlertTold():
                return Standing(self.notices, self.breached, self.noticed, max(self.told, event.notice))
            case _:
                return self


def alert_stream(alert: str) -> str:
    return f"alert:{alert}"


def figure_of(metric: Metric, found: Sequence[Found]) -> int | None:
    """The share of what failed in millionths, rounded down; or the time in milliseconds that 95 of 100 answers stayed
    within, by nearest rank. None after fewer than three checks, or where nothing was answered that could be timed."""
    if checks_in(found) < CHECKS_MIN:
        return None
    if metric == "error_rate":
        return sum(not each.answered for each in found) * ALL_PPM // len(found)
    times = sorted(each.milliseconds for each in found if each.answered)
    return times[(95 * len(times) + 99) // 100 - 1] if times else None


def checks_in(found: Sequence[Found]) -> int:
    """How many checks these are of: a check tries every step."""
    return len({each.at for each in found})


def due(
    standing: Standing, *, figure: int | None, threshold: int, at: int, quiet: int = QUIET
) -> Literal["breached", "recovered"] | None:
    """What is to be told now; breach and recovery take turns."""
    if figure is None or (standing.noticed is not None and at - standing.noticed < quiet):
        return None
    if (figure >= threshold) == standing.breached:
        return None
    return "recovered" if standing.breached else "breached"


def judge(
    store: Store, alert: Alert, found: Sequence[Found], *, org: str, at: int, by: str, quiet: int = QUIET
) -> bool:
    """Puts on record what the alert has to say after these checks; whether that is anything. Whoever asks at the same
    time, or again, changes nothing."""
    within = [each for each in found if at - alert.window_minutes * 60 * SECOND < each.at <= at]
    figure = figure_of(alert.metric, within)

    def decide(standing: Standing) -> Decision:
        news = due(standing, figure=figure, threshold=alert.threshold, at=at, quiet=quiet)
        if news is None or figure is None:
            return []
        fact = AlertBreached if news == "breached" else AlertRecovered
        return [
            (
                alert_stream(alert.id),
                fact(
                    owner=org,
                    collection=alert.collection,
                    alert=alert.id,
                    notice=standing.notices + 1,
                    figure=figure,
                    checks=checks_in(within),
                    metric=alert.metric,
                    threshold=alert.threshold,
                ),
            )
        ]

    return store.change(Change(alert_stream(alert.id), Standing(), decide), at=at, by=by) is not None


def record_told(store: Store, *, org: str, alert: str, notice: int, problem: str = "", at: int, by: str) -> None:
    """The notice was handed over; a repeat is harmless."""

    def decide(standing: Standing) -> Decision:
        if standing.told >= notice:
            return []
        return [(alert_stream(alert), AlertTold(owner=org, alert=alert, notice=notice, problem=problem))]

    store.change(Change(alert_stream(alert), Standing(), decide), at=at, by=by)
