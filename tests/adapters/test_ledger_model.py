"""The database and the pure rules are two tellings of one story: whatever is asked in whatever order, they decide the
same, keep the same rows, and the log folds to those rows.
"""

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from adapters.eventstore import EventStore
from adapters.ledger import LedgerWriter, cost_of, expire_due
from adapters.log import LogReader, recorded
from adapters.postgres import connect, make_pool
from domain.accounts.service import create_workspace, update_workspace
from domain.kernel.clock import DAY, SECOND, next_ist_midnight, next_ist_month
from domain.kernel.events import Event
from domain.keys.service import KeyTerms, KeyWishes, update_key
from domain.ledger.credit import grant_credit
from domain.ledger.events import Ending, HoldExpired, HoldExtended
from domain.ledger.guards import Allowance, Balance, Denied, Guards, Hold, evolve, may_end, may_extend, may_hold
from tests.adapters.bookings import ENDPOINT, MODEL, hold_of, refusal_of, release_of, settlement_of
from tests.given import NOON, given_key, given_org

ORGS, WORKSPACES, KEYS = 2, 2, 3
MINUTE = 60 * SECOND

# What can be asked. `of` picks a request that was named before, `key` a key; both are taken modulo how many there are.


@dataclass(frozen=True)
class NewHold:
    key: int
    amount: int
    minutes: int


@dataclass(frozen=True)
class HoldAgain:
    of: int


@dataclass(frozen=True)
class Extend:
    of: int
    amount: int


@dataclass(frozen=True)
class End:
    of: int
    percent: int | None  # of the hold; None releases it
    mistaken: int  # how far the ending is out in what it believes to be held


@dataclass(frozen=True)
class Note:
    of: int | None


@dataclass(frozen=True)
class Credit:
    org: int
    amount: int


@dataclass(frozen=True)
class LimitKey:
    key: int
    budget: int | None
    daily: int | None


@dataclass(frozen=True)
class LimitWorkspace:
    workspace: int
    budget: int | None


@dataclass(frozen=True)
class Wait:
    until: str


@dataclass(frozen=True)
class Sweep:
    pass


number = st.integers(0, 20)
amounts = st.integers(0, 60)
budgets = st.none() | st.integers(0, 200)
commands = st.one_of(
    st.builds(NewHold, key=number, amount=amounts, minutes=st.integers(1, 30)),
    st.builds(NewHold, key=number, amount=amounts, minutes=st.integers(1, 30)),
    st.builds(End, of=number, percent=st.none() | st.integers(0, 110), mistaken=st.sampled_from([0, 0, 0, 0, -1, 3])),
    st.builds(Extend, of=number, amount=st.just(0) | amounts),
    st.builds(HoldAgain, of=number),
    st.builds(Note, of=st.none() | number),
)
steps = st.one_of(
    st.lists(commands, min_size=1, max_size=3),
    st.lists(commands, min_size=1, max_size=40),
    st.lists(commands, min_size=1, max_size=40),
    st.builds(Credit, org=number, amount=st.integers(1, 200)),
    st.builds(LimitKey, key=number, budget=budgets, daily=st.none() | st.integers(0, 8)),
    st.builds(LimitWorkspace, workspace=number, budget=budgets),
    st.builds(Wait, until=st.sampled_from(["minutes", "midnight", "month"])),
    st.builds(Sweep),
)


