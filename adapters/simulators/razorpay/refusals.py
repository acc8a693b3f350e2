"""How Razorpay says no: its envelope, and the table of its sentences and reasons (razorpay.com/docs/errors)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Row:
    description: str
    reason: str = "input_validation_failed"
    step: str = "payment_initiation"
    source: str = "business"
    field: str | None = None


_TABLE: Mapping[str, _Row] = {
    "wrong_key": _Row("Authentication failed", "NA", "NA", "NA"),
    "unknown_key": _Row("The api key provided is invalid", "NA", "NA", "NA"),
    "unknown_id": _Row("The id provided does not exist"),
    "unknown_url": _Row("The requested URL was not found on the server.", "NA", "NA", "NA"),
    "not_json": _Row("The body of the request is not a JSON object."),
    "missing": _Row("{name}: is required."),
    "extra": _Row("{name} is/are not required and should not be sent", "extra_field_sent"),
    "not_text": _Row("expected string but provided `{value}`"),
    "not_integer": _Row("The {name} must be an integer."),
    "not_boolean": _Row("The {name} field must be true or false."),
    "amount_small": _Row(
        "Order amount less than minimum amount allowed", "amount_less_than_minimum_amount", "order_creation"
    ),
    "refund_small": _Row("The amount must be at least INR 1.00."),
    "currency": _Row("Currency is not supported"),
    "receipt_long": _Row("The receipt may not be greater than 40 characters."),
    "receipt_taken": _Row("Order receipt should be unique."),
    "notes_many": _Row("Number of fields in notes should be less than or equal to 15"),
    "notes_long": _Row("notes.{name} may not be greater than 256 characters."),
    "notes_shape": _Row("notes must be an object of texts"),
    "expiry_short": _Row("The {name} must be at least 12."),
    "count_large": _Row("The count may not be greater than 100.", field="count"),
    "number_wrong": _Row("The {name} must be an integer of at least 0."),
    "capture_state": _Row("Only payments which have been authorized and not yet captured can be captured"),
    "captured_already": _Row("This payment has already been captured"),
    "capture_amount": _Row("Capture amount must be equal to the amount authorized"),
    "capture_orderless": _Row("A payment without an order cannot be captured"),
    "refund_state": _Row("The payment status should be captured for action to be taken"),
    "refund_large": _Row("The refund amount provided is greater than amount captured"),
    "refunded_already": _Row("The payment has been fully refunded already"),
    "refund_late": _Row("The payment is more than 6 months old and cannot be refunded"),
    "refund_key": _Row("The idempotency key must have 10 or more characters of A-Z, a-z, 0-9, - and _"),
    "refund_key_reused": _Row("Different request with the same idempotency key has already been processed."),
    "order_paid": _Row("Payment already done for this order."),
    "vpa": _Row("Invalid VPA. Enter a valid virtual payment address.", "invalid_vpa", source="customer"),
    "card": _Row("The card number is not one of the test cards.", "invalid_card_number", source="customer"),
    "method": _Row("The payment method is not enabled for the merchant"),
}


class Refused(Exception):
    """A request that Razorpay refuses, with the status and body that it answers."""

    def __init__(self, row_name: str, *, status: int = 400, **words: object) -> None:
        row = _TABLE[row_name]
        super().__init__(row_name)
        self.status = status
        self.error: dict[str, Any] = {
            "code": "BAD_REQUEST_ERROR",
            "description": row.description.format(**words),
            "source": row.source,
            "step": row.step,
            "reason": row.reason,
            "metadata": {},
        }
        if row.field:
            self.error["field"] = row.field


def fault(status: int) -> dict[str, Any]:
    """The body of an answer that a switch asked for."""
    code = {504: "GATEWAY_ERROR"}.get(status, "SERVER_ERROR" if status >= 500 else "BAD_REQUEST_ERROR")
    description = {
        409: "A request with the same idempotency key is in progress.",
        429: "Request failed: too many requests. Try again after a while.",
    }.get(status, "We are facing some trouble completing your request at the moment. Try again shortly.")
    error = {"code": code, "description": description, "source": "NA", "step": "NA", "reason": "NA", "metadata": {}}
    return {"error": error}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a payment fails: the `error_…` fields of its entity."""

    description: str
    reason: str
    source: str = "bank"
    step: str = "payment_authorization"
    code: str = "BAD_REQUEST_ERROR"


FAILURES: Mapping[str, Failure] = {
    failure.reason: failure
    for failure in (
        Failure("Payment failed: the bank declined it. Try another way to pay.", "payment_failed"),
        Failure("Payment was not completed in time.", "payment_timed_out", "customer", "payment_authentication"),
        Failure("The balance of the account is too low for this payment.", "insufficient_fund"),
        Failure("You cancelled the payment.", "payment_cancelled", "customer", "payment_authentication"),
        Failure("The bank declined the card.", "card_declined"),
        Failure(
            "The bank has a technical problem. Try again later.",
            "gateway_technical_error",
            "gateway",
            code="GATEWAY_ERROR",
        ),
        Failure("The OTP is not right.", "authentication_failed", "customer", "payment_authentication"),
    )
}

TEST_CARDS: Mapping[str, tuple[str, str | None]] = {
    "4100280000001007": ("Visa", None),
    "5500670000001002": ("MasterCard", None),
    "6527658900001005": ("RuPay", None),
    "4100280000090000": ("Visa", "payment_timed_out"),
    "4100280000080001": ("Visa", "insufficient_fund"),
    "4100280000070002": ("Visa", "payment_cancelled"),
    "4100280000060003": ("Visa", "card_declined"),
    "4100280000020007": ("Visa", "gateway_technical_error"),
    "4100280000000009": ("Visa", "authentication_failed"),
}
"""Number to network, and why it fails, if it does (razorpay.com/docs/payments/payments/test-card-details)."""
