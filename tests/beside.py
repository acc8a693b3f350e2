"""Servers of asyncio beside a test, in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def beside(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What is entered with the server, once it listens. It runs until the end of the block."""
    listening, stop = threading.Event(), asyncio.Event()
    known: dict[str, Any] = {}

    async def run() -> None:
        async with server as known["entered"]:
            known["loop"] = asyncio.get_running_loop()
            listening.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert listening.wait(20)
    try:
        yield known["entered"]
    finally:
        known["loop"].call_soon_threadsafe(stop.set)
        thread.join(20)
