"""An order to top up and the attempts at paying it, as their facts make them. A payment only moves forward.

`failed → authorized → captured` days later is ordinary (a bank may answer late); `captured` is the end. Whatever the
payment gateway says again, late or out of order adds no fact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.payments.events import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentSetAside,
    PromoMissed,
    TopUpOrdered,
)
from domain.payments.ports import GatewayPayment

CURRENCY = "INR"
TEXT_LENGTH_MAX = 300

OrderStatus = Literal["unknown", "created", "failed", "authorized", "captured"]
AttemptStatus = Literal["failed", "authorized", "captured", "set_aside"]

_RANK: Mapping[AttemptStatus | None, int] = {None: 0, "failed": 1, "authorized": 2, "captured": 3, "set_aside": 3}


@dataclass(frozen=True, slots=True)
class Order:
    """The fold of `payment:<order>`. `attempts` and `methods` are by payment, `captured` is the one that was
    credited."""

    ordered: TopUpOrdered | None = None
    attempts: Mapping[str, AttemptStatus] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    captured: str = ""
    promo_missed: str = ""

    def evolve(self, stream: str, event: Event) -> "Order":
        match event:
            case TopUpOrdered():
                return replace(self, ordered=event)
            case PaymentFailed():
                return self._moved(event.payment, "failed", event.method)
            case PaymentAuthorized():
                return self._moved(event.payment, "authorized", event.method)
            case PaymentCaptured():
                return replace(self._moved(event.payment, "captured", event.method), captured=event.payment)
            case PaymentSetAside():
                return self._moved(event.payment, "set_aside", "")
            case PromoMissed():
                return replace(self, promo_missed=event.reason)
            case _:
                return self

    @property
    def org(self) -> str:
        """ "" for an order that is none of ours."""
        return "" if self.ordered is None else self.ordered.org

    @property
    def status(self) -> OrderStatus:
        """How far the order has come by any of its attempts."""
        if self.ordered is None:
            return "unknown"
        if self.captured:
            return "captured"
        seen = self.attempts.values()
        return "authorized" if "authorized" in seen else "failed" if "failed" in seen else "created"

    def is_settled(self, payment: str) -> bool:
        """Whether the payment has been credited or set aside, so that nothing can be added to it."""
        return _RANK[self.attempts.get(payment)] == _RANK["captured"]

    def _moved(self, payment: str, status: AttemptStatus, method: str) -> "Order":
        return replace(
            self,
            attempts={**self.attempts, payment: status},
            methods={**self.methods, payment: method or self.methods.get(payment, "")},
        )


def payment_stream(order: str, payment: str = "") -> str:
    """A payment that came without an order has a stream of its own."""
    return f"payment:{order or payment}"


def misfit(order: Order, payment: GatewayPayment) -> str:
    """Why this captured payment cannot be credited to this order, "" if it can: the money must be what was ordered,
    in our currency, by the method that was authorised, all of it still there, and the first for its order."""
    if order.ordered is None:
        return "unknown_order"
    if payment.refunded_paise or payment.status == "refunded":
        return "sent_back"
    if payment.currency != CURRENCY:
        return "wrong_currency"
    if payment.amount_paise != order.ordered.tax.total:
        return "wrong_amount"
    if order.methods.get(payment.id, "") not in ("", plain(payment.method)):
        return "wrong_method"
    if order.captured:
        return "order_paid_already"
    return ""


def may_be_taken(order: Order, payment: GatewayPayment) -> bool:
    """Whether money that a bank has promised is to be collected: it would be credited, and waits for that only."""
    return payment.status == "authorized" and not order.is_settled(payment.id) and not misfit(order, payment)


def news(order: Order, payment: GatewayPayment, *, learned: str) -> Event | None:
    """The fact that the gateway's word adds to what is known of its order, if any."""
    known = _RANK[order.attempts.get(payment.id)]
    ours = order.ordered is not None
    match payment.status:
        case "failed" if ours and known < _RANK["failed"]:
            reason = plain(payment.error_description or payment.error_code)
            return PaymentFailed(org=order.org, payment=payment.id, method=plain(payment.method), reason=reason)
        case "authorized" if ours and known < _RANK["authorized"]:
            return PaymentAuthorized(org=order.org, payment=payment.id, method=plain(payment.method))
        case "captured" | "refunded" if known < _RANK["captured"]:
            if reason := misfit(order, payment):
                return set_aside(order, payment, reason)
            return PaymentCaptured(
                org=order.org,
                order=payment.order,
                payment=payment.id,
                amount_paise=payment.amount_paise,
                method=plain(payment.method),
                learned=learned,
                paid=payment.created_seconds * SECOND,
                fee_paise=payment.fee_paise or 0,
                fee_tax_paise=payment.tax_paise or 0,
                reference=plain(payment.reference),
            )
        case _:
            return None


def set_aside(order: Order, payment: GatewayPayment, reason: str) -> PaymentSetAside:
    """The fact by which a payment of this order is not credited."""
    left = payment.amount_paise if payment.status == "captured" else 0
    in_rupees = payment.currency == CURRENCY
    return PaymentSetAside(
        org=order.org,
        order=payment.order,
        payment=payment.id,
        amount_paise=max(left - payment.refunded_paise, 0),
        currency=plain(payment.currency),
        reason=reason,
        fee_paise=(payment.fee_paise or 0) if in_rupees else 0,
        fee_tax_paise=(payment.tax_paise or 0) if in_rupees else 0,
    )


def plain(text: str) -> str:
    """Text of the gateway's that can be recorded: not long, and without NUL, which the log cannot index."""
    return text[:TEXT_LENGTH_MAX].replace("\0", "")
