"""BharatRouter as it is measured: all processes of the product, PostgreSQL and Valkey durable, in front of a mock
provider, with orgs of any number and wealth."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg

from adapters.embedded import Postgres, Valkey, running
from adapters.settings import Settings
from adapters.wiring import App, build, now
from tests.bench.rig import BESIDE_CPU, MODELS, TESTED_CPU, Rig, ask, wait_until
from tests.given import PEPPER, given_key, given_org

_PROGRAM = "import sys; sys.path.insert(0, {root!r}); from api.cli import main; sys.exit(main())"
ROOT = Path(__file__).parents[2]
BACKLOG = 4096
RICH_INR = 200_000
_SETTLED_SECONDS = 60

# The least that a catalog takes for a price: a call of 140 tokens costs ₹0.000014, so that ₹2 last for 142,857 of them.
_PROVIDER_FILE = """
id = "mock"
name = "Mock provider"
base_url = "http://127.0.0.1:{port}/v1"
residency = "IN"
"""
_MODEL_ENTRY = """
[[models]]
id = "{model}"
upstream = "{model}"
context_length = 128000
max_output_tokens = 8192
priced_on = "2026-11-01"
input_inr_per_mtok = "0.1"
output_inr_per_mtok = "0.1"
"""


@dataclass(frozen=True)
class Gateway:
    """One or more gateway processes behind one port."""

    port: int
    processes: tuple[subprocess.Popen[bytes], ...]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


class Product:
    def __init__(self, rig: Rig, app: App, environment: dict[str, str], servers: list[int]) -> None:
        self.app = app
        self.database_url = app.database_url
        self._rig = rig
        self._environment = environment
        self._beside = servers
        self._numbers = count(1)

    def beside(self, *arguments: str) -> None:
        """A process of the product that is no gateway."""
        self._beside.append(self._start(arguments[0], *arguments).pid)

    @property
    def pids_beside(self) -> list[int]:
        """PostgreSQL, Valkey, projector, worker and scheduler."""
        return self._beside

    def gateway(self, name: str, *, processes: int = 1, rpm: int = 0) -> Gateway:
        """Gateway processes on the tested core, two of them on both. `rpm` is the cap of requests a minute, whose
        windows are shared through Valkey; 0 takes none."""
        cpus = (TESTED_CPU,) if processes == 1 else (TESTED_CPU, BESIDE_CPU)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(BACKLOG)
            port, fd = listener.getsockname()[1], listener.fileno()
            started = tuple(
                self._start(f"{name}-{number}", "serve", "--fd", str(fd), cpus=cpus, fd=fd, BR_GATEWAY_RPM=str(rpm))
                for number in range(1, processes + 1)
            )
        return Gateway(port, started)

    def wait_for(self, gateway: Gateway, secret: str, *, name: str) -> None:
        """Until it serves, and its processes know the newest keys. Raises NotUp."""

        def ready() -> bool:
            try:
                return "choices" in ask(gateway.port, MODELS[0], headers=[f"Authorization: Bearer {secret}"])
            except OSError:
                return False

        for number, process in enumerate(gateway.processes, 1):
            wait_until(ready, process, self._rig.log_of(f"{name}-{number}"))
        time.sleep(1.0)  # every process reads changes of keys within this time

    def mint(self, *, inr: int) -> str:
        """A key without limits, of a fresh org with this credit."""
        org = f"org_bench{next(self._numbers)}"
        given_org(self.app.store, org, inr=inr, at=now())
        return given_key(self.app.store, org, at=now()).secret

    def settle(self) -> float:
        """Waits until the read models have everything that is in the log; answers the seconds that took."""
        began = time.monotonic()
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while time.monotonic() < began + _SETTLED_SECONDS:
                row = connection.execute(
                    "select at >= (select coalesce(max(notification_id), 0) from events) from view_activity.position"
                ).fetchone()
                if row is not None and row[0]:
                    break
                time.sleep(0.02)
        return time.monotonic() - began

    def _start(
        self,
        name: str,
        *arguments: str,
        cpus: tuple[int, ...] = (BESIDE_CPU,),
        fd: int | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        return self._rig.start(
            name,
            [*program(), *arguments],
            cpus=cpus,
            environment=self._environment | environment,
            pass_fds=[] if fd is None else [fd],
        )


def program() -> list[str]:
    """The command line of `bharatrouter`, of this checkout."""
    installed = Path(sys.executable).with_name("bharatrouter")
    return [str(installed)] if installed.exists() else [sys.executable, "-I", "-c", _PROGRAM.format(root=str(ROOT))]


@contextmanager
def product(rig: Rig, *, provider_port: int) -> Iterator[Product]:
    """The product without gateways, until the block ends. Raises CannotStart, CalledProcessError."""
    catalog = rig.folder / "catalog"
    (catalog / "providers").mkdir(parents=True)
    entries = "".join(_MODEL_ENTRY.format(model=model) for model in MODELS)
    (catalog / "providers" / "mock.toml").write_text(_PROVIDER_FILE.format(port=provider_port) + entries)
    home = rig.folder / "home"
    with ExitStack() as stack:
        servers: list[Postgres | Valkey] = [Postgres(home), Valkey(home)]
        database_url, redis_url = [stack.enter_context(running(server)) for server in servers]
        environment = {
            "BHARATROUTER_HOME": str(home),
            "BHARATROUTER_CATALOG_DIR": str(catalog),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "BR_KEY_PEPPER": PEPPER.decode(),
            "BR_LOG_LEVEL": "warning",
        }
        subprocess.run([*program(), "migrate"], env={**os.environ, **environment}, check=True, capture_output=True)
        settings = Settings(
            home=home,
            catalog_dir=catalog,
            database_url=database_url,
            redis_url=redis_url,
            key_pepper=PEPPER.decode(),  # pydantic makes it a secret
        )
        app = build(settings)
        stack.callback(app.close)
        made = Product(rig, app, environment, [server.process.pid for server in servers if server.process])
        stack.callback(_stop_those_of, rig)  # before the servers that they use
        for name in ("project", "work", "schedule"):
            made.beside(name)
        yield made


def _stop_those_of(rig: Rig) -> None:
    rig.stop_all()
    rig.processes.clear()
