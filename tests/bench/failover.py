"""What failing over costs: the time that a call takes whose first route refuses at once, and one whose first route is
known to be dead, beside a call whose first route answers. One call at a time, interleaved, over one connection.

    python -m tests.bench.failover [--calls 400]

Each of the routes that refuse is called twice at most, so that its circuit never opens; a circuit is opened on purpose
for the third case.
"""

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Sequence

from tests.bench.product import RICH_INR, product
from tests.bench.rig import rig

HIT, DEAD = "hit", "dead"
CALLS_PER_ROUTE = 2
OPENED_SECONDS = 2.0

_PROVIDER = """
id = "{id}"
name = "{id}"
base_url = "http://127.0.0.1:{port}/v1"
"""
_ROUTE = """
[[models]]
id = "{model}"
upstream = "{upstream}"
context_length = 128000
max_output_tokens = 8192
priced_on = "2026-11-01"
input_inr_per_mtok = "{price}"
output_inr_per_mtok = "{price}"
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=400, help="of each kind")
    calls = parser.parse_args().calls
    refusing = [f"refusing-{number}" for number in range(-(-calls // CALLS_PER_ROUTE))]
    with rig() as made:
        port = made.start_provider()
        with product(made, provider_port=port) as running:
            folder = made.folder / "catalog" / "providers"
            for id, price, upstream, models in (
                ("cheap", "0.1", "mock-err500", [DEAD, *refusing]),
                ("dear", "0.2", "mock", [HIT, DEAD, *refusing]),
            ):
                routes = [_ROUTE.format(model=model, upstream=upstream, price=price) for model in models]
                (folder / f"{id}.toml").write_text(_PROVIDER.format(id=id, port=port) + "".join(routes))
            secret = running.mint(inr=RICH_INR)
            gateway = running.gateway("gateway")
            running.wait_for(gateway, secret, name="gateway")
            client = Client(gateway.port, secret)
            for model in [HIT] * 200 + [DEAD] * 3:
                client.call(model)
            time.sleep(OPENED_SECONDS)
            taken = client.interleaved([HIT] * calls, (refusing * CALLS_PER_ROUTE)[:calls], [DEAD] * calls)
    print(table(taken))


class Client:
    """Calls over one connection that is kept."""

    def __init__(self, port: int, secret: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

    def call(self, model: str) -> float:
        """How many milliseconds the call took. Raises RuntimeError for a refusal."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
        began = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        reply = self._connection.getresponse()
        told = reply.read()
        if reply.status != 200:
            raise RuntimeError(told.decode())
        return (time.perf_counter() - began) * 1000

    def interleaved(self, *kinds: Sequence[str]) -> list[list[float]]:
        """The times of each kind of call."""
        rounds = [[self.call(model) for model in models] for models in zip(*kinds, strict=True)]
        return [list(each) for each in zip(*rounds, strict=True)]


def table(taken: Sequence[Sequence[float]]) -> str:
    lines = ["| first route | ms p50 | ms p99 | added ms p50 | times a direct hit |", "|---|---|---|---|---|"]
    hit = statistics.median(taken[0])
    for name, times in zip(("answers", "refuses at once", "has an open circuit"), taken, strict=True):
        median, late = statistics.median(times), statistics.quantiles(times, n=100)[98]
        lines.append(f"| {name} | {median:.2f} | {late:.2f} | {median - hit:.2f} | {median / hit:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
