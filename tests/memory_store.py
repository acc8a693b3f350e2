"""The Store port in memory, so that decisions are tested in microseconds."""

from collections.abc import Callable
from typing import Any

import msgspec

from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Reader, S, T, fold
from domain.ledger.guards import Balance, Guards, evolve


class MemoryStore:
    """`facts` are all that was appended, in order, each with its stream."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, Event]] = []

    def change(self, *changes: Change[Any], at: int, by: str) -> int | None:
        new = [
            (stream, msgspec.structs.replace(event, at=at, by=by))
            for change in changes
            for stream, event in change.decide(fold(change.initial, self._history(change.history)))
        ]
        self.facts += new
        return len(self.facts) if new else None

    def locked(self, decide: Callable[[Reader], Decision], *, at: int, by: str) -> int | None:
        new = [(stream, msgspec.structs.replace(event, at=at, by=by)) for stream, event in decide(self)]
        self.facts += new
        return len(self.facts) if new else None

    def look(self, read: Callable[[Reader], T]) -> T:
        return read(self)

    # What a decision under the lock reads

    def fold(self, history: str, initial: S) -> S:
        return fold(initial, self._history(history))

    def count(self, stream: str) -> int:
        return len(self._history(stream))

    def balance(self, org: str) -> Balance:
        guards = Guards()
        for stream, event in self.facts:
            evolve(guards, stream, event)
        if org not in guards.balances:
            raise NotFound("not_found", "No such org.", param="org")
        return guards.balances[org]

    def names(self, since: int = 0) -> list[str]:
        """The kinds of the facts, without the first `since`."""
        return [type(event).__name__ for _, event in self.facts[since:]]

    def _history(self, name: str) -> list[tuple[str, Event]]:
        org = name.removeprefix("org:") if name.startswith("org:") else None
        if org is None:
            return [fact for fact in self.facts if fact[0] == name]
        return [fact for fact in self.facts if fact[0] == name or _is_of(org, *fact)]


def _is_of(org: str, stream: str, event: Event) -> bool:
    money = ("request:", "account:", "payment:", "document:", "redemption:", "billing:", "dispute:")
    return not stream.startswith(money) and getattr(event, "org", None) == org
