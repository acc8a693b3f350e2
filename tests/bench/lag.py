"""How far the projections lag behind a busy log: appends calls at a steady rate and asks when each batch is visible.

python -m tests.bench.lag [--calls-per-second 1000] [--seconds 20]
"""

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg

from adapters.embedded import Postgres, running
from adapters.postgres import migrate
from projections.runner import Runner, wait_for
from tests.bench.rebuild import Line, history

BATCHES_PER_SECOND = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls-per-second", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    per_batch = 2 * arguments.calls_per_second // BATCHES_PER_SECOND
    batches = arguments.seconds * BATCHES_PER_SECOND
    lines = history(6_000 + per_batch * batches)
    with tempfile.TemporaryDirectory(prefix="bharatrouter-bench-") as folder:
        Path(folder).chmod(0o711)  # a server started by root runs as another user
        with running(Postgres(Path(folder) / "home")) as url:
            measure(url, per_batch, batches, lines)


def measure(url: str, per_batch: int, batches: int, lines: Iterator[Line]) -> None:
    migrate(url)
    stop = threading.Event()
    runner = Runner(url)
    runner.prepare()
    with psycopg.connect(url, autocommit=True) as writer, psycopg.connect(url, autocommit=True) as reader:
        append(writer, list(itertools.islice(lines, 6_000)))
        # In a process of its own, as in the product.
        child = os.fork()
        if not child:
            Runner(url).run(stop)
            os._exit(0)
        try:
            lags = []
            began = time.perf_counter()
            for number in range(batches):
                time.sleep(max(0.0, began + number / BATCHES_PER_SECOND - time.perf_counter()))
                position = append(writer, list(itertools.islice(lines, per_batch)))
                if number % 10 == 0:
                    threading.Thread(target=_measure, args=[url, position, lags]).start()
            seconds = time.perf_counter() - began
            wait_for(reader, "activity", position, timeout_seconds=60)
            time.sleep(0.5)
        finally:
            os.kill(child, 9)
            _, _, used = os.wait4(child, 0)
    lags.sort()
    print(f"{per_batch * batches / seconds:,.0f} events/s for {seconds:.0f} s")
    print(f"lag p50 {lags[len(lags) // 2] * 1000:.0f} ms, max {lags[-1] * 1000:.0f} ms, of {len(lags)} probes")
    print(f"runner: {(used.ru_utime + used.ru_stime) / seconds:.2f} of a core")


def _measure(url: str, position: int, lags: list[float]) -> None:
    began = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        seen = wait_for(connection, "activity", position, timeout_seconds=30)
    lags.append(time.perf_counter() - began if seen else 30.0)


def append(connection: psycopg.Connection, lines: list[Line]) -> int:
    """One transaction of the log, as the ledger's writer makes them; answers the last position."""
    encode = msgspec.json.Encoder().encode
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(7301)")
        cursor.execute(
            "insert into events (originator_id, originator_version, topic, state) select * from"
            " unnest(%s::text[], %s::bigint[], %s::text[], %s::bytea[])",
            [
                [stream for stream, _, _ in lines],
                [version for _, version, _ in lines],
                [event.NAME for _, _, event in lines],
                [encode(event) for _, _, event in lines],
            ],
        )
        row = cursor.execute("select max(notification_id) from events").fetchone()
    assert row is not None
    return int(row[0])


if __name__ == "__main__":
    main()
