"""200 clients at once against two gateway processes that share a Valkey: in each window exactly as many pass as may, by
the key's limit, by the gateway's, and of wrong keys."""

import asyncio
import math
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import uvloop

from tests.api.edge import Reply, Wire, chat, request

WINDOW_SECONDS = 3
KEY_RPM, GATEWAY_RPM, WRONG_KEYS_RPM = 37, 61, 23
CLIENTS, WINDOWS = 200, 3

GATEWAY = textwrap.dedent("""
    import asyncio, sys, time
    import uvloop
    from adapters.rates import SharedRateWindows
    from domain.keys.events import KeyMinted
    from tests.api.edge import gateway
    from tests.fakes import FakeClock

    class RealClock(FakeClock):
        def __call__(self):
            return time.time_ns() // 1_000

    async def main(url, seconds, gateway_rpm, key_rpm, wrong_keys_rpm):
        rates = SharedRateWindows(url, window_seconds=seconds, patience_seconds=10)
        await rates.start()
        limits = {"gateway_rpm": gateway_rpm, "wrong_keys_rpm": wrong_keys_rpm}
        async with gateway(rates=rates, clock=RealClock(), **limits) as edge:
            for name, limit in (("br-own", key_rpm), ("br-any", None)):
                minted = KeyMinted(at=1, org="org_a", workspace="ws_a", name=name, prefix=name, digest=name)
                edge.ledger.record(f"key:{name}", minted)
                edge.keys.add(name, key_id=name, rpm_limit=limit)
            print(edge.port, flush=True)
            await asyncio.to_thread(sys.stdin.read)
            assert not rates.degraded
        await rates.close()

    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
""")


@pytest.fixture
def gateways(redis_url: str) -> Iterator[list[int]]:
    """The ports of two."""
    numbers = [str(number) for number in (WINDOW_SECONDS, GATEWAY_RPM, KEY_RPM, WRONG_KEYS_RPM)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", GATEWAY, redis_url, *numbers],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        yield [int(process.stdout.readline()) for process in processes if process.stdout]
        for process in processes:
            process.communicate(timeout=20)
            assert process.returncode == 0


def test_in_each_of_several_windows_exactly_as_many_pass_as_may(gateways: list[int]) -> None:
    async def client(number: int, key: str) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateways[number % 2])
        wire = Wire(reader, writer)
        try:
            return await wire.send(request(chat(stream=number % 4 == 0), key=key)).reply()
        finally:
            await wire.close()

    async def hammer() -> None:
        for _ in range(WINDOWS):
            keys = [("br-own", "br-any", f"br-wrong-{number}")[number % 3] for number in range(3 * CLIENTS)]
            asked = [(key, asyncio.create_task(client(number, key))) for number, key in enumerate(keys)]
            replies = [(key, await reply) for key, reply in asked]
            counted = Counter((key[:6], reply.status) for key, reply in replies)
            assert counted == {
                ("br-own", 200): KEY_RPM,
                ("br-own", 429): CLIENTS - KEY_RPM,
                ("br-any", 200): GATEWAY_RPM,
                ("br-any", 429): CLIENTS - GATEWAY_RPM,
                ("br-wro", 401): WRONG_KEYS_RPM,
                ("br-wro", 429): CLIENTS - WRONG_KEYS_RPM,
            }
            for key, limit in (("br-own", KEY_RPM), ("br-any", GATEWAY_RPM)):
                mine = [reply for name, reply in replies if name == key]
                assert {reply.headers["x-ratelimit-limit-requests"] for reply in mine} == {str(limit)}
                left = [int(r.headers["x-ratelimit-remaining-requests"]) for r in mine if r.status == 200]
                assert sorted(left) == list(range(limit))
            waits = [int(reply.headers["retry-after"]) for _, reply in replies if reply.status == 429]
            assert 1 <= min(waits) <= max(waits) <= math.ceil(WINDOW_SECONDS)
            await asyncio.sleep(WINDOW_SECONDS)

    uvloop.run(hammer())
