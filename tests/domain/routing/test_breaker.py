"""Circuits: they open after failures, rest, let one outcome decide, and never open for a success."""

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import SECOND
from domain.routing.breaker import (
    CLOSED,
    IN_A_ROW,
    REST_SECONDS,
    WINDOW_OUTCOMES_MIN,
    WINDOW_SECONDS,
    Circuit,
    State,
    after_failure,
    after_successes,
    state_of,
)

NOON = 1_700_000_000 * SECOND


def after(circuit: Circuit, outcomes: str, *, at: int = NOON) -> Circuit:
    """The circuit after these outcomes at one moment: `+` went well, `-` failed."""
    for outcome in outcomes:
        circuit = after_successes(circuit, 1, at=at) if outcome == "+" else after_failure(circuit, at=at)
    return circuit


def test_the_third_failure_in_a_row_opens_a_circuit() -> None:
    assert state_of(after(CLOSED, "--"), at=NOON) == "closed"
    assert state_of(after(CLOSED, "--+--"), at=NOON) == "closed"
    assert state_of(after(CLOSED, "---"), at=NOON) == "open"


def test_half_of_ten_within_the_window_opens_it_and_half_of_nine_does_not() -> None:
    assert state_of(after(CLOSED, "-+--+--++" + "-"), at=NOON) == "open"
    assert state_of(after(CLOSED, "-+-+-+-+-"), at=NOON) == "closed"
    assert state_of(after(CLOSED, "++++++-+-+-"), at=NOON) == "closed"


def test_what_is_a_minute_old_counts_no_more() -> None:
    worn = after(CLOSED, "-+-+-+-+-")
    later = NOON + WINDOW_SECONDS * SECOND
    assert state_of(after(worn, "+-", at=later - SECOND), at=later - SECOND) == "open"
    assert state_of(after(worn, "+-", at=later), at=later) == "closed"


def test_an_open_circuit_rests_and_then_the_next_outcome_decides() -> None:
    opened = after(CLOSED, "---")
    almost, rested = NOON + REST_SECONDS * SECOND - 1, NOON + REST_SECONDS * SECOND
    assert state_of(opened, at=almost) == "open"
    assert after(opened, "+-+", at=almost) == opened
    assert state_of(opened, at=rested) == "half_open"
    assert after(opened, "+", at=rested) == CLOSED
    again = after(opened, "-", at=rested)
    assert state_of(again, at=rested) == "open"
    assert state_of(again, at=rested + REST_SECONDS * SECOND) == "half_open"


class Model:
    """The same rules over a list of everything that ever happened, and no cleverness."""

    def __init__(self) -> None:
        self.opened: int | None = None
        self.since: list[tuple[int, bool]] = []

    def state(self, at: int) -> State:
        if self.opened is None:
            return "closed"
        return "open" if at < self.opened + 30 * SECOND else "half_open"

    def happens(self, failed: bool, at: int) -> None:
        if self.state(at) == "open":
            return
        if self.state(at) == "half_open":
            self.opened, self.since = (at if failed else None), []
            return
        self.since.append((at, failed))
        window = [each for when, each in self.since if when // SECOND > at // SECOND - 60]
        in_a_row = [each for _, each in self.since[-3:]] == [True, True, True]
        if failed and (in_a_row or (len(window) >= 10 and 2 * sum(window) >= len(window))):
            self.opened, self.since = at, []


_pauses = st.one_of(st.just(0), st.integers(0, SECOND), st.integers(0, 70 * SECOND))


@given(st.lists(st.tuples(_pauses, st.booleans(), st.integers(1, 4)), max_size=120))
def test_a_circuit_does_as_the_plain_model_does(history: list[tuple[int, bool, int]]) -> None:
    circuit, model, now = CLOSED, Model(), NOON
    for pause, failed, count in history:
        now += pause
        if failed:
            circuit = after_failure(circuit, at=now)
            model.happens(True, now)
        else:
            circuit = after_successes(circuit, count, at=now)
            for _ in range(count):
                model.happens(False, now)
        assert state_of(circuit, at=now) == model.state(now)
        assert len(circuit.seconds) <= WINDOW_SECONDS


def test_the_numbers_are_those_that_the_product_promises() -> None:
    assert (IN_A_ROW, WINDOW_SECONDS, WINDOW_OUTCOMES_MIN, REST_SECONDS) == (3, 60, 10, 30)
