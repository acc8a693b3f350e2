"""Money back to where it came from: as much of a payment as is unspent, and never twice.

A refund is requested, accepted by the payment gateway, and then processed or failed. The gateway is asked between these
decisions, under our id of the refund, so that a crash anywhere is made good by asking again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, show_inr
from domain.kernel.seals import Seals
from domain.kernel.store import Change, Decision, Reader, Store
from domain.ledger.account import Account, Lot
from domain.ledger.credit import account_of
from domain.ledger.events import CreditAdded, CreditExpired, CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.chargebacks import demand, own_parts, withheld_anew
from domain.payments.events import (
    ChargebackOpened,
    ChargebackWon,
    DocumentIssued,
    PaymentCaptured,
    RefundAccepted,
    RefundFailed,
    RefundFound,
    RefundProcessed,
    RefundRequested,
    Tax,
    TopUpOrdered,
)
from domain.payments.giving_back import draft_back
from domain.payments.issue import issue
from domain.payments.payment import payment_stream, plain
from domain.payments.ports import GatewayRefund, PaymentGateway, WebhookNotice
from domain.payments.tax import refund_share
from domain.payments.topup import Draft

REFUND_PAISE_MIN = 100
"""Razorpay sends back no less than a rupee: razorpay.com/docs/api/refunds."""

KEY_LIFE = 3_600 * SECOND
"""How long the gateway is trusted to know a repeat by its key, in microseconds; it promises no time."""

REASON_LENGTH_MAX = 200

REFUNDS_A_DAY = 10
"""Of one payment; each request makes the org's history longer, and may fail and be made again."""

DISPUTED = "The payer's bank has demanded this payment back; it cannot go back twice."

