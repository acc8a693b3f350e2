"""What a newcomer does: `./run`, the line to paste, everything the README shows, Ctrl-C, and again the next day."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.journeys.customers import until
from tests.machine import free_port
from tests.product import Product

pytestmark = pytest.mark.journeys

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
STOP_SECONDS_MAX = 20


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path]) -> Path:
    return new_home()


@pytest.fixture
def started(home: Path) -> Iterator[tuple[Product, str]]:
    """The product as `./run` starts it, in a session of its own like a terminal's; and what it printed."""
    settings = {"WEB_PROCESSES": "1", "BR_STOP_SECONDS": str(30 * STOP_SECONDS_MAX)}
    product = Product(home, command=["setsid", ROOT / "run"], settings=settings)
    product.start()
    try:
        assert product.process is not None
        assert product.process.stdout is not None
        printed = ""
        while "Ctrl-C" not in printed:
            line = product.process.stdout.readline()
            assert line, printed
            printed += line
        yield product, printed
    finally:
        product.stop()


def press_ctrl_c(product: Product) -> tuple[int, float]:
    """Interrupts every process of the session's foreground, as a terminal does; the exit code, and seconds taken."""
    process = product.process
    assert process is not None
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    product.process = None
    return process.returncode, time.monotonic() - started


def key_in(printed: str) -> str:
    found = re.search(r"^ +(br-\w+)$", printed, re.MULTILINE)
    assert found, printed
    return found[1]


def balance(product: Product, key: str) -> str:
    with product.client(key, verify=False) as http:
        until(lambda: http.get("/v1/key").status_code == 200)
        return str(http.get("/me/billing").json()["balance_inr"])


def spend(product: Product, key: str) -> None:
    before = balance(product, key)
    assert product.chat(key).status_code == 200
    until(lambda: balance(product, key) != before)


def test_what_run_prints_works_as_pasted(started: tuple[Product, str]) -> None:
    product, printed = started
    assert product.url in printed
    assert "₹100 to spend" in printed
    assert "simulator" in printed
    line = next(line.strip() for line in printed.splitlines() if line.strip().startswith("curl "))
    until(lambda: balance(product, key_in(printed)) == "100")
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
        assert '"cost_inr"' in done.stdout, done.stdout
    assert [word for word in shlex.split(line) if word.startswith("-")] == ["-H", "-H", "-d"]
    second = subprocess.run(
        [ROOT / "run"],
        env=product.environment | {"PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 3
    assert str(product.running["pid"]) in second.stdout
    assert product.url in second.stdout
    assert str(product.home) in second.stdout


def test_ctrl_c_ends_everything_at_once_though_connections_are_open_and_nothing_is_lost(
    started: tuple[Product, str],
) -> None:
    product, printed = started
    key = key_in(printed)
    spend(product, key)
    left = balance(product, key)
    assert left not in ("0", "100")
    processes = [product.running["pid"], *product.running["pids"].values()]
    with socket.create_connection(("127.0.0.1", product.port)), product.client(key, verify=False) as idle:
        assert idle.get("/v1/key").status_code == 200
        code, seconds = press_ctrl_c(product)
    assert code == 0
    assert seconds < STOP_SECONDS_MAX
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{product.url}/livez", trust_env=False, verify=False)

    again = Product(product.home, command=[ROOT / "run"], settings={"WEB_PROCESSES": "1"})
    with again:
        # The start mints a development key of its own and revokes the one before: take another, which it leaves alone.
        assert balance(again, again.key("org_demo")) == left
        with again.client(key, verify=False) as http:
            until(lambda: http.get("/v1/key").status_code == 401)
        assert again.verify()["ok"] is True


def test_keys_of_ones_own_survive_a_restart(new_home: Callable[[], Path]) -> None:
    product = Product(new_home(), settings={"WEB_PROCESSES": "1"})
    with product:
        org = product.org(inr="5")
        key = product.key(org)
        spend_with = until(lambda: (r := product.chat(key)).status_code == 200 and r)
        record = spend_with.headers["x-request-id"]
    with product:
        assert until(lambda: product.chat(key).status_code == 200)
        with product.client(key, verify=False) as http:
            until(lambda: http.get(f"/v1/requests/{record}").json().get("state") == "settled")
        assert product.verify()["ok"] is True


# The README


def code_blocks() -> list[str]:
    """The indented blocks, without their indentation."""
    blocks = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", README, re.MULTILINE)
    return ["\n".join(line.removeprefix("    ") for line in block.strip("\n").splitlines()) for block in blocks]


def block_with(text: str) -> str:
    return next(block for block in code_blocks() if text in block)


def test_the_readmes_curl_and_python_work(product: Product, tmp_path: Path) -> None:
    key = product.key(product.org())
    until(lambda: product.chat(key).status_code == 200)
    environment = product.environment | {"BHARATROUTER_API_KEY": key, "NO_PROXY": "127.0.0.1"}
    if shutil.which("curl"):
        command = block_with("curl http").replace("http://127.0.0.1:8000", product.url)
        done = subprocess.run(
            ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        assert '"cost_inr"' in done.stdout
    script = block_with("from openai import").replace("http://127.0.0.1:8000", product.url).replace("br-…", key)
    file = tmp_path / "quickstart.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, file], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    answer, cost = done.stdout.rsplit("₹", 1)
    assert "नमस्ते" in answer
    assert 0 < float(cost) < 1


def test_the_readmes_commands_work(product: Product, tmp_path: Path) -> None:
    org = product.org()
    ran = 0
    for line in block_with("bharatrouter org create").splitlines():
        words = shlex.split(line.replace("org_…", org).replace("november.pdf", f"{tmp_path}/n.pdf"), comments=True)
        assert words.pop(0) == "bharatrouter"
        if {"--follow", "usr_…", "pay_…"} & {*words}:  # one never ends, one ends a person, one needs stray money
            continue
        product.cli(*words)
        ran += 1
    assert ran == 11


def test_the_readmes_provider_is_one_that_can_be_added(product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "providers"
    folder.mkdir()
    (folder / "example.toml").write_text(block_with('id = "example"'))
    environment = product.environment | {"BHARATROUTER_CATALOG_DIR": str(tmp_path)}
    checked = subprocess.run(
        [Path(sys.executable).with_name("bharatrouter"), "catalog", "check"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_what_the_readme_points_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []
