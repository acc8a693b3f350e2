"""Top-ups, their payments and promo codes as callers write and read them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.money import Amount, Rupees, show, show_optional
from api.schemas.times import moment, moment_optional
from domain.kernel.money import NANOS_PER_PAISA
from domain.payments.events import Tax, TopUpOrdered
from domain.payments.payment import CURRENCY, Order
from domain.payments.ports import PaymentGateway
from domain.payments.promo import Promo
from domain.payments.returns import Aside
from domain.payments.tax import HEADS

CODE_LENGTH_MAX = 100
RAZORPAY_SCRIPT = "https://checkout.razorpay.com/"

ORDER_ID = "order_QxN3aWz1bBcDeF"
PAYMENT_ID = "pay_QxN4bYz0aBcDeF"


class NewTopUp(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"amount_inr": 500, "promo_code": "DIWALI26"}}
    )

    amount_inr: Rupees = Field(description="Whole rupees")
    promo_code: str | None = Field(None, max_length=CODE_LENGTH_MAX)


class TaxRow(BaseModel):
    """`taxable_inr` and the heads make the total, to the paisa."""

    percent: int
    taxable_inr: Amount
    cgst_inr: Amount
    sgst_inr: Amount
    utgst_inr: Amount
    igst_inr: Amount
    total_inr: Amount


class TopUp(BaseModel):
    """An order, and what Razorpay's checkout has to be opened with: `key_id`, `order_id`, `amount_paise`, `currency`.

    `credit_inr` is what is added to the balance, `promo_credit_inr` what comes on top of it if the code can still be
    redeemed when the money is there. `checkout_url` is a page to pay at, while Razorpay is played by a simulator."""

    order_id: str
    amount_paise: int
    currency: str
    key_id: str
    checkout_script: str
    checkout_url: str | None
    credit_inr: Amount
    tax: TaxRow
    promo_code: str | None
    promo_credit_inr: Amount


class Paid(BaseModel):
    """What Razorpay's checkout hands to the browser when a payment went well."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "razorpay_order_id": ORDER_ID,
                "razorpay_payment_id": PAYMENT_ID,
                "razorpay_signature": "b2335e3b0801106b84a7faff035df56ecffde06918c9ddd1f0fafbb37a51cc89",
            }
        },
    )

    razorpay_order_id: str = Field(pattern=r"^order_[A-Za-z0-9]{1,40}$")
    razorpay_payment_id: str = Field(pattern=r"^pay_[A-Za-z0-9]{1,40}$")
    razorpay_signature: str = Field(max_length=200)


class Outcome(BaseModel):
    """`status` is that of the payment: `captured` is credited; `authorized` will be; `set_aside` did not fit its order,
    was not credited, and is looked at by a person. `promo_missed` says why a promo code was not redeemed."""

    order_id: str
    payment_id: str
    status: Literal["failed", "authorized", "captured", "set_aside", "pending"]
    credited: bool
    credit_inr: Amount
    promo_code: str | None
    promo_missed: str | None


class Attempt(BaseModel):
    """`reason` is why it failed or was set aside; `amount_inr` what was captured, or was set aside in `currency`, and
    `returned_inr` what of that has gone back."""

    payment_id: str
    status: str
    amount_inr: Amount | None
    returned_inr: Amount
    currency: str
    method: str | None
    reason: str | None
    paid_at: str | None
    changed_at: str


class OrderRow(BaseModel):
    order_id: str
    created_at: str
    status: Literal["created", "failed", "authorized", "captured"]
    credit_inr: Amount
    total_inr: Amount
    payment_id: str | None
    promo_code: str | None
    promo_credit_inr: Amount
    promo_missed: str | None
    payments: list[Attempt]


class Payments(BaseModel):
    orders: list[OrderRow]
    next_before: str | None


class PromoQuestion(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"promo_code": "DIWALI26", "amount_inr": 500}}
    )

    promo_code: str = Field(max_length=CODE_LENGTH_MAX)
    amount_inr: Rupees | None = Field(None, description="What is to be topped up, to learn what the code adds")


class PromoAnswer(BaseModel):
    """`promo_credit_inr` is what the code adds to a top-up of `amount_inr`; null for a percentage of nothing named.
    `credit_days` is how long that credit lives, null for ever; it comes with `bought_min_inr` of bought credit or
    more."""

    promo_code: str
    promo_credit_inr: Amount | None
    percent: int | None
    cap_inr: Amount | None
    ends_at: str | None
    credit_days: int | None
    bought_min_inr: Amount | None


def show_paise(paise: int) -> str:
    return show(paise * NANOS_PER_PAISA)


