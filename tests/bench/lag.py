"""How far the read models are behind: the time from the end of a call to the moment when its row can be read in the
activity feed, under a steady load.

    python -m tests.bench.lag [--rate 1000] [--seconds 20] [--processes 1]

The moment of a call's end is that of its settlement, which the gateway notes before the answer is complete; the time
until that is on disk is thus counted in. What can be read is looked at every 2 ms.
"""

import argparse
import bisect
import threading
import time

import psycopg

from tests.bench.product import RICH_INR, Product, product
from tests.bench.rig import rig

LOOK_SECONDS = 0.002
BEFORE_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=1_000, help="calls a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=1, help="gateway processes")
    arguments = parser.parse_args()
    with rig() as made, product(made, provider_port=made.start_provider()) as running:
        keys = made.folder / "keys"
        keys.write_text(running.mint(inr=RICH_INR))
        gateway = running.gateway("gateway", processes=arguments.processes)
        running.wait_for(gateway, keys.read_text(), name="gateway")
        began = time.time_ns() // 1000 + int(BEFORE_SECONDS * 1_000_000)
        watcher = Watcher(running.database_url)
        options = ["-R", arguments.rate, "-c", 256, "-d", arguments.seconds, "-w", BEFORE_SECONDS]
        found = made.load(gateway.port, *options, keys=keys)
        running.settle()
        looks = watcher.finish()
        lags = sorted(lags_ms(running, looks, began))
    latency = found["lat_us"]
    assert isinstance(latency, dict)
    print(f"{found['rps']:,.0f} calls/s answered of {arguments.rate:,} asked for, {found['bad']} refused, ", end="")
    print(f"{found['fail']} failed; latency p50 {latency['p50'] / 1000:.1f} ms, p99 {latency['p99'] / 1000:.1f} ms")
    print(f"lag of {len(lags):,} calls: ", end="")
    print(", ".join(f"{name} {lags[int((len(lags) - 1) * part)]:.0f} ms" for name, part in PARTS.items()))


PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class Watcher:
    """Notes in a thread when the activity feed has come how far."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._looks: list[tuple[int, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def finish(self) -> list[tuple[int, int]]:
        """The positions that were reached, with the microseconds since 1970 at which that was seen."""
        self._stop.set()
        self._thread.join()
        return self._looks

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            last = False
            while not last:
                last = self._stop.is_set()
                row = connection.execute("select at from view_activity.position", prepare=True).fetchone()
                if row is not None and (not self._looks or row[0] > self._looks[-1][0]):
                    self._looks.append((row[0], time.time_ns() // 1000))
                time.sleep(LOOK_SECONDS)


def lags_ms(running: Product, looks: list[tuple[int, int]], began: int) -> list[float]:
    """Of every call that ended after `began` (microseconds): how long it took until its row was seen."""
    with psycopg.connect(running.database_url) as connection:
        rows = connection.execute("select id, at from view_activity.activity where at >= %s", [began]).fetchall()
    seen = [looks[bisect.bisect_left(looks, (position, 0))][1] for position, _ in rows]
    return [(moment - at) / 1000 for moment, (_, at) in zip(seen, rows, strict=True)]


if __name__ == "__main__":
    main()
