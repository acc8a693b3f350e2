"""How a simulator is a process: it listens, says where, and serves until it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

Opened = AbstractAsyncContextManager[tuple[int, Awaitable[None]]]


def run(
    simulator: Callable[[], Opened],
    *,
    host: str,
    announce: str | None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. Once listening, writes the base URL and a newline to the file `announce`.

    `simulator` opens it and gives its port and what it does of itself; if that ends or fails, so does the process.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(simulator, host=host, announce=announce))


async def _serve(simulator: Callable[[], Opened], *, host: str, announce: str | None) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with simulator() as (port, work):
        if announce is not None:
            _announce(Path(announce), f"http://{host}:{port}\n")
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(asked_to_stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            working.result()


def _announce(path: Path, url: str) -> None:
    """Writes the URL in one step, so that a reader sees all of it or nothing."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(url)
    unfinished.replace(path)
