"""How much memory a gateway process takes, and whether that grows with the calls it has served; and how long
`bharatrouter --help` takes.

    python -m tests.bench.memory [--calls 0 20000 60000 100000] [--inflight 64]

One call in five is a stream.
"""

import argparse
import statistics
import subprocess
import time

from tests.bench.product import RICH_INR, product, program
from tests.bench.rig import MODELS, rig, rss_mb

SECONDS_MAX = 600
HELP_RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, nargs="+", default=[0, 20_000, 60_000, 100_000])
    parser.add_argument("--inflight", type=int, default=64)
    arguments = parser.parse_args()
    took = sorted(help_seconds() for _ in range(HELP_RUNS))
    print(f"bharatrouter --help: {statistics.median(took):.2f} s ({took[0]:.2f}–{took[-1]:.2f})", flush=True)
    with rig() as made, product(made, provider_port=made.start_provider()) as running:
        keys = made.folder / "keys"
        keys.write_text(running.mint(inr=RICH_INR))
        gateway = running.gateway("gateway")
        running.wait_for(gateway, keys.read_text(), name="gateway")
        served = 0
        for calls in arguments.calls:
            streams = (calls - served) // 5
            failed = 0
            for count, options in ((calls - served - streams, ["-m", MODELS[0]]), (streams, ["-s", "-m", MODELS[0]])):
                if count:
                    limits = ["-c", arguments.inflight, "-n", count, "-w", 0, "-d", SECONDS_MAX]
                    found = made.load(gateway.port, *limits, *options, keys=keys)
                    failed += count - int(str(found["ok"]))
            served = calls
            running.settle()
            print(f"{served:9,} calls  {rss_mb(gateway.pids):6.1f} MB  {failed} failed", flush=True)


def help_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([*program(), "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
