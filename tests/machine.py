"""What tests ask of the machine they run on: ports, processes and their end."""

import socket
from pathlib import Path

from adapters.embedded import Postgres, Valkey


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(server: Postgres | Valkey) -> None:
    """Ends it at once, as the kernel or the power does."""
    assert server.process is not None
    server.process.kill()
    server.process.wait()
