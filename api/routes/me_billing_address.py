"""Whom an org's tax documents are made out to, and when it hears that its credit runs low."""

from typing import Any

from fastapi import APIRouter, Depends

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, OwnerActor, Services, member
from api.errors import documented
from api.schemas.billing_address import (
    BillingAddress,
    LowBalance,
    LowBalanceRow,
    NewBillingAddress,
    PinHint,
    address_row,
)
from api.schemas.money import show_optional
from domain.kernel.errors import NotFound
from domain.payments.billing import (
    books_subject,
    buyer_text,
    check_buyer,
    read_buyer,
    set_billing_address,
    set_low_balance,
)
from domain.payments.document import Buyer
from domain.payments.states import STATES, check_pin, city_of_pin, states_of_pin

router = APIRouter(tags=["Billing"])


@router.get("/me/billing/address", response_model=BillingAddress, responses=documented(*WHO, "not_found"))
def show_address(caller: MemberActor, app: Services) -> object:
    """The billing address on record."""
    buyer = _buyer(app, caller.org)
    if buyer is None:
        raise NotFound("not_found", "There is no billing address yet; set one with PUT /me/billing/address.")
    return address_row(buyer)


@router.put(
    "/me/billing/address",
    response_model=BillingAddress,
    responses=documented(*WHO, "invalid_request", "invalid_gstin"),
)
def set_address(wanted: NewBillingAddress, caller: OwnerActor, app: Services) -> object:
    """Sets the billing address of documents to come; those that have been issued stay as they are.

    The State is the place of supply, and decides between CGST with SGST, and IGST, which a special economic zone always
    pays. A GSTIN must be of that State. A PIN code that looks like another State's is taken, with a hint in the answer.
    """
    buyer = check_buyer(wanted.buyer())
    if buyer != _buyer(app, caller.org):
        set_billing_address(
            app.store,
            org=caller.org,
            buyer=app.vault.seal(books_subject(caller.org), buyer_text(buyer)),
            state=buyer.state,
            registered=buyer.gstin is not None,
            special_zone=buyer.special_zone,
            at=app.clock(),
            by=caller.by,
        )
    return address_row(buyer)


@router.get(
    "/me/billing/pin/{pin}",
    response_model=PinHint,
    responses=documented(*WHO, "invalid_request"),
    dependencies=[Depends(member)],
)
def show_pin(pin: str) -> dict[str, Any]:
    """Suggests State and city for a PIN code: empty where its digits tell nothing."""
    checked = check_pin(pin)
    return {
        "pin": checked,
        "states": [{"code": code, "name": STATES[code].name} for code in states_of_pin(checked)],
        "city": city_of_pin(checked),
    }


@router.put(
    "/me/billing/low-balance",
    response_model=LowBalanceRow,
    responses=documented(*WHO, "invalid_request", "invalid_amount"),
)
def set_threshold(wanted: LowBalance, caller: AdminActor, app: Services) -> object:
    """Sends a mail, at most one a day, when less than this is available; null for none."""
    set_low_balance(
        app.store,
        org=caller.org,
        threshold=wanted.threshold_inr,
        at=app.clock(),
        by=caller.by,
    )
    return {"threshold_inr": show_optional(wanted.threshold_inr)}


def _buyer(app: App, org: str) -> Buyer | None:
    profile = app.billing_profile(org)
    text = app.vault.open(books_subject(org), profile.buyer) if profile.buyer else None
    return None if text is None else read_buyer(text)
