"""Refunds as callers ask for them and see them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.money import Amount, Rupees, show
from api.schemas.times import moment, moment_optional
from domain.kernel.money import NANOS_PER_PAISA
from domain.kernel.seals import Seals
from domain.payments.refunds import Refund, reason_of


class NewRefund(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"payment_id": "pay_29QQoUBi66xm2f", "amount_inr": 250}}
    )

    payment_id: str
    amount_inr: Rupees | None = Field(None, description="Of credit, in whole paise; all that is unspent unless given")
    reason: str = ""


class RefundRow(BaseModel):
    """`credit_inr` leaves the balance, `refunded_inr` with its `tax_inr` goes back to the source of the payment.

    `status` is `pending` while the credit is withheld and the payment gateway works, then `processed` (the money has
    left us, and `document` is its refund voucher or credit note) or `failed` (the credit is back, `failure` says why).
    """

    id: str
    payment_id: str
    status: str
    credit_inr: Amount
    tax_inr: Amount
    refunded_inr: Amount
    reason: str
    gateway_refund_id: str | None
    bank_reference: str | None
    document: str | None
    failure: str | None
    requested_at: str
    ended_at: str | None


class RefundList(BaseModel):
    object: str = "list"
    data: list[RefundRow]
    next_before: str | None


def refund_row(refund: Refund, seals: Seals) -> dict[str, Any]:
    return {
        "id": refund.id,
        "payment_id": refund.payment,
        "status": "pending" if refund.is_open else refund.state,
        "credit_inr": show(refund.credit),
        "tax_inr": show(refund.tax.heads * NANOS_PER_PAISA),
        "refunded_inr": show(refund.tax.total * NANOS_PER_PAISA),
        "reason": reason_of(refund, seals),
        "gateway_refund_id": refund.gateway_refund or None,
        "bank_reference": refund.reference or None,
        "document": refund.document or None,
        "failure": refund.failure or None,
        "requested_at": moment(refund.requested),
        "ended_at": moment_optional(refund.ended),
    }
