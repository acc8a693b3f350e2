"""Providers for tests, played by the simulator in a thread of this process, faults included."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from adapters.settings import Settings
from adapters.simulators.provider import start
from tests.beside import beside
from tests.product import write_catalog


@dataclass
class Simulated:
    """`play` has calls go by a script of the simulator; `requests` are those that came so far."""

    url: str
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    def play(self, script: str, *, provider: str | None = None, model: str | None = None) -> None:
        self._client.post(f"{self.url}/script", json={"provider": provider, "model": model, "script": script})

    def take_keys(self, provider: str, *keys: str) -> None:
        """From now on, the provider refuses all keys but these."""
        self._client.post(f"{self.url}/keys", json={"provider": provider, "keys": keys})

    def settings(self, home: Path, *models: str, **more: Any) -> Settings:
        """Of a product that calls these providers, with a catalog of what they serve in its home."""
        write_catalog(home / "catalog", models)
        return Settings(home=home, catalog_dir=home / "catalog", simulator_url=self.url, **more)

    def reset(self) -> None:
        """Forgets scripts, keys and what came so far."""
        self._client.post(f"{self.url}/reset")

    def requests(self) -> list[dict[str, Any]]:
        return list(self._client.get(f"{self.url}/requests?limit=1000").json()["requests"])

    def close(self) -> None:
        self._client.close()


@contextmanager
def simulated_providers() -> Iterator[Simulated]:
    """A simulator that runs until the end of the block."""
    with beside(_running()) as port, closing(Simulated(f"http://127.0.0.1:{port}")) as simulated:
        yield simulated


@asynccontextmanager
async def _running() -> AsyncIterator[int]:
    server = await start()
    yield server.port
    await server.close()
