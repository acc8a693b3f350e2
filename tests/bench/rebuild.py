"""How quickly all projections are rebuilt: fills a PostgreSQL of its own with a history and rebuilds it a few times.

python -m tests.bench.rebuild [--events 1000000] [--rounds 3] [--processes 2] [--verify] [--profile NAMES]
"""

import argparse
import contextlib
import cProfile
import pstats
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg

from adapters.embedded import Postgres, running
from adapters.postgres import migrate
from adapters.sealing import Sealer
from domain.accounts.events import OrgCreated, WorkspaceCreated
from domain.catalog.price import Rates, cost
from domain.inference.metering import Usage
from domain.kernel.clock import DAY, SECOND
from domain.kernel.events import Event
from domain.kernel.ids import make_id
from domain.keys.events import KeyMinted
from domain.ledger.events import Attempt, CreditGranted, CreditHeld, HoldReleased, RequestSettled
from projections.runner import Copy, Runner
from projections.verify import verify

ORGS = 1_000
MODELS = 60
START = 1_790_000_000 * SECOND

Line = tuple[str, int, Event]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verify", action="store_true", help="seal and verify, too")
    parser.add_argument("--profile", nargs="*", help="profile one worker with these projections")
    parser.add_argument("--home", type=Path, help="keep the database here, and use it again")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.home or stack.enter_context(tempfile.TemporaryDirectory(prefix="bharatrouter-bench-"))
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o711)  # a server started by root runs as another user
        url = stack.enter_context(running(Postgres(home / "home")))
        if is_empty(url):
            migrate(url)
            fill(url, arguments.events)
        runner = Runner(url)
        runner.prepare()
        if arguments.profile is not None:
            profile(runner, arguments.profile)
            return
        for _ in range(arguments.rounds):
            began = time.perf_counter()
            runner.rebuild(processes=arguments.processes)
            _tell("rebuild of all projections", arguments.events, began)
        if arguments.verify:
            began = time.perf_counter()
            Sealer(url, clock=lambda: START).seal(all_of_it=True)
            _tell("seal", arguments.events, began)
            # Guards are not there in this history, so these findings are expected; the work is all done.
            began = time.perf_counter()
            report = verify(url)
            _tell("verify", arguments.events, began)
            print({finding.check for finding in report.findings})


def _tell(what: str, events: int, began: float) -> None:
    seconds = time.perf_counter() - began
    print(f"{what}: {events / seconds:,.0f} events/s ({seconds:.1f} s)", flush=True)


def is_empty(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("select to_regclass('events')").fetchone() == (None,)


def profile(runner: Runner, names: list[str]) -> None:
    """Where a worker spends its time."""
    projections = [runner.projections[name] for name in names or runner.projections]
    copy = Copy(projections, suffix="__profile")
    with psycopg.connect(runner.url) as connection, connection.cursor() as cursor, cProfile.Profile() as profiler:
        copy.create(cursor, indexes=False)
        copy.fill(cursor, until=1 << 60)
        copy.index(cursor)
        profiler.disable()
        connection.rollback()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def fill(url: str, events: int) -> None:
    """Appends about so many events straight to the log."""
    began = time.perf_counter()
    encode = msgspec.json.Encoder().encode
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy(
            "copy events (originator_id, originator_version, topic, state) from stdin (format binary)"
        ) as copy:
            copy.set_types(["text", "int8", "text", "bytea"])
            for stream, version, event in history(events):
                copy.write_row((stream, version, event.NAME, encode(event)))
        connection.commit()
        connection.autocommit = True
        cursor.execute("vacuum analyze events")
        size = cursor.execute("select pg_relation_size('events'), avg(length(state)) from events").fetchone()
    print(f"filled in {time.perf_counter() - began:.0f} s; bytes of the table, of a state: {size}", flush=True)


def history(events: int) -> Iterator[Line]:
    """A month of one gateway, 64 calls in flight: orgs, keys and models of very unequal use."""
    chance = random.Random(7)
    orgs = []
    for number in range(ORGS):
        org, workspace = _id(chance, "org", START + number), _id(chance, "ws", START + number)
        yield f"org:{org}", 1, OrgCreated(at=START, by="operator", name=f"Org {number}")
        yield f"workspace:{workspace}", 1, WorkspaceCreated(at=START, by="operator", org=org, name="Default")
        yield (
            f"account:{org}",
            1,
            CreditGranted(at=START, by="operator", org=org, grant="first", amount=1 << 50, reason="trial"),
        )
        keys = [_id(chance, "key", START + number) for _ in range(3)]
        for key in keys:
            yield (
                f"key:{key}",
                1,
                KeyMinted(at=START, by="operator", org=org, workspace=workspace, name=key, prefix=key, digest=key),
            )
        orgs.append((org, workspace, keys))
    calls = (events - 6 * ORGS) // 2
    running_calls: list[tuple[str, CreditHeld]] = []
    for number in range(calls):
        at = START + number * (30 * DAY // calls)
        org, workspace, keys = orgs[min(int(chance.paretovariate(0.9)) - 1, ORGS - 1)]
        model = f"model-{min(int(chance.paretovariate(0.8)) - 1, MODELS - 1)}-instruct"
        held = CreditHeld(
            at=at,
            by=f"key:{keys[0]}",
            org=org,
            key=chance.choice(keys),
            workspace=workspace,
            amount=5_000_000,
            expires=at + 900 * SECOND,
            endpoint="/v1/chat/completions",
            model=model,
            candidates=(f"sarvam/{model}", f"krutrim/{model}"),
            excluded={f"openai/{model}": "residency"},
            constraints=("india_only",),
            input_tokens=chance.randrange(4_000),
            output_tokens=1_000,
            streamed=True,
        )
        request = f"request:{_id(chance, 'req', at)}"
        yield request, 1, held
        running_calls.append((request, held))
        if len(running_calls) > 64:
            yield _end(chance, *running_calls.pop(chance.randrange(64)), at)
    for request, held in running_calls:
        yield _end(chance, request, held, at)


def _end(chance: random.Random, request: str, held: CreditHeld, at: int) -> Line:
    attempt = Attempt(route=held.candidates[0], end="served", status=200, milliseconds=312)
    if chance.random() < 0.02:
        return (
            request,
            2,
            HoldReleased(
                at=at,
                by=held.by,
                org=held.org,
                key=held.key,
                workspace=held.workspace,
                endpoint=held.endpoint,
                model=held.model,
                held=held.amount,
                code="all_routes_failed",
                attempts=(Attempt(route=held.candidates[0], end="timeout", milliseconds=60_000),),
                duration_ms=60_000,
                streamed=True,
            ),
        )
    rates = Rates(
        id=f"{held.candidates[0]}@2026-09-20.3f2a91c0",
        priced_on="2026-09-20",
        input=100,
        cached_input=40,
        cache_write=120,
        output=400,
    )
    usage = Usage(input=chance.randrange(4_000), cached_input=chance.randrange(900), output=chance.randrange(1_000))
    return (
        request,
        2,
        RequestSettled(
            at=at,
            by=held.by,
            org=held.org,
            key=held.key,
            workspace=held.workspace,
            endpoint=held.endpoint,
            model=held.model,
            provider="sarvam",
            residency="IN",
            held=held.amount,
            cost=cost(rates, usage),
            usage=usage,
            rates=rates,
            attempts=(attempt,),
            first_byte_ms=312,
            duration_ms=2_345,
            streamed=True,
        ),
    )


def _id(chance: random.Random, prefix: str, at: int) -> str:
    return make_id(prefix, at=at, entropy=chance.randbytes(8))


if __name__ == "__main__":
    main()
