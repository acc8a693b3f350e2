"""Whom this process connects to, as the interpreter itself reports it: proof that a socket was not opened."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Address = tuple[Any, ...]

_watchers: list[list[Address]] = []
_hooked = False


@contextmanager
def connections() -> Iterator[list[Address]]:
    """The addresses, host and port, that any code of this process begins to connect to within the block."""
    global _hooked
    if not _hooked:  # an audit hook stays for the life of the process
        sys.addaudithook(_note)
        _hooked = True
    seen: list[Address] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers[:] = [watcher for watcher in _watchers if watcher is not seen]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        for watcher in _watchers:
            watcher.append(arguments[1])
