"""What a payer sees: Razorpay's script with `window.Razorpay`, and the page where a person pays with test data.

Test data: razorpay.com/docs/payments/payments/test-card-details and test-upi-details.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from adapters.simulators.razorpay.book import Book, Json, Outcome
from adapters.simulators.razorpay.refusals import TEST_CARDS, Refused

SCRIPT = Path(__file__).with_name("checkout.js")
PAGE = Path(__file__).with_name("checkout.html")

_OTP = re.compile(r"\d{4,10}")


class Form(msgspec.Struct, kw_only=True):
    """What the page sends when the payer pays."""

    method: str
    vpa: str = ""
    number: str = ""
    otp: str = ""
    bank: str = "HDFC"
    wallet: str = "payzapp"
    succeeds: bool = True
    email: str | None = None
    contact: str | None = None


def page(order: Json, *, key_id: str) -> str:
    """The page for this order, filled in."""
    facts = {name: order[name] for name in ("id", "amount", "currency", "receipt", "status")}
    filled = json.dumps(facts | {"key_id": key_id}).replace("<", "\\u003c")
    return PAGE.read_text().replace("{{order}}", filled)


def pay(book: Book, order: Json, form: Form) -> Json:
    """Plays the payment that the test data stand for, and answers its entity. Raises Refused for data that are none."""
    details: dict[str, Any] = {"method": form.method, "email": form.email, "contact": form.contact}
    reason: str | None = None
    match form.method:
        case "upi":
            if form.vpa not in ("success@razorpay", "failure@razorpay"):
                raise Refused("vpa")
            details["vpa"] = form.vpa
            reason = "payment_failed" if form.vpa.startswith("failure") else None
        case "card":
            number = form.number.replace(" ", "")
            if number not in TEST_CARDS:
                raise Refused("card")
            details["network"], reason = TEST_CARDS[number]
            details["number"] = number
            if reason is None and not _OTP.fullmatch(form.otp):
                reason = "authentication_failed"
        case "netbanking" | "wallet":
            details["bank"], details["wallet"] = form.bank, form.wallet
            reason = None if form.succeeds else "payment_failed"
        case _:
            raise Refused("method")
    outcome: Outcome = "failed"
    if reason is None:
        outcome = "captured" if book.captures_by_itself(order) else "authorized"
    return book.pay(order, amount=order["amount"], outcome=outcome, reason=reason or "", **details)


def failure(payment: Json) -> Json:
    """What the script hands to `payment.failed`."""
    metadata = {"payment_id": payment["id"], "order_id": payment["order_id"]}
    names = ("code", "description", "source", "step", "reason")
    return {"error": {name: payment[f"error_{name}"] for name in names} | {"metadata": metadata}}
