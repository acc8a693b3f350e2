"""Payers who demand their money back through their bank: the credit is set aside when a dispute opens, comes back if it
is won and is gone if it is lost. What was spent by then is our loss.

Whoever tells of a dispute only says where to look: what counts is what the payment gateway says of it when it is asked.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from domain.kernel.errors import Unavailable
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, half_up
from domain.kernel.seals import Seals
from domain.kernel.store import Decision, Reader, Store
from domain.ledger.account import Account, Lot
from domain.ledger.credit import account_of
from domain.ledger.events import CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.events import (
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    DocumentIssued,
    PaymentCaptured,
    RefundFailed,
    RefundRequested,
    Tax,
    TopUpOrdered,
)
from domain.payments.giving_back import draft_back
from domain.payments.issue import issue
from domain.payments.payment import payment_stream, plain
from domain.payments.ports import GatewayDispute, PaymentGateway
from domain.payments.returns import Asides, taken_back
from domain.payments.tax import refund_share
from domain.payments.topup import Draft

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
    """The fold of `payment:<order>` as far as chargebacks go. `back` is what went back of the payment, or is about to,
    in taxable paise, by refund or chargeback."""

    ordered: TopUpOrdered | None = None
    payment: str = ""
    chargebacks: Mapping[str, Chargeback] = field(default_factory=dict)
    back: Mapping[str, int] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "OrderChargebacks":
        match event:
            case TopUpOrdered():
                return replace(self, ordered=event)
            case PaymentCaptured():
                return replace(self, payment=event.payment)
            case ChargebackOpened():
                amount = 0 if self.ordered is None else demand(self.ordered.tax, event.amount_paise)
                return self._with(event.chargeback, Chargeback(event.payment, amount, event.withheld))
            case ChargebackWon():
                return self._with(event.chargeback, replace(self.chargebacks[event.chargeback], outcome="won"))
            case ChargebackLost():
                known = self.chargebacks[event.chargeback]
                taxable = 0 if event.tax is None else event.tax.taxable
                lost = self._with(event.chargeback, replace(known, outcome="lost", withheld=event.withheld))
                return replace(lost, back={**self.back, event.chargeback: taxable})
            case RefundRequested():
                return replace(self, back={**self.back, event.refund: event.tax.taxable})
            case RefundFailed():
                return replace(self, back={**self.back, event.refund: 0})
            case _:
                return self

    def _with(self, id: str, chargeback: Chargeback) -> "OrderChargebacks":
        return replace(self, chargebacks={**self.chargebacks, id: chargeback})


@dataclass(frozen=True, slots=True)
class Loss:
    """What a lost chargeback takes: `parts` of lots, in nano-rupees, and for the document `own`, what of it had been
    bought with the payment, and the tax of that. None where nothing of it was left."""

    parts: Mapping[str, int]
    own: int
    tax: Tax | None


@dataclass(frozen=True, kw_only=True)
class ChargebackDesk:
    """What hearing of disputes needs. `original` finds the document that receipted a payment, None while it is not
    known."""

    store: Store
    gateway: PaymentGateway
    seals: Seals
    original: Callable[[str], DocumentIssued | None]

    def look(self, dispute: str, *, at: int, by: str) -> None:
        """Asks the gateway about a dispute and records what it says. It moves forward only: repeats, and what comes
        late, add nothing.

        One of a payment that was set aside concerns no credit: it takes back what was set aside, if it is lost. Raises
        NotFound for what the gateway does not know, and Unavailable where it or the ledger cannot be reached, or the
        payment is not on record yet: then it is to be looked at again.
        """
        told = _cleaned(self.gateway.dispute(dispute))
        payment = self.gateway.payment(told.payment)
        stream = payment_stream(plain(payment.order), told.payment)

        def note(read: Reader) -> Decision:
            return _noted(read, stream, told)

        if self.store.look(note):
            self.store.locked(note, at=at, by=by)
        loss = self.store.look(lambda read: _loss(read, stream, told))
        if loss is None:
            return
        draft = None if loss.tax is None else self._draft(told, loss, at=at)
        self.store.locked(lambda read: _lost(read, stream, told, loss, draft, at=at), at=at, by=by)

    def _draft(self, told: GatewayDispute, loss: Loss, *, at: int) -> Draft:
        assert loss.tax is not None
        receipt = self.original(told.payment)
        return draft_back(receipt, self.seals, tax=loss.tax, credit=loss.own, cause=told.id, reference="", at=at)


def outcome_of(dispute: GatewayDispute) -> Outcome:
    """What the gateway's word means for the money: `closed` is an enquiry that ended, at our cost only where something
    was deducted (razorpay.com/docs/api/disputes/entity)."""
    if dispute.status == "closed":
        return "lost" if dispute.deducted_paise else "won"
    return dispute.status if dispute.status in ("won", "lost") else "open"


def _taken(dispute: GatewayDispute) -> int:
    """What a lost dispute costs in paise."""
    return dispute.deducted_paise or dispute.amount_paise


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


def _noted(read: Reader, stream: str, dispute: GatewayDispute) -> Decision:
    """The opening, if it was not known, and that it was won."""
    known, outcome = read.fold(stream, OrderChargebacks()), outcome_of(dispute)
    aside = read.fold(stream, Asides()).payments.get(dispute.payment)
    if aside is not None:
        fact = taken_back(aside, chargeback=dispute.id, amount_paise=_taken(dispute)) if outcome == "lost" else None
        return [] if fact is None else [(stream, fact)]
    if known.ordered is None:
        return []
    if dispute.payment != known.payment:
        raise Unavailable("payments_unavailable", "The disputed payment is not on record yet; tell it again later.")
    org, account = known.ordered.org, account_of(read, known.ordered.org)
    facts: list[tuple[str, Event]] = []
    chargeback = known.chargebacks.get(dispute.id)
    if chargeback is None:
        amount = 0 if outcome == "won" else demand(known.ordered.tax, dispute.amount_paise)
        available = read.balance(org).available
        parts = parts_to_withhold(account, dispute.payment, amount=amount, available=available)
        opened = ChargebackOpened(
            org=org,
            chargeback=dispute.id,
            payment=dispute.payment,
            amount_paise=dispute.amount_paise,
            withheld=_paid(account, parts),
            phase=dispute.phase,
            reason=dispute.reason,
        )
        facts.append((stream, opened))
        if parts:
            facts.append((f"account:{org}", _withheld(org, dispute.id, parts, spent=account.spent)))
    if outcome == "won" and (chargeback is None or chargeback.outcome == "open"):
        facts.append((stream, ChargebackWon(org=org, chargeback=dispute.id, payment=dispute.payment)))
        if amount := sum(account.withheld.get(dispute.id, {}).values()):
            back = CreditReturned(org=org, reference=dispute.id, amount=amount, spent=account.spent)
            facts.append((f"account:{org}", back))
    return facts


def _loss(read: Reader, stream: str, dispute: GatewayDispute) -> Loss | None:
    """What the dispute takes if it is lost and that is not on record yet. The bank may take less than it demanded."""
    known = read.fold(stream, OrderChargebacks())
    chargeback = known.chargebacks.get(dispute.id)
    if outcome_of(dispute) != "lost" or chargeback is None or chargeback.outcome != "open":
        return None
    assert known.ordered is not None
    account, original = account_of(read, known.ordered.org), known.ordered.tax
    most, parts = demand(original, _taken(dispute)), dict[str, int]()
    for lot, part in account.withheld.get(dispute.id, {}).items():
        parts[lot] = min(part, most) if account.lots[lot].paid else part
        most -= parts[lot] if account.lots[lot].paid else 0
    own, before = parts.get(dispute.payment, 0), sum(known.back.values())
    taxable = min(own // NANOS_PER_PAISA, original.taxable - before)
    tax = refund_share(original, taxable=taxable, refunded_before=before) if taxable > 0 else None
    return Loss({lot: part for lot, part in parts.items() if part}, own, tax)


def _lost(read: Reader, stream: str, dispute: GatewayDispute, loss: Loss, draft: Draft | None, *, at: int) -> Decision:
    """That it was lost, with the credit and the document that go with it. Raises Unavailable if it takes something else
    by now than was drafted."""
    found = _loss(read, stream, dispute)
    if found is None:
        return []
    if found != loss:
        raise Unavailable("ledger_unavailable", "The account has moved on meanwhile; try again.", retry_after=1)
    ordered = read.fold(stream, OrderChargebacks()).ordered
    assert ordered is not None
    org, account = ordered.org, account_of(read, ordered.org)
    issued = None if draft is None else issue(read, org=org, draft=draft.document, facts=draft.facts, at=at)
    lost = ChargebackLost(
        org=org,
        chargeback=dispute.id,
        payment=dispute.payment,
        amount_paise=_taken(dispute),
        withheld=_paid(account, loss.parts),
        tax=loss.tax,
        document="" if issued is None else issued[1].number,
    )
    facts: list[tuple[str, Event]] = [(stream, lost)]
    aside, gone = sum(account.withheld.get(dispute.id, {}).values()), sum(loss.parts.values())
    if aside != gone:
        back = CreditReturned(org=org, reference=dispute.id, amount=aside, spent=account.spent)
        facts.append((f"account:{org}", back))
        if gone:
            again = _withheld(org, dispute.id, dict(loss.parts), spent=account.spent)
            facts.append((f"account:{org}", again))
    if gone:
        withdrawn = CreditWithdrawn(org=org, reference=dispute.id, amount=gone, spent=account.spent)
        facts.append((f"account:{org}", withdrawn))
    return facts if issued is None else [*facts, issued]
