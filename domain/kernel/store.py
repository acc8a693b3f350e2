"""The port through which the domain remembers: a decision, the history it rests on, and the promise to append whole."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from domain.kernel.events import Event

Decision = Sequence[tuple[str, Event]]
"""The facts that follow, each with the stream it belongs to. Empty where the fact is there already."""


class State(Protocol):
    """What the facts of a history add up to."""

    def evolve(self, stream: str, event: Event, /) -> Self: ...


S = TypeVar("S", bound=State)


def fold(initial: S, facts: Iterable[tuple[str, Event]]) -> S:
    for stream, event in facts:
        initial = initial.evolve(stream, event)
    return initial


@dataclass(frozen=True)
class Change(Generic[S]):
    """A decision and the history it rests on.

    `history` is a stream such as `account:acme`. That of an org (`org:acme`) is everything the org has configured: its
    own stream with those of its workspaces and keys, so that a rule over all of them is decided as one. `catalog` is
    the catalog with all its prices.
    `decide` raises a Refusal or returns the facts; it may run several times and must depend on nothing but the state.
    """

    history: str
    initial: S
    decide: Callable[[S], Decision]


class Store(Protocol):
    def change(self, *changes: Change[Any], at: int, by: str) -> int | None:
        """Loads, decides and appends every change in one transaction, or none of them.

        The facts are stamped with `at` (microseconds since 1970) and the actor `by`. Nothing is appended if any of the
        histories has moved on meanwhile: it is read again and decided again. Returns the position of the last fact
        appended, or None if there was none. Raises what a decision raises, and Unavailable if it cannot be written.
        """
        ...
