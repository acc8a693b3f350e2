"""The writer under stress: limits hold over processes, faults lose nothing that was acknowledged and charge nobody
twice, and no command, however odd, stops it.
"""

import asyncio
import itertools
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import uvloop

from adapters.embedded import Postgres, running
from adapters.eventstore import EventStore
from adapters.ledger import BATCH_MAX, LedgerWriter, expire_due
from adapters.log import COLUMNS, LogReader, recorded
from adapters.postgres import LOG_LOCK, connect, make_pool, migrate
from domain.accounts.service import update_workspace
from domain.kernel.clock import DAY, SECOND, ist_day, ist_month, next_ist_midnight, next_ist_month
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event, Recorded
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.ledger.events import CreditHeld, HoldExpired, HoldExtended, RequestSettled
from domain.ledger.guards import Allowance, Balance, Denied, Guards, Hold, evolve
from tests.adapters.bookings import hold_of, refusal_of, release_of, settlement_of
from tests.given import NOON, Minted, given_key, given_org
from tests.machine import kill

MINUTE = 60 * SECOND


def now() -> int:
    return time.time_ns() // 1000


class Books:
    """A database, the control path to it, and one key of an org with money."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pool = make_pool(url, size=2)
        self.store = EventStore(url, LogReader(self.pool))
        self.key = self.found("org_a")

    def found(self, org: str, *, inr: int = 100, **limits: Any) -> Minted:
        given_org(self.store, org, inr=inr, at=NOON)
        return given_key(self.store, org, key=f"key_{org}", terms=KeyTerms(name="k", **limits), at=NOON)

    def hold(self, amount: int = 1_000, *, at: int = NOON, key: Minted | None = None, minutes: int = 15) -> CreditHeld:
        key = key or self.key
        return hold_of(
            org=key.org,
            key=key.key,
            workspace=key.workspace,
            amount=amount,
            at=at,
            expires=at + minutes * MINUTE,
        )

    def facts(self, request: str) -> list[Event]:
        return [fact.event for fact in self.all_facts() if fact.stream == f"request:{request}"]

    def all_facts(self) -> list[Recorded]:
        with connect(self.url) as connection:
            return recorded(connection.execute(f"select {COLUMNS} from events order by 1".encode()))

    def check(self) -> Guards:
        """The tables, which the log must fold to."""
        folded, tables = Guards(), Guards()
        for fact in self.all_facts():
            evolve(folded, fact.stream, fact.event)
        with connect(self.url) as connection:
            for org, *rest in connection.execute("select * from balance"):
                tables.balances[org] = Balance(*rest)
            for scope, *rest in connection.execute("select * from allowance"):
                tables.allowances[scope] = Allowance(*rest)
            for request, *rest in connection.execute("select * from hold"):
                tables.holds[request] = Hold(*rest)
        assert folded == tables
        return tables

    def available(self) -> int:
        return self.check().balances[self.key.org].available

    def close(self) -> None:
        self.store.close()
        self.pool.close()


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    books = Books(database_url)
    yield books
    books.close()


@asynccontextmanager
async def writing(url: str, *, clock: Callable[[], int] = lambda: NOON) -> Any:
    writer = LedgerWriter(url, clock=clock)
    await writer.start()
    try:
        yield writer
    finally:
        await asyncio.wait_for(writer.close(), 40)


async def within(seconds: float, *answers: Awaitable[Denied | None]) -> list[Denied | BaseException | None]:
    """The answers, or the errors that came in their place."""
    return await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), seconds)


async def until(true: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def sessions_of_writers(url: str) -> list[int]:
    with connect(url) as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and query like '%ledger_commit($1%'"
            " and pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows]


@contextmanager
def log_locked(url: str) -> Iterator[Callable[[], int]]:
    """Another session has the lock of the log; yields how many wait for it."""
    with connect(url) as holder, connect(url) as observer:
        holder.execute("select pg_advisory_lock(%s)", [LOG_LOCK])

        def waiting() -> int:
            row = observer.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = %s", [LOG_LOCK]
            ).fetchone()
            assert row is not None
            return int(row[0])

        yield waiting


# Limits over processes


def hold_many(url: str, key: Minted, amount: int, count: int, start: float, name: str) -> Counter[str]:
    """What a process of its own is told for so many holds at once."""

    async def run() -> Counter[str]:
        async with writing(url, clock=now) as writer:
            await asyncio.sleep(max(start - time.time(), 0))
            at = now()
            held = hold_of(org=key.org, key=key.key, workspace=key.workspace, amount=amount, at=at, expires=at + MINUTE)
            answers = await within(30, *(writer.hold(f"{name}{n}", held) for n in range(count)))
            assert not any(isinstance(answer, BaseException) for answer in answers)
            return Counter(answer.code if isinstance(answer, Denied) else "held" for answer in answers)

    return uvloop.run(run())


@pytest.mark.parametrize("limit", ["insufficient_credits", "key_budget", "workspace_budget", "daily"])
def test_of_500_holds_at_once_over_two_processes_exactly_the_50_that_fit_succeed(books: Books, limit: str) -> None:
    amount = rupees(1)
    limits = {"key_budget": {"monthly_budget": 50 * amount + 1}, "daily": {"daily_limit": 50}}.get(limit, {})
    key = books.found("org_b", inr=50 if limit == "insufficient_credits" else 1_000, **limits)
    if limit == "workspace_budget":
        terms: dict[str, Any] = {"monthly_budget": 51 * amount - 1, "at": NOON, "by": "test"}
        update_workspace(books.store, org="org_b", workspace="ws_org_b", **terms)
    seen: list[tuple[int, int, int, int]] = []
    over = threading.Event()

    def observe() -> None:
        with connect(books.url) as connection:
            while not over.is_set():
                row = connection.execute(
                    "select b.available, b.available + b.held, a.held, a.calls from balance b, allowance a"
                    " where b.org = 'org_b' and a.scope = 'key_org_b'"
                ).fetchone()
                assert row is not None
                seen.append(row)

    observer = threading.Thread(target=observe)
    observer.start()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        start = time.time() + 3
        told = [processes.submit(hold_many, books.url, key, amount, 250, start, f"p{n}_") for n in range(2)]
        answers = sum((each.result() for each in told), Counter())
    over.set()
    observer.join()

    assert answers == {"held": 50, limit: 450}
    total = seen[0][1]
    assert all(available >= 0 and sum_ == total for available, sum_, _, _ in seen)
    assert all(held <= 50 * amount and calls <= 50 for _, _, held, calls in seen)
    assert len({row[0] for row in seen}) > 1, "the observer came too late"
    guards = books.check()
    assert len(guards.holds) == 50
    assert guards.balances["org_b"].held == 50 * amount


# Odd commands


def oddities(books: Books) -> dict[str, tuple[str, str, Any]]:
    held = books.hold()
    more = HoldExtended(at=NOON, org="org_a", amount=1 << 62, expires=NOON)
    surrogate = "\ud800"
    return {
        "a NUL in an id": ("hold", "a\0b", held),
        "half a character in an id": ("hold", surrogate, held),
        "half a character in a fact": ("hold", "odd", hold_like(held, model=surrogate)),
        "an id beyond what an index takes": ("hold", "".join(map(str, range(2_000))), held),
        "an amount beyond 64 bits": ("hold", "odd", hold_like(held, amount=1 << 70)),
        "an amount near 64 bits": ("hold", "odd", hold_like(held, amount=(1 << 63) - 1)),
        "a negative hold": ("hold", "odd", hold_like(held, amount=-5)),
        "no amount": ("hold", "odd", hold_like(held, amount=None)),
        "an unknown org": ("hold", "odd", hold_like(held, org="nobody")),
        "an unknown key": ("hold", "odd", hold_like(held, key="nobody")),
        "a huge extension": ("extend", "open", more),
        "a negative cost": ("end", "open", settlement_of(held, cost=-5, at=NOON)),
        "an ending of nothing": ("end", "nothing", release_of(held, at=NOON)),
        "a hold that was made before": ("hold", "open", held),
    }


def hold_like(held: CreditHeld, **changes: Any) -> CreditHeld:
    return msgspec.structs.replace(held, **changes)


def test_an_odd_command_is_refused_alone_and_the_writer_goes_on(books: Books) -> None:
    async def run() -> None:
        async with writing(books.url) as writer:
            assert await within(5, writer.hold("open", books.hold(10))) == [None]
            for number, (name, (kind, request, event)) in enumerate(oddities(books).items()):
                before = [writer.hold(f"b{number}_{n}", books.hold(1)) for n in range(5)]
                odd = getattr(writer, kind)(request, event)
                after = [writer.hold(f"a{number}_{n}", books.hold(1)) for n in range(5)]
                answers = await within(5, *before, odd, *after)
                assert answers[:5] + answers[6:] == [None] * 10, name
                assert answers[5] is not None, name
                assert isinstance(answers[5], Denied | Unavailable), name
            assert await within(5, writer.end("open", settlement_of(books.hold(10), cost=4, at=NOON))) == [None]

    uvloop.run(run())
    guards = books.check()
    assert len(guards.holds) == 10 * len(oddities(books))
    assert guards.balances["org_a"].held == len(guards.holds)


def test_many_odd_commands_in_one_batch_spare_the_others(books: Books) -> None:
    async def run() -> None:
        async with writing(books.url) as writer:
            odd = hold_like(books.hold(), model="\ud800")
            asked = [writer.hold(f"r{n}", odd if n % 7 == 3 else books.hold(n % 3)) for n in range(300)]
            for n, answer in enumerate(await within(20, *asked)):
                assert isinstance(answer, Unavailable) if n % 7 == 3 else answer is None

    uvloop.run(run())
    books.check()


def test_the_writer_outlives_a_clock_that_fails(books: Books) -> None:
    failures = iter([True, True, True])

    def clock() -> int:
        if next(failures, False):
            raise OSError("no time")
        return NOON

    async def run() -> None:
        async with writing(books.url, clock=clock) as writer:
            first, *others = await within(5, *(writer.hold(f"r{n}", books.hold()) for n in range(4)))
            assert isinstance(first, Unavailable)
            assert isinstance(first.__cause__, OSError)
            assert others == [None] * 3
            assert await within(5, writer.hold("later", books.hold())) == [None]

    uvloop.run(run())
    assert len(books.check().holds) == 4


def test_a_hold_that_nobody_waits_for_any_more_is_not_made(books: Books) -> None:
    async def run() -> None:
        async with writing(books.url) as writer:
            gone, kept = writer.hold("gone", books.hold()), writer.hold("kept", books.hold())
            gone.cancel()
            assert await within(5, kept) == [None]
            ended = writer.end("kept", release_of(books.hold(), at=NOON))
            ended.cancel()  # the books do not care who listens

    uvloop.run(run())
    assert books.facts("gone") == []
    assert len(books.facts("kept")) == 2


def test_a_waiter_that_goes_while_its_batch_is_under_way_harms_nobody(books: Books) -> None:
    async def run() -> None:
        async with writing(books.url) as writer:
            with log_locked(books.url) as waiting:
                asked = [writer.hold(f"r{n}", books.hold()) for n in range(10)]
                await until(waiting)
                asked[3].cancel()
            answers = await within(5, *asked)
            assert [answer for answer in answers if answer is not None] == [answers[3]]
            assert await within(5, writer.hold("later", books.hold())) == [None]

    uvloop.run(run())
    assert len(books.check().holds) == 11


def test_closing_records_everything_that_was_handed_in(books: Books) -> None:
    count = 3 * BATCH_MAX + 7

    async def run() -> None:
        writer = LedgerWriter(books.url, clock=lambda: NOON)
        await writer.start()
        asked = [writer.hold(f"r{n}", books.hold(1)) for n in range(count)]
        await writer.close()
        assert [future.result() for future in asked] == [None] * count
        for late in (writer.hold("late", books.hold()), writer.end("r1", release_of(books.hold(1), at=NOON))):
            (answer,) = await within(1, late)
            assert isinstance(answer, Unavailable)

    uvloop.run(run())
    assert len(books.check().holds) == count


def test_a_note_is_recorded_once_and_takes_nothing(books: Books) -> None:
    note = refusal_of(org="org_a", key="key_org_a", workspace="ws_org_a", at=NOON)

    async def run() -> None:
        async with writing(books.url) as writer:
            assert await within(5, writer.note("n", note), writer.note("n", note)) == [None, None]
            assert await within(5, writer.hold("n", books.hold())) == [Denied("duplicate")]

    uvloop.run(run())
    assert books.facts("n") == [note]
    assert books.available() == rupees(100)


# Endings


def test_a_request_ends_once_and_a_repeat_of_that_ending_is_harmless(books: Books) -> None:
    held = books.hold(100)
    settled = settlement_of(held, cost=30, at=NOON)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("r", held)
            assert await within(5, writer.end("r", settled), writer.end("r", settled)) == [None, None]
            assert await within(5, writer.end("r", settled)) == [None]
            other = [release_of(held, at=NOON), settlement_of(held, cost=31, at=NOON)]
            answers = await within(5, *(writer.end("r", event) for event in other))
            assert answers == [Denied("ended", None, 0), Denied("ended", None, 31)]

    uvloop.run(run())
    assert books.facts("r") == [held, settled]
    assert books.available() == rupees(100) - 30


def test_an_ending_that_missed_an_extension_is_recorded_with_what_was_held(books: Books) -> None:
    """The gateway may never have heard that its extension was committed."""
    held = books.hold(100)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("r", held)
            await writer.extend("r", HoldExtended(at=NOON, org="org_a", amount=50, expires=held.expires))
            assert await within(5, writer.end("r", settlement_of(held, cost=100, at=NOON))) == [None]

    uvloop.run(run())
    *_, settled = books.facts("r")
    assert isinstance(settled, RequestSettled)
    assert (settled.held, settled.cost) == (150, 100)
    assert books.available() == rupees(100) - 100


def test_a_settlement_in_the_next_month_leaves_that_months_budget_alone(books: Books) -> None:
    time_is = [next_ist_month(NOON) - SECOND]
    key = books.found("org_b", monthly_budget=100)

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            old = books.hold(90, at=time_is[0], key=key)
            await writer.hold("old", old)
            time_is[0] += 2 * SECOND
            new = books.hold(100, at=time_is[0], key=key)
            assert await within(5, writer.hold("new", new)) == [None]
            more = HoldExtended(at=time_is[0], org="org_b", amount=60, expires=time_is[0])
            assert await within(5, writer.extend("old", more)) == [None]  # the old month is closed to budgets
            assert await within(5, writer.end("old", settlement_of(hold_like(old, amount=150), cost=150, at=NOON)))
            assert await within(5, writer.hold("more", books.hold(1, at=time_is[0], key=key))) == [
                Denied("key_budget", 100, 100)
            ]

    uvloop.run(run())
    allowance = books.check().allowances[key.key]
    assert (allowance.used, allowance.held, allowance.month) == (0, 100, ist_month(time_is[0]))


# Expiry


def test_an_expiry_and_a_settlement_race_to_exactly_one_ending(books: Books) -> None:
    held = books.hold(10, at=NOON - 60 * MINUTE)

    async def run() -> tuple[int, list[Any]]:
        async with writing(books.url) as writer:
            assert await within(10, *(writer.hold(f"r{n}", held) for n in range(300))) == [None] * 300
            sweep = asyncio.create_task(asyncio.to_thread(sweep_all))
            settled = []
            for n in range(300):
                settled.append(writer.end(f"r{n}", settlement_of(held, cost=4, at=NOON)))
                await asyncio.sleep(0 if n % 10 else 0.002)
            return await sweep, await within(10, *settled)

    def sweep_all() -> int:
        return sum(iter(lambda: expire_due(books.url, now=NOON, limit=20), 0))

    expired, answers = uvloop.run(run())
    settled = sum(answer is None for answer in answers)
    assert settled + expired == 300
    assert all(answer in (None, Denied("ended", None, 4)) for answer in answers)
    assert set(Counter(fact.stream for fact in books.all_facts() if fact.stream.startswith("request:")).values()) == {2}
    assert books.available() == rupees(100) - 4 * settled


@pytest.mark.parametrize("more", [0, 7])
def test_a_hold_that_is_extended_while_the_sweep_looks_at_it_goes_on(books: Books, more: int) -> None:
    held = books.hold(10, at=NOON - 60 * MINUTE)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("r", held)
            with log_locked(books.url) as waiting:
                extended = writer.extend("r", HoldExtended(at=NOON, org="org_a", amount=more, expires=NOON + MINUTE))
                await until(lambda: waiting() == 1)
                sweep = asyncio.create_task(asyncio.to_thread(expire_due, books.url, now=NOON))
                await until(lambda: waiting() == 2)  # it has read what is due, and stands behind the extension
            assert await within(5, extended) == [None]
            assert await sweep == 0
            settled = settlement_of(hold_like(held, amount=10 + more), cost=10, at=NOON)
            assert await within(5, writer.end("r", settled)) == [None]

    uvloop.run(run())
    books.check()


def test_what_expires_says_who_and_what_it_was(books: Books) -> None:
    held = books.hold(10, at=NOON - 60 * MINUTE)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("r", held)

    uvloop.run(run())
    assert expire_due(books.url, now=held.expires) == 0
    assert expire_due(books.url, now=held.expires + 1) == 1
    assert expire_due(books.url, now=held.expires + 1) == 0
    _, expired = books.facts("r")
    assert isinstance(expired, HoldExpired)
    assert (expired.org, expired.key, expired.workspace, expired.held) == ("org_a", "key_org_a", "ws_org_a", 10)
    assert expired.at == held.expires + 1


# Midnight


def midnight_of(books: Books) -> tuple[int, Callable[[], Any]]:
    """A midnight, and how another process, whose clock is past it, makes a call of the key."""
    midnight = next_ist_midnight(NOON)

    async def ahead() -> None:
        async with writing(books.url, clock=lambda: midnight + SECOND) as other:
            assert await within(5, other.hold("first", books.hold(at=midnight + SECOND))) == [None]

    return midnight, ahead


def test_a_hold_behind_the_others_midnight_is_stamped_anew_in_the_later_day(books: Books) -> None:
    midnight, ahead = midnight_of(books)
    started = time.monotonic()

    def clock() -> int:
        return midnight - 50_000 + int((time.monotonic() - started) * SECOND)

    async def run() -> None:
        nonlocal started
        await ahead()
        started = time.monotonic()
        async with writing(books.url, clock=clock) as writer:
            assert await within(5, writer.hold("second", books.hold(at=clock()))) == [None]

    uvloop.run(run())
    (second,) = books.facts("second")
    assert ist_day(second.at) == ist_day(midnight)
    assert books.check().allowances["key_org_a"].calls == 2


def test_a_hold_of_a_clock_that_stays_behind_is_refused_and_counted_nowhere(books: Books) -> None:
    midnight, ahead = midnight_of(books)

    async def run() -> None:
        await ahead()
        async with writing(books.url, clock=lambda: midnight - SECOND) as writer:
            behind = writer.hold("behind", books.hold(at=midnight - SECOND))
            assert await within(5, behind) == [Denied("period")]

    uvloop.run(run())
    assert books.facts("behind") == []
    assert books.check().allowances["key_org_a"].calls == 1


def test_a_hold_that_waited_over_midnight_counts_on_the_day_it_is_stamped_with(books: Books) -> None:
    midnight = next_ist_midnight(NOON)
    key = books.found("org_b", daily_limit=1)

    async def run() -> None:
        async with writing(books.url, clock=lambda: midnight + 1) as writer:
            stale = books.hold(at=midnight - 1, key=key)
            assert await within(5, writer.hold("r1", stale), writer.hold("r2", stale)) == [None, Denied("daily", 1, 1)]

    uvloop.run(run())
    (held,) = books.facts("r1")
    assert held.at == midnight + 1
    assert books.check().allowances[key.key].day == ist_day(midnight)


def test_a_clock_that_is_set_back_over_midnight_counts_on_no_wrong_day(books: Books) -> None:
    midnight = next_ist_midnight(NOON)
    time_is = [midnight + SECOND]
    other = books.found("org_b")

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            assert await within(5, writer.hold("r1", books.hold(at=time_is[0]))) == [None]
            time_is[0] = midnight - SECOND
            again = [books.hold(at=time_is[0]), books.hold(at=time_is[0], key=other)]
            answers = await within(5, writer.hold("r2", again[0]), writer.hold("r3", again[1]))
            assert answers == [Denied("period"), None]

    uvloop.run(run())
    (third,) = books.facts("r3")
    assert ist_day(third.at) == ist_day(midnight) - 1 == books.check().allowances[other.key].day


# Faults


class Load:
    """Callers that hold and settle for as long as they may, and remember what they were told."""

    def __init__(self, books: Books, writer: LedgerWriter, *, callers: int) -> None:
        self.books, self.writer = books, writer
        self.held: set[str] = set()
        self.settled: set[str] = set()
        self.refused: set[str] = set()
        self.unsettled: set[str] = set()
        self.stopped = False
        self.numbers = itertools.count()
        self.tasks = [asyncio.ensure_future(self._call()) for _ in range(callers)]

    async def _call(self) -> None:
        while not self.stopped:
            request, held = f"r{next(self.numbers)}", self.books.hold(10, at=NOON)
            try:
                assert await self.writer.hold(request, held) is None
            except Unavailable:
                self.refused.add(request)
                await asyncio.sleep(0.02)
                continue
            self.held.add(request)
            await asyncio.sleep(int(request[1:]) % 7 / 1_000)  # so that they do not march in step
            try:
                assert await self.writer.end(request, settlement_of(held, cost=3, at=NOON)) is None
            except Unavailable:
                self.unsettled.add(request)
            else:
                self.settled.add(request)

    async def stop(self) -> None:
        self.stopped = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), 40)

    def check(self) -> None:
        """Everything acknowledged is in the log once; what was not acknowledged is there once or not at all."""
        while expire_due(self.books.url, now=NOON + DAY):
            pass
        stored: dict[str, list[type[Event]]] = {}
        for fact in self.books.all_facts():
            if fact.stream.startswith("request:"):
                stored.setdefault(fact.stream.removeprefix("request:"), []).append(type(fact.event))
        assert all(stored[request] == [CreditHeld, RequestSettled] for request in self.settled)
        assert all(stored[request][0] is CreditHeld and len(stored[request]) == 2 for request in self.held)
        assert all(stored.get(request, []) in ([], [CreditHeld, HoldExpired]) for request in self.refused)
        assert stored.keys() <= self.held | self.refused
        guards = self.books.check()
        charged = sum(kinds[1] is RequestSettled for kinds in stored.values())
        assert guards.balances["org_a"] == Balance(available=rupees(100) - 3 * charged, held=0, spent=3 * charged)
        assert len(self.settled) <= charged <= len(self.settled | self.unsettled)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own that keeps what it acknowledges."""
    root = Path(tempfile.mkdtemp(prefix="bharatrouter-test-"))
    root.chmod(0o711)
    server = Postgres(root / "home")
    with running(server) as url:
        migrate(url)
        yield server
    shutil.rmtree(root)


