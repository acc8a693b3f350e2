"""What stands behind the spine's ports in tests: a ledger that is the pure model, providers that follow a script, a
client that records what it sees, and one place that makes trouble at any await of a call.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from domain.catalog.model import Route
from domain.inference.messages import Endpoint
from domain.inference.outlet import Served
from domain.inference.ports import UpstreamFault
from domain.kernel.clock import DAY
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event
from domain.kernel.mail import Mail
from domain.ledger.events import (
    CreditGranted,
    CreditHeld,
    Ending,
    HoldExpired,
    HoldExtended,
    RequestSettled,
)
from domain.ledger.guards import Denied, Guards, evolve, may_end, may_extend, may_hold

NOON = 20_000 * DAY + DAY // 4


class FakeClock:
    """Microseconds that pass only when told to."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def forward(self, *, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


class ClockAhead:
    """The time of day, put forward by so many microseconds."""

    ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000 + self.ahead

    def forward(self, *, seconds: float) -> None:
        self.ahead += int(seconds * 1_000_000)


@dataclass
class Trouble:
    """Strikes at the await number `at` of a call (from 1; 0 is never), as `how` says.

    `cancel` cancels the call's task; `leave` makes the client hang up; `fail` makes the port raise before it has done
    anything; `fail_after` after it has, so that the effect is there and the answer is lost.
    """

    at: int = 0
    how: str = ""
    points: list[str] = field(default_factory=list)
    task: asyncio.Task[Any] | None = None
    leave: Callable[[], None] = lambda: None

    def strikes(self, point: str) -> str:
        """What a port must do at this await: `fail`, `fail_after`, or nothing."""
        self.points.append(point)
        if len(self.points) != self.at:
            return ""
        if self.how == "cancel":
            assert self.task is not None
            self.task.cancel()
        if self.how == "leave":
            self.leave()
        return self.how


class FakeLedger:
    """The pure model of the guards behind the port `Ledger`. Every promise is checked after every fact.

    A command has its effect when it is handed in, as with the real writer: whoever waits for the answer may be
    cancelled, the command goes on.
    """

    def __init__(self, trouble: Trouble | None = None) -> None:
        self.guards = Guards()
        self.log: list[tuple[str, Event]] = []
        self.trouble = trouble or Trouble()
        self.writable = True
        self.before_hold: Callable[[], None] = lambda: None

    def record(self, stream: str, event: Event) -> None:
        evolve(self.guards, stream, event)
        self.log.append((stream, event))
        self.check()

    def of(self, request: str) -> list[Event]:
        return [event for stream, event in self.log if stream == f"request:{request}"]

    def check(self) -> None:
        """Raises AssertionError where a sum is off or a limit is passed."""
        for org, balance in self.guards.balances.items():
            holds = [hold for hold in self.guards.holds.values() if hold.org == org]
            granted = sum(e.amount for _, e in self.log if isinstance(e, CreditGranted) and e.org == org)
            spent = sum(e.cost for _, e in self.log if isinstance(e, RequestSettled) and e.org == org)
            assert balance.available >= 0
            assert balance.held == sum(hold.amount for hold in holds)
            assert balance.available + balance.held + spent == granted
        for allowance in self.guards.allowances.values():
            assert allowance.used >= 0
            assert allowance.held >= 0

    def expire_all(self) -> int:
        """What the sweeper does once every deadline has passed."""
        for request, hold in list(self.guards.holds.items()):
            expired = HoldExpired(
                at=hold.expires + 1,
                org=hold.org,
                key=hold.key,
                workspace=hold.workspace,
                endpoint="chat",
                model="",
                held=hold.amount,
            )
            self.record(f"request:{request}", expired)
        return len(self.log)

    # The port

    def hold(self, request: str, event: CreditHeld) -> Awaitable[Denied | None]:
        self.before_hold()
        denied = may_hold(self.guards, event)
        if self.of(request):
            denied = Denied("duplicate")
        return self._submit("hold", request, event, denied)

    def extend(self, request: str, event: HoldExtended) -> Awaitable[Denied | None]:
        return self._submit("extend", request, event, may_extend(self.guards, request, event.amount))

    def end(self, request: str, event: Ending) -> Awaitable[Denied | None]:
        cost = event.cost if isinstance(event, RequestSettled) else 0
        return self._submit("end", request, event, may_end(self.guards, request, held=event.held, cost=cost))

    def note(self, request: str, event: Event) -> Awaitable[Denied | None]:
        return self._submit("note", request, event, None)

    def _submit(self, kind: str, request: str, event: Event, denied: Denied | None) -> Awaitable[Denied | None]:
        strike = self.trouble.strikes(f"ledger.{kind}")
        failed = strike == "fail" or not self.writable
        if denied is None and not failed:
            self.record(f"request:{request}", event)

        async def answer() -> Denied | None:
            await asyncio.sleep(0)
            if failed or strike == "fail_after":
                raise Unavailable("ledger_unavailable", "The ledger cannot be written.", retry_after=1)
            return denied

        return answer()


