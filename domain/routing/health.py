"""How routes do: what their calls came to, the averages and the circuit that follow from that, and the port through
which a process reads and tells it.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from domain.catalog.model import Route
from domain.kernel.clock import SECOND
from domain.routing.breaker import CLOSED, REST_SECONDS, Circuit, after_failure, after_successes, state_of
from domain.routing.ranking import UNOBSERVED, Standing

LATENCY_PARTS = 5  # α = 0.2
SPEED_PARTS = 5
FAILURES_PARTS = 10  # α = 0.1
ALL_PPM = 1_000_000
SAMPLES_MAX = 64
"""So many samples in a row make an average of any of these forget what it was."""
REFRESH = SECOND
"""How old, in microseconds, averages may be that a plan rests on."""

Health = Mapping[str, Standing]
"""The standing of routes by the name of their circuit; those that were never called are not in it."""

NOTHING_OBSERVED: Health = MappingProxyType({})


def circuit_name(route: Route) -> str:
    """`provider/model`; for calls on an org's own key or endpoint `org:provider/model`, so that what is wrong with
    those never turns others away. Empty where the key came with the request: of those nothing is remembered."""
    if route.given:
        return ""
    name = f"{route.provider}/{route.model}"
    return f"{route.owner}:{name}" if route.owner else name


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of calls of one route at `at`: one that failed, or `count` in a row that went well.

    `latency_micros` to the first token and `tokens_per_kilosecond` are their means, 0 where they are not known. The
    first token of an answer that is not `streamed` comes with its last.
    """

    route: str
    at: int
    failed: bool = False
    count: int = 1
    latency_micros: int = 0
    tokens_per_kilosecond: int = 0
    streamed: bool = False


class Observed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the outcomes of a route add up to. `at` is that of the latest."""

    circuit: Circuit = CLOSED
    latency_micros: int | None = None
    failures_ppm: int | None = None
    tokens_per_kilosecond: int | None = None
    streamed: bool = False
    at: int = 0

    def after(self, outcome: Outcome, *, rest: int = REST_SECONDS * SECOND) -> "Observed":
        """`rest` is how long a circuit stays open, in microseconds."""
        at, count = outcome.at, outcome.count
        if outcome.failed:
            return msgspec.structs.replace(
                self,
                circuit=after_failure(self.circuit, at=at, rest=rest),
                failures_ppm=_moved(self.failures_ppm or 0, ALL_PPM, parts=FAILURES_PARTS, times=1),
                at=max(at, self.at),
            )
        latency, streamed = self.latency_micros, self.streamed
        if outcome.latency_micros and outcome.streamed >= streamed:
            # Whole answers speak of the first token only as long as no stream has.
            first = latency is None or outcome.streamed > streamed
            old = outcome.latency_micros if first or latency is None else latency
            latency, streamed = _moved(old, outcome.latency_micros, parts=LATENCY_PARTS, times=count), outcome.streamed
        speed = self.tokens_per_kilosecond
        if outcome.tokens_per_kilosecond:
            old = outcome.tokens_per_kilosecond if speed is None else speed
            speed = _moved(old, outcome.tokens_per_kilosecond, parts=SPEED_PARTS, times=count)
        return Observed(
            circuit=after_successes(self.circuit, count, at=at, rest=rest),
            latency_micros=latency,
            failures_ppm=_moved(self.failures_ppm or 0, 0, parts=FAILURES_PARTS, times=count),
            tokens_per_kilosecond=speed,
            streamed=streamed,
            at=max(at, self.at),
        )

    def standing(self, *, at: int, rest: int, may_probe: bool) -> Standing:
        """What it amounts to at a moment; `may_probe`: a call of ours may try the circuit if it has rested."""
        circuit = state_of(self.circuit, at=at, rest=rest)
        return Standing(
            latency_micros=self.latency_micros,
            failures_ppm=self.failures_ppm,
            tokens_per_kilosecond=self.tokens_per_kilosecond,
            circuit="probe" if circuit == "half_open" and may_probe else circuit,
        )


def _moved(average: int, sample: int, *, parts: int, times: int) -> int:
    """The average after the same sample so many times, each of which weighs one of so many parts."""
    for _ in range(min(times, SAMPLES_MAX)):
        average = (average * (parts - 1) + sample) // parts
    return average


def merged(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The same in fewer: successes of a route without a failure between them become one, at the last one's time."""
    runs: dict[str, list[Outcome]] = {}
    made: list[Outcome] = []

    def end(route: str) -> None:
        run = runs.pop(route, None)
        if run:
            made.append(_mean(run) if len(run) > 1 else run[0])

    for outcome in outcomes:
        run = runs.get(outcome.route)
        if run and (outcome.failed or run[0].streamed != outcome.streamed):
            end(outcome.route)
        if outcome.failed:
            made.append(outcome)
        else:
            runs.setdefault(outcome.route, []).append(outcome)
    for route in [*runs]:
        end(route)
    return made


