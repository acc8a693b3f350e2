"""Limits over a rolling minute: what a caller is told, what the spine asks for, and the window as one process keeps
it. Time is handed in, as whole microseconds of any clock that does not go back.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable
from typing import Protocol

import msgspec

SECOND_MICROS = 1_000_000


class Window(msgspec.Struct, frozen=True):
    """The answer to one request: whether it passes, and the state of its scope's window after it.

    `remaining` more may pass at this moment; after `reset_seconds` none that passed counts any more. A refused
    request may be repeated with success after `retry_seconds`, unless others are quicker; 0 for one that passed.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_seconds: float


class RateWindows(Protocol):
    """Rolling windows that all processes of the product share."""

    @property
    def degraded(self) -> bool:
        """True while every process counts for itself, because what they share cannot be reached."""

    def take(self, scope: str, limit: int) -> Awaitable[Window]:
        """Passes a request if fewer than `limit` of `scope` passed within the last minute, and counts it if so.

        A refused request counts nothing. A limit below 1 refuses all. Raises nothing.
        """
        ...


class Taken(msgspec.Struct, frozen=True):
    """What became of a group of requests of one scope that came at one moment.

    `before` had passed within the window, the first `granted` of the group pass. Then `retry` microseconds go by until
    one more may pass (0 when it may at once), and `reset` until none that passed counts any more.
    """

    before: int
    granted: int
    retry: int
    reset: int

    def tightened(self, other: "Taken") -> "Taken":
        """What two windows that must both allow a request say together."""
        return Taken(
            max(self.before, other.before),
            min(self.granted, other.granted),
            max(self.retry, other.retry),
            max(self.reset, other.reset),
        )

    def window(self, place: int, *, limit: int) -> Window:
        """The answer to the request at `place` (from 0) of the group."""
        reset_seconds = self.reset / SECOND_MICROS
        if place < self.granted:
            return Window(True, limit, limit - self.before - place - 1, reset_seconds, 0.0)
        return Window(False, limit, 0, reset_seconds, self.retry / SECOND_MICROS)


class RollingWindows:
    """Exact windows of `length` microseconds, one for each scope.

    A request that passed at `t` counts until just before `t + length`. The memory is bounded by what passed within
    the last two windows: every scope that passes one lets up to two forgotten ones go.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._scopes: OrderedDict[str, _Passed] = OrderedDict()  # the one that passed a request last is the last

    def __len__(self) -> int:
        return len(self._scopes)

    def take(self, scope: str, *, limit: int, wanted: int, now: int) -> Taken:
        """Lets as many of `wanted` requests pass as the limit allows. With `wanted` 0 it only looks."""
        passed = self._scopes.get(scope) or _Passed()
        runs = passed.runs
        while runs and runs[0][0] <= now - self._length:
            passed.count -= runs.popleft()[1]
        before = passed.count
        granted = max(0, min(wanted, limit - before))
        if granted:
            runs.append((now, granted))
            passed.count += granted
            self._scopes[scope] = passed
            self._scopes.move_to_end(scope)
            self._forget_idle(now)
        reset = runs[-1][0] + self._length - now if runs else 0
        return Taken(before, granted, self._retry(passed, limit=limit, now=now), reset)

    def _retry(self, passed: "_Passed", *, limit: int, now: int) -> int:
        leaving = passed.count - limit + 1  # so many must stop counting before one more may pass
        if leaving <= 0:
            return 0
        for at, count in passed.runs:
            leaving -= count
            if leaving <= 0:
                return at + self._length - now
        return self._length  # the limit is below 1

    def _forget_idle(self, now: int) -> None:
        for _ in range(2):
            scope, passed = next(iter(self._scopes.items()))
            if passed.runs and passed.runs[-1][0] > now - self._length:
                return
            del self._scopes[scope]


class _Passed:
    """The requests of one scope that count: runs of one moment and their number, oldest first."""

    __slots__ = ("count", "runs")

    def __init__(self) -> None:
        self.count = 0
        self.runs: deque[tuple[int, int]] = deque()
