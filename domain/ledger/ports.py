"""What the inference spine asks of the ledger. The adapter batches; the answers are durable when they arrive."""

from collections.abc import Awaitable
from typing import Protocol

from domain.kernel.events import Event
from domain.ledger.events import CreditHeld, Ending, HoldExtended
from domain.ledger.guards import Denied


class Ledger(Protocol):
    """Every method answers None once the fact is on disk, or why it was not recorded.

    All raise `Unavailable("ledger_unavailable")` when the log cannot be written. For a hold that means: call nobody.
    """

    def hold(self, request: str, event: CreditHeld) -> Awaitable[Denied | None]:
        """Sets credit aside if balance, budgets and the daily limit all allow it: all of them or nothing."""
        ...

    def extend(self, request: str, event: HoldExtended) -> Awaitable[Denied | None]:
        """Grows the hold of a running request, and moves its deadline."""
        ...

    def end(self, request: str, event: Ending) -> Awaitable[Denied | None]:
        """Ends a request once; a repeat of the same ending is harmless. Survives a short outage of the database."""
        ...

    def note(self, request: str, event: Event) -> Awaitable[Denied | None]:
        """Records a fact that moves no money."""
        ...