def _mean(run: list[Outcome]) -> Outcome:
    """Successes of one kind as one outcome."""
    latencies = [each.latency_micros for each in run if each.latency_micros]
    speeds = [each.tokens_per_kilosecond for each in run if each.tokens_per_kilosecond]
    return msgspec.structs.replace(
        run[-1],
        count=sum(each.count for each in run),
        latency_micros=sum(latencies) // len(latencies) if latencies else 0,
        tokens_per_kilosecond=sum(speeds) // len(speeds) if speeds else 0,
    )


class RouteHealth(Protocol):
    """What all processes of the product know together about routes. Nothing here waits, or raises."""

    def health(self) -> Health:
        """As all processes saw it about a second ago, and what this one has seen of failures since. The same object
        until something in it changes."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Takes in what became of a call, or of several."""
        ...

    def take_probe(self, route: str) -> bool:
        """Whether this call is the one that tries a circuit that has rested; `end_probe` must follow."""
        ...

    def end_probe(self, route: str) -> None:
        """The call is over, whatever came of it."""
        ...


class LocalHealth:
    """Implements RouteHealth for one process alone. `clock` tells microseconds since 1970.

    `told` is given all outcomes, merged, in the order in which they were taken in. `may_probe` says whether a circuit
    that has rested may be tried by this process.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        rest_seconds: float = REST_SECONDS,
        told: Callable[[list[Outcome]], None] = lambda outcomes: None,
        may_probe: Callable[[str], bool] = lambda route: True,
    ) -> None:
        self.rest = round(rest_seconds * SECOND)
        self.states: dict[str, Observed] = {}
        self._clock = clock
        self._told = told
        self._may_probe = may_probe
        self._new: list[Outcome] = []
        self._probing: set[str] = set()
        self._health: Health = NOTHING_OBSERVED
        self._due = 0

    def health(self) -> Health:
        if self._clock() >= self._due:
            self.refresh()
        return self._health

    def observe(self, outcome: Outcome) -> None:
        self._new.append(outcome)
        known = self.states.get(outcome.route)
        if outcome.failed or (known is not None and known.circuit.opened):
            self._take_in()

    def take_probe(self, route: str) -> bool:
        if self._standing(route, self._clock()).circuit != "probe":
            return False
        self._probing.add(route)
        self._publish([route])
        return True

    def end_probe(self, route: str) -> None:
        self._probing.discard(route)
        self._publish([route])

    @property
    def probing(self) -> frozenset[str]:
        """The circuits that a call of this process is trying."""
        return frozenset(self._probing)

    def rested(self) -> list[str]:
        """The circuits that are half open."""
        now = self._clock()
        opened = [(route, state.circuit) for route, state in self.states.items() if state.circuit.opened]
        return [route for route, circuit in opened if state_of(circuit, at=now, rest=self.rest) == "half_open"]

    def refresh(self) -> None:
        """Takes in what is new, and looks at the clock for what has rested."""
        self._take_in()
        now = self._clock()
        self._due = now + REFRESH
        self._health = MappingProxyType({route: self._standing(route, now) for route in self.states})

    def _take_in(self) -> None:
        """Folds what is new. A circuit that opens or closes by it does so at once, averages follow with the next
        refresh."""
        if not self._new:
            return
        taken, self._new = merged(self._new), []
        for outcome in taken:
            before = self.states.get(outcome.route, Observed())
            self.states[outcome.route] = before.after(outcome, rest=self.rest)
        self._told(taken)
        self._publish({outcome.route for outcome in taken})

    def _publish(self, routes: Iterable[str]) -> None:
        now = self._clock()
        standings = {route: self._standing(route, now) for route in routes}
        known = self._health
        if any(each.circuit != known.get(route, UNOBSERVED).circuit for route, each in standings.items()):
            self._health = MappingProxyType({**known, **standings})

    def _standing(self, route: str, now: int) -> Standing:
        state = self.states.get(route, Observed())
        may_probe = state.circuit.opened != 0 and route not in self._probing and self._may_probe(route)
        return state.standing(at=now, rest=self.rest, may_probe=may_probe)
