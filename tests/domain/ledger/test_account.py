"""Lots against a naive model that takes every call from a list of lots at once, instead of one running sum."""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.kernel.events import Event, Recorded
from domain.kernel.store import fold
from domain.ledger.account import Account, account_when
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
)

STREAM = "account:org_a"
FOR_EVER = 10**9


@dataclass
class Naive:
    """Lots as lists of [name, paid, expires, left]; each call is taken from them the moment it ends."""

    lots: list[list[Any]] = field(default_factory=list)
    withheld: dict[str, dict[str, int]] = field(default_factory=dict)
    spent: int = 0

    @property
    def left(self) -> dict[str, int]:
        return {name: left for name, _, _, left in self.lots}

    def call(self, cost: int) -> None:
        self.spent += cost
        for _ in range(cost):
            promos = [lot for lot in self.lots if not lot[1] and lot[3]]
            first = min(promos, key=lambda lot: lot[2]) if promos else next(lot for lot in self.lots if lot[3])
            first[3] -= 1

    def take(self, name: str, amount: int) -> None:
        next(lot for lot in self.lots if lot[0] == name)[3] -= amount


class Story:
    """Plays the same steps on both; what would break the guards is left out."""

    def __init__(self) -> None:
        self.naive = Naive()
        self.facts: list[Event] = []
        self.numbers = 0

    def play(self, kind: str, amount: int, pick: int) -> None:
        self.numbers += 1
        org, spent, name = "org_a", self.naive.spent, f"lot {self.numbers}"
        total = sum(self.naive.left.values())
        match kind:
            case "promo":
                expires = pick if pick % 3 else None
                self.naive.lots.append([name, False, expires or FOR_EVER, amount])
                self.facts.append(
                    CreditGranted(org=org, grant=name, amount=amount, reason="", expires=expires, spent=spent)
                )
            case "paid":
                self.naive.lots.append([name, True, FOR_EVER, amount])
                self.facts.append(CreditAdded(org=org, payment=name, order="", amount=amount, spent=spent))
            case "call":
                self.naive.call(min(amount, total))
            case "expire" if self.naive.lots:
                lot = self.naive.lots[pick % len(self.naive.lots)]
                taken = min(amount, lot[3])
                lot[3] -= taken
                self.facts.append(CreditExpired(org=org, lot=lot[0], amount=taken, left=lot[3], spent=spent))
            case "withhold":
                parts = {lot[0]: min(lot[3], amount) for lot in self.naive.lots if lot[3] and (len(lot[0]) + pick) % 2}
                if parts:
                    for lot, part in parts.items():
                        self.naive.take(lot, part)
                    self.naive.withheld[name] = parts
                    taken = sum(parts.values())
                    self.facts.append(CreditWithheld(org=org, reference=name, amount=taken, parts=parts, spent=spent))
            case "return" | "withdraw" if self.naive.withheld:
                reference = [*self.naive.withheld][pick % len(self.naive.withheld)]
                parts = self.naive.withheld.pop(reference)
                if kind == "return":
                    for lot, part in parts.items():
                        self.naive.take(lot, -part)
                fact = CreditReturned if kind == "return" else CreditWithdrawn
                self.facts.append(fact(org=org, reference=reference, amount=sum(parts.values()), spent=spent))

    @property
    def account(self) -> Account:
        return fold(Account(), ((STREAM, fact) for fact in self.facts)).when_spent(self.naive.spent)


KINDS = st.sampled_from(["promo", "promo", "paid", "call", "call", "call", "expire", "withhold", "return", "withdraw"])
STEPS = st.lists(st.tuples(KINDS, st.integers(1, 40), st.integers(0, 9)), max_size=30)


@given(steps=STEPS)
def test_lots_are_spent_promo_first_and_what_expires_first_of_that(steps: list[tuple[str, int, int]]) -> None:
    story = Story()
    for step in steps:
        story.play(*step)
        account = story.account
        assert {lot.id: lot.left for lot in account.lots.values()} == story.naive.left
        assert account.withheld == story.naive.withheld
        assert account.left == sum(story.naive.left.values())
        assert account.spent == story.naive.spent


@given(steps=STEPS, extra=st.integers(0, 100))
def test_what_was_spent_beyond_the_known_lots_leaves_nothing(steps: list[tuple[str, int, int]], extra: int) -> None:
    story = Story()
    for step in steps:
        story.play(*step)
    assume(story.facts)
    facts = [Recorded(number, STREAM, number, fact) for number, fact in enumerate(story.facts, 1)]
    assert account_when(facts, spent=story.naive.spent) == story.account
    left = account_when(facts, spent=story.naive.spent + extra).left
    assert left == max(story.account.left - extra, 0)


def test_more_than_all_lots_have_cannot_be_spent() -> None:
    account = Account().evolve(STREAM, CreditGranted(org="org_a", grant="g", amount=5, reason=""))
    assert account.when_spent(5).left == 0
    with pytest.raises(AssertionError, match="1 was spent that no lot had"):
        account.when_spent(6)


def test_more_than_a_lot_has_cannot_be_taken_or_given_back() -> None:
    account = Account().evolve(STREAM, CreditAdded(org="org_a", payment="p", order="o", amount=5))
    with pytest.raises(AssertionError, match="more was taken"):
        account.evolve(STREAM, CreditWithheld(org="org_a", reference="r", amount=6, parts={"p": 6}))


def test_thousands_of_facts_fold_at_once() -> None:
    """Decisions fold them with the log locked."""
    facts: list[tuple[str, Event]] = [
        ("account:a", CreditAdded(org="a", payment="p", order="o", amount=10**12, spent=0))
    ]
    for number in range(4_500):
        told: dict[str, Any] = {"org": "a", "reference": f"refund_{number:028d}", "amount": 5, "spent": number}
        facts += [
            ("account:a", CreditWithheld(**told, parts={"p": 5})),
            ("account:a", CreditReturned(**told)),
        ]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        account = fold(Account(), facts)
        seconds.append(time.perf_counter() - began)
    assert (account.left, len(account.references)) == (10**12 - 4_499, 4_500)
    assert min(seconds) < 0.1
