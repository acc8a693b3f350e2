"""Limits over a rolling minute: what a caller is told, what the spine asks for, and the window as one process keeps
it. Time is handed in, as whole microseconds of any clock that does not go back.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Sequence
from operator import attrgetter
from typing import Protocol

import msgspec

SECOND_MICROS = 1_000_000

Limit = tuple[str, int]
"""A scope, such as one key, and how many of its requests may pass within any window."""


class Window(msgspec.Struct, frozen=True):
    """The answer to one request: whether it passes, and the state of its tightest limit's window after it.

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

    def take(self, *limits: Limit) -> Awaitable[Window]:
        """Passes a request if of each scope fewer than its limit passed within the last minute, and counts it in each.

        A refused request counts nowhere. A limit below 1 refuses all. The answer is that of the tightest limit. There
        is at least one, and no scope twice. Raises nothing.
        """
        ...


class Taken(msgspec.Struct, frozen=True):
    """What one of its limits says of a group of requests that came at one moment.

    `before` had passed within the window, the first `granted` of the group pass: as many as all limits of the group
    allow. Then `retry` microseconds go by until one more may pass (0 when it may at once), and `reset` until none that
    passed counts any more.
    """

    limit: int
    before: int
    granted: int
    retry: int
    reset: int

    def tightened(self, other: "Taken") -> "Taken":
        """What two windows of one limit say together that must both allow a request."""
        return Taken(
            self.limit,
            max(self.before, other.before),
            min(self.granted, other.granted),
            max(self.retry, other.retry),
            max(self.reset, other.reset),
        )

    @property
    def room(self) -> int:
        return self.limit - self.before


def window_of(taken: Sequence[Taken], *, place: int) -> Window:
    """The answer to the request at `place` (from 0) of a group, from what its limits say."""
    if place < taken[0].granted:
        tightest = taken[0] if len(taken) == 1 else min(taken, key=_room)
        return Window(True, tightest.limit, tightest.room - place - 1, tightest.reset / SECOND_MICROS, 0.0)
    tightest = max(taken, key=_retry)
    return Window(False, tightest.limit, 0, tightest.reset / SECOND_MICROS, tightest.retry / SECOND_MICROS)


_room = attrgetter("room")
_retry = attrgetter("retry")


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

    def have_room(self, limits: Sequence[Limit], *, now: int) -> bool:
        """Whether one more request would pass."""
        for scope, limit in limits:  # noqa: SIM110  # a generator costs as much as all the rest of it
            if self._window(scope, now).count >= limit:
                return False
        return True

    def take(self, limits: Sequence[Limit], *, wanted: int, now: int) -> list[Taken]:
        """Lets as many of `wanted` requests pass as all limits allow. With `wanted` 0 it only looks."""
        windows = [self._window(scope, now) for scope, _ in limits]
        granted = wanted
        for (_, limit), passed in zip(limits, windows, strict=True):
            granted = max(0, min(granted, limit - passed.count))
        answers = []
        for (scope, limit), passed in zip(limits, windows, strict=True):
            before = passed.count
            if granted:
                passed.runs.append((now, granted))
                passed.count += granted
                self._scopes[scope] = passed
                self._scopes.move_to_end(scope)
                self._forget_idle(now)
            reset = passed.runs[-1][0] + self._length - now if passed.runs else 0
            answers.append(Taken(limit, before, granted, self._retry(passed, limit=limit, now=now), reset))
        return answers

    def _window(self, scope: str, now: int) -> "_Passed":
        passed = self._scopes.get(scope) or _Passed()
        runs = passed.runs
        while runs and runs[0][0] <= now - self._length:
            passed.count -= runs.popleft()[1]
        return passed

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
