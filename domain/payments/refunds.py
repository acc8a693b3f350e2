"""Money back to where it came from: as much of a payment as is unspent, and never twice.

A refund is requested, accepted by the payment gateway, and then processed or failed. The gateway is asked between these
decisions, under our id of the refund, so that a crash anywhere is made good by asking again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, show_inr
from domain.kernel.store import Change, Decision, Reader, Store
from domain.ledger.account import Account, Lot
from domain.ledger.credit import account_of
from domain.ledger.events import CreditAdded, CreditExpired, CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.billing import books_subject
from domain.payments.chargebacks import withheld_anew
from domain.payments.document import Document, Original
from domain.payments.events import (
    ChargebackOpened,
    ChargebackWon,
    DocumentIssued,
    PaymentCaptured,
    RefundAccepted,
    RefundFailed,
    RefundProcessed,
    RefundRequested,
    Tax,
    TopUpOrdered,
)
from domain.payments.issue import as_issued, issue, text_to_seal
from domain.payments.numbering import KINDS
from domain.payments.payment import payment_stream, plain
from domain.payments.ports import GatewayRefund, PaymentGateway, WebhookNotice
from domain.payments.tax import refund_share
from domain.payments.topup import Draft, Seals

REFUND_PAISE_MIN = 100
"""Razorpay sends back no less than a rupee: razorpay.com/docs/api/refunds."""

KEY_LIFE = 3_600 * SECOND
"""How long the gateway is trusted to know a repeat by its key, in microseconds; it promises no time."""

REASON_LENGTH_MAX = 200

DISPUTED = "The payer's bank has demanded this payment back; it cannot go back twice."

RefundState = Literal["requested", "pending", "processed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """`requested` until the gateway has accepted it, `pending` while it works.

    `credit` is in nano-rupees; `tax.total` paise go back to the source. `document` is the number of the refund voucher
    or credit note, `reference` what the bank calls the refund, `failure` why it failed: "" until there is one."""

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
    """The fold of `payment:<order>` as far as refunds go. `disputed` are the chargebacks that were not won."""

    ordered: TopUpOrdered | None = None
    payment: str = ""
    refunds: Mapping[str, Refund] = field(default_factory=dict)
    disputed: frozenset[str] = frozenset()

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
        now = replace(self, account=self.account.evolve(stream, event))
        match event:
            case CreditAdded():
                return replace(now, orders={**self.orders, event.payment: event.order})
            case CreditExpired():
                return now._without({event.lot: event.amount})
            case CreditWithdrawn():
                return now._without(self.account.withheld[event.reference])
            case _:
                return now

    def spent_of(self, lot: Lot) -> int:
        """Nano-rupees of the lot that calls have spent."""
        withheld = sum(parts.get(lot.id, 0) for parts in self.account.withheld.values())
        return lot.amount - lot.left - withheld - self.gone.get(lot.id, 0)

    def gifts_of(self, payment: str) -> list[Lot]:
        """The promo credit that came with a payment."""
        return self.account.gifts_of(payment)

    def _without(self, parts: Mapping[str, int]) -> "Wallet":
        return replace(self, gone={**self.gone, **{lot: self.gone.get(lot, 0) + parts[lot] for lot in parts}})


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
        `nothing_to_refund`, `refund_under_way` or `idempotency_conflict`.
        """
        order = ""

        def decide(read: Reader) -> Decision:
            nonlocal order
            order, facts = _requested(
                read, org=org, refund=refund, payment=payment, credit=credit, reason=_clean(reason)
            )
            return facts

        self.store.locked(decide, at=at, by=by)
        return self.find(order).refunds[refund]

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
        ours = {known.gateway_refund for known in self.find(refund.order).refunds.values()}
        listed = self.gateway.refunds_of(refund.payment)
        for told in listed:
            if told.id not in ours and told.amount_paise == refund.tax.total and told.status != "failed":
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
        event = self.original(refund.payment)
        if event is None:
            raise Unavailable(
                "ledger_unavailable", "The payment's document is not known yet; try again.", retry_after=1
            )
        subject = books_subject(refund.org)
        text = self.seals.open(subject, event.facts)
        assert text is not None, f"the books of {refund.org} were erased"
        original = as_issued(event, text)
        document = _document_back(original, refund, told, at=at)
        return Draft(document, self.seals.seal(subject, text_to_seal(document)))

    def _end(self, refund: Refund, facts: Callable[[Reader], Decision], *, at: int, by: str) -> None:
        def decide(read: Reader) -> Decision:
            known = read.fold(payment_stream(refund.order), OrderRefunds()).refunds[refund.id]
            return facts(read) if known.is_open else []

        self.store.locked(decide, at=at, by=by)


def note_refund(desk: RefundDesk, notice: WebhookNotice, *, at: int, by: str) -> None:
    """A webhook about a refund says where to look, no more: what it tells may be late."""
    if notice.payment is not None and notice.payment.order:
        desk.pursue(notice.payment.order, at=at, by=by)


# Decisions


def _requested(
    read: Reader, *, org: str, refund: str, payment: str, credit: int | None, reason: str
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
        if earlier is None or earlier.reason != reason or credit not in (None, earlier.credit):
            raise Conflict("idempotency_conflict", "This Idempotency-Key belongs to another refund. Use a new key.")
        return order, []
    if known.under_way is not None:
        raise Conflict("refund_under_way", f"{known.under_way.id} of this payment is under way; wait for its end.")
    if known.disputed:
        raise Conflict("nothing_to_refund", DISPUTED)
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


def _document_back(original: Document, refund: Refund, told: GatewayRefund, *, at: int) -> Document:
    kind = KINDS[original.kind].refund
    assert kind is not None, f"{original.number} is a {original.kind}, which nothing takes back"
    return msgspec.structs.replace(
        original,
        kind=kind,
        tax=refund.tax,
        credit=refund.credit,
        paid_at=at,
        reference=told.reference,
        refund_id=refund.id,
        refers_to=Original(number=original.number, issued_at=original.issued_at),
    )


def _clean(reason: str) -> str:
    reason = reason.strip()
    if len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        raise Invalid(
            "invalid_request", f"Give a reason of at most {REASON_LENGTH_MAX} printable characters.", param="reason"
        )
    return reason