async def restart(server: Postgres) -> None:
    server.start()  # not in a thread of the pool: the server ends with the thread that started it
    while not await asyncio.to_thread(server.is_ready):  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.05)


@pytest.mark.faults
def test_killing_postgresql_under_load_loses_nothing_acknowledged_and_charges_nobody_twice(server: Postgres) -> None:
    books = Books(server.url)

    async def run() -> Load:
        async with writing(server.url) as writer:
            await writer.hold("running", books.hold(10))
            load = Load(books, writer, callers=40)
            for _ in range(2):
                await asyncio.sleep(0.7)
                settled = len(load.settled)
                kill(server)
                await until(lambda: not writer.connected)
                ended = writer.end(f"during{settled}", release_of(books.hold(10), at=NOON))
                (refused,) = await within(1, writer.hold("never", books.hold(10)))
                assert isinstance(refused, Unavailable)
                await restart(server)
                assert await within(30, ended) == [Denied("ended", None, 0)]  # the database has spoken again
                await until(lambda: len(load.settled) > settled + 100)  # noqa: B023
            assert await within(5, writer.end("running", release_of(books.hold(10), at=NOON))) == [None]
            await load.stop()
            assert load.refused
            assert not load.unsettled
            return load

    load = uvloop.run(run())
    assert books.facts("never") == []
    load.held.add("running")
    load.check()
    books.close()


