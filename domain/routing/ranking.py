"""In which order the routes of a step are tried, by what the caller wants optimized.

Whole numbers decide, so that a receipt that has the figures gives the same order again, anywhere and for ever.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from domain.routing.needs import Optimize

FAILURES_STEP_PPM = 50_000
"""Five per cent: `auto` holds failure rates that differ by less for the same."""

_PRECISION = 1_000
_NO_FIGURE = 0


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a route does, as far as is known; what was never observed is None.

    Moving averages: `latency_micros` to the first token, `failures_ppm` of a million calls, and
    `tokens_per_kilosecond` of output. `circuit` is `half_open` where it has rested, and `probe` where moreover one call
    of this process may try it.
    """

    latency_micros: int | None = None
    failures_ppm: int | None = None
    tokens_per_kilosecond: int | None = None
    circuit: Literal["closed", "open", "half_open", "probe"] = "closed"

    @property
    def avoided(self) -> bool:
        """Whether other routes go before this one, because of its circuit."""
        return self.circuit in ("open", "half_open")


class Figures(Standing, frozen=True, kw_only=True, omit_defaults=True):
    """What a route was ranked by: `price` is nano-rupees for a token of input and one of output, `step` the step of the
    chain that it stands for, from 0; `own` where it is called on the org's own key. Averages that did not count are
    left out."""

    price: int = 0
    step: int = 0
    own: bool = False


UNOBSERVED = Standing()

COUNTING: Mapping[Optimize, tuple[str, ...]] = {
    "price": (),
    "latency": ("latency_micros",),
    "uptime": ("failures_ppm",),
    "throughput": ("tokens_per_kilosecond",),
    "auto": ("failures_ppm", "latency_micros"),
}
"""The averages that each way to optimize looks at."""


def figures_of(standing: Standing, optimize: Optimize, *, price: int, step: int, own: bool = False) -> Figures:
    """What the route is to be ranked by."""
    averages = {name: getattr(standing, name) for name in COUNTING[optimize]}
    return Figures(price=price, step=step, own=own, circuit=standing.circuit, **averages)


def rank(optimize: Optimize, figures: Mapping[str, Figures]) -> list[str]:
    """The routes of one step, best first; `figures` are in catalog order, which settles what price leaves tied.

    Those whose circuit is open go last, in the same order; what the org has a key for goes before the platform's. A
    route without an average takes the median of those that have it.
    """
    key = _KEYS[optimize](figures)

    def place(route: str) -> tuple[int, ...]:
        each = figures[route]
        return (each.avoided, not each.own, *key(route), each.price)

    return sorted(figures, key=place)


def order_of(optimize: Optimize, figures: Mapping[str, Figures]) -> list[str]:
    """The routes of a whole chain: step after step, inside a step ranked."""
    ordered: list[str] = []
    for step in sorted({each.step for each in figures.values()}):
        ordered += rank(optimize, {route: each for route, each in figures.items() if each.step == step})
    return ordered


_Key = Callable[[str], tuple[int, ...]]


def _by_price(_: Mapping[str, Figures]) -> _Key:
    return lambda route: ()


def _by(name: str, sign: int = 1) -> Callable[[Mapping[str, Figures]], _Key]:
    def key_over(figures: Mapping[str, Figures]) -> _Key:
        values = _filled(figures, name)
        return lambda route: (sign * values[route],)

    return key_over


def _by_all(figures: Mapping[str, Figures]) -> _Key:
    """Failure rate in steps; then latency and price weigh the same, each as a multiple of the lowest."""
    failures, latencies = _filled(figures, "failures_ppm"), _filled(figures, "latency_micros")
    latency_least = max(min(latencies.values()), 1)
    price_least = max(min(each.price for each in figures.values()), 1)

    def key(route: str) -> tuple[int, int]:
        latency = latencies[route] * _PRECISION // latency_least
        price = figures[route].price * _PRECISION // price_least
        return failures[route] // FAILURES_STEP_PPM, latency + price

    return key


def _filled(figures: Mapping[str, Figures], name: str) -> dict[str, int]:
    """That average of each route, the median of the others where it has none, rounded down."""
    known: dict[str, int | None] = {route: getattr(each, name) for route, each in figures.items()}
    observed = sorted(value for value in known.values() if value is not None)
    middle = len(observed) // 2
    median = _NO_FIGURE
    if observed:
        median = observed[middle] if len(observed) % 2 else (observed[middle - 1] + observed[middle]) // 2
    return {route: median if value is None else value for route, value in known.items()}


_KEYS: Mapping[Optimize, Callable[[Mapping[str, Any]], _Key]] = {
    "price": _by_price,
    "latency": _by("latency_micros"),
    "uptime": _by("failures_ppm"),
    "throughput": _by("tokens_per_kilosecond", -1),
    "auto": _by_all,
}
