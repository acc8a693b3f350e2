"""Money as an org sees it: what there is, and what came in."""

from typing import Any

from pydantic import BaseModel

from api.schemas.money import Amount, show
from api.schemas.times import moment
from domain.kernel.events import Recorded
from domain.ledger.events import CreditGranted


class MoneyEvent(BaseModel):
    id: str
    at: str
    type: str
    amount_inr: Amount
    balance_after_inr: Amount
    note: str


class Billing(BaseModel):
    """`balance_inr` is what was credited less what was debited; of it `held_inr` waits for calls in flight, and
    `available_inr` is the rest. `events` are newest first."""

    as_of: str
    balance_inr: Amount
    held_inr: Amount
    available_inr: Amount
    events: list[MoneyEvent]
    next_before: str | None


def money_event(fact: Recorded, balance_after: int) -> dict[str, Any]:
    event = fact.event
    assert isinstance(event, CreditGranted)
    return {
        "id": f"{fact.stream}/{fact.version}",
        "at": moment(event.at),
        "type": "adjustment",
        "amount_inr": show(event.amount),
        "balance_after_inr": show(balance_after),
        "note": event.reason,
    }