RefundState = Literal["requested", "pending", "processed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """`requested` until the gateway has accepted it, `pending` while it works.

    `credit` is in nano-rupees; `tax.total` paise go back to the source. `document` is the number of the refund voucher
    or credit note, `reference` what the bank calls the refund, `failure` why it failed: "" until there is one. The
    `reason` is sealed for the org."""

    id: str
    org: str
    order: str
    payment: str
    credit: int
    tax: Tax
    requested: int
    state: RefundState = "requested"
    reason: str = ""
    gateway_refund: str = ""
    reference: str = ""
    document: str = ""
    failure: str = ""
    ended: int | None = None

    @property
    def is_open(self) -> bool:
        return self.ended is None


@dataclass(frozen=True, slots=True)
class OrderRefunds:
    """The fold of `payment:<order>` as far as refunds go. `disputed` are the chargebacks that were not won, `found` the
    gateway's ids of refunds that were made by other hands."""

    ordered: TopUpOrdered | None = None
    payment: str = ""
    refunds: Mapping[str, Refund] = field(default_factory=dict)
    disputed: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()

    def evolve(self, stream: str, event: Event) -> "OrderRefunds":
        match event:
            case TopUpOrdered():
                return replace(self, ordered=event)
            case PaymentCaptured():
                return replace(self, payment=event.payment)
            case RefundRequested():
                return self._with(
                    Refund(
                        id=event.refund,
                        org=event.org,
                        order=stream.removeprefix("payment:"),
                        payment=event.payment,
                        credit=event.credit,
                        tax=event.tax,
                        requested=event.at,
                        reason=event.reason,
                    )
                )
            case RefundAccepted():
                known = self.refunds[event.refund]
                return self._with(replace(known, state="pending", gateway_refund=event.gateway_refund))
            case RefundProcessed():
                return self._with(
                    replace(
                        self.refunds[event.refund],
                        state="processed",
                        gateway_refund=event.gateway_refund,
                        reference=event.reference,
                        document=event.document,
                        ended=event.at,
                    )
                )
            case RefundFailed():
                known = self.refunds[event.refund]
                return self._with(replace(known, state="failed", failure=event.reason, ended=event.at))
            case RefundFound():
                return replace(self, found=self.found | {event.gateway_refund})
            case ChargebackOpened():
                return replace(self, disputed=self.disputed | {event.chargeback})
            case ChargebackWon():
                return replace(self, disputed=self.disputed - {event.chargeback})
            case _:
                return self

    @property
    def under_way(self) -> Refund | None:
        """There is one at most, so that the tax shares of refunds are cut off one after the other."""
        return next((refund for refund in self.refunds.values() if refund.is_open), None)

    @property
    def at_gateway(self) -> frozenset[str]:
        """The gateway's ids of all refunds that are on record."""
        return self.found | {refund.gateway_refund for refund in self.refunds.values() if refund.gateway_refund}

    @property
    def refunded_paise(self) -> int:
        """The taxable paise that went back."""
        return sum(refund.tax.taxable for refund in self.refunds.values() if refund.state == "processed")

    def _with(self, refund: Refund) -> "OrderRefunds":
        return replace(self, refunds={**self.refunds, refund.id: refund})


@dataclass(frozen=True, slots=True)
class Wallet:
    """An org's account, the order of each of its payments, and what of each lot went without being spent."""

    account: Account = field(default_factory=Account)
    orders: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Wallet":
        return self.after([(stream, event)])

    def after(self, facts: Iterable[tuple[str, Event]]) -> "Wallet":
        """What `evolve` makes of many facts, in time that grows with their number alone."""
        facts = list(facts)
        orders, gone, withheld = dict(self.orders), Counter(self.gone), dict(self.account.withheld)
        for _, event in facts:
            match event:
                case CreditAdded():
                    orders[event.payment] = event.order
                case CreditExpired():
                    gone[event.lot] += event.amount
                case CreditWithheld():
                    withheld[event.reference] = event.parts
                case CreditWithdrawn():
                    gone.update(withheld[event.reference])
        return Wallet(self.account.after(facts), orders, gone)

    def spent_of(self, lot: Lot) -> int:
        """Nano-rupees of the lot that calls have spent."""
        withheld = sum(parts.get(lot.id, 0) for parts in self.account.withheld.values())
        return lot.amount - lot.left - withheld - self.gone.get(lot.id, 0)

    def gifts_of(self, payment: str) -> list[Lot]:
        """The promo credit that came with a payment."""
        return self.account.gifts_of(payment)


def wallet_of(read: Reader, org: str) -> Wallet:
    """The org's wallet as it stands at this moment, what calls have spent included. Raises NotFound."""
    wallet = read.fold(f"account:{org}", Wallet())
    return replace(wallet, account=wallet.account.when_spent(read.balance(org).spent))


def refundable(wallet: Wallet, payment: str, *, available: int) -> int:
    """Nano-rupees of a payment's credit that can go back, in whole paise.

    What is promised to calls in flight stays. Promo credit that came with the payment goes when money goes back: what
    is left of it is withdrawn, what was spent of it is kept from the money.
    """
    gifts = wallet.gifts_of(payment)
    free = min(wallet.account.lots[payment].left, available - sum(gift.left for gift in gifts))
    most = max(free - sum(wallet.spent_of(gift) for gift in gifts), 0)
    return most - most % NANOS_PER_PAISA


def refund_id(org: str, idempotency_key: str) -> str:
    """The id that belongs to an idempotency key, so that a request made again finds the refund of the first."""
    return "refund_" + hashlib.sha256(f"{org}\0{idempotency_key}".encode()).hexdigest()[:28]


@dataclass(frozen=True, kw_only=True)
class RefundDesk:
    """What refunding needs. `original` finds the document that receipted a payment, None while it is not known.

    Its methods raise Unavailable where the gateway or the ledger cannot be reached; whatever was not recorded then can
    be asked for again without harm.
    """

    store: Store
    gateway: PaymentGateway
    seals: Seals
    original: Callable[[str], DocumentIssued | None]

    def request(
        self, *, org: str, refund: str, payment: str, credit: int | None, reason: str, at: int, by: str
    ) -> Refund:
        """Withholds `credit` nano-rupees of a payment, or all that is unspent of it, until the money has gone back.

        `refund` is our new id of it; with the id of a refund that was requested in the same way nothing more happens.
        Raises NotFound for a payment that is not the org's, Invalid `refund_too_large` or `invalid_amount`, Conflict
        `nothing_to_refund`, `refund_under_way`, `too_many_refunds` or `idempotency_conflict`.
        """
        order, reason = "", _clean(reason)
        sealed = self.seals.seal(org, reason) if reason else ""

        def decide(read: Reader) -> Decision:
            nonlocal order
            order, facts = _requested(
                read, org=org, refund=refund, payment=payment, credit=credit, reason=sealed, at=at
            )
            return facts

        if self.store.look(decide):
            self.store.locked(decide, at=at, by=by)
        found = self.find(order).refunds[refund]
        if reason_of(found, self.seals) != reason:
            raise _used_before()
        return found

    def pursue(self, order: str, *, at: int, by: str) -> None:
        """Takes the refund of this order that is under way, if there is one, as far as the gateway has it. What the
        payer's bank has demanded back meanwhile is not sent back on top."""
        known = self.find(order)
        refund = known.under_way
        if refund is None:
            return
        try:
            told = self._ask(refund, disputed=bool(known.disputed), at=at)
        except (Conflict, NotFound) as refusal:
            if refund.gateway_refund and isinstance(refusal, Conflict):
                raise
            self._end(refund, _failed(refund, refusal.message), at=at, by=by)
            return
        if not refund.gateway_refund:
            self._accept(refund, told, at=at, by=by)
        match told.status:
            case "processed":
                draft = self._draft(refund, told, at=at)
                self._end(refund, _processed(refund, told, draft, at=at), at=at, by=by)
            case "failed":
                self._end(refund, _failed(refund, "The bank did not take the money back."), at=at, by=by)

    def find(self, order: str) -> OrderRefunds:
        """The order's refunds as the log has them now."""
        found = OrderRefunds()

        def look(known: OrderRefunds) -> Decision:
            nonlocal found
            found = known
            return []

        self.store.change(Change(payment_stream(order), OrderRefunds(), look), at=0, by="")
        return found

    def note_found(self, order: str, gateway_refund: str, *, at: int, by: str) -> None:
        """Takes the credit back for a refund of this order's payment that was not made by us, once it is processed. One
        that is on record, or of a payment that was never credited, adds nothing."""
        known = self.find(order)
        if not known.payment or gateway_refund in known.at_gateway:
            return
        told = self.gateway.refund_status(gateway_refund)
        if told.payment == known.payment and told.status == "processed":
            self.store.locked(lambda read: _found(read, order, told), at=at, by=by)

    def _ask(self, refund: Refund, *, disputed: bool, at: int) -> GatewayRefund:
        """What the gateway has of the refund, which it makes if it has none. Raises Conflict if it refuses, or if the
        payment is `disputed`; NotFound if it has lost the refund or its payment."""
        if refund.gateway_refund:
            told = self._accepted(refund)
        elif disputed or at - refund.requested > KEY_LIFE:
            found = self._made_before(refund)
            if found is None and disputed:
                raise Conflict("nothing_to_refund", DISPUTED)
            told = found or self._make(refund)
        else:
            told = self._make(refund)
        if (told.payment, told.amount_paise) != (refund.payment, refund.tax.total):
            raise Unavailable("payments_unavailable", f"The payment gateway has another refund as {refund.id}.")
        return told

    def _accepted(self, refund: Refund) -> GatewayRefund:
        """What became of a refund that the gateway has accepted. Raises NotFound if neither it nor its money is known
        there."""
        try:
            return self.gateway.refund_status(refund.gateway_refund)
        except NotFound:
            self._check_all_listed(refund, self.gateway.refunds_of(refund.payment))
            raise

    def _make(self, refund: Refund) -> GatewayRefund:
        """The gateway knows a repeat by its key and its body, so these are the same each time. Raises Conflict if it
        refuses, and did not make the refund earlier or by other hands."""
        try:
            return self.gateway.refund(
                refund.payment, amount_paise=refund.tax.total, key=refund.id, notes={"refund": refund.id}
            )
        except Conflict:
            if (told := self._made_before(refund)) is None:
                raise
            return told

    def _made_before(self, refund: Refund) -> GatewayRefund | None:
        """A refund of the same payment and amount that is none of ours by its id: this one, or one made by hand in the
        gateway's dashboard. Either way the money has gone back, and the credit has to follow it."""
        on_record = self.find(refund.order).at_gateway
        listed = self.gateway.refunds_of(refund.payment)
        for told in listed:
            if told.id not in on_record and told.amount_paise == refund.tax.total and told.status != "failed":
                return told
        self._check_all_listed(refund, listed)
        return None

    def _check_all_listed(self, refund: Refund, listed: Sequence[GatewayRefund]) -> None:
        """Raises Unavailable where more of the payment went back than other refunds explain. The gateway's list may lag
        behind, so that it may have made this one: nobody knows until it is listed."""
        others = {
            known.gateway_refund: known.tax.total
            for known in self.find(refund.order).refunds.values()
            if known.gateway_refund and known.state != "failed" and known.id != refund.id
        }
        others |= {told.id: told.amount_paise if told.status != "failed" else 0 for told in listed}
        if self.gateway.payment(refund.payment).refunded_paise > sum(others.values()):
            raise Unavailable(
                "payments_unavailable", "The payment gateway does not list all refunds yet; try again later."
            )

    def _accept(self, refund: Refund, told: GatewayRefund, *, at: int, by: str) -> None:
        stream = payment_stream(refund.order)

        def decide(known: OrderRefunds) -> Decision:
            if known.refunds[refund.id].state != "requested":
                return []
            accepted = RefundAccepted(org=refund.org, refund=refund.id, payment=refund.payment, gateway_refund=told.id)
            return [(stream, accepted)]

        self.store.change(Change(stream, OrderRefunds(), decide), at=at, by=by)

    def _draft(self, refund: Refund, told: GatewayRefund, *, at: int) -> Draft:
        """The refund voucher or credit note: the original's facts, with what goes back of it."""
        return draft_back(
            self.original(refund.payment),
            self.seals,
            tax=refund.tax,
            credit=refund.credit,
            cause=refund.id,
            reference=told.reference,
            at=at,
        )

    def _end(self, refund: Refund, facts: Callable[[Reader], Decision], *, at: int, by: str) -> None:
        def decide(read: Reader) -> Decision:
            known = read.fold(payment_stream(refund.order), OrderRefunds()).refunds[refund.id]
            return facts(read) if known.is_open else []

        self.store.locked(decide, at=at, by=by)


def reason_of(refund: Refund, seals: Seals) -> str:
    """The reason that the org gave, in clear; "" for none, and where the org has been erased."""
    return (seals.open(refund.org, refund.reason) or "") if refund.reason else ""


def note_refund(desk: RefundDesk, notice: WebhookNotice, *, at: int, by: str) -> None:
    """A webhook about a refund says where to look, no more: what it tells may be late. The refund may be ours, or one
    that was made in the gateway's dashboard."""
    if notice.payment is None or not notice.payment.order:
        return
    desk.pursue(notice.payment.order, at=at, by=by)
    if notice.refund is not None:
        desk.note_found(notice.payment.order, notice.refund.id, at=at, by=by)


# Decisions


def _requested(
    read: Reader, *, org: str, refund: str, payment: str, credit: int | None, reason: str, at: int
) -> tuple[str, Decision]:
    """The payment's order, and the facts of the request; none where it was made before."""
    wallet = wallet_of(read, org)
    order = wallet.orders.get(payment)
    if order is None:
        raise NotFound("not_found", "No such payment; list yours with GET /me/billing.", param="payment_id")
    stream = payment_stream(order)
    known = read.fold(stream, OrderRefunds())
    if refund in wallet.account.references:
        earlier = known.refunds.get(refund)
        if earlier is None or credit not in (None, earlier.credit):
            raise _used_before()
        return order, []
    if known.under_way is not None:
        raise Conflict("refund_under_way", f"{known.under_way.id} of this payment is under way; wait for its end.")
    if known.disputed:
        raise Conflict("nothing_to_refund", DISPUTED)
    if sum(earlier.requested > at - DAY for earlier in known.refunds.values()) >= REFUNDS_A_DAY:
        raise Conflict("too_many_refunds", f"A payment can be refunded {REFUNDS_A_DAY} times a day; ask tomorrow.")
    assert known.ordered is not None
    wanted, tax = _share(known, credit, most=refundable(wallet, payment, available=read.balance(org).available))
    parts = {payment: wanted} | {gift.id: gift.left for gift in wallet.gifts_of(payment) if gift.left}
    return order, [
        (stream, RefundRequested(org=org, refund=refund, payment=payment, credit=wanted, tax=tax, reason=reason)),
        (
            f"account:{org}",
            CreditWithheld(
                org=org, reference=refund, amount=sum(parts.values()), parts=parts, spent=wallet.account.spent
            ),
        ),
    ]


def _share(known: OrderRefunds, credit: int | None, *, most: int) -> tuple[int, Tax]:
    """The credit that is to go, and the money with its tax that goes back for it."""
    assert known.ordered is not None
    original, before = known.ordered.tax, known.refunded_paise

    def tax_of(nanos: int) -> Tax:
        return refund_share(original, taxable=nanos // NANOS_PER_PAISA, refunded_before=before)

    if most == 0 or tax_of(most).total < REFUND_PAISE_MIN:
        raise Conflict("nothing_to_refund", "Nothing of this payment can be refunded: it is spent, in use, or back.")
    wanted = most if credit is None else credit
    if wanted <= 0 or wanted % NANOS_PER_PAISA:
        raise Invalid("invalid_amount", "Give an amount in rupees with at most two decimals.", param="amount_inr")
    if wanted > most:
        raise Invalid("refund_too_large", f"At most {show_inr(most)} can be refunded now.", param="amount_inr")
    tax = tax_of(wanted)
    if tax.total < REFUND_PAISE_MIN:
        raise Invalid("invalid_amount", "At least ₹1 must go back, tax included.", param="amount_inr")
    return wanted, tax


def _processed(refund: Refund, told: GatewayRefund, draft: Draft, *, at: int) -> Callable[[Reader], Decision]:
    def facts(read: Reader) -> Decision:
        account = account_of(read, refund.org)
        series, issued = issue(read, org=refund.org, draft=draft.document, facts=draft.facts, at=at)
        processed = RefundProcessed(
            org=refund.org,
            refund=refund.id,
            payment=refund.payment,
            tax=refund.tax,
            credit=refund.credit,
            gateway_refund=told.id,
            reference=told.reference,
            document=issued.number,
        )
        withdrawn = CreditWithdrawn(
            org=refund.org,
            reference=refund.id,
            amount=sum(account.withheld[refund.id].values()),
            spent=account.spent,
        )
        return [
            (payment_stream(refund.order), processed),
            (f"account:{refund.org}", withdrawn),
            (series, issued),
        ]

    return facts


def _failed(refund: Refund, reason: str) -> Callable[[Reader], Decision]:
    def facts(read: Reader) -> Decision:
        account = account_of(read, refund.org)
        failed = RefundFailed(org=refund.org, refund=refund.id, payment=refund.payment, reason=plain(reason))
        returned = CreditReturned(
            org=refund.org,
            reference=refund.id,
            amount=sum(account.withheld[refund.id].values()),
            spent=account.spent,
        )
        return [
            (payment_stream(refund.order), failed),
            (f"account:{refund.org}", returned),
            *withheld_anew(read, refund.order, returned),
        ]

    return facts


def _found(read: Reader, order: str, told: GatewayRefund) -> Decision:
    """A refund that others made, and what of the payment's credit is there to be withdrawn for it."""
    stream = payment_stream(order)
    known = read.fold(stream, OrderRefunds())
    if told.id in known.at_gateway:
        return []
    if known.under_way is not None and known.under_way.state == "requested":
        raise Unavailable("payments_unavailable", f"This may be {known.under_way.id}; tell it again later.")
    assert known.ordered is not None
    org, account = known.ordered.org, account_of(read, known.ordered.org)
    amount = demand(known.ordered.tax, told.amount_paise)
    parts = own_parts(account, known.payment, amount=amount, available=read.balance(org).available)
    found = RefundFound(
        org=org,
        payment=known.payment,
        gateway_refund=told.id,
        amount_paise=told.amount_paise,
        withdrawn=parts.get(known.payment, 0),
    )
    if not parts:
        return [(stream, found)]
    total, spent = sum(parts.values()), account.spent
    return [
        (stream, found),
        (f"account:{org}", CreditWithheld(org=org, reference=told.id, amount=total, parts=parts, spent=spent)),
        (f"account:{org}", CreditWithdrawn(org=org, reference=told.id, amount=total, spent=spent)),
    ]


def _used_before() -> Conflict:
    return Conflict("idempotency_conflict", "This Idempotency-Key belongs to another refund. Use a new key.")


def _clean(reason: str) -> str:
    reason = reason.strip()
    if len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        raise Invalid(
            "invalid_request", f"Give a reason of at most {REASON_LENGTH_MAX} printable characters.", param="reason"
        )
    return reason
