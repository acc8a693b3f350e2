"""Unspent credit back to where it was paid from."""

from typing import Annotated

from fastapi import APIRouter, Header, Query

from api.caller import WHO, MemberActor, OwnerActor, Services
from api.errors import documented
from api.schemas.refunds import NewRefund, RefundList, RefundRow, refund_row
from domain.kernel.errors import Invalid, NotFound, Unavailable
from domain.payments.refunds import refund_id
from projections.refunds import refund_of, refunds_of

router = APIRouter(tags=["Billing"])


@router.post(
    "/me/billing/refunds",
    status_code=201,
    response_model=RefundRow,
    responses=documented(
        *WHO,
        "invalid_request",
        "invalid_amount",
        "refund_too_large",
        "not_found",
        "nothing_to_refund",
        "refund_under_way",
        "too_many_refunds",
        "idempotency_conflict",
        "provider_not_configured",
    ),
)
def ask_for_refund(
    wanted: NewRefund,
    caller: OwnerActor,
    app: Services,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="A repeat with the same key is the same refund")
    ] = None,
) -> object:
    """Sends unspent credit of a payment, with its tax, back to where it was paid from.

    The credit is withheld at once and cannot be spent meanwhile; if the refund fails it comes back. Promo credit that
    came with the payment goes with the money, and what was spent of it is kept from it. The money arrives within days,
    as the payer's bank works.
    """
    refund = refund_id(caller.org, idempotency_key) if idempotency_key else app.new_id("refund")
    desk = app.refunds
    asked = desk.request(
        org=caller.org,
        refund=refund,
        payment=wanted.payment_id,
        credit=wanted.amount_inr,
        reason=wanted.reason,
        at=app.clock(),
        by=caller.by,
    )
    try:
        desk.pursue(asked.order, at=app.clock(), by=caller.by)
    except Unavailable:  # it is on record, and a job goes on with it
        return refund_row(asked, app.vault)
    return refund_row(desk.find(asked.order).refunds[refund], app.vault)


@router.get("/me/billing/refunds", response_model=RefundList, responses=documented(*WHO, "invalid_request"))
def list_refunds(
    caller: MemberActor,
    app: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """The org's refunds, newest first."""
    with app.reading() as connection:
        page = refunds_of(connection, caller.org, before=_position(before), limit=limit + 1)
    return {
        "object": "list",
        "data": [refund_row(refund, app.vault) for _, refund in page[:limit]],
        "next_before": str(page[limit - 1][0]) if len(page) > limit else None,
    }


@router.get("/me/billing/refunds/{id}", response_model=RefundRow, responses=documented(*WHO, "not_found"))
def show_refund(id: str, caller: MemberActor, app: Services) -> object:
    """One refund, and how far it has come."""
    with app.reading() as connection:
        refund = refund_of(connection, caller.org, id)
    if refund is None:
        raise NotFound("not_found", "No such refund; list yours with GET /me/billing/refunds.", param="id")
    return refund_row(refund, app.vault)


def _position(before: str | None) -> int | None:
    if before is None:
        return None
    if not before.isascii() or not before.isdigit() or len(before) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(before)