@pytest.mark.faults
def test_endings_of_an_outage_are_recorded_after_it(server: Postgres) -> None:
    books = Books(server.url)
    held = books.hold(10)

    async def run() -> None:
        async with writing(server.url) as writer:
            assert await within(5, *(writer.hold(f"r{n}", held) for n in range(20))) == [None] * 20
            kill(server)
            ends = [writer.end(f"r{n}", settlement_of(held, cost=3, at=NOON)) for n in range(10)]
            await until(lambda: not writer.connected)
            ends += [writer.end(f"r{n}", settlement_of(held, cost=3, at=NOON)) for n in range(10, 20)]
            await asyncio.sleep(1)
            assert not any(end.done() for end in ends[10:])  # of the first a dying session may have taken some
            await restart(server)
            assert await within(20, *ends) == [None] * 20

    uvloop.run(run())
    assert books.available() == rupees(100) - 20 * 3
    books.close()


def test_a_session_cut_again_and_again_loses_nothing_and_charges_nobody_twice(books: Books) -> None:
    async def run() -> Load:
        async with writing(books.url) as writer:
            load = Load(books, writer, callers=30)
            with connect(books.url) as connection:
                for n in range(25):
                    await asyncio.sleep(0.03 + n % 7 / 500)
                    for pid in sessions_of_writers(books.url):
                        connection.execute("select pg_terminate_backend(%s)", [pid])
                    await until(lambda: writer.connected)
            await until(lambda: len(load.settled) > 100)
            await load.stop()
            return load

    load = uvloop.run(run())
    assert load.refused
    assert not load.unsettled
    load.check()


