"""Rolling-minute limits that hold over all processes: the windows live in Valkey, one script decides.

A process sends one script at a time. All requests that came while the last one ran go in the next one together, since
the client costs far more per command than Valkey does per key. A lone request is sent at the next turn of the event
loop.
"""

import asyncio
import hashlib
import logging
import struct
import time
from itertools import islice

import msgspec
from redis import exceptions
from redis.asyncio import ConnectionPool

from domain.inference.rates import SECOND_MICROS, Limit, RollingWindows, Taken, Window, window_of

PATIENCE_SECONDS = 0.25
RECOVERY_SECONDS = 1.0
GROUPS_MAX = 1_000  # in one script, so that it holds Valkey up for a few milliseconds at most

_LIMIT_MAX = 2**40  # Lua's numbers are exact far beyond it

# A key `rate:<scope>` is a list of runs, oldest first: when it was, and the numbers of its first and last request,
# counted from the key's birth. Requests that come at once make one run, and the number that counts is a difference of
# two, so a step costs the same for a limit of 60 and of 100,000. ARGV: the window's length in microseconds, and for
# each group of requests the number of its limits, the number of requests, and the limits; KEYS are the scopes of these,
# in the same order. The answer is, for each key, the last four numbers of `Taken`.
SCRIPT = b"""
local length = tonumber(ARGV[1])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local answers = {}

local function run(key, place)
    local packed = redis.call('LINDEX', key, place)
    if packed then
        return struct.unpack('<i8i8i8', packed)
    end
end

-- How many of the key's first runs `holds` is true for, and the run that follows them, if there is one. `holds` is
-- false for every run after the first it is false for. Steps double while it holds and are halved when it does not, so
-- the last one looks at the run that follows.
local function leading(key, holds)
    local known, step = 0, 1
    local at, first, last
    while step > 0 do
        at, first, last = run(key, known + step - 1)
        if at and holds(at, last) then
            known, step = known + step, step * 2
        else
            step = math.floor(step / 2)
        end
    end
    return known, at, first
end

-- The key's window at this moment: its first and last request, and the time of its newest run, if any counts.
local function window(key, limit)
    local now, first, last = clock, 1, 0
    local newest, _, number = run(key, -1)
    if newest and newest - now > length then -- the clock was set back: nobody is locked out until it catches up
        redis.call('DEL', key)
        newest = nil
    elseif newest then
        now, last = math.max(now, newest), number
        local gone, oldest, oldest_first = leading(key, function(at) return at <= now - length end)
        if gone > 0 then
            redis.call('LTRIM', key, gone, -1)
        end
        newest, first = oldest and newest, oldest_first or last + 1
    end
    return {key = key, limit = limit, now = now, first = first, last = last, newest = newest}
end

local function answer(window, granted)
    local key, limit, now, first, last, newest =
        window.key, window.limit, window.now, window.first, window.last, window.newest
    local before = last - first + 1
    if granted > 0 then
        redis.call('RPUSH', key, struct.pack('<i8i8i8', now, last + 1, last + granted))
        redis.call('PEXPIRE', key, math.ceil(length / 1000))
        newest, last = now, last + granted
    end

    local retry, reset = 0, 0
    if last - first + 1 >= limit then
        local _, leaving = leading(key, function(_, number) return last - number >= limit end)
        retry = (leaving or now) + length - now
    end
    if newest then
        reset = newest + length - now
    end
    return struct.pack('<i8i8i8i8', before, granted, retry, reset)
end

local at = 1
while at <= #ARGV[2] do
    local number, granted, limit
    number, granted, at = struct.unpack('<i8i8', ARGV[2], at)
    local windows = {}
    for n = 1, number do
        limit, at = struct.unpack('<i8', ARGV[2], at)
        windows[n] = window(KEYS[#answers + n], limit)
        granted = math.max(0, math.min(granted, limit - (windows[n].last - windows[n].first + 1)))
    end
    for n = 1, number do
        answers[#answers + 1] = answer(windows[n], granted)
    end
end
return table.concat(answers)
"""
_DIGEST = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()

_log = logging.getLogger(__name__)


class _Group(msgspec.Struct):
    """Requests with the same limits."""

    limits: tuple[Limit, ...]
    waiters: list[asyncio.Future[Window]]


