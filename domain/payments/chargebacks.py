"""Payers who demand their money back through their bank: the credit is set aside when a dispute opens, comes back if it
is won and is gone if it is lost. What was spent by then is our loss.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, half_up
from domain.kernel.store import Decision, Reader, Store
from domain.ledger.account import Account, Lot
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
from domain.payments.payment import payment_stream, plain
from domain.payments.ports import GatewayDispute, WebhookNotice

Outcome = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class Chargeback:
    """`amount` nano-rupees of credit were bought with what is demanded. `withheld` of paid credit were set aside when
    it opened, or were withdrawn when it was lost."""

    payment: str
    amount: int
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
                amount = 0 if self.ordered is None else demand(self.ordered.tax, event.amount_paise)
                return self._with(event.chargeback, Chargeback(event.payment, amount, event.withheld))
            case ChargebackWon():
                return self._with(event.chargeback, replace(self.chargebacks[event.chargeback], outcome="won"))
            case ChargebackLost():
                known = self.chargebacks[event.chargeback]
                return self._with(event.chargeback, replace(known, outcome="lost", withheld=event.withheld))
            case _:
                return self

    def _with(self, id: str, chargeback: Chargeback) -> "OrderChargebacks":
        return replace(self, chargebacks={**self.chargebacks, id: chargeback})


def note_dispute(store: Store, notice: WebhookNotice, *, at: int, by: str) -> int | None:
    """Records what a webhook says of a dispute. It moves forward only: repeats, and what comes late, add nothing.

    A dispute of a payment that was never credited is none of the ledger's. Raises NotFound for one of an order of ours
    whose payment is not on record yet: it must be told again once that is.
    """
    payment = notice.payment
    if payment is None or notice.dispute is None or not payment.order:
        return None
    stream, dispute = payment_stream(plain(payment.order)), _cleaned(notice.dispute)

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
    """Of which lots credit is set aside for `amount` nano-rupees that are demanded: first the payment's own, then other
    paid credit in the order of paying; and on top the promo credit that came with the payment, which nobody has paid
    for if the money goes. Other promo credit and what is promised to calls in flight are left alone, so it may be less
    than was demanded."""
    paid = [lot for lot in account.lots.values() if lot.paid]
    parts = _cut(sorted(paid, key=lambda lot: lot.id != payment), most=min(amount, available))
    return parts | _gifts(account, payment, amount=amount, available=available - sum(parts.values()))


def own_parts(account: Account, payment: str, *, amount: int, available: int) -> dict[str, int]:
    """The same of the payment's own credit and the promo credit that came with it alone."""
    parts = _cut([account.lots[payment]], most=min(amount, available))
    return parts | _gifts(account, payment, amount=amount, available=available - sum(parts.values()))


def withheld_anew(read: Reader, order: str, returned: CreditReturned) -> Decision:
    """What the disputes of an order's payment set aside once credit has `returned` that a refund had kept from them: as
    much as they would have found without the refund, and of those that are lost already it is gone at once."""
    account = account_of(read, returned.org).evolve("", returned)
    available = read.balance(returned.org).available + returned.amount
    facts: list[Event] = []
    for id, chargeback in read.fold(payment_stream(order), OrderChargebacks()).chargebacks.items():
        if chargeback.outcome == "won":
            continue
        if before := sum(account.withheld.get(id, {}).values()):
            back = CreditReturned(org=returned.org, reference=id, amount=before, spent=account.spent)
            facts.append(back)
            account, available = account.evolve("", back), available + before
        amount = chargeback.amount - (chargeback.withheld if chargeback.outcome == "lost" else 0)
        parts = parts_to_withhold(account, chargeback.payment, amount=amount, available=available)
        if not parts:
            continue
        aside = _withheld(returned.org, id, parts, spent=account.spent)
        facts.append(aside)
        account, available = account.evolve("", aside), available - aside.amount
        if chargeback.outcome == "lost":
            gone = CreditWithdrawn(org=returned.org, reference=id, amount=aside.amount, spent=account.spent)
            facts.append(gone)
            account = account.evolve("", gone)
    return [(f"account:{returned.org}", fact) for fact in facts]


def _gifts(account: Account, payment: str, *, amount: int, available: int) -> dict[str, int]:
    return _cut(account.gifts_of(payment), most=available) if amount else {}


def _cut(lots: Iterable[Lot], *, most: int) -> dict[str, int]:
    """The lots' credit, one after the other, until `most` nano-rupees are reached."""
    parts: dict[str, int] = {}
    for lot in lots:
        if part := min(lot.left, most):
            parts[lot.id] = part
            most -= part
    return parts


def _paid(account: Account, parts: Mapping[str, int]) -> int:
    """How much of the parts is credit that was paid for."""
    return sum(part for lot, part in parts.items() if account.lots[lot].paid)


def _withheld(org: str, reference: str, parts: dict[str, int], *, spent: int) -> CreditWithheld:
    return CreditWithheld(org=org, reference=reference, amount=sum(parts.values()), parts=parts, spent=spent)


def _cleaned(dispute: GatewayDispute) -> GatewayDispute:
    return replace(dispute, id=plain(dispute.id), phase=plain(dispute.phase), reason=plain(dispute.reason))


def _noted(
    read: Reader, stream: str, known: OrderChargebacks, ordered: TopUpOrdered, dispute: GatewayDispute
) -> Decision:
    """The opening, if it was not known, and the end, if it has come."""
    outcome, chargeback = outcome_of(dispute), known.chargebacks.get(dispute.id)
    if chargeback is not None and (outcome == "open" or chargeback.outcome != "open"):
        return []
    account = account_of(read, ordered.org)
    if chargeback is not None:
        return _end(stream, ordered.org, dispute, outcome, account)
    amount = 0 if outcome == "won" else demand(ordered.tax, dispute.amount_paise)
    available = read.balance(ordered.org).available
    parts = parts_to_withhold(account, dispute.payment, amount=amount, available=available)
    opened = ChargebackOpened(
        org=ordered.org,
        chargeback=dispute.id,
        payment=dispute.payment,
        amount_paise=dispute.amount_paise,
        withheld=_paid(account, parts),
        phase=dispute.phase,
        reason=dispute.reason,
    )
    facts: list[tuple[str, Event]] = [(stream, opened)]
    if parts:
        aside = _withheld(ordered.org, dispute.id, parts, spent=account.spent)
        facts.append((f"account:{ordered.org}", aside))
        account = account.evolve("", aside)
    return [*facts, *_end(stream, ordered.org, dispute, outcome, account)]


def _end(stream: str, org: str, dispute: GatewayDispute, outcome: Outcome, account: Account) -> Decision:
    """What the outcome does to the credit that is withheld."""
    parts = account.withheld.get(dispute.id, {})
    amount = sum(parts.values())
    back: Event
    match outcome:
        case "won":
            end: Event = ChargebackWon(org=org, chargeback=dispute.id, payment=dispute.payment)
            back = CreditReturned(org=org, reference=dispute.id, amount=amount, spent=account.spent)
        case "lost":
            end = ChargebackLost(
                org=org,
                chargeback=dispute.id,
                payment=dispute.payment,
                amount_paise=dispute.deducted_paise or dispute.amount_paise,
                withheld=_paid(account, parts),
            )
            back = CreditWithdrawn(org=org, reference=dispute.id, amount=amount, spent=account.spent)
        case "open":
            return []
    return [(stream, end), (f"account:{org}", back)] if amount else [(stream, end)]
