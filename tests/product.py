"""The whole product as its users meet it: started by its own command, in a home of its own, driven over HTTP.

Its providers are played by the simulator that it starts itself. A model called `sim-…` behaves as its name says
(`adapters/simulators/script.py`); any other answers well.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.machine import free_port

BHARATROUTER = Path(sys.executable).with_name("bharatrouter")
READY_SECONDS_MAX = 60

INPUT_NANOS, OUTPUT_NANOS = 10_000, 40_000
"""Nano-rupees per token of every model of the test catalog: ₹10 and ₹40 per million tokens."""

CONTEXT_LENGTH, OUTPUT_TOKENS_MAX = 128_000, 4_096


class Product:
    """One running product. `models` are the ids that its test catalog offers, each served by two providers: `sim-india`
    and, at twice the price, `sim-abroad`."""

    def __init__(
        self,
        home: Path,
        *,
        models: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        command: Sequence[str | Path] = (BHARATROUTER, "up"),
    ) -> None:
        self.home = home
        self.command = command
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        catalog = home.with_name(home.name + "-catalog")
        write_catalog(catalog, models)
        ours = ("BR_", "DATABASE_", "REDIS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment = kept | {
            "BHARATROUTER_HOME": str(home),
            "BHARATROUTER_CATALOG_DIR": str(catalog),
            "PORT": str(self.port),
            "WEB_PROCESSES": "2",
            "BR_GATEWAY_RPM": "0",
            "BR_WRONG_KEYS_RPM": "0",
            **(settings or {}),
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "Product":
        self.process = subprocess.Popen(
            [*self.command], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"the product ended at once:\n{self.process.communicate()[0]}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("the product did not become ready")
            time.sleep(0.05)
        return self

    def is_ready(self) -> bool:
        try:
            ready = httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
        return ready and (self.home / "run.json").exists()

    def stop(self) -> int:
        """Asks it to stop, and waits; answers its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode

    def __enter__(self) -> "Product":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What runs

    @property
    def running(self) -> dict[str, Any]:
        """What the supervisor has written down: addresses and process ids."""
        found: dict[str, Any] = json.loads((self.home / "run.json").read_text())
        return found

    @property
    def database_url(self) -> str:
        return str(self.running["database_url"])

    @property
    def simulator_url(self) -> str:
        return str(self.running["simulator_url"])

    # What an operator does

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command beside the product."""
        done = subprocess.run(
            [BHARATROUTER, *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"bharatrouter {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done

    def cli_json(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "--json").stdout)

    def org(self, *, inr: str = "100") -> str:
        """A new org with so much credit; its id."""
        made = self.cli_json("org", "create", "--name", "Test", "--email", "a@example.org", "--credit-inr", inr)
        return str(made["id"])

    def key(self, org: str, *options: str) -> str:
        """A new key of the org, in clear."""
        name = f"key-{time.monotonic_ns()}"
        return str(self.cli_json("key", "create", "--org", org, "--name", name, *options)["key"])

    def verify(self) -> Any:
        """Recomputes everything; the report. Fails the test on any difference."""
        done = self.cli("verify", "--json", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    # What a user does

    def client(self, key: str, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, **options)

    def chat(self, key: str, model: str = "steady", **fields: Any) -> httpx.Response:
        """One whole chat call with a short prompt."""
        with self.client(key) as client:
            return client.post("/v1/chat/completions", json=chat_body(model, **fields))


def chat_body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say something."}], **fields}


def write_catalog(folder: Path, models: Sequence[str]) -> None:
    """Files for these models, `steady` and `steady-embedding`, and for the two providers that serve them."""
    offered = list(dict.fromkeys(["steady", *models, "steady-embedding"]))
    described = [_describe(model) for model in offered]
    _write(folder / "catalog" / "tests.toml", described)
    for provider, residency, dearer in (("sim-india", 'residency = "IN"', 1), ("sim-abroad", "", 2)):
        head = (
            f'id = "{provider}"\nname = "{provider}"\nbase_url = "https://{provider}.invalid/v1"\n{residency}\n'
            f'auth = "bearer"\nkey_env = "BR_KEY_{provider.upper().replace("-", "_")}"\n'
        )
        _write(folder / "providers" / f"{provider}.toml", [head, *[_route(model, dearer) for model in offered]])


def _describe(model: str) -> str:
    modality = "embedding" if "embedding" in model else "chat"
    return (
        f'[[models]]\nid = "{model}"\nname = "{model}"\nowned_by = "tests"\nlisted_on = "2026-11-23"\n'
        f'openness = "permissive"\nmodality = "{modality}"\ncontext_length = {CONTEXT_LENGTH}\n'
        f"max_output_tokens = {0 if modality == 'embedding' else OUTPUT_TOKENS_MAX}\n"
    )


def _route(model: str, dearer: int) -> str:
    output = "" if "embedding" in model else f'output_inr_per_mtok = "{OUTPUT_NANOS * dearer / 1000}"'
    return (
        f'[[models]]\nid = "{model}"\nupstream = "{model}"\npriced_on = "2026-11-23"\n'
        f'input_inr_per_mtok = "{INPUT_NANOS * dearer / 1000}"\n{output}\n'
    )


def _write(file: Path, parts: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(parts))
