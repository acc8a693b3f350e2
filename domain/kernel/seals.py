"""The port through which the domain keeps personal data in facts, and forgets it."""

from typing import Protocol


class Seals(Protocol):
    """Seals personal data for a subject, and opens it again: None once the subject has been erased."""

    def seal(self, subject: str, text: str) -> str: ...

    def open(self, subject: str, sealed: str) -> str | None: ...
