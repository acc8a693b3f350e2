"""What the product asks of the company that collects payments, and the facts that come back.

Amounts are whole paise here and nowhere further in. A status is what the gateway says it is at that moment; which
changes of it count is decided by whoever reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

OrderStatus = Literal["created", "attempted", "paid"]
PaymentStatus = Literal["created", "authorized", "captured", "refunded", "failed"]
RefundStatus = Literal["pending", "processed", "failed"]
DisputeStatus = Literal["open", "under_review", "won", "lost", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOrder:
    """What is to be paid. It may take several attempts; it stays `paid` after a refund."""

    id: str
    amount_paise: int
    amount_paid_paise: int
    currency: str
    receipt: str
    status: OrderStatus
    attempts: int
    created_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPayment:
    """One attempt at paying. `failed` is not final: a bank may still authorise it up to days later.

    `order` is "" for a payment that belongs to none. `fee_paise` includes `tax_paise`; both are None until the payment
    is captured. `reference` is the number under which the payer's bank knows it (rrn, auth code …), or "".
    """

    id: str
    order: str
    amount_paise: int
    currency: str
    status: PaymentStatus
    method: str
    fee_paise: int | None = None
    tax_paise: int | None = None
    refunded_paise: int = 0
    created_seconds: int = 0
    error_code: str = ""
    error_description: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRefund:
    """Money on its way back to where it came from. `reference` is what the bank calls it (arn, rrn, utr), or ""."""

    id: str
    payment: str
    amount_paise: int
    currency: str
    status: RefundStatus
    created_seconds: int = 0
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDispute:
    """A payer's objection with his bank. `deducted_paise` is what has been taken from us so far."""

    id: str
    payment: str
    amount_paise: int
    deducted_paise: int
    currency: str
    status: DisputeStatus
    phase: str = ""
    reason: str = ""
    created_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookNotice:
    """What one webhook tells. It is a snapshot that may be late, repeated or out of order; an event that we do not know
    has no entities."""

    event: str
    created_seconds: int
    payment: GatewayPayment | None = None
    refund: GatewayRefund | None = None
    dispute: GatewayDispute | None = None


class PaymentGateway(Protocol):
    """Collects money and gives it back.

    Every method that asks the gateway raises Unavailable("payments_unavailable") when it cannot be reached, fails, or
    does not answer in time, and then nobody knows whether it acted; NotFound("not_found") for an id that it does not
    know; Conflict("payment_refused") when it refuses, with its reason in the message.
    """

    @property
    def key_id(self) -> str:
        """The public half of the key, which the payer's browser needs."""
        ...

    @property
    def checkout_script(self) -> str:
        """The address of the script that shows the checkout in the payer's browser."""
        ...

    def create_order(self, *, amount_paise: int, receipt: str, notes: Mapping[str, str]) -> GatewayOrder:
        """An order in rupees. The same receipt (40 characters at most) with the same amount is the same order, so this
        can be repeated."""
        ...

    def order(self, id: str) -> GatewayOrder: ...

    def payments_of(self, order: str) -> Sequence[GatewayPayment]:
        """All attempts at paying the order. This list may lag behind `payment` and `order` by minutes."""
        ...

    def payment(self, id: str) -> GatewayPayment: ...

    def capture(self, payment: str, *, amount_paise: int) -> GatewayPayment:
        """Takes what was authorised, which must be this amount. A payment that is captured already is refused."""
        ...

    def refund(self, payment: str, *, amount_paise: int, key: str, notes: Mapping[str, str]) -> GatewayRefund:
        """Sends back a part or all of a captured payment. The same `key` (10 or more of A-Z a-z 0-9 _ -) with the same
        amount and notes is the same refund, so this can be repeated."""
        ...

    def refunds_of(self, payment: str) -> Sequence[GatewayRefund]: ...

    def refund_status(self, id: str) -> GatewayRefund: ...

    def refunds(self, *, since_seconds: int) -> Sequence[GatewayRefund]:
        """All that were made since then, of all payments. This list may lag too."""
        ...

    def dispute(self, id: str) -> GatewayDispute: ...

    def disputes(self, *, since_seconds: int) -> Sequence[GatewayDispute]:
        """All that were opened since then. This list may lag behind `dispute` by minutes."""
        ...

    def checkout_is_signed(self, *, order: str, payment: str, signature: str) -> bool:
        """Whether the gateway itself says that `payment` pays for `order`, the order that *we* stored."""
        ...

    def webhook_is_signed(self, raw: bytes, signature: str | None) -> bool:
        """Whether the body came from the gateway as it is, under the newest secret or one before it."""
        ...

    def parse_webhook(self, raw: bytes) -> WebhookNotice:
        """What a webhook's body says; check its signature first. Raises Invalid("invalid_request")."""
        ...

    def close(self) -> None:
        """Ends its connections; they are made again when they are needed."""
        ...
