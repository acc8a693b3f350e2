"""The health of routes as all processes share it through Valkey: averages, circuits, and the one call that tries a
circuit again.

Every process appends what became of its calls to one stream, in batches, and folds the whole stream in its order. So
all come to the same circuits by the same pure fold, and nobody asks Valkey while a call waits. What a process has not
read back yet of its own is laid on top: a failure counts here at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from redis import asyncio as valkey

from domain.kernel.clock import SECOND
from domain.routing.breaker import REST_SECONDS
from domain.routing.health import NOTHING_OBSERVED, Health, LocalHealth, Observed, Outcome

STREAM = "routes:outcomes"
STATES = "routes:states"
PROBE = "routes:probe:"
STREAM_LENGTH = 2_000
"""Batches that the stream keeps, about: minutes under load. Who starts reads the states, and what came after them."""

TURN_SECONDS = 0.5
PATIENCE_SECONDS = 2.0
LEASE_SECONDS = 6
LEASE_USED_SECONDS = 4
"""A call begins to try a circuit within this time, so that its lease can be renewed before it ends."""
UNSENT_MAX = 10_000
BATCHES_MAX = 500
FORGOTTEN_SECONDS = 86_400
"""What a route did a day ago says nothing."""

_log = logging.getLogger(__name__)

_BatchId = tuple[int, int]


class _Kept(msgspec.Struct, frozen=True):
    """A route's state, and the last batch of the stream that is in it."""

    batch: _BatchId
    state: Observed


