"""Topping up: an order, the browser's word that it was paid, and what became of orders."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.caller import WHO, MemberActor, OwnerActor, Services
from api.errors import documented
from api.schemas.payments import NewTopUp, Outcome, Paid, Payments, TopUp, order_row, outcome, top_up
from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.money import NANOS_PER_RUPEE
from domain.payments.promo import clean_code
from projections.payments import open_orders_of, orders_of

router = APIRouter(tags=["Billing"])
GATEWAY = ("payments_unavailable", "provider_not_configured", "payment_refused")


@router.post(
    "/me/billing/topup",
    status_code=201,
    response_model=TopUp,
    responses=documented(
        *WHO,
        *GATEWAY,
        "invalid_request",
        "invalid_amount",
        "billing_address_required",
        "promo_invalid",
        "promo_redeemed",
        "too_many_orders",
    ),
)
def order_top_up(wanted: NewTopUp, caller: OwnerActor, app: Services) -> object:
    """Orders a top-up, to be paid in Razorpay's checkout. GST is shown before anything is paid; the credit is exact to
    the paisa. A promo code is redeemed when the payment is captured."""
    till = app.till
    if wanted.amount_inr % NANOS_PER_RUPEE:
        raise Invalid("invalid_amount", "Top up with whole rupees.", param="amount_inr")
    with app.reading() as connection:
        waiting = open_orders_of(connection, caller.org, created_after=app.clock() - DAY)
    if waiting >= app.settings.open_orders_max:
        raise Conflict(
            "too_many_orders",
            f"{waiting} top-ups of the last 24 hours are not paid: pay one of GET /me/billing/payments, or wait.",
        )
    ordered, promo_credit = till.order(
        org=caller.org,
        profile=app.billing_profile(caller.org),
        rupees=wanted.amount_inr // NANOS_PER_RUPEE,
        promo="" if wanted.promo_code is None else clean_code(wanted.promo_code),
        receipt=app.new_id("topup"),
        at=app.clock(),
        by=caller.by,
    )
    return top_up(ordered, till.gateway, promo_credit)


@router.post(
    "/me/billing/verify",
    response_model=Outcome,
    responses=documented(*WHO, *GATEWAY, "invalid_request", "invalid_signature", "not_found"),
)
def verify_payment(paid: Paid, caller: OwnerActor, app: Services) -> object:
    """Takes what the checkout handed to the browser, and credits the payment if Razorpay confirms it. It may be called
    again, and need not be called: the payment is credited once, by whichever way it is heard of."""
    till = app.till
    order_id, payment_id = paid.razorpay_order_id, paid.razorpay_payment_id
    order = till.find(order_id)
    if order.ordered is None or order.org != caller.org:
        raise NotFound("not_found", "No such order; list yours with GET /me/billing/payments.")
    if not till.gateway.checkout_is_signed(order=order_id, payment=payment_id, signature=paid.razorpay_signature):
        raise Invalid(
            "invalid_signature",
            "The signature does not fit order and payment; send all three fields as the checkout gave them.",
            param="razorpay_signature",
        )
    if not order.is_settled(payment_id):
        payment = till.gateway.payment(payment_id)
        if payment.order != order_id:
            raise Invalid("invalid_signature", "The payment belongs to another order.", param="razorpay_payment_id")
        order = till.take(payment, learned="handler", at=app.clock(), by=caller.by)
    return outcome(order, order_id=order_id, payment_id=payment_id)


@router.get("/me/billing/payments", response_model=Payments, responses=documented(*WHO, "invalid_request"))
def list_payments(
    caller: MemberActor,
    app: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """Orders, newest first, each with every attempt at paying it and what was credited."""
    with app.reading() as connection:
        rows = orders_of(connection, caller.org, limit=limit, before=None if before is None else _place(before))
    last = rows[-1] if len(rows) == limit else None
    return {
        "orders": [order_row(row) for row in rows],
        "next_before": None if last is None else f"{last['created_at']}-{last['id']}",
    }


def _place(before: str) -> tuple[int, str]:
    at, _, order = before.partition("-")
    if not (before.isascii() and before.isprintable() and at.isdigit()) or len(at) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(at), order
