"""Money in: an order is made, and whatever the payment gateway says of its payments becomes credit exactly once.

Browser, webhook, sweep and operator only say where to look. The payment is then fetched from the gateway itself, and
one decision, keyed by the payment's id, credits it, notes how far it is, or sets it aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from domain.accounts.org import Org
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, NANOS_PER_RUPEE, Balance, show_inr
from domain.kernel.seals import Seals
from domain.kernel.store import Change, Decision, Reader, S, Store, fold
from domain.keys.trial import end_trial
from domain.ledger.credit import account_of
from domain.ledger.events import CreditAdded, CreditGranted
from domain.payments.billing import BillingProfile, books_subject, read_buyer
from domain.payments.document import Buyer, Document, Supplier
from domain.payments.events import PaymentCaptured, PromoMissed, PromoRedeemed, Tax, TopUpOrdered
from domain.payments.issue import issue, text_to_seal
from domain.payments.numbering import DocumentKind
from domain.payments.payment import Order, may_be_taken, misfit, news, payment_stream, set_aside
from domain.payments.ports import GatewayPayment, PaymentGateway
from domain.payments.promo import Promo, check_promo, obstacle, promo_grant, promo_stream, redemption_stream
from domain.payments.tax import GstMode, credit_nanos, split

PAISE_PER_RUPEE = NANOS_PER_RUPEE // NANOS_PER_PAISA

Learned = Literal["handler", "webhook", "sweep", "operator"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On what terms credit is sold: limits in whole rupees, how GST is reckoned, and what documents say."""

    rupees_min: int
    rupees_max: int
    mode: GstMode
    percent: int
    kind: DocumentKind
    sac: str
    description: str
    supplier: Supplier


