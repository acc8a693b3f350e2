"""An org's credit as lots, as its facts make them: what is left of each, what is withheld, and what may be taken.

Promo credit is spent before paid credit, of it what expires first; paid credit in the order of paying. Calls do
not say which lot they spend: that follows from what was spent in all, since its lots change with facts of it alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain.kernel.events import Event, Recorded
from domain.kernel.store import fold
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
)

NEVER = 2**63


@dataclass(frozen=True, slots=True)
class Lot:
    """Credit that came in at once, in nano-rupees, of which `left` is neither spent, expired nor withheld.

    `paid` credit has the payment's id; promo credit has the payment that it came with, if any. `closed` is a lot that
    has expired with nothing left.
    """

    id: str
    paid: bool
    amount: int
    left: int
    added: int
    expires: int | None = None
    payment: str = ""
    reason: str = ""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """All lots in the order of their coming, and what is withheld under which reference, by lot."""

    lots: Mapping[str, Lot] = field(default_factory=dict)
    spent: int = 0
    withheld: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    references: frozenset[str] = frozenset()

    def evolve(self, stream: str, event: Event) -> "Account":
        match event:
            case CreditGranted():
                lot = Lot(
                    event.grant,
                    False,
                    event.amount,
                    event.amount,
                    event.at,
                    event.expires,
                    payment=event.payment,
                    reason=event.reason,
                )
                return self.when_spent(event.spent)._with([lot])
            case CreditAdded():
                lot = Lot(event.payment, True, event.amount, event.amount, event.at, payment=event.payment)
                return self.when_spent(event.spent)._with([lot])
            case CreditExpired():
                now = self.when_spent(event.spent)._take({event.lot: event.amount})
                return now._with([replace(now.lots[event.lot], closed=event.left == 0)])
            case CreditWithheld():
                now = self.when_spent(event.spent)._take(event.parts)
                return replace(
                    now,
                    withheld={**now.withheld, event.reference: event.parts},
                    references=now.references | {event.reference},
                )
            case CreditReturned():
                now = self.when_spent(event.spent)
                back = {lot: -amount for lot, amount in now.withheld[event.reference].items()}
                return now._take(back)._forget(event.reference)
            case CreditWithdrawn():
                return self.when_spent(event.spent)._forget(event.reference)
            case _:
                return self

    def when_spent(self, spent: int) -> "Account":
        """The account once the org has spent so much in all. Raises AssertionError for more than all lots have left."""
        if spent <= self.spent:
            return self
        to_spend = spent - self.spent
        changed = []
        for lot in self.in_order_of_spending():
            part = min(lot.left, to_spend)
            if part:
                changed.append(replace(lot, left=lot.left - part))
                to_spend -= part
        assert to_spend == 0, f"{to_spend} was spent that no lot had"
        return replace(self._with(changed), spent=spent)

    def in_order_of_spending(self) -> list[Lot]:
        """Every lot with something left, first the one that is spent first."""
        return sorted(
            (lot for lot in self.lots.values() if lot.left),
            key=lambda lot: (lot.paid, NEVER if lot.expires is None else lot.expires),
        )

    def gifts_of(self, payment: str) -> list[Lot]:
        """The promo credit that came with a payment."""
        return [lot for lot in self.lots.values() if lot.payment == payment and not lot.paid]

    @property
    def left(self) -> int:
        """What all lots have left: what is available and what is held for calls in flight."""
        return sum(lot.left for lot in self.lots.values())

    @property
    def withheld_amount(self) -> int:
        return sum(amount for parts in self.withheld.values() for amount in parts.values())

    def _with(self, lots: Iterable[Lot]) -> "Account":
        return replace(self, lots={**self.lots, **{lot.id: lot for lot in lots}})

    def _take(self, parts: Mapping[str, int]) -> "Account":
        taken = [replace(self.lots[id], left=self.lots[id].left - amount) for id, amount in parts.items()]
        assert all(0 <= lot.left <= lot.amount for lot in taken), "more was taken from a lot than it had"
        return self._with(taken)

    def _forget(self, reference: str) -> "Account":
        return replace(self, withheld={key: parts for key, parts in self.withheld.items() if key != reference})


def account_when(facts: Iterable[Recorded], *, spent: int) -> Account:
    """The account by the first facts of its stream, once calls have spent so much in all.

    Where clocks differ, more may be `spent` at a past moment than those facts had brought in: then nothing is left.
    """
    account = fold(Account(), ((fact.stream, fact.event) for fact in facts))
    return account.when_spent(min(spent, account.spent + account.left))
