"""Routes that flap at random under streams: every call ends in an answer or in one clear error, nothing hangs, nothing
is paid for that was not delivered, and nobody waits for a route that is known to be dead."""

import itertools
import random
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.faults.books import balanced_books, forget_calls, new_key, wait_until
from tests.faults.callers import Call, codes, under_load
from tests.faults.models import BRISK, LONG
from tests.product import Product

pytestmark = pytest.mark.faults

PROVIDERS = ("sim-india", "sim-abroad", "sim-third")
GATEWAYS = 2
REST_SECONDS = 2
CALL_SECONDS_MAX = 20
"""Three routes that keep silent for the two seconds that each is given, an idle stream, and a busy machine."""

FLAWS = (
    "err500",
    "err503",
    "err429",
    "err401",
    "reset",
    "close",
    "hang",
    "null",
    "6c-errframe0",
    "6c-erropened",
    "6c-cut0",
    "6c-20ms-cut3",
    "6c-20ms-errframe2",
    "6c-20ms-hangafter2",
)
CLEAR = {"complete", "all_routes_failed", "provider_broke"}


@pytest.fixture(scope="module")
def product(new_product: Callable[[], Product]) -> Iterator[Product]:
    """A product with three providers, whose circuits rest for two seconds."""
    made = new_product()
    made.environment["BR_CIRCUIT_SECONDS"] = str(REST_SECONDS)
    folder = made.home.with_name(made.home.name + "-catalog") / "providers"
    third = (folder / "sim-abroad.toml").read_text().replace("sim-abroad", "sim-third")
    (folder / "sim-third.toml").write_text(third.replace("SIM_ABROAD", "SIM_THIRD"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def key(product: Product) -> str:
    return new_key(product)


def plays(product: Product, provider: str, script: str | None) -> None:
    """From now on this provider plays the script; None is as the model's name says."""
    rule = {"provider": provider, "script": script}
    httpx.post(f"{product.simulator_url}/script", json=rule, trust_env=False).raise_for_status()


def all_play_well(product: Product) -> None:
    for provider in PROVIDERS:
        plays(product, provider, None)


def requests_of(product: Product, provider: str) -> int:
    stats = httpx.get(f"{product.simulator_url}/stats", trust_env=False).json()
    return int(stats["providers"].get(provider, {"requests": 0})["requests"])


def state_of(product: Product, provider: str) -> str:
    """As the gateway sees it that happens to answer."""
    told = httpx.get(f"{product.url}/health", trust_env=False).json()["providers"]
    return str(next(each["state"] for each in told if each["id"] == provider))


def test_calls_over_routes_that_flap_end_in_an_answer_or_in_one_clear_error(product: Product, key: str) -> None:
    calls = flap_under_load(product, key, BRISK, seconds=8, callers=40)
    assert {call.streamed for call in calls} == {False, True}


@pytest.mark.long
def test_a_hundred_long_streams_at_a_time_over_a_minute_do_so_too(product: Product, key: str) -> None:
    calls = flap_under_load(product, key, LONG, seconds=60, callers=100, streams_only=True)
    assert len(calls) > 500


def flap_under_load(product: Product, key: str, model: str, *, seconds: float, callers: int, **how: bool) -> list[Call]:
    """Calls made while one route after the other breaks for a moment, once they are all shown to have ended well."""
    draw = random.Random(7)
    flaws = itertools.cycle(draw.sample(FLAWS, len(FLAWS)))
    played: list[str] = []

    def flap() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            played.append(next(flaws))
            for script in (played[-1], None):
                plays(product, draw.choice(PROVIDERS), script)
                time.sleep(draw.uniform(0.05, 0.3))
        all_play_well(product)

    calls = under_load(product.url, key, [model], flap, callers=callers, **how)
    assert len(played) >= 8
    assert codes(calls).keys() <= CLEAR, codes(calls)
    assert sum(call.complete for call in calls) > len(calls) // 2
    assert max(call.ended - call.began for call in calls) < CALL_SECONDS_MAX
    assert all(call.text for call in calls if call.code == "provider_broke")
    balanced_books(product, calls)
    return calls


def test_nobody_waits_for_a_dead_route_once_its_circuit_is_open(product: Product, key: str) -> None:
    all_play_well(product)
    works_again(product, key)
    plays(product, "sim-india", "hang")  # the cheapest: every call would wait for it

    def opened() -> bool:
        product.chat(key, BRISK)
        return all(state_of(product, "sim-india") != "up" for _ in range(4 * GATEWAYS))

    wait_until(opened, "its circuit is open", seconds_max=30)
    forget_counts_but_not_scripts(product)
    began = time.monotonic()
    calls = under_load(product.url, key, [BRISK], lambda: time.sleep(3), callers=10)
    tries_max = (time.monotonic() - began) / REST_SECONDS + 1
    assert codes(calls).keys() == {"complete"}
    assert len(calls) > 20
    assert requests_of(product, "sim-india") <= tries_max
    assert requests_of(product, "sim-abroad") >= len(calls) - tries_max

    all_play_well(product)
    works_again(product, key)
    balanced_books(product, calls)


def works_again(product: Product, key: str) -> None:
    """Calls until the cheapest route serves them."""

    def served_by_the_cheapest() -> bool:
        return str(product.chat(key, BRISK).headers.get("x-br-provider")) == "sim-india"

    wait_until(served_by_the_cheapest, "it is called again when it works", seconds_max=30)


def forget_counts_but_not_scripts(product: Product) -> None:
    forget_calls(product)
    plays(product, "sim-india", "hang")
