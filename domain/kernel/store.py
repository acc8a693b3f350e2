"""The port through which the domain remembers: a decision, the history it rests on, and the promise to append whole."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from domain.kernel.events import Event, Recorded
from domain.kernel.money import Balance

Decision = Sequence[tuple[str, Event]]
"""The facts that follow, each with the stream it belongs to. Empty where the fact is there already."""


class State(Protocol):
    """What the facts of a history add up to."""

    def evolve(self, stream: str, event: Event, /) -> Self: ...


S = TypeVar("S", bound=State)
T = TypeVar("T")


@runtime_checkable
class LongState(State, Protocol):
    """A state of histories that grow long: it takes many facts in without a copy for each."""

    def after(self, facts: Iterable[tuple[str, Event]], /) -> Self: ...


def fold(initial: S, facts: Iterable[tuple[str, Event]]) -> S:
    if isinstance(initial, LongState):
        return initial.after(facts)
    for stream, event in facts:
        initial = initial.evolve(stream, event)
    return initial


def fold_recorded(initial: S, facts: Iterable[Recorded]) -> S:
    """As `fold`, of facts as the log hands them out."""
    return fold(initial, ((fact.stream, fact.event) for fact in facts))


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


class Reader(Protocol):
    """What a decision under the lock of the log may look at; nothing can be appended while it looks."""

    def fold(self, history: str, initial: S) -> S:
        """What the facts of a stream add up to. For streams that stay short, or whose end is looked at rarely."""
        ...

    def count(self, stream: str) -> int:
        """How many facts a stream has: the number of the last document of a series, however long it is."""
        ...

    def balance(self, org: str) -> Balance:
        """The org's balance as it decides. Raises NotFound for an org that is not known."""
        ...


class Store(Protocol):
    def look(self, read: Callable[[Reader], T]) -> T:
        """Reads the log as it is at one moment, and makes nobody wait. For questions, and for what would be refused
        anyway; a decision that appends looks again under the lock. Raises what `read` raises, and Unavailable."""
        ...

    def locked(self, decide: Callable[[Reader], Decision], *, at: int, by: str) -> int | None:
        """Decides with the log locked, and appends. For facts that rest on a balance or must be numbered without a gap.

        The whole ledger waits meanwhile: `decide` reads little, and does nothing but decide. Stamps, answers and raises
        as `change` does.
        """
        ...

    def change(self, *changes: Change[Any], at: int, by: str) -> int | None:
        """Loads, decides and appends every change in one transaction, or none of them.

        The facts are stamped with `at` (microseconds since 1970) and the actor `by`. Nothing is appended if any of the
        histories has moved on meanwhile: it is read again and decided again. Returns the position of the last fact
        appended, or None if there was none. Raises what a decision raises, and Unavailable if it cannot be written.
        """
        ...
