"""An org's money."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.caller import FullCaller, Services
from api.errors import documented
from api.schemas.billing import Billing, money_event
from api.schemas.money import show
from api.schemas.times import moment, read_moment
from domain.kernel.errors import Invalid
from domain.ledger.events import CreditGranted
from projections.balances import balance_as_of, balance_of

router = APIRouter(tags=["Billing"])

NOTHING = {"granted": 0, "spent": 0, "held": 0, "available": 0}


@router.get(
    "/me/billing",
    response_model=Billing,
    responses=documented("no_session", "invalid_api_key", "forbidden_scope", "invalid_range", "ledger_unavailable"),
)
def show_billing(
    caller: FullCaller,
    app: Services,
    as_of: Annotated[
        str | None, Query(description="A moment, or the end of a day (India time); now unless given")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """Balance, held and available, and what came in, newest first: now, or as it was at a past moment."""
    now = app.clock()
    at = now if as_of is None else min(read_moment(as_of, param="as_of"), now)
    came_in = [
        fact
        for fact in app.log.stream(f"account:{caller.org}")
        if isinstance(fact.event, CreditGranted) and fact.event.at <= at
    ]
    if before is not None:
        came_in = [fact for fact in came_in if fact.version < _version(before)]
    page = came_in[-limit:][::-1]
    with app.reading() as connection:
        if as_of is None:
            balance: dict[str, Any] = balance_of(connection, caller.org) or NOTHING
        else:
            balance = balance_as_of(connection, caller.org, at=at)
        events = [money_event(fact, _balance(balance_as_of(connection, caller.org, at=fact.event.at))) for fact in page]
    return {
        "as_of": moment(at),
        "balance_inr": show(_balance(balance)),
        "held_inr": show(balance["held"]),
        "available_inr": show(balance["available"]),
        "events": events,
        "next_before": str(page[-1].version) if len(page) < len(came_in) else None,
    }


def _balance(row: dict[str, int]) -> int:
    return row["granted"] - row["spent"]


def _version(before: str) -> int:
    if not before.isascii() or not before.isdigit() or len(before) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(before)
