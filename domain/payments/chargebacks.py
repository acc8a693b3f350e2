"""Payers who demand their money back through their bank: the credit is set aside when a dispute opens, comes back if it
is won and is gone if it is lost. What was spent by then is our loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, half_up
from domain.kernel.store import Decision, Reader, Store
from domain.ledger.account import Account
from domain.ledger.credit import account_of
from domain.ledger.events import CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.events import (
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    PaymentCaptured,
    PaymentSetAside,
    Tax,
    TopUpOrdered,
)
from domain.payments.payment import payment_stream
from domain.payments.ports import GatewayDispute, WebhookNotice

Outcome = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class Chargeback:
    """`withheld` nano-rupees were set aside when it opened."""

    withheld: int
    outcome: Outcome = "open"


@dataclass(frozen=True, slots=True)
class OrderChargebacks:
    """The fold of `payment:<order>` as far as chargebacks go. `set_aside` are payments that were never credited."""

    ordered: TopUpOrdered | None = None
    payment: str = ""
    set_aside: frozenset[str] = frozenset()
    chargebacks: Mapping[str, Chargeback] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "OrderChargebacks":
        match event:
            case TopUpOrdered():
                return replace(self, ordered=event)
            case PaymentCaptured():
                return replace(self, payment=event.payment)
            case PaymentSetAside():
                return replace(self, set_aside=self.set_aside | {event.payment})
            case ChargebackOpened():
                return self._with(event.chargeback, Chargeback(event.withheld))
            case ChargebackWon():
                return self._with(event.chargeback, replace(self.chargebacks[event.chargeback], outcome="won"))
            case ChargebackLost():
                return self._with(event.chargeback, replace(self.chargebacks[event.chargeback], outcome="lost"))
            case _:
                return self

    def _with(self, id: str, chargeback: Chargeback) -> "OrderChargebacks":
        return replace(self, chargebacks={**self.chargebacks, id: chargeback})


def note_dispute(store: Store, notice: WebhookNotice, *, at: int, by: str) -> int | None:
    """Records what a webhook says of a dispute. It moves forward only: repeats, and what comes late, add nothing.

    A dispute of a payment that was never credited is none of the ledger's. Raises NotFound for one of an order of ours
    whose payment is not on record yet: it must be told again once that is.
    """
    payment, dispute = notice.payment, notice.dispute
    if payment is None or dispute is None or not payment.order:
        return None
    stream = payment_stream(payment.order)

    def decide(read: Reader) -> Decision:
        known = read.fold(stream, OrderChargebacks())
        if known.ordered is None or dispute.payment in known.set_aside:
            return []
        if dispute.payment != known.payment:
            raise NotFound("not_found", "The disputed payment is not on record yet; tell it again later.")
        return _noted(read, stream, known, known.ordered, dispute)

    return store.locked(decide, at=at, by=by)


def outcome_of(dispute: GatewayDispute) -> Outcome:
    """What the gateway's word means for the money: `closed` is an enquiry that ended, at our cost only where something
    was deducted (razorpay.com/docs/api/disputes/entity)."""
    if dispute.status == "closed":
        return "lost" if dispute.deducted_paise else "won"
    return dispute.status if dispute.status in ("won", "lost") else "open"


def demand(tax: Tax, amount_paise: int) -> int:
    """The credit, in nano-rupees, that so much of a payment's money had bought."""
    return half_up(min(amount_paise, tax.total) * tax.taxable, tax.total) * NANOS_PER_PAISA


def parts_to_withhold(account: Account, payment: str, *, amount: int, available: int) -> dict[str, int]:
    """Of which lots `amount` nano-rupees are set aside: first the payment's own, then other paid credit in the order of
    paying. Promo credit and what is promised to calls in flight are left alone, so it may be less than was demanded."""
    parts: dict[str, int] = {}
    rest = min(amount, available)
    paid = [lot for lot in account.lots.values() if lot.paid and lot.left]
    for lot in sorted(paid, key=lambda lot: lot.id != payment):
        if part := min(lot.left, rest):
            parts[lot.id] = part
            rest -= part
    return parts


def _noted(
    read: Reader, stream: str, known: OrderChargebacks, ordered: TopUpOrdered, dispute: GatewayDispute
) -> Decision:
    """The opening, if it was not known, and the end, if it has come."""
    outcome, chargeback = outcome_of(dispute), known.chargebacks.get(dispute.id)
    if chargeback is not None and (outcome == "open" or chargeback.outcome != "open"):
        return []
    account = account_of(read, ordered.org)
    if chargeback is not None:
        return _end(stream, ordered.org, dispute, outcome, withheld=chargeback.withheld, spent=account.spent)
    amount = 0 if outcome == "won" else demand(ordered.tax, dispute.amount_paise)
    available = read.balance(ordered.org).available
    parts = parts_to_withhold(account, dispute.payment, amount=amount, available=available)
    withheld = sum(parts.values())
    opened = ChargebackOpened(
        org=ordered.org,
        chargeback=dispute.id,
        payment=dispute.payment,
        amount_paise=dispute.amount_paise,
        withheld=withheld,
        phase=dispute.phase,
        reason=dispute.reason,
    )
    facts: list[tuple[str, Event]] = [(stream, opened)]
    if parts:
        aside = CreditWithheld(org=ordered.org, reference=dispute.id, amount=withheld, parts=parts, spent=account.spent)
        facts.append((f"account:{ordered.org}", aside))
    return [*facts, *_end(stream, ordered.org, dispute, outcome, withheld=withheld, spent=account.spent)]


def _end(stream: str, org: str, dispute: GatewayDispute, outcome: Outcome, *, withheld: int, spent: int) -> Decision:
    """What the outcome does to the credit that is `withheld`."""
    back: Event
    match outcome:
        case "won":
            end: Event = ChargebackWon(org=org, chargeback=dispute.id, payment=dispute.payment)
            back = CreditReturned(org=org, reference=dispute.id, amount=withheld, spent=spent)
        case "lost":
            end = ChargebackLost(
                org=org,
                chargeback=dispute.id,
                payment=dispute.payment,
                amount_paise=dispute.deducted_paise or dispute.amount_paise,
                withheld=withheld,
            )
            back = CreditWithdrawn(org=org, reference=dispute.id, amount=withheld, spent=spent)
        case "open":
            return []
    return [(stream, end), (f"account:{org}", back)] if withheld else [(stream, end)]