@dataclass(frozen=True, kw_only=True)
class Till:
    """What taking money needs. Its methods raise Unavailable where the gateway or the ledger cannot be reached; what
    was not recorded then can be asked for again without harm."""

    store: Store
    gateway: PaymentGateway
    seals: Seals
    terms: Terms

    def order(
        self, *, org: str, profile: BillingProfile, rupees: int, promo: str, receipt: str, at: int, by: str
    ) -> tuple[TopUpOrdered, int]:
        """Orders a top-up of whole rupees, and says what the promo code would add; `promo` is a clean code or "",
        `receipt` an id of ours.

        Raises Invalid `invalid_amount`, `billing_address_required` or `promo_invalid`, Conflict `promo_redeemed`.
        """
        ordered = self._ordered(org=org, profile=profile, rupees=rupees, promo=promo)
        extra = 0
        if promo:
            extra = check_promo(self.store, org=org, code=promo, bought=ordered.credit, at=at).credit(ordered.credit)
        order = self.gateway.create_order(
            amount_paise=ordered.tax.total, receipt=receipt, notes={"org": org, "credit": show_inr(ordered.credit)}
        )
        ordered = msgspec.structs.replace(ordered, order=order.id)

        def decide(known: Order) -> Decision:
            return [] if known.ordered else [(payment_stream(order.id), ordered)]

        self.store.change(Change(payment_stream(order.id), Order(), decide), at=at, by=by)
        return ordered, extra

    def credit_of(self, amount: int) -> int:
        """Nano-rupees of credit that a top-up of `amount` nano-rupees buys, wherever the buyer is."""
        return credit_nanos(self._tax(amount // NANOS_PER_PAISA, place=self.terms.supplier.state, special_zone=False))

    def find(self, order: str) -> Order:
        """The order as the log has it now; one of status `unknown` if it is none of ours."""
        found = Order()

        def look(known: Order) -> Decision:
            nonlocal found
            found = known
            return []

        self.store.change(Change(payment_stream(order), Order(), look), at=0, by="")
        return found

    def look(self, payment: str, *, learned: Learned, at: int, by: str) -> Order:
        """Asks the gateway about a payment and records what it says; the order as it is then. Raises NotFound."""
        return self.take(self.gateway.payment(payment), learned=learned, at=at, by=by)

    def look_at_order(self, order: str, *, learned: Learned, at: int, by: str) -> Order:
        """The same for all attempts at paying an order of ours."""
        known = self.find(order)
        for listed in self.gateway.payments_of(order):
            if not known.is_settled(listed.id):
                known = self.look(listed.id, learned=learned, at=at, by=by)
        return known

    def take(self, payment: GatewayPayment, *, learned: Learned, at: int, by: str) -> Order:
        """Records a payment as the gateway has just described it; what is authorised and fits is collected first."""
        return self.record([self.hear(payment, self.find(payment.order), learned=learned)], at=at, by=by)[0]

    def hear(self, payment: GatewayPayment, known: Order, *, learned: Learned) -> "Said":
        """All that has to be asked for outside before the gateway's word on a payment of this order is recorded."""
        if may_be_taken(known, payment):
            payment = self._collect(payment)
        return Said(payment, self._draft(known, payment), learned)

    def record(self, said: Sequence["Said"], *, at: int, by: str) -> list[Order]:
        """Appends what the gateway's words add, in one transaction; each word's order as it is after it."""
        after: list[Order] = []

        def decide(read: Reader) -> Decision:
            ahead = Ahead(read, at=at)
            for each in said:
                ahead.add(decide_payment(ahead, each, at=at))
                after.append(ahead.fold(payment_stream(each.payment.order, each.payment.id), Order()))
            return ahead.facts

        self.store.locked(decide, at=at, by=by)
        return after

    def _ordered(self, *, org: str, profile: BillingProfile, rupees: int, promo: str) -> TopUpOrdered:
        terms = self.terms
        if not terms.rupees_min <= rupees <= terms.rupees_max:
            least, most = show_inr(terms.rupees_min * NANOS_PER_RUPEE), show_inr(terms.rupees_max * NANOS_PER_RUPEE)
            raise Invalid("invalid_amount", f"Top up with whole rupees from {least} to {most}.", param="amount_inr")
        if not profile.state:
            raise Invalid(
                "billing_address_required",
                "Tell us where you are billed first, with PUT /me/billing/address: the State decides on the tax.",
            )
        tax = self._tax(rupees * PAISE_PER_RUPEE, place=profile.state, special_zone=profile.special_zone)
        return TopUpOrdered(
            org=org,
            order="",
            credit=credit_nanos(tax),
            tax=tax,
            place_of_supply=profile.state,
            buyer=profile.buyer,
            promo=promo,
            special_zone=profile.special_zone,
        )

    def _tax(self, paise: int, *, place: str, special_zone: bool) -> Tax:
        terms = self.terms
        return split(
            paise,
            mode=terms.mode,
            percent=terms.percent,
            supplier_state=terms.supplier.state,
            place=place,
            special_zone=special_zone,
        )

    def _collect(self, payment: GatewayPayment) -> GatewayPayment:
        """Takes what the payer's bank has authorised. A refusal may mean that it was taken already."""
        try:
            return self.gateway.capture(payment.id, amount_paise=payment.amount_paise)
        except Conflict:
            return self.gateway.payment(payment.id)

    def _draft(self, order: Order, payment: GatewayPayment) -> "Draft | None":
        """The document that is to be issued if the payment is credited."""
        ordered = order.ordered
        if ordered is None or payment.status != "captured" or misfit(order, payment):
            return None
        text = self.seals.open(books_subject(ordered.org), ordered.buyer)
        document = Document(
            kind=self.terms.kind,
            number="",
            issued_at=0,
            supplier=self.terms.supplier,
            buyer=Buyer(name="") if text is None else read_buyer(text),
            place_of_supply=ordered.place_of_supply,
            sac=self.terms.sac,
            description=self.terms.description,
            tax=ordered.tax,
            credit=ordered.credit,
            payment_id=payment.id,
            order_id=payment.order,
            paid_at=payment.created_seconds * SECOND,
            method=payment.method,
            reference=payment.reference,
        )
        return Draft(document, self.seals.seal(books_subject(ordered.org), text_to_seal(document)))


@dataclass(frozen=True, slots=True)
class Draft:
    """A document without its number, and its facts sealed."""

    document: Document
    facts: str


@dataclass(frozen=True, slots=True)
class Said:
    """The gateway's word on a payment, the document that its credit would bring, and by which way we heard."""

    payment: GatewayPayment
    draft: Draft | None
    learned: Learned


def decide_payment(read: Reader, said: Said, *, at: int) -> Decision:
    """All that follows from the gateway's word on a payment. Credit, promo credit and document come with the capture,
    and never without it. Money for an org that is deleted by then is set aside: nobody could spend its credit."""
    payment = said.payment
    stream = payment_stream(payment.order, payment.id)
    order = read.fold(stream, Order())
    fact = news(order, payment, learned=said.learned)
    if fact is None:
        return []
    if not isinstance(fact, PaymentCaptured):
        return [(stream, fact)]
    if read.fold(f"org:{order.org}", Org()).deleted is not None:
        return [(stream, set_aside(order, payment, "org_deleted"))]
    assert order.ordered is not None
    assert said.draft is not None, f"{payment.id} fits its order, but nobody drafted its document"
    ordered = order.ordered
    account = account_of(read, ordered.org)
    credit = CreditAdded(
        org=ordered.org, payment=payment.id, order=payment.order, amount=ordered.credit, spent=account.spent
    )
    return [
        (stream, fact),
        (f"account:{ordered.org}", credit),
        *end_trial(read, ordered.org),
        *_promo(read, ordered, payment, stream, at=at),
        issue(read, org=ordered.org, draft=said.draft.document, facts=said.draft.facts, at=at),
    ]


def _promo(read: Reader, ordered: TopUpOrdered, payment: GatewayPayment, stream: str, *, at: int) -> Decision:
    """The promo credit that was ordered with the payment, or that it could not be given. Its dates are held against the
    moment of paying, which may be days ago."""
    code = ordered.promo
    if not code:
        return []
    promo = read.fold(promo_stream(code), Promo())
    account = account_of(read, ordered.org)
    paid = payment.created_seconds * SECOND
    if why := obstacle(read, promo, code=code, account=account, bought=ordered.credit, at=paid):
        return [(stream, PromoMissed(org=ordered.org, code=code, payment=payment.id, reason=why))]
    amount = promo.credit(ordered.credit)
    granted = CreditGranted(
        org=ordered.org,
        grant=promo_grant(code),
        amount=amount,
        reason=f"promo code {code}",
        expires=promo.expires(at),
        payment=payment.id,
        spent=account.spent,
    )
    redeemed = PromoRedeemed(code=code, org=ordered.org, payment=payment.id, amount=amount)
    return [(f"account:{ordered.org}", granted), (redemption_stream(code), redeemed)]


class Ahead:
    """A Reader that also sees the facts of decisions that are not appended yet, so that many can be one transaction.
    What it has read it does not read again: under the lock nothing can change."""

    def __init__(self, read: Reader, *, at: int) -> None:
        self.facts: list[tuple[str, Event]] = []
        self._read = read
        self._at = at
        self._states: dict[tuple[str, type], Any] = {}
        self._counts: dict[str, int] = {}
        self._balances: dict[str, Balance] = {}

    def add(self, facts: Decision) -> None:
        """Takes facts that add nothing to what an org has spent."""
        for stream, fact in facts:
            event = msgspec.structs.replace(fact, at=self._at)
            self.facts.append((stream, event))
            for (history, kind), state in self._states.items():
                if history == stream:
                    self._states[history, kind] = state.evolve(stream, event)
            if stream in self._counts:
                self._counts[stream] += 1

    def fold(self, history: str, initial: S) -> S:
        known = (history, type(initial))
        if known not in self._states:
            decided = (fact for fact in self.facts if fact[0] == history)
            self._states[known] = fold(self._read.fold(history, initial), decided)
        state: S = self._states[known]
        return state

    def count(self, stream: str) -> int:
        if stream not in self._counts:
            self._counts[stream] = self._read.count(stream) + sum(fact[0] == stream for fact in self.facts)
        return self._counts[stream]

    def balance(self, org: str) -> Balance:
        """As it was before: of what has been decided since, only `spent` is the same."""
        if org not in self._balances:
            self._balances[org] = self._read.balance(org)
        return self._balances[org]
