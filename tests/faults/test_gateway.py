"""A gateway that dies at any step of a call, and gateways that die all the time under load."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest

from adapters.postgres import LOG_LOCK
from tests.faults.books import balanced_books, endings_of, provider_saw, wait_until, whole_price
from tests.faults.callers import RETRY_SECONDS, Call, Caller, new_mark
from tests.faults.models import BRISK, LATE, LONG, SLOW
from tests.faults.processes import gateway_of, kill, serving_gateways
from tests.product import Product

pytestmark = pytest.mark.faults

KILLING_SECONDS = 8


@dataclass
class Operation:
    """What a client wants done once. It tries, with the same idempotency key, until it knows that it was: by the
    answer, or by being told that it was charged for an answer that never reached it."""

    streamed: bool
    name: str = field(default_factory=new_mark)
    calls: list[Call] = field(default_factory=list)
    charged_as: str = ""

    async def carry_out(self, caller: Caller) -> None:
        while True:
            call = await caller.call(BRISK, stream=self.streamed, idempotency_key=self.name)
            self.calls.append(call)
            if call.complete:
                self.charged_as = call.request if call.cost_nanos else ""
                return
            if call.code == "idempotency_conflict" and await self._is_settled(caller, call.request):
                self.charged_as = call.request
                return
            await asyncio.sleep(RETRY_SECONDS * random.uniform(1, 3))

    async def _is_settled(self, caller: Caller, request: str) -> bool:
        try:
            return await caller.state_of(request) == "settled"
        except httpx.HTTPError:
            return False


def test_gateways_that_die_every_second_lose_and_double_nothing(product: Product, key: str) -> None:
    over = asyncio.Event()
    killed: list[str] = []

    async def keep_working(number: int, done: list[Operation]) -> None:
        async with Caller(product.url, key) as caller:
            for count in itertools.count():
                if over.is_set():
                    return
                operation = Operation(streamed=bool((number + count) % 2))
                done.append(operation)
                await operation.carry_out(caller)

    def kill_in_turn() -> None:
        end = time.monotonic() + KILLING_SECONDS
        while time.monotonic() < end:
            time.sleep(1)
            for name in serving_gateways(product)[:1]:
                kill(product, name)
                killed.append(name)

    async def run() -> list[Operation]:
        done: list[Operation] = []
        workers = [asyncio.create_task(keep_working(number, done)) for number in range(50)]
        await asyncio.to_thread(kill_in_turn)
        over.set()
        await asyncio.gather(*workers)
        return done

    before = endings_of(product)
    operations = asyncio.run(run())
    endings = balanced_books(product, [call for operation in operations for call in operation.calls])

    settled = {request for request, ending in endings.items() if ending.how == "settled" and request not in before}
    charged = [operation.charged_as for operation in operations if operation.charged_as]
    assert len(charged) == len(set(charged))
    assert set(charged) == settled  # each operation was charged once at most, and nothing else was charged
    assert len(killed) >= 3
    assert any(len(operation.calls) > 1 for operation in operations)


@contextmanager
def log_at_rest(product: Product) -> Iterator[Callable[[], bool]]:
    """Nothing can be appended to the log meanwhile; what is yielded tells whether a gateway waits to do so."""
    with psycopg.connect(product.database_url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [LOG_LOCK])

        def waiting() -> bool:
            found = connection.execute(
                "select 1 from pg_stat_activity where wait_event = 'advisory' and query like '%%ledger_commit($1%%'"
            )
            return found.fetchone() is not None

        yield waiting


def killed_when(
    product: Product, key: str, model: str, *, streams: tuple[bool, ...], reached: Callable[[list[Call]], object]
) -> list[Call]:
    """One call for each of `streams`; the gateways that serve them are killed once `reached(calls)` returns."""

    async def run() -> list[Call]:
        callers = [Caller(product.url, key) for _ in streams]
        serving = {gateway_of(product, await caller.address()) for caller in callers}
        calls = [Call(new_mark(), stream) for stream in streams]
        pairs = zip(callers, calls, strict=True)
        running = [asyncio.create_task(caller.call(model, stream=call.streamed, into=call)) for caller, call in pairs]
        await asyncio.to_thread(reached, calls)
        for name in serving:
            await asyncio.to_thread(kill, product, name)
        await asyncio.gather(*running)
        for caller in callers:
            await caller.client.aclose()
        return calls

    return asyncio.run(run())


def test_a_call_whose_gateway_dies_before_it_is_settled_costs_nothing(product: Product, key: str) -> None:
    before = endings_of(product)

    with log_at_rest(product) as a_gateway_waits:
        unheld = killed_when(
            product,
            key,
            BRISK,
            streams=(False, True),
            reached=lambda calls: wait_until(a_gateway_waits, "a hold waits for its answer", seconds_max=10),
        )
    assert [call.status for call in unheld] == [0, 0]

    def providers_work(calls: list[Call]) -> None:
        wait_until(lambda: {call.mark for call in calls} <= provider_saw(product), "calls arrive", seconds_max=10)

    unanswered = killed_when(product, key, LATE, streams=(False, True), reached=providers_work)
    assert [call.status for call in unanswered] == [0, 0]

    def both_have_begun(calls: list[Call]) -> None:
        wait_until(lambda: all(call.text for call in calls), "content has come", seconds_max=10)

    unfinished = killed_when(product, key, LONG, streams=(True, True), reached=both_have_begun)
    assert [call.cut for call in unfinished] == [True, True]

    after = balanced_books(product, [*unheld, *unanswered, *unfinished])
    new = [ending.how for request, ending in after.items() if request not in before]
    assert set(new) == {"expired"}
    assert 5 <= len(new) <= 6  # of the first two, one may not even have been sent yet when its gateway died
    assert not provider_saw(product) & {call.mark for call in unheld}


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_whose_gateway_dies_before_the_settlement_is_answered_is_charged_once(
    product: Product, key: str, stream: bool
) -> None:
    before = endings_of(product)
    with ExitStack() as stack:

        def settlement_waits(calls: list[Call]) -> None:
            wait_until(lambda: calls[0].mark in provider_saw(product), "the call arrives", seconds_max=10)
            a_gateway_waits = stack.enter_context(log_at_rest(product))
            wait_until(a_gateway_waits, "the settlement waits for its answer", seconds_max=10)

        [call] = killed_when(product, key, SLOW, streams=(stream,), reached=settlement_waits)
    assert not call.complete
    after = balanced_books(product, [call])
    [ending] = [ending for request, ending in after.items() if request not in before]
    assert ending.how == "settled"
    assert ending.cost == whole_price(ending)


def test_a_call_whose_gateway_dies_afterwards_stays_as_the_client_was_told(product: Product, key: str) -> None:
    async def call() -> list[Call]:
        async with Caller(product.url, key) as caller:
            gateway = gateway_of(product, await caller.address())
            calls = [await caller.call(BRISK, stream=stream) for stream in (False, True)]
            await asyncio.to_thread(kill, product, gateway)
            return calls

    calls = asyncio.run(call())
    assert all(call.complete and call.cost_nanos > 0 for call in calls)
    balanced_books(product, calls)