class Letterbox:
    """A mailer that keeps what it is given. `fault` is raised as long as it stands, each of `faults` once."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.fault: Exception | None = None
        self.faults: list[Exception] = []

    def send(self, mail: Mail) -> None:
        if self.fault is not None:
            raise self.fault
        if self.faults:
            raise self.faults.pop()
        self.mails.append(mail)


class PlainSeals:
    """Seals nothing, but says for whom it would."""

    def seal(self, subject: str, text: str) -> str:
        return f"{subject}|{text}"

    def open(self, subject: str, sealed: str) -> str | None:
        owner, _, text = sealed.partition("|")
        assert owner == subject
        return text


Step = bytes | float | UpstreamFault | Callable[[], None]


@dataclass
class Play:
    """How a provider plays one call. `steps` are blocks of the body, silences in seconds, a fault that ends it, or
    something to do at that moment. With `fault` there is no reply at all."""

    status: int = 200
    steps: Sequence[Step] = ()
    fault: UpstreamFault | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass
class Called:
    route: Route
    endpoint: Endpoint
    body: bytes
    first_byte_seconds: float
    key: SecretStr | None = None

    @property
    def sent(self) -> Any:
        return json.loads(self.body)


class FakeReply:
    """A `Reply` that plays its steps, one block at a time."""

    def __init__(self, play: Play, trouble: Trouble) -> None:
        self.status = play.status
        self.headers = play.headers
        self.closed = asyncio.Event()
        self._steps = list(play.steps)
        self._trouble = trouble

    async def next_block(self) -> bytes:
        strike = self._trouble.strikes("reply.block")
        await asyncio.sleep(0)
        if strike.startswith("fail"):
            raise UpstreamFault("cut", "The provider closed the connection.", started=True)
        while not self.closed.is_set():
            if not self._steps:
                return b""
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            if isinstance(step, UpstreamFault):
                raise step
            if isinstance(step, int | float):
                try:
                    await asyncio.wait_for(self.closed.wait(), step)
                except TimeoutError:
                    continue
            else:
                step()
        raise UpstreamFault("cut", "The reply was closed before its end.", started=True)

    async def read(self, limit: int) -> bytes:
        body = b""
        while block := await self.next_block():
            body += block
            if len(body) > limit:
                raise UpstreamFault("too_large", "The reply is too large.", started=True)
        return body

    def close(self) -> None:
        self.closed.set()


class FakeUpstream:
    """Providers by id, each with the plays of its coming calls; the last one is repeated."""

    def __init__(self, trouble: Trouble | None = None) -> None:
        self.plays: dict[str, list[Play]] = {}
        self.calls: list[Called] = []
        self.replies: list[FakeReply] = []
        self.on_call: Callable[[Route], None] = lambda route: None
        self.trouble = trouble or Trouble()

    async def call(
        self,
        route: Route,
        endpoint: Endpoint,
        body: bytes,
        *,
        streamed: bool,
        first_byte_seconds: float,
        key: SecretStr | None = None,
    ) -> FakeReply:
        self.on_call(route)
        self.calls.append(Called(route, endpoint, body, first_byte_seconds, key))
        strike = self.trouble.strikes("upstream.call")
        await asyncio.sleep(0)
        if strike.startswith("fail"):
            raise UpstreamFault("timeout", "The provider did not answer in time.", started=False)
        plays = self.plays[route.provider]
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        if play.fault is not None:
            raise play.fault
        self.replies.append(FakeReply(play, self.trouble))
        return self.replies[-1]

    @property
    def asked(self) -> list[str]:
        return [called.route.provider for called in self.calls]


class FakeOutlet:
    """A client that records what it sees until it hangs up. Refuses what could not be said on a wire."""

    def __init__(self, trouble: Trouble | None = None) -> None:
        self.trouble = trouble or Trouble()
        self.body: bytes | None = None
        self.served: Served | None = None
        self.frames = b""
        self.opened = False
        self.finished = False
        self.gone = False
        self.leave_after_bytes: int | None = None
        self._leave: Callable[[], None] | None = None

    def leave(self) -> None:
        self.gone = True
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def when_gone(self, leave: Callable[[], None]) -> None:
        if self.gone:
            leave()
        else:
            self._leave = leave

    def whole(self, served: Served, body: bytes) -> None:
        assert not self.opened
        assert self.body is None
        self.finished = True
        self.served = served
        if not self.gone:
            self.body = body

    def open(self, served: Served) -> None:
        assert not self.opened
        assert self.body is None
        self.opened = True
        self.served = served

    async def send(self, frames: bytes) -> None:
        assert self.opened
        assert not self.finished
        self._see(frames)
        self.trouble.strikes("outlet.send")
        if self.leave_after_bytes is not None and len(self.frames) > self.leave_after_bytes and not self.gone:
            self.leave()
        await asyncio.sleep(0)

    def finish(self, frames: bytes) -> None:
        assert self.opened
        assert not self.finished
        self.finished = True
        self._see(frames)

    def _see(self, frames: bytes) -> None:
        if not self.gone:
            self.frames += frames


class FakeTokenizer:
    """Every word is a token."""

    def __init__(self, trouble: Trouble | None = None) -> None:
        self.trouble = trouble or Trouble()
        self.counted: list[str] = []

    async def count(self, text: str) -> int:
        self.counted.append(text)
        strike = self.trouble.strikes("tokenizer.count")
        await asyncio.sleep(0)
        if strike.startswith("fail"):
            raise RuntimeError("a fault of ours")
        return len(text.split())
