"""Credit that comes in: so far only what an operator grants."""

from dataclasses import dataclass

from domain.accounts.org import Org, require_org
from domain.kernel.errors import Invalid
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.ledger.events import CreditGranted

GRANT_MAX = 10**17
"""Ten crore rupees in nano-rupees: a slip of the finger must not bring the ledger near what a bigint holds."""


@dataclass(frozen=True, slots=True)
class Credits:
    """Which grants an account has had."""

    grants: frozenset[str] = frozenset()

    def evolve(self, stream: str, event: Event) -> "Credits":
        return Credits(self.grants | {event.grant}) if isinstance(event, CreditGranted) else self


def grant_credit(store: Store, *, org: str, grant: str, amount: int, reason: str, at: int, by: str) -> int | None:
    """Adds `amount` nano-rupees. `grant` is unique within the org: a repeat is harmless and returns None.

    Raises Invalid `invalid_amount`, and NotFound where the org is unknown.
    """

    def exists(state: Org) -> Decision:
        require_org(state)
        return []

    def decide(state: Credits) -> Decision:
        if grant in state.grants:
            return []
        if not 0 < amount <= GRANT_MAX:
            raise Invalid("invalid_amount", "Grant more than nothing and at most ₹10,00,00,000.", param="inr")
        return [(f"account:{org}", CreditGranted(org=org, grant=grant, amount=amount, reason=reason))]

    return store.change(Change(f"org:{org}", Org(), exists), Change(f"account:{org}", Credits(), decide), at=at, by=by)
