"""Rankings: each way to optimize, ties, unobserved routes, and circuits that are open."""

from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.routing.needs import Optimize
from domain.routing.ranking import COUNTING, Figures, Standing, figures_of, order_of, rank


def figures(**routes: dict[str, Any]) -> dict[str, Figures]:
    return {name: Figures(**{"price": 100, **given}) for name, given in routes.items()}


def test_price_looks_at_the_price_and_then_at_the_catalog() -> None:
    assert rank("price", figures(b={"price": 2}, c={"price": 1}, a={"price": 2})) == ["c", "b", "a"]


def test_latency_and_uptime_prefer_less_and_throughput_more() -> None:
    seen = figures(
        a={"latency_micros": 300, "failures_ppm": 10, "tokens_per_kilosecond": 5},
        b={"latency_micros": 100, "failures_ppm": 30, "tokens_per_kilosecond": 9},
        c={"latency_micros": 200, "failures_ppm": 20, "tokens_per_kilosecond": 7},
    )
    assert rank("latency", seen) == ["b", "c", "a"]
    assert rank("uptime", seen) == ["a", "c", "b"]
    assert rank("throughput", seen) == ["b", "c", "a"]


def test_ties_go_by_price_and_then_by_the_catalog() -> None:
    seen = figures(
        a={"latency_micros": 5, "price": 9}, b={"latency_micros": 5, "price": 3}, c={"latency_micros": 5, "price": 3}
    )
    assert rank("latency", seen) == ["b", "c", "a"]


def test_an_unobserved_route_takes_the_median_of_its_siblings() -> None:
    seen = figures(
        slow={"latency_micros": 900},
        new={"price": 1},
        middle={"latency_micros": 500, "price": 2},
        quick={"latency_micros": 100},
    )
    assert rank("latency", seen) == ["quick", "new", "middle", "slow"]
    two = figures(slow={"latency_micros": 900}, new={}, quick={"latency_micros": 100})
    assert rank("latency", two) == ["quick", "new", "slow"]


def test_auto_looks_at_failures_in_steps_of_five_per_cent_first() -> None:
    seen = figures(
        fails={"failures_ppm": 50_000, "latency_micros": 1, "price": 1},
        works={"failures_ppm": 49_999, "latency_micros": 9_000, "price": 9_000},
    )
    assert rank("auto", seen) == ["works", "fails"]


def test_auto_weighs_latency_and_price_the_same_as_multiples_of_the_lowest() -> None:
    # 1/1 + 4/2, 3/1 + 2/2, 1.9/1 + 2/2
    seen = figures(
        quick={"latency_micros": 100, "price": 4},
        cheap={"latency_micros": 300, "price": 2},
        both={"latency_micros": 190, "price": 2},
    )
    assert rank("auto", seen) == ["both", "quick", "cheap"]
    free = figures(a={"latency_micros": 100, "price": 0}, b={"latency_micros": 100, "price": 5})
    assert rank("auto", free) == ["a", "b"]


_standing = st.builds(
    Standing,
    latency_micros=st.none() | st.integers(1, 10**7),
    failures_ppm=st.none() | st.integers(0, 10**6),
    tokens_per_kilosecond=st.none() | st.integers(1, 10**6),
    circuit=st.sampled_from(["closed", "open", "half_open", "probe"]),
)
_routes = st.lists(st.tuples(_standing, st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=12)


@given(_routes, st.sampled_from(get_args(Optimize)))
def test_open_circuits_go_last_in_every_mode_and_nothing_is_dropped(
    routes: list[tuple[Standing, int, int]], optimize: Optimize
) -> None:
    seen = {
        f"r{number}": figures_of(standing, optimize, price=price, step=0)
        for number, (standing, price, _) in enumerate(routes)
    }
    order = rank(optimize, seen)
    assert sorted(order) == sorted(seen)
    opened = [seen[name].circuit in ("open", "half_open") for name in order]
    assert opened == sorted(opened)


@given(_routes, st.sampled_from(get_args(Optimize)))
def test_what_a_receipt_keeps_gives_the_order_again(
    routes: list[tuple[Standing, int, int]], optimize: Optimize
) -> None:
    all_figures = {
        f"r{number}": msgspec.structs.replace(Figures(price=price, step=step), **msgspec.structs.asdict(standing))
        for number, (standing, price, step) in enumerate(routes)
    }
    kept = {name: figures_of(each, optimize, price=each.price, step=each.step) for name, each in all_figures.items()}
    stored = msgspec.json.decode(msgspec.json.encode(kept), type=dict[str, Figures])
    assert order_of(optimize, stored) == order_of(optimize, all_figures)
    unused = {"latency_micros", "failures_ppm", "tokens_per_kilosecond"} - set(COUNTING[optimize])
    assert all(getattr(each, name) is None for each in stored.values() for name in unused)
