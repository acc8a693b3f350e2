"""The job that closes the log in blocks, so that altered history shows."""

from collections.abc import Sequence
from typing import Protocol

from domain.sealing.events import LogSealed


class Sealer(Protocol):
    def seal(self) -> Sequence[LogSealed]: ...


class HasSealer(Protocol):
    """What this job needs of the App."""

    @property
    def sealer(self) -> Sealer: ...


def run(app: HasSealer) -> int:
    """Seals every block that is due and answers how many; does nothing else, however often it is called."""
    return len(app.sealer.seal())
