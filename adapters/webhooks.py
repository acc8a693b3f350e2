"""Calls webhooks of users: through the egress guard, within ten seconds, and with no interest in what they answer."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from adapters.egress import Egress
from adapters.http import HttpPool, Target
from domain.inference.ports import UpstreamFault

SECONDS_MAX = 10
ANSWER_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is 0 where there was none; then `problem` is a sentence that may be shown to whoever gave the URL."""

    status: int
    problem: str
    milliseconds: int


class WebhookCaller:
    """For one event loop; `close` it there. Nothing is kept open between two calls for long."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._pool = HttpPool(connect_seconds=SECONDS_MAX, idle_seconds=SECONDS_MAX, tls=_tls())

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Sends the body once, and waits for the whole answer."""
        began = time.monotonic()
        status, problem = 0, ""
        try:
            target = Target.of(url, {"accept": "*/*", **headers}, resolve=self._egress.resolve)
            async with asyncio.timeout(SECONDS_MAX):
                reply = await self._pool.post(target, body, first_byte_seconds=SECONDS_MAX)
                try:
                    status = reply.status
                    await reply.read(ANSWER_BYTES_MAX)
                finally:
                    reply.close()
        except UpstreamFault as fault:
            problem = "" if status else fault.message.replace("provider", "endpoint")
        except TimeoutError:
            status, problem = 0, f"The endpoint did not answer within {SECONDS_MAX} seconds."
        except ValueError as error:
            problem = f"The URL cannot be called: {error}."
        return Answer(status, problem, round((time.monotonic() - began) * 1000))

    async def close(self) -> None:
        await self._pool.close()


@cache
def _tls() -> ssl.SSLContext:
    """Reading the system's authorities takes longer than a call."""
    return ssl.create_default_context()
