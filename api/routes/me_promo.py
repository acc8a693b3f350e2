"""Promo codes, before anything is paid."""

from fastapi import APIRouter

from api.caller import WHO, OwnerActor, Services
from api.errors import documented
from api.schemas.payments import PromoAnswer, PromoQuestion, promo_answer
from domain.kernel.errors import Invalid
from domain.payments.promo import check_promo, clean_code

router = APIRouter(tags=["Billing"])


@router.post(
    "/me/billing/promo/check",
    response_model=PromoAnswer,
    responses=documented(
        *WHO,
        "provider_not_configured",
        "invalid_request",
        "invalid_amount",
        "promo_invalid",
        "promo_redeemed",
    ),
)
def show_promo(asked: PromoQuestion, caller: OwnerActor, app: Services) -> object:
    """Says what a promo code would add. Nothing is reserved: it is redeemed when a payment that was ordered with it is
    captured, if it still can be."""
    code = clean_code(asked.promo_code)
    if asked.amount_inr is not None and asked.amount_inr <= 0:
        raise Invalid("invalid_amount", "Give the amount that is to be topped up.", param="amount_inr")
    bought = None if asked.amount_inr is None else app.till.credit_of(asked.amount_inr)
    promo = check_promo(app.store, org=caller.org, code=code, bought=bought, at=app.clock())
    assert promo.terms is not None
    return promo_answer(code, promo, promo.terms.fixed if bought is None else promo.credit(bought))