def tax_row(tax: Tax) -> dict[str, Any]:
    heads = {f"{head}_inr": show_paise(getattr(tax, head)) for head in HEADS}
    return {
        "percent": tax.percent,
        "taxable_inr": show_paise(tax.taxable),
        **heads,
        "total_inr": show_paise(tax.total),
    }


def top_up(ordered: TopUpOrdered, gateway: PaymentGateway, promo_credit: int) -> dict[str, Any]:
    return {
        "order_id": ordered.order,
        "amount_paise": ordered.tax.total,
        "currency": CURRENCY,
        "key_id": gateway.key_id,
        "checkout_script": gateway.checkout_script,
        "checkout_url": _hosted_page(gateway.checkout_script, ordered.order),
        "credit_inr": show(ordered.credit),
        "tax": tax_row(ordered.tax),
        "promo_code": ordered.promo or None,
        "promo_credit_inr": show(promo_credit),
    }


def _hosted_page(script: str, order: str) -> str | None:
    """Only the simulator has a page of its own for each order; at Razorpay itself the script opens it."""
    if script.startswith(RAZORPAY_SCRIPT):
        return None
    return f"{script.removesuffix('/v1/checkout.js')}/{order}"


def outcome(order: Order, *, order_id: str, payment_id: str) -> dict[str, Any]:
    assert order.ordered is not None
    status = order.attempts.get(payment_id, "pending")
    return {
        "order_id": order_id,
        "payment_id": payment_id,
        "status": status,
        "credited": order.captured == payment_id,
        "credit_inr": show(order.ordered.credit if order.captured == payment_id else 0),
        "promo_code": order.ordered.promo or None,
        "promo_missed": order.promo_missed or None,
    }


def order_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "order_id": row["id"],
        "created_at": moment(row["created_at"]),
        "status": row["status"],
        "credit_inr": show(row["credit"]),
        "total_inr": show_paise(row["total_paise"]),
        "payment_id": row["payment"],
        "promo_code": row["promo"] or None,
        "promo_credit_inr": show(row["promo_credit"]),
        "promo_missed": row["promo_missed"] or None,
        "payments": [_attempt(each) for each in row["payments"]],
    }


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "payment_id": row["id"],
        "status": row["status"],
        "amount_inr": None if row["amount_paise"] is None else show_paise(row["amount_paise"]),
        "returned_inr": show_paise(row["returned_paise"]),
        "currency": row["currency"],
        "method": row["method"] or None,
        "reason": row["reason"] or None,
        "paid_at": moment_optional(row["paid_at"]),
        "changed_at": moment(row["changed_at"]),
    }


def promo_answer(code: str, promo: Promo, credit: int | None) -> dict[str, Any]:
    assert promo.terms is not None
    return {
        "promo_code": code,
        "promo_credit_inr": show_optional(credit),
        "percent": promo.terms.percent,
        "cap_inr": show_optional(promo.terms.cap),
        "ends_at": moment_optional(promo.terms.ends),
        "credit_days": promo.terms.credit_days,
        "bought_min_inr": show_optional(promo.terms.bought_min),
    }


def set_aside_row(row: dict[str, Any]) -> dict[str, Any]:
    """Money that an operator has to send back, with whose it is, and the refund that is on its way."""
    return _attempt(row) | {
        "order_id": row["order_id"],
        "org": row["org"] or None,
        "gateway_refund_id": row["under_way"] or None,
    }


def returned_row(aside: Aside) -> dict[str, Any]:
    """How far a payment that was set aside has gone back."""
    return {
        "payment_id": aside.payment,
        "status": "returned" if aside.left_paise == 0 else "pending" if aside.under_way else "set_aside",
        "left_inr": show_paise(aside.left_paise),
        "currency": aside.currency,
        "gateway_refund_id": aside.under_way or None,
    }


def promo_row(row: dict[str, Any]) -> dict[str, Any]:
    """A promo code as its operator sees it."""
    return {
        "code": row["code"],
        "fixed_inr": show_optional(row["fixed"]),
        "percent": row["percent"],
        "cap_inr": show_optional(row["cap"]),
        "starts_at": moment_optional(row["starts_at"]),
        "ends_at": moment_optional(row["ends_at"]),
        "uses_max": row["uses_max"],
        "credit_days": row["credit_days"],
        "bought_min_inr": show_optional(row["bought_min"]),
        "created_at": moment(row["created_at"]),
        "disabled_at": moment_optional(row["disabled_at"]),
        "uses": row["uses"],
        "credit_inr": show(row["credit"]),
    }