class Both:
    """The database and the model side by side, with orgs of their own, under one clock."""

    serial = itertools.count()

    def __init__(self, url: str, store: EventStore, log: LogReader) -> None:
        self.url, self.store, self.log = url, store, log
        self.now = NOON
        self.position = log.head()
        self.model, self.folded = Guards(), Guards()
        self.requests: dict[str, Event | None] = {}  # every id used so far, with the ending that was recorded
        self.names: list[str] = []
        self.grants = itertools.count()
        here = f"m{next(self.serial)}"
        self.here = here
        self.orgs = [given_org(store, f"{here}_{n}", inr=0, at=self.now) for n in range(ORGS)]
        self.workspaces = [f"ws_{org}" for org in self.orgs]
        for org, n in itertools.product(self.orgs, range(1, WORKSPACES)):
            self.workspaces.append(f"ws{n}_{org}")
            create_workspace(
                store,
                org=org,
                workspace=self.workspaces[-1],
                name=f"W{n}",
                monthly_budget=None,
                workspaces_max=9,
                at=self.now,
                by="test",
            )
        self.keys = [
            given_key(
                store,
                self.orgs[n % ORGS],
                key=f"{here}_key{n}",
                terms=KeyTerms(name=f"k{n}", workspace=None if n % 2 else f"ws1_{self.orgs[n % ORGS]}"),
                at=self.now,
            )
            for n in range(ORGS * KEYS)
        ]
        self.catch_up()

    def catch_up(self) -> None:
        """Folds what is new in the log; the model takes over what is not decided by the ledger."""
        for fact in recorded(self.log.after(self.position, limit=100_000)):
            self.position = fact.position
            evolve(self.folded, fact.stream, fact.event)
            if not fact.stream.startswith("request:"):
                evolve(self.model, fact.stream, fact.event)

    def control(self, step: Credit | LimitKey | LimitWorkspace) -> None:
        at: dict[str, Any] = {"at": self.now, "by": "test"}
        if isinstance(step, Credit):
            org, grant = self.orgs[step.org % ORGS], f"g{next(self.grants)}"
            grant_credit(self.store, org=org, grant=grant, amount=step.amount, reason="r", **at)
        elif isinstance(step, LimitKey):
            key = self.keys[step.key % len(self.keys)]
            wishes = KeyWishes(monthly_budget=step.budget, daily_limit=step.daily, rpm_limit=UNSET)
            update_key(self.store, org=key.org, key=key.key, wishes=wishes, **at)
        else:
            number = step.workspace % len(self.workspaces)
            workspace, org = self.workspaces[number], self.orgs[number % ORGS]
            update_workspace(self.store, org=org, workspace=workspace, monthly_budget=step.budget, **at)
        self.catch_up()

    def wait(self, until: str) -> None:
        if until == "minutes":
            self.now += 7 * MINUTE
        else:
            self.now = next_ist_midnight(self.now) if until == "midnight" else next_ist_month(self.now)
            self.now += self.now % 3 * DAY // 4  # not always on the stroke

    def sweep(self) -> None:
        due = [request for request, hold in self.model.holds.items() if hold.expires < self.now]
        for request in due:
            expired = self.expired(request)
            evolve(self.model, f"request:{request}", expired)
            self.requests[request] = expired
        assert expire_due(self.url, now=self.now) == len(due)

    def expired(self, request: str) -> HoldExpired:
        hold = self.model.holds[request]
        return HoldExpired(
            at=self.now,
            by="worker:expire_holds",
            org=hold.org,
            key=hold.key,
            workspace=hold.workspace,
            endpoint=ENDPOINT,
            model=MODEL,
            held=hold.amount,
        )

    async def batch(self, writer: LedgerWriter, asked: list[Any]) -> None:
        """Hands all of it in at once, so that it travels as one batch, and compares the answers."""
        made = [(type(command), *self.make(command)) for command in asked]
        ways = {NewHold: writer.hold, HoldAgain: writer.hold, Extend: writer.extend, End: writer.end, Note: writer.note}
        futures = [ways[kind](request, event) for kind, request, event in made]  # type: ignore[arg-type]
        answers = await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert answers == self.decide(made)

    def make(self, command: Any) -> tuple[str, Event]:
        if isinstance(command, NewHold) or not self.names or (isinstance(command, Note) and command.of is None):
            self.names.append(f"{self.here}_r{len(self.names)}")
            request = self.names[-1]
        else:
            request = self.names[command.of % len(self.names)]
        hold = self.model.holds.get(request)
        if isinstance(command, NewHold | HoldAgain):
            new = command if isinstance(command, NewHold) else NewHold(key=command.of, amount=1, minutes=1)
            key = self.keys[new.key % len(self.keys)]
            return request, hold_of(
                at=self.now,
                org=key.org,
                key=key.key,
                workspace=key.workspace,
                amount=new.amount,
                expires=self.now + new.minutes * MINUTE,
            )
        if isinstance(command, Extend):
            org = hold.org if hold else self.orgs[0]
            return request, HoldExtended(at=self.now, org=org, amount=command.amount, expires=self.now + 20 * MINUTE)
        if isinstance(command, Note):
            return request, refusal_of(org=self.orgs[0], key="k", workspace="w", at=self.now)
        return request, self.ending(hold, command)

    def ending(self, hold: Hold | None, command: End) -> Ending:
        amount, org, key, workspace = (hold.amount, hold.org, hold.key, hold.workspace) if hold else (9, "o", "k", "w")
        believed = max(amount + command.mistaken, 0)
        held = hold_of(at=self.now, org=org, key=key, workspace=workspace, amount=believed, expires=0)
        if command.percent is None:
            return release_of(held, at=self.now)
        return settlement_of(held, cost=amount * command.percent // 100, at=self.now)

    def decide(self, made: list[tuple[Any, str, Event]]) -> list[Denied | None]:
        """What the pure rules say: ends first, then extensions, then holds, then notes."""
        answers: list[Denied | None] = [None] * len(made)

        def of_kind(*kinds: type) -> list[tuple[int, str, Any]]:
            return [(n, request, event) for n, (kind, request, event) in enumerate(made) if kind in kinds]

        refused = []
        for n, request, event in of_kind(End):
            if may_end(self.model, request, cost_of(event), held=event.held) is None:
                self.take(request, event)
            else:
                refused.append((n, request, event))
        mistaken = []
        for n, request, event in refused:  # they are told why when the others have ended
            answers[n] = self.why_not(request, event)
            if (denied := answers[n]) is not None and denied.code == "held":
                mistaken.append((n, request, event, denied.limit))
        for n, request, event in of_kind(Extend):
            answers[n] = may_extend(self.model, request, event.amount)
            if answers[n] is None:
                evolve(self.model, f"request:{request}", event)
        for n, request, event in of_kind(NewHold, HoldAgain):
            answers[n] = Denied("duplicate") if request in self.requests else may_hold(self.model, event)
            if answers[n] is None:
                self.requests[request] = None
                evolve(self.model, f"request:{request}", event)
        for _, request, _ in of_kind(Note):
            self.requests.setdefault(request, None)
        while mistaken:  # the writer corrects them and hands them in again, together
            again, mistaken = mistaken, []
            for n, request, event, held in again:
                corrected = msgspec.structs.replace(event, held=held)
                answers[n] = self.why_not(request, corrected)
                if answers[n] is None and request in self.model.holds:
                    self.take(request, corrected)
                elif (denied := answers[n]) is not None and denied.code == "held":
                    mistaken.append((n, request, corrected, denied.limit))
        return answers

    def why_not(self, request: str, event: Ending) -> Denied | None:
        denied = may_end(self.model, request, cost_of(event), held=event.held)
        repeated = denied is not None and denied.code == "ended" and self.requests.get(request) == event
        return None if repeated else denied

    def take(self, request: str, event: Ending) -> None:
        evolve(self.model, f"request:{request}", event)
        self.requests[request] = event

    def compare(self) -> None:
        self.catch_up()
        assert self.folded == self.model
        assert self.tables() == self.model

    def tables(self) -> Guards:
        with connect(self.url) as connection:

            def rows(query: str, names: Iterable[str]) -> list[tuple[Any, ...]]:
                return connection.execute(query.encode(), [list(names)]).fetchall()

            balances = rows("select * from balance where org = any(%s)", self.orgs)
            allowances = rows("select * from allowance where scope = any(%s)", self.model.allowances)
            holds = rows("select * from hold where request = any(%s)", self.names)
        return Guards(
            balances={org: Balance(*rest) for org, *rest in balances},
            allowances={scope: Allowance(*rest) for scope, *rest in allowances},
            holds={request: Hold(*rest) for request, *rest in holds},
        )


@pytest.fixture
def log(database_url: str) -> Iterator[LogReader]:
    pool = make_pool(database_url, size=2)
    yield LogReader(pool)
    pool.close()


@pytest.fixture
def store(database_url: str, log: LogReader) -> Iterator[EventStore]:
    store = EventStore(database_url, log)
    yield store
    store.close()


def play(both: Both, story: list[Any]) -> None:
    async def tell() -> None:
        writer = LedgerWriter(both.url, clock=lambda: both.now)
        await writer.start()
        for step in story:
            match step:
                case list():
                    await both.batch(writer, step)
                case Wait():
                    both.wait(step.until)
                case Sweep():
                    both.sweep()
                case _:
                    both.control(step)
            both.compare()
        await writer.close()

    asyncio.run(tell())
    both.now += DAY
    both.sweep()  # every hold ends at last
    both.compare()
    assert all(balance.held == 0 for balance in both.model.balances.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=25))
def test_the_database_decides_as_the_rules_do_and_its_log_folds_to_its_tables(
    database_url: str, store: EventStore, log: LogReader, story: list[Any]
) -> None:
    both = Both(database_url, store, log)
    for org in range(ORGS):
        both.control(Credit(org, 150))
    play(both, story)