class SharedRateWindows:
    """Implements `domain.inference.rates.RateWindows` for one process and one event loop.

    With Valkey there, all processes together never pass more than the limit within a window, by Valkey's clock. In
    any case this process never passes more than the limit within a window by its own clock, also across the loss and
    the return of Valkey: it remembers what it let pass, and counts alone (`degraded`) while Valkey is away or takes
    longer than `patience_seconds`. What one process passes alone the others do not learn.

    With `appendfsync everysec`, Valkey may forget what it was told within its last second or two if its machine dies.
    The end of its process alone loses nothing, unless the disk is so slow that it still syncs what came before. A
    request whose waiter is cancelled, or whose answer comes too late, may count although it was not served. Needs a
    Redis 7.2 or Valkey that is not a cluster.
    """

    def __init__(self, url: str, *, window_seconds: float = 60, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._length = round(window_seconds * SECOND_MICROS)
        # Patience is ours: the client must neither wait nor repeat on its own.
        pool = ConnectionPool.from_url(url, protocol=2, socket_timeout=None, driver_info=None)
        self._connection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._own = RollingWindows(self._length)
        self._waiting: dict[tuple[Limit, ...], list[asyncio.Future[Window]]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._degraded = True

    @property
    def degraded(self) -> bool:
        return self._degraded

    async def start(self) -> None:
        """Connects. If Valkey cannot be reached, this process counts alone until it can."""
        if not await self._reach():
            self._recovering = asyncio.create_task(self._recover())

    async def close(self) -> None:
        """Answers all who wait, then disconnects."""
        if self._serving is not None:
            await self._serving
        if self._recovering is not None:
            self._recovering.cancel()
        self._degraded = True
        await self._connection.disconnect(nowait=True)

    def take(self, *limits: Limit) -> asyncio.Future[Window]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Window] = loop.create_future()
        now = _now()
        if self._degraded or not self._own.have_room(limits, now=now):
            # What is full by our own count is full by all processes' count, too.
            waiter.set_result(window_of(self._own.take(limits, wanted=int(self._degraded), now=now), place=0))
            return waiter
        self._waiting.setdefault(limits, []).append(waiter)
        if self._serving is None:
            self._serving = loop.create_task(self._serve())
        return waiter

    async def _serve(self) -> None:
        """Answers all who wait, batch by batch."""
        while self._waiting:
            batch = self._next_batch()
            if not self._degraded:
                try:
                    await self._answer_together(batch)
                    continue
                except Exception as failure:  # whatever it is, nobody may be left waiting
                    self._degrade(failure)
            self._answer_alone(batch)
        self._serving = None

    def _next_batch(self) -> list[_Group]:
        batch = []
        for limits in list(islice(self._waiting, GROUPS_MAX)):
            waiters = [waiter for waiter in self._waiting.pop(limits) if not waiter.done()]
            if waiters:
                batch.append(_Group(limits, waiters))
        return batch

    async def _answer_together(self, batch: list[_Group]) -> None:
        """Raises whatever the client raises; then nobody was answered."""
        if not batch:
            return
        sent = _now()
        wanted = []
        for group in batch:
            room = min(taken.room for taken in self._own.take(group.limits, wanted=0, now=sent))
            wanted.append(max(0, min(len(group.waiters), room)))
        for group, shared in zip(batch, await self._ask(batch, wanted), strict=True):
            own = self._own.take(group.limits, wanted=shared[0].granted, now=sent)
            _answer(group, [one.tightened(other) for one, other in zip(shared, own, strict=True)])

    def _answer_alone(self, batch: list[_Group]) -> None:
        now = _now()
        for group in batch:
            _answer(group, self._own.take(group.limits, wanted=len(group.waiters), now=now))

    # Valkey

    async def _ask(self, batch: list[_Group], wanted: list[int]) -> list[list[Taken]]:
        keys, numbers = list[str](), list[int]()
        for group, count in zip(batch, wanted, strict=True):
            keys += [f"rate:{scope}" for scope, _ in group.limits]
            numbers += [len(group.limits), count, *(min(limit, _LIMIT_MAX) for _, limit in group.limits)]
        asked = struct.pack(f"<{len(numbers)}q", *numbers)
        command: list[str | bytes | int] = ["EVALSHA", _DIGEST, len(keys), *keys, self._length, asked]
        async with asyncio.timeout(self._patience_seconds):
            try:
                packed = await self._call(*command)
            except (exceptions.NoScriptError, exceptions.ConnectionError):
                # It was restarted, or an idle connection was cut: neither is an outage.
                await self._connect()
                packed = await self._call(*command)
        answers = struct.iter_unpack("<4q", packed)
        return [[Taken(limit, *next(answers)) for _, limit in group.limits] for group in batch]

    async def _connect(self) -> None:
        await self._connection.disconnect(nowait=True)
        await self._connection.connect()
        await self._call("SCRIPT", "LOAD", SCRIPT)

    async def _call(self, *command: str | bytes | int) -> bytes:
        await self._connection.send_command(*command)
        answer: bytes = await self._connection.read_response()
        return answer

    def _degrade(self, failure: Exception) -> None:
        _log.warning("rate windows: Valkey does not answer (%r); this process counts alone", failure)
        self._degraded = True
        self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_SECONDS)
            if await self._reach():
                return

    async def _reach(self) -> bool:
        """Whether Valkey counts again, which takes more than to answer; from then on the windows are shared."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._connect()
            await self._ask([_Group((("probe", _LIMIT_MAX),), [])], [1])
        except Exception:  # as above: no failure of the client may end the search
            return False
        self._degraded = False
        _log.info("rate windows: shared through Valkey")
        return True


def _answer(group: _Group, taken: list[Taken]) -> None:
    for place, waiter in enumerate(group.waiters):
        if not waiter.done():
            waiter.set_result(window_of(taken, place=place))


def _now() -> int:
    return time.monotonic_ns() // 1_000
