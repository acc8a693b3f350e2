"""Ends processes of a running product as a crash would, and waits until its supervisor has them back."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.faults.books import wait_until
from tests.product import Product

RESTART_SECONDS_MAX = 30
NOBODY = "00000000:0000"
"""The peer of a socket that listens."""


def pid_of(product: Product, name: str) -> int:
    return int(product.running["pids"][name])


def with_children(pid: int) -> list[int]:
    """A process and all that it has started, itself first."""
    return [pid, *(grandchild for child in _children(pid) for grandchild in with_children(child))]


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, task.read_text().split())


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill(product: Product, name: str) -> None:
    """Ends it and its children at once, as the kernel or the power does."""
    signal_all(with_children(pid_of(product, name)), signal.SIGKILL)


def kill_and_wait(product: Product, name: str) -> None:
    """The same, and waits until it has been started again."""
    pid = pid_of(product, name)
    kill(product, name)
    wait_until(lambda: pid_of(product, name) != pid, f"{name} is started again", seconds_max=RESTART_SECONDS_MAX)


def gateway_of(product: Product, client: tuple[str, int]) -> str:
    """The name of the gateway process that has accepted the connection from this address."""
    host, port = client
    theirs = f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
    [name] = [name for name, clients in _accepted(product).items() if theirs in clients]
    return name


def serving_gateways(product: Product) -> list[str]:
    """The names of those that have accepted a connection."""
    return [name for name, clients in _accepted(product).items() if clients]


def _accepted(product: Product) -> dict[str, list[str]]:
    """For each gateway, the clients' addresses of the connections that it holds, as the kernel writes them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{line[9]}]": line[2] for line in lines if line[1].endswith(f":{product.port:04X}")}
    pids = product.running["pids"]
    return {
        name: [ours[file] for file in _open_files(pid) if ours.get(file, NOBODY) != NOBODY]
        for name, pid in pids.items()
        if name.startswith("gateway-")
    }


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(os.readlink(entry))
    return found
