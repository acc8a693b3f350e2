"""Averages and circuits of routes from what their calls came to, and the one process that watches them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import SECOND
from domain.routing.breaker import REST_SECONDS, state_of
from domain.routing.health import LocalHealth, Observed, Outcome, merged
from tests.fakes import FakeClock

ROUTE = "p/m"


def outcome(route: str = ROUTE, *, at: int = SECOND, **given: Any) -> Outcome:
    return Outcome(route=route, at=at, **given)


def fold(*outcomes: Outcome) -> Observed:
    state = Observed()
    for each in outcomes:
        state = state.after(each)
    return state


def test_the_first_sample_is_the_average_and_a_fifth_of_each_later_one_goes_in() -> None:
    state = fold(outcome(latency_micros=1_000, tokens_per_kilosecond=50_000))
    assert (state.latency_micros, state.tokens_per_kilosecond, state.failures_ppm) == (1_000, 50_000, 0)
    state = state.after(outcome(latency_micros=2_000, tokens_per_kilosecond=100_000))
    assert (state.latency_micros, state.tokens_per_kilosecond) == (1_200, 60_000)


def test_a_tenth_of_each_outcome_goes_into_the_failure_rate() -> None:
    state = fold(outcome(), outcome(failed=True))
    assert state.failures_ppm == 100_000
    assert state.after(outcome(failed=True)).failures_ppm == 190_000
    assert state.after(outcome()).failures_ppm == 90_000


def test_a_failure_says_nothing_of_latency_and_what_is_unknown_changes_nothing() -> None:
    state = fold(outcome(latency_micros=1_000), outcome(failed=True), outcome())
    assert (state.latency_micros, state.tokens_per_kilosecond) == (1_000, None)


def test_whole_answers_speak_of_the_first_token_only_until_a_stream_has() -> None:
    state = fold(outcome(latency_micros=9_000))
    assert state.latency_micros == 9_000
    state = state.after(outcome(latency_micros=1_000, streamed=True))
    assert state.latency_micros == 1_000
    assert state.after(outcome(latency_micros=9_000)).latency_micros == 1_000


_outcomes = st.lists(
    st.builds(
        Outcome,
        route=st.sampled_from(["a", "b"]),
        at=st.just(5 * SECOND),
        failed=st.booleans(),
        latency_micros=st.sampled_from([0, 700]),
        streamed=st.booleans(),
    ),
    max_size=40,
)


@given(_outcomes)
def test_outcomes_that_are_merged_come_to_the_same(outcomes: list[Outcome]) -> None:
    for route in ("a", "b"):
        plain = fold(*[each for each in outcomes if each.route == route])
        together = fold(*[each for each in merged(outcomes) if each.route == route])
        assert together.circuit == plain.circuit
        assert together.failures_ppm == plain.failures_ppm
        assert together.latency_micros == plain.latency_micros


def test_a_run_of_successes_is_one_outcome_with_their_mean() -> None:
    assert merged([outcome(latency_micros=100), outcome(latency_micros=300), outcome()]) == [
        outcome(latency_micros=200, count=3)
    ]


class Watched:
    def __init__(self) -> None:
        self.clock = FakeClock(1_000 * SECOND)
        self.told: list[Outcome] = []
        self.local = LocalHealth(self.clock, told=self.told.extend)

    def fails(self, times: int = 1, route: str = ROUTE) -> None:
        for _ in range(times):
            self.local.observe(outcome(route, at=self.clock(), failed=True))

    def works(self, route: str = ROUTE, **given: Any) -> None:
        self.local.observe(outcome(route, at=self.clock(), **given))

    @property
    def circuit(self) -> str:
        return self.local.health()[ROUTE].circuit


def test_a_circuit_opens_at_once_and_averages_follow_within_a_second() -> None:
    watched = Watched()
    watched.works(latency_micros=500)
    watched.local.refresh()
    watched.works(latency_micros=1_000)
    assert watched.local.health()[ROUTE].latency_micros == 500
    watched.clock.forward(seconds=1)
    assert watched.local.health()[ROUTE].latency_micros == 600
    watched.fails(3)
    assert watched.circuit == "open"
    assert sum(each.count for each in watched.told) == 5


def test_nothing_that_holds_a_snapshot_sees_it_change() -> None:
    watched = Watched()
    watched.works()
    watched.local.refresh()
    before = watched.local.health()
    assert watched.local.health() is before
    watched.fails(3)
    assert before[ROUTE].circuit == "closed"


def test_one_call_tries_a_circuit_that_has_rested() -> None:
    watched = Watched()
    watched.fails(3)
    assert not watched.local.take_probe(ROUTE)
    watched.clock.forward(seconds=REST_SECONDS)
    assert watched.circuit == "probe"
    assert watched.local.take_probe(ROUTE)
    assert watched.circuit == "half_open"
    assert not watched.local.take_probe(ROUTE)
    watched.works()
    watched.local.end_probe(ROUTE)
    assert watched.circuit == "closed"


def test_a_probe_that_fails_lets_it_rest_again_and_one_without_outcome_leaves_it_to_the_next() -> None:
    watched = Watched()
    watched.fails(3)
    watched.clock.forward(seconds=REST_SECONDS)
    assert watched.local.take_probe(ROUTE)
    watched.local.end_probe(ROUTE)
    assert watched.circuit == "probe"
    assert watched.local.take_probe(ROUTE)
    watched.fails()
    watched.local.end_probe(ROUTE)
    assert watched.circuit == "open"
    assert not watched.local.take_probe(ROUTE)
    state = watched.local.states[ROUTE].circuit
    assert state_of(state, at=watched.clock() + REST_SECONDS * SECOND) == "half_open"


def test_the_circuits_of_others_are_not_touched() -> None:
    watched = Watched()
    watched.fails(3)
    watched.fails(2, "org_a:p/m")
    assert watched.local.health()["org_a:p/m"].circuit == "closed"