class SharedRouteHealth:
    """Implements `domain.routing.health.RouteHealth` for one process and one event loop.

    While Valkey is away this process goes on alone (`degraded`), by what it knew and what it sees; when it is back, the
    others learn what was seen meanwhile, the newest `UNSENT_MAX` outcomes of it. One call of all processes tries a
    circuit that has rested; while Valkey is away, one of each process.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int],
        process: str,
        rest_seconds: float = REST_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        """`process` is a name that no other process has."""
        self._client = valkey.Redis.from_url(url, protocol=2, socket_connect_timeout=PATIENCE_SECONDS)
        self._clock = clock
        self._process = process
        self._turn_seconds = turn_seconds
        self._shared: dict[str, _Kept] = {}
        self._read: _BatchId = (0, 0)
        self._unsent: deque[Outcome] = deque(maxlen=UNSENT_MAX)
        self._leases: dict[str, int] = {}
        self._turning: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._degraded = True
        self._local = LocalHealth(
            clock,
            rest_seconds=rest_seconds,
            told=self._unsent.extend,
            may_probe=lambda route: self._degraded or clock() < self._leases.get(route, 0),
        )

    def health(self) -> Health:
        return self._local.health()

    def observe(self, outcome: Outcome) -> None:
        self._local.observe(outcome)

    def take_probe(self, route: str) -> bool:
        return self._local.take_probe(route)

    def end_probe(self, route: str) -> None:
        self._local.end_probe(route)

    @property
    def degraded(self) -> bool:
        """True while this process knows of its own calls alone."""
        return self._degraded

    async def start(self) -> None:
        """Reads what the others know, if Valkey can be reached, and takes part from now on."""
        await self._take_turn()
        self._turning = asyncio.create_task(self._take_turns())

    async def close(self) -> None:
        """Tells what is still to be told, then disconnects."""
        self._closing.set()
        if self._turning is not None:
            await self._turning
        await self._take_turn()
        await self._client.aclose()

    async def _take_turns(self) -> None:
        while not self._closing.is_set():
            await self._take_turn()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._turn_seconds)

    async def _take_turn(self) -> None:
        """Sends, reads, and asks for circuits to try. Raises nothing: without Valkey this process goes on alone."""
        self._local.refresh()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._degraded:
                    await self._load()
                await self._exchange()
                await self._lease()
        except Exception as failure:  # whatever it is, calls go on
            if not self._degraded:
                _log.warning("route health: Valkey does not answer (%r); this process goes on alone", failure)
            self._degraded = True
        else:
            if self._degraded:
                _log.info("route health: shared through Valkey")
            self._degraded = False
        self._local.refresh()

    async def _load(self) -> None:
        """The states as others have left them; what came after them is in the stream."""
        fields: dict[Any, Any] = await self._client.hgetall(STATES)
        self._shared = {route.decode(): _kept.decode(state) for route, state in fields.items()}
        self._read = (0, 0)
        for route in self._shared:
            self._renew(route)

    async def _exchange(self) -> None:
        """Appends what is new here, and folds what is new to anyone."""
        sent = [*self._unsent]
        self._unsent.clear()
        try:
            if sent:
                batch = msgspec.json.encode(sent)
                await self._client.xadd(STREAM, {"o": batch}, maxlen=STREAM_LENGTH, approximate=True)
        except BaseException:
            sent += self._unsent
            self._unsent.clear()
            self._unsent.extend(sent)
            raise
        touched: set[str] = set()
        more = True
        while more:
            batches = await self._next_batches()
            for id, batch in batches:
                touched |= self._fold(id, batch)
                self._read = id
            more = len(batches) == BATCHES_MAX
        for route in touched:
            self._renew(route)
        own = touched & {outcome.route for outcome in sent}
        if own:
            await self._client.hset(STATES, mapping={route: _encode(self._shared[route]) for route in own})
        await self._forget()

    async def _next_batches(self) -> list[tuple[_BatchId, bytes]]:
        last = "{}-{}".format(*self._read)
        found: Any = await self._client.xread({STREAM: last}, count=BATCHES_MAX)
        return [(_batch_id(id), fields[b"o"]) for _, entries in found for id, fields in entries]

    def _fold(self, id: _BatchId, batch: bytes) -> set[str]:
        """Adds a batch to the states that it is not in yet; answers their routes."""
        changed: dict[str, Observed] = {}
        for outcome in _outcomes.decode(batch):
            route = outcome.route
            kept = self._shared.get(route, _NOTHING)
            if kept.batch < id:
                changed[route] = changed.get(route, kept.state).after(outcome, rest=self._local.rest)
        self._shared |= {route: _Kept(id, state) for route, state in changed.items()}
        return set(changed)

    def _renew(self, route: str) -> None:
        """What this process goes by: what all know, and on top what it has not told yet."""
        state = self._shared[route].state
        for outcome in self._unsent:
            if outcome.route == route:
                state = state.after(outcome, rest=self._local.rest)
        self._local.states[route] = state

    async def _lease(self) -> None:
        """Asks for the circuits that have rested; one process at a time has each. A lease that is not used soon goes to
        whoever asks next, that of a call under way stays, and what a call has decided needs none."""
        for route in self._local.probing:
            self._leases[route] = await self._claim(route, only_free=False)
        wanted = [route for route in self._local.rested() if route not in self._local.probing]
        claimed = {route: until for route in wanted if (until := await self._claim(route, only_free=True))}
        if claimed:
            await self._exchange()  # whoever had one of them before has told by now what came of it
            self._leases |= claimed
        rested = self._local.rested()
        untold = {outcome.route for outcome in self._unsent}
        for route in [route for route in self._leases if route not in rested and route not in untold]:
            if self._clock() < self._leases.pop(route):  # else it may be another's by now
                await self._client.delete(PROBE + route)

    async def _claim(self, route: str, *, only_free: bool) -> int:
        """Until when a call may begin to try the circuit; 0 where another process has it."""
        asked = self._clock()
        got = await self._client.set(PROBE + route, self._process, nx=only_free, px=LEASE_SECONDS * 1000)
        return asked + LEASE_USED_SECONDS * SECOND if got else 0

    async def _forget(self) -> None:
        """Lets go of routes that were not called for a day."""
        before = self._clock() - FORGOTTEN_SECONDS * SECOND
        idle = [route for route, kept in self._shared.items() if kept.state.at < before]
        for route in idle:
            del self._shared[route]
            self._local.states.pop(route, None)
        if idle:
            await self._client.hdel(STATES, *idle)


def read_health(url: str, *, at: int, rest_seconds: float) -> Health:
    """How all processes see the routes at this moment, for those that only look; nothing while Valkey is away. A
    circuit that has rested is one that a call may try."""
    from redis import Redis, RedisError

    if not url:
        return NOTHING_OBSERVED
    try:
        with Redis.from_url(url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS) as client:
            fields: dict[Any, Any] = client.hgetall(STATES)
    except RedisError as failure:
        _log.warning("route health: Valkey does not answer (%r); routes are taken for unobserved", failure)
        return NOTHING_OBSERVED
    rest = round(rest_seconds * SECOND)
    states = {route.decode(): _kept.decode(kept).state for route, kept in fields.items()}
    return {route: state.standing(at=at, rest=rest, may_probe=True) for route, state in states.items()}


_NOTHING = _Kept((0, 0), Observed())
_outcomes = msgspec.json.Decoder(list[Outcome])
_kept = msgspec.json.Decoder(_Kept)
_encode = msgspec.json.Encoder().encode


def _batch_id(text: bytes) -> _BatchId:
    millis, _, number = text.partition(b"-")
    return int(millis), int(number)
