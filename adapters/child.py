"""Child processes that cannot outlive whoever started them, and that are stopped with patience, then for
certain; and how one hears that it is to stop.
"""

import ctypes
import os
import pwd
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def start_child(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    capture: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, so that Ctrl-C in the terminal reaches us alone.

    On Linux the kernel sends it `death_signal` when the calling thread ends, however it ends: call this from
    the main thread. Elsewhere an orphan stays until somebody stops it. Standard error goes to the end of
    `log`, and so does standard output unless it is to be read (`capture`). `user` is the system user to run
    as.
    """
    identity: dict[str, Any] = {}
    folder: str | None = None
    if user is not None:
        identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        folder = "/"  # our own working folder may be closed to that user
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            preexec_fn=_die_with_parent(death_signal),
            **identity,
        )


def stop_child(
    process: subprocess.Popen[bytes],
    *,
    how: signal.Signals,
    patience_seconds: float,
    finally_how: signal.Signals,
) -> None:
    """Asks with `how`, waits, then insists with `finally_how`. Does nothing when the process has ended
    already.
    """
    process.send_signal(how)
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(finally_how)
        process.wait()


def told_to_stop() -> threading.Event:
    """An event that is set by SIGTERM or SIGINT, for the main thread to look at and to wait for. Call it from there."""
    told = threading.Event()
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def pass_on() -> None:
        signals.get()
        told.set()

    # A handler runs in the middle of whatever the main thread does. There the event may be locked by `wait`, and
    # setting it would wait for that for ever; a SimpleQueue can be put to from anywhere.
    threading.Thread(target=pass_on, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    return told


def log_tail(log: Path, *, lines: int = 12) -> str:
    """The last lines of a log, indented to stand below a sentence; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            kept = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line}" for line in kept)


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """What runs in the child between fork and exec. The kernel forgets the wish when the user changes, and
    the interpreter runs this last, so it holds.
    """
    parent = os.getpid()

    def wish() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died before we could wish
                os._exit(1)

    return wish
