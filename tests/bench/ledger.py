"""How many calls a second the ledger alone carries: pairs of a durable hold and its settlement through one
LedgerWriter, on a PostgreSQL of its own with fsync and synchronous_commit on.

    python -m tests.bench.ledger [--orgs 1 1000] [--inflight 1 64 256] [--seconds 10] [--inr 200000]
                                 [--windows 1] [--reader] [--denied]

Each line is one window of so many seconds. `--windows` goes on in the same tables, to see whether they slow down;
`--reader` keeps a snapshot open meanwhile, so that no dead row can be cleaned away; `--denied` gives the keys a daily
limit that is reached at once, so that every hold takes the exact way and is refused. The CPU per pair is that of this
process and of the writer's session; it says more than the rate where others use the machine too.
"""

import argparse
import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
import uvloop

from adapters.embedded import Postgres, running
from adapters.ledger import LedgerWriter, expire_due
from adapters.postgres import migrate
from domain.catalog.price import Rates, cost
from domain.inference.metering import Usage
from domain.kernel.clock import SECOND
from domain.kernel.ids import make_id
from domain.kernel.money import rupees
from domain.ledger.events import Attempt, CreditHeld, RequestSettled

HELD_NANOS = 400_000
RATES = Rates(
    id="sarvam/sarvam-30b@2026-09-20.3f2a91c0",
    priced_on="2026-09-20",
    input=100,
    cached_input=40,
    cache_write=100,
    output=400,
)
MODEL = "sarvam-30b"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orgs", type=int, nargs="+", default=[1, 1_000])
    parser.add_argument("--inflight", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--inr", type=int, default=200_000, help="rupees of each org")
    parser.add_argument("--reader", action="store_true")
    parser.add_argument("--denied", action="store_true")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bharatrouter-bench-"))
    root.chmod(0o711)  # a server started by root runs as another user
    try:
        print("   orgs in flight    pairs/s    p50 ms    p99 ms", end="  ")
        print("client µs  server µs   batch  hold table  dead rows  vacuums   sweep ms")
        for orgs, inflight in itertools.product(arguments.orgs, arguments.inflight):
            with running(Postgres(root / f"{orgs}-{inflight}")) as url, ExitStack() as stack:
                migrate(url)
                found(url, orgs, inr=arguments.inr, daily=0 if arguments.denied else None)
                if arguments.reader:
                    reader = stack.enter_context(psycopg.connect(url))
                    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                    reader.execute("select count(*) from balance")
                uvloop.run(measure(url, orgs, inflight, arguments.seconds, arguments.windows))
    finally:
        shutil.rmtree(root)


def found(url: str, orgs: int, *, inr: int, daily: int | None) -> None:
    """Orgs with money, a workspace and a key each: as guard rows alone, which is all that the ledger looks at."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into balance (org, available) select 'org_' || n, %s from generate_series(1, %s) n",
            [rupees(inr), orgs],
        )
        connection.execute(
            "insert into allowance (scope, budget, daily) select kind || n, null, %s"
            " from generate_series(1, %s) n, unnest(array['key_', 'ws_']) kind",
            [daily, orgs],
        )


async def measure(url: str, orgs: int, inflight: int, seconds: float, windows: int) -> None:
    ledger = LedgerWriter(url, clock=lambda: time.time_ns() // 1000)
    await ledger.start()
    with psycopg.connect(url, autocommit=True) as beside:
        await window(ledger, orgs, inflight, 1.0)  # plans and caches
        for _ in range(windows):
            transactions, began = _transactions(beside), time.perf_counter()
            client_cpu, server_cpu = time.process_time(), _server_cpu(beside)
            took = await window(ledger, orgs, inflight, seconds)
            elapsed = time.perf_counter() - began
            client_cpu, server_cpu = time.process_time() - client_cpu, _server_cpu(beside) - server_cpu
            took.sort()
            table, dead, vacuums = _hold_table(beside)
            written = _transactions(beside) - transactions
            print(
                f"{orgs:7} {inflight:9} {len(took) / elapsed:10,.0f} {1000 * took[len(took) // 2]:9.2f} "
                f"{1000 * took[len(took) * 99 // 100]:9.2f} {1e6 * client_cpu / len(took):10.0f} "
                f"{1e6 * server_cpu / len(took):10.0f} {_batch(2 * len(took), written):>7} "
                f"{table:>11} {dead:10,} {vacuums:8} {_sweep(url):10.1f}",
                flush=True,
            )
    await ledger.close()


async def window(ledger: LedgerWriter, orgs: int, inflight: int, seconds: float) -> list[float]:
    """How long each pair took, in seconds."""
    took: list[float] = []
    deadline = time.perf_counter() + seconds

    async def caller(number: int, next_org: Callable[[], int]) -> None:
        while (began := time.perf_counter()) < deadline:
            at = time.time_ns() // 1000
            request, org = make_id("req", at=at, entropy=os.urandom(8)), next_org() % orgs + 1
            held = hold(org, at=at)
            if await ledger.hold(request, held) is None:
                denied = await ledger.end(request, settlement(held, at=time.time_ns() // 1000))
                assert denied is None, denied
            took.append(time.perf_counter() - began)

    turn = itertools.count()
    await asyncio.gather(*(caller(number, turn.__next__) for number in range(inflight)))
    return took


def hold(org: int, *, at: int) -> CreditHeld:
    return CreditHeld(
        at=at,
        by=f"key:key_{org}",
        org=f"org_{org}",
        key=f"key_{org}",
        workspace=f"ws_{org}",
        amount=HELD_NANOS,
        expires=at + 900 * SECOND,
        endpoint="/v1/chat/completions",
        model=MODEL,
        candidates=(f"sarvam/{MODEL}", f"krutrim/{MODEL}"),
        excluded={f"openai/{MODEL}": "residency"},
        constraints=("india_only",),
        input_tokens=812,
        output_tokens=640,
        streamed=True,
    )


def settlement(held: CreditHeld, *, at: int) -> RequestSettled:
    usage = Usage(input=612, cached_input=200, output=321)
    return RequestSettled(
        at=at,
        by=held.by,
        org=held.org,
        key=held.key,
        workspace=held.workspace,
        endpoint=held.endpoint,
        model=MODEL,
        provider="sarvam",
        residency="IN",
        held=held.amount,
        cost=cost(RATES, usage),
        usage=usage,
        rates=RATES,
        attempts=(Attempt(route=f"sarvam/{MODEL}", end="served", status=200, milliseconds=312),),
        first_byte_ms=312,
        duration_ms=2_345,
        streamed=True,
    )


def _transactions(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return row[0]


def _sweep(url: str) -> float:
    """Milliseconds that a look for overdue holds takes."""
    began = time.perf_counter()
    expire_due(url, now=0)
    return 1000 * (time.perf_counter() - began)


def _batch(commands: int, transactions: int) -> str:
    """Commands a transaction; what only refuses writes nothing, and is not counted."""
    return f"{commands / transactions:.1f}" if transactions else "-"


def _server_cpu(connection: psycopg.Connection[tuple[int]]) -> float:
    """CPU seconds that the writer's session has used so far."""
    row = connection.execute("select pid from pg_stat_activity where query like '%ledger_commit($1%'").fetchone()
    assert row is not None
    spent = Path(f"/proc/{row[0]}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


def _hold_table(connection: psycopg.Connection[tuple[str, int, int]]) -> tuple[str, int, int]:
    row = connection.execute(
        "select pg_size_pretty(pg_total_relation_size(relid)), n_dead_tup, autovacuum_count from pg_stat_user_tables"
        " where relname = 'hold'"
    ).fetchone()
    assert row is not None
    return row


if __name__ == "__main__":
    main()