def test_a_session_cut_in_the_middle_of_a_batch_fails_its_holds_and_repeats_its_endings(books: Books) -> None:
    held = books.hold(10)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("old", held)
            with log_locked(books.url) as waiting:
                ended = writer.end("old", settlement_of(held, cost=3, at=NOON))
                new = writer.hold("new", held)
                await until(waiting)
                with connect(books.url) as connection:
                    for pid in sessions_of_writers(books.url):
                        connection.execute("select pg_terminate_backend(%s)", [pid])
                (refused,) = await within(5, new)
                assert isinstance(refused, Unavailable)
                assert not ended.done()
            assert await within(5, ended) == [None]

    uvloop.run(run())
    assert books.facts("new") == []
    assert books.available() == rupees(100) - 3


def test_a_commit_whose_answer_is_lost_is_not_made_twice(books: Books) -> None:
    """The session is stopped, so that the batch waits in its socket; it is read and committed when nobody listens."""
    held = books.hold(10)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("old", held)
            (pid,) = sessions_of_writers(books.url)
            try:
                os.kill(pid, signal.SIGSTOP)
                ended = writer.end("old", settlement_of(held, cost=3, at=NOON))
                new = writer.hold("new", held)
                (refused,) = await within(15, new)  # the watchdog has given the session up
                assert isinstance(refused, Unavailable)
                assert await within(5, ended) == [None]  # on another session
            finally:
                os.kill(pid, signal.SIGCONT)
            await until(lambda: pid not in sessions_of_writers(books.url))

    uvloop.run(run())
    assert len(books.facts("old")) == 2
    expire_due(books.url, now=NOON + DAY)
    assert books.available() == rupees(100) - 3


@pytest.mark.faults
def test_a_log_that_others_lock_for_long_delays_endings_and_refuses_holds(books: Books) -> None:
    held = books.hold(10)

    async def run() -> None:
        async with writing(books.url) as writer:
            await writer.hold("old", held)
            with log_locked(books.url) as waiting:
                began = time.monotonic()
                ended = writer.end("old", settlement_of(held, cost=3, at=NOON))
                new = writer.hold("new", held)
                await until(waiting)
                (refused,) = await within(11, new)
                assert isinstance(refused, Unavailable)
                await asyncio.sleep(12 - (time.monotonic() - began))
                assert not ended.done()
            assert await within(5, ended) == [None]
            assert await within(5, writer.hold("later", held)) == [None]

    uvloop.run(run())
    assert books.facts("new") == []
    assert len(books.facts("old")) == 2
    books.check()


def test_a_database_that_cannot_be_reached_is_told_at_once() -> None:
    async def run() -> None:
        writer = LedgerWriter("postgresql:///nothing?host=/nowhere", clock=now)
        with pytest.raises(psycopg.OperationalError):
            await writer.start()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(writer.close(), 1)

    uvloop.run(run())
