"""An org's money."""

from typing import Annotated

from fastapi import APIRouter, Query

from adapters.wiring import App
from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.billing import Billing, credit_lot, money_event
from api.schemas.money import show, show_optional
from api.schemas.times import moment, read_moment
from domain.kernel.errors import Invalid
from domain.kernel.events import Recorded
from domain.kernel.store import fold_recorded
from domain.ledger.account import Lot, account_when
from domain.payments.billing import BillingProfile, billing_stream
from projections.balances import balance_as_of, balance_of, money_events, snapshot

router = APIRouter(tags=["Billing"])

NOTHING = {"balance": 0, "held": 0, "withheld": 0, "available": 0, "spent": 0, "position": 0}


@router.get(
    "/me/billing",
    response_model=Billing,
    response_model_exclude_unset=True,
    responses=documented(*WHO, "invalid_range", "invalid_request"),
)
def show_billing(
    caller: MemberActor,
    app: Services,
    as_of: Annotated[
        str | None, Query(description="A moment, or the end of a day (India time); now unless given")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """What there is, in which lots, and what came and went other than for calls, newest first: now, or as it was at a
    past moment."""
    now = app.clock()
    at = now if as_of is None else min(read_moment(as_of, param="as_of"), now)
    place = None if before is None else _place(before)
    with app.reading() as connection, snapshot(connection):
        if as_of is None:
            balance = balance_of(connection, caller.org) or NOTHING
        else:
            balance = balance_as_of(connection, caller.org, at=at)
        events = money_events(connection, caller.org, at=at, limit=limit + 1, before=place)
    page = events[:limit]
    told = (fact for fact in app.log.stream(billing_stream(caller.org)) if fact.event.at <= at)
    profile = fold_recorded(BillingProfile(), told)
    return {
        "as_of": moment(at),
        "balance_inr": show(balance["balance"]),
        "held_inr": show(balance["held"]),
        "withheld_inr": show(balance["withheld"]),
        "available_inr": show(balance["available"]),
        "low_balance_threshold_inr": show_optional(profile.threshold),
        "lots": [credit_lot(lot) for lot in _lots(app, caller.org, balance, at=at)],
        "events": [money_event(row) for row in page],
        "next_before": str(page[-1]["id"]) if len(page) < len(events) else None,
    }


def _lots(app: App, org: str, balance: dict[str, int], *, at: int) -> list[Lot]:
    """The lots that make up what is available and held: by the facts that the balance knows, or those of a moment."""
    facts = app.log.stream(f"account:{org}")

    def known(fact: Recorded) -> bool:
        return fact.position <= balance["position"] if "position" in balance else fact.event.at <= at

    last = max((number for number, fact in enumerate(facts, 1) if known(fact)), default=0)
    return account_when(facts[:last], spent=balance["spent"]).in_order_of_spending()


def _place(before: str) -> int:
    if not before.isascii() or not before.isdigit() or len(before) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(before)
