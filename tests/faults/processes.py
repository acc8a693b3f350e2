"""Ends processes of a running product as a crash would, and waits until its supervisor has them back."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.faults.books import wait_until
from tests.product import Product

RESTART_SECONDS_MAX = 30


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
    """Ends it and its children at once, as the kernel or the power does, and waits until it runs anew."""
    pid = pid_of(product, name)
    signal_all(with_children(pid), signal.SIGKILL)
    wait_until(lambda: pid_of(product, name) != pid, f"{name} is started again", seconds_max=RESTART_SECONDS_MAX)


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gateway_of(product: Product, client: tuple[str, int]) -> str:
    """The name of the gateway process that has accepted the connection from this address."""
    host, port = client
    theirs = f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [fields[9] for fields in lines if fields[2] == theirs and fields[1].endswith(f":{product.port:04X}")]
    for name, pid in product.running["pids"].items():
        if name.startswith("gateway-") and f"socket:[{inode}]" in _open_files(pid):
            return str(name)
    raise AssertionError("no gateway has accepted this connection yet")


def _open_files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except FileNotFoundError:
            continue
    return found
