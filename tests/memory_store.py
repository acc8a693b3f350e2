"""The Store port in memory, so that decisions are tested in microseconds."""

from typing import Any

import msgspec

from domain.kernel.events import Event
from domain.kernel.store import Change, fold


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

    def names(self, since: int = 0) -> list[str]:
        """The kinds of the facts, without the first `since`."""
        return [type(event).__name__ for _, event in self.facts[since:]]

    def _history(self, name: str) -> list[tuple[str, Event]]:
        org = name.removeprefix("org:") if name.startswith("org:") else None
        if org is None:
            return [fact for fact in self.facts if fact[0] == name]
        return [fact for fact in self.facts if fact[0] == name or _is_of(org, *fact)]


def _is_of(org: str, stream: str, event: Event) -> bool:
    return not stream.startswith(("request:", "account:")) and getattr(event, "org", None) == org
