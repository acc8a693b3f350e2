"""Folders for the servers of tests: in memory where there is room. A database is hundreds of small files, and making
and deleting them takes a disk longer than the test that uses them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES_MIN = 2_000_000_000
PREFIX = "bharatrouter-test-"


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """A new folder that root's servers, which run as another user, can reach: pytest's own are closed to them. It is
    deleted in the end."""
    _clear_what_killed_runs_left()
    place = MEMORY if _has_room(MEMORY) else None
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))
    root.chmod(0o711)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _clear_what_killed_runs_left() -> None:
    """Else it would take memory until the machine is started again."""
    for left in MEMORY.glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _has_room(folder: Path) -> bool:
    """Programs are copied to beside the data and run from there, so that must be allowed too."""
    if not os.access(folder, os.W_OK):
        return False
    volume = os.statvfs(folder)
    return not volume.f_flag & os.ST_NOEXEC and volume.f_bavail * volume.f_frsize >= ROOM_BYTES_MIN
