"""An org's credit as lots, as its facts make them: what is left of each, what is withheld, and what may be taken.

Promo credit is spent before paid credit, of it what expires first; paid credit in the order of paying. Calls do
not say which lot they spend: that follows from what was spent in all, since its lots change with facts of it alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain.kernel.events import Event, Recorded
from domain.kernel.store import fold_recorded
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
        return self.after([(stream, event)])

    def after(self, facts: Iterable[tuple[str, Event]]) -> "Account":
        """What `evolve` makes of many facts, in time that grows with their number alone."""
        ahead = _Ahead(self)
        for _, event in facts:
            ahead.take(event)
        return ahead.account()

    def when_spent(self, spent: int) -> "Account":
        """The account once the org has spent so much in all. Raises AssertionError for more than all lots have left."""
        ahead = _Ahead(self)
        ahead.spend(spent)
        return ahead.account()

    def in_order_of_spending(self) -> list[Lot]:
        """Every lot with something left, first the one that is spent first."""
        return _in_order_of_spending(lot for lot in self.lots.values() if lot.left)

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


class _Ahead:
    """An account that changes in place, while many facts are folded."""

    def __init__(self, account: Account) -> None:
        self._lots = dict(account.lots)
        self._left = {lot.id: lot.left for lot in account.lots.values()}
        self._spent = account.spent
        self._withheld = dict(account.withheld)
        self._references = set(account.references)

    def account(self) -> Account:
        lots = {
            id: lot if lot.left == self._left[id] else replace(lot, left=self._left[id])
            for id, lot in self._lots.items()
        }
        return Account(lots, self._spent, self._withheld, frozenset(self._references))

    def take(self, event: Event) -> None:
        match event:
            case CreditGranted():
                self.spend(event.spent)
                self._add(
                    Lot(
                        event.grant,
                        False,
                        event.amount,
                        event.amount,
                        event.at,
                        event.expires,
                        payment=event.payment,
                        reason=event.reason,
                    )
                )
            case CreditAdded():
                self.spend(event.spent)
                self._add(Lot(event.payment, True, event.amount, event.amount, event.at, payment=event.payment))
            case CreditExpired():
                self.spend(event.spent)
                self._move({event.lot: event.amount}, -1)
                self._lots[event.lot] = replace(self._lots[event.lot], closed=event.left == 0)
            case CreditWithheld():
                self.spend(event.spent)
                self._move(event.parts, -1)
                self._withheld[event.reference] = event.parts
                self._references.add(event.reference)
            case CreditReturned():
                self.spend(event.spent)
                self._move(self._withheld.pop(event.reference), 1)
            case CreditWithdrawn():
                self.spend(event.spent)
                self._withheld.pop(event.reference, None)

    def spend(self, spent: int) -> None:
        if spent <= self._spent:
            return
        to_spend = spent - self._spent
        for lot in _in_order_of_spending(lot for lot in self._lots.values() if self._left[lot.id]):
            part = min(self._left[lot.id], to_spend)
            self._left[lot.id] -= part
            to_spend -= part
        assert to_spend == 0, f"{to_spend} was spent that no lot had"
        self._spent = spent

    def _add(self, lot: Lot) -> None:
        self._lots[lot.id], self._left[lot.id] = lot, lot.left

    def _move(self, parts: Mapping[str, int], sign: int) -> None:
        for id, amount in parts.items():
            self._left[id] += sign * amount
            assert 0 <= self._left[id] <= self._lots[id].amount, "more was taken from a lot than it had"


def _in_order_of_spending(lots: Iterable[Lot]) -> list[Lot]:
    return sorted(lots, key=lambda lot: (lot.paid, NEVER if lot.expires is None else lot.expires))


def account_when(facts: Iterable[Recorded], *, spent: int) -> Account:
    """The account by the first facts of its stream, once calls have spent so much in all.

    Where clocks differ, more may be `spent` at a past moment than those facts had brought in: then nothing is left.
    """
    account = fold_recorded(Account(), facts)
    return account.when_spent(min(spent, account.spent + account.left))
