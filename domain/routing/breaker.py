"""The circuit of a route, as a fold of what became of its calls: closed while it works, open after failures, and half
open when it has rested and one call may try it again.

A success never opens a circuit. While it is open, outcomes tell nothing new; once it is half open, the next decides.
"""

from typing import Literal

import msgspec

from domain.kernel.clock import SECOND

State = Literal["closed", "open", "half_open"]

IN_A_ROW = 3
WINDOW_SECONDS = 60
WINDOW_OUTCOMES_MIN = 10
REST_SECONDS = 30

_Second = tuple[int, int, int]
"""A second since 1970, how many calls ended in it, and how many of them failed."""


class Circuit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`opened` is when it opened, in microseconds since 1970, and 0 while it is closed. `failures_in_a_row` are the
    latest; `seconds` are those of the window in which calls ended, oldest first."""

    opened: int = 0
    failures_in_a_row: int = 0
    seconds: tuple[_Second, ...] = ()


CLOSED = Circuit()


def state_of(circuit: Circuit, *, at: int, rest: int = REST_SECONDS * SECOND) -> State:
    """What the circuit is at a moment; `rest` is how long it stays open. Both in microseconds."""
    if not circuit.opened:
        return "closed"
    return "open" if at < circuit.opened + rest else "half_open"


def after_successes(circuit: Circuit, count: int, *, at: int, rest: int = REST_SECONDS * SECOND) -> Circuit:
    """The circuit after so many calls that went well."""
    if circuit.opened:
        return circuit if state_of(circuit, at=at, rest=rest) == "open" else CLOSED
    return Circuit(seconds=_counted(circuit.seconds, at=at, outcomes=count, failures=0))


def after_failure(circuit: Circuit, *, at: int, rest: int = REST_SECONDS * SECOND) -> Circuit:
    """The circuit after a call that failed: open if that is the third in a row, or if half or more of at least ten
    within the window have failed, or if the circuit was half open."""
    if circuit.opened:
        return circuit if state_of(circuit, at=at, rest=rest) == "open" else Circuit(opened=at)
    in_a_row = circuit.failures_in_a_row + 1
    seconds = _counted(circuit.seconds, at=at, outcomes=1, failures=1)
    outcomes = sum(each for _, each, _ in seconds)
    failures = sum(each for _, _, each in seconds)
    if in_a_row >= IN_A_ROW or (outcomes >= WINDOW_OUTCOMES_MIN and 2 * failures >= outcomes):
        return Circuit(opened=at)
    return Circuit(failures_in_a_row=in_a_row, seconds=seconds)


def _counted(seconds: tuple[_Second, ...], *, at: int, outcomes: int, failures: int) -> tuple[_Second, ...]:
    """The window with this counted, without the seconds that have left it. What comes late counts in the newest one."""
    now = max(at // SECOND, seconds[-1][0] if seconds else 0)
    if seconds and seconds[-1][0] == now:
        _, outcomes_so_far, failures_so_far = seconds[-1]
        seconds, outcomes, failures = seconds[:-1], outcomes_so_far + outcomes, failures_so_far + failures
    kept = tuple(each for each in seconds if each[0] > now - WINDOW_SECONDS)
    return (*kept, (now, outcomes, failures))
