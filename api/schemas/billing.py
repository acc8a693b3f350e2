"""Money as an org sees it: what there is, in which lots, and what came and went other than for calls."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from api.schemas.money import Amount, show
from api.schemas.times import moment, moment_optional
from domain.ledger.account import Lot
from domain.ledger.credit import kind_of_grant


class MoneyEvent(BaseModel):
    """`amount_inr` is below zero for `expiry` and `refund` (chargebacks too); `balance_after_inr` is what was there
    after it, calls included. `payment_id` is there where a payment is behind it."""

    id: int
    at: str
    type: Literal["topup", "promo", "refund", "adjustment", "expiry"]
    amount_inr: Amount
    balance_after_inr: Amount
    payment_id: str = ""
    note: str


class CreditLot(BaseModel):
    """Credit that came in at once: `left_inr` of it is neither spent, expired nor withheld."""

    type: Literal["topup", "promo", "adjustment"]
    amount_inr: Amount
    left_inr: Amount
    added_at: str
    expires_at: str | None
    payment_id: str = ""
    note: str


class Billing(BaseModel):
    """`balance_inr` is what was credited less what was debited; of it `held_inr` waits for calls in flight,
    `withheld_inr` for refunds and chargebacks under way, and `available_inr` is the rest. Below
    `low_balance_threshold_inr` a mail is sent. `lots` are those with something left, in the order in which they are
    spent; `events` are newest first."""

    as_of: str
    balance_inr: Amount
    held_inr: Amount
    withheld_inr: Amount
    available_inr: Amount
    low_balance_threshold_inr: Amount | None
    lots: list[CreditLot]
    events: list[MoneyEvent]
    next_before: str | None


def money_event(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "id": row["id"],
        "at": moment(row["at"]),
        "type": row["type"],
        "amount_inr": show(row["amount"]),
        "balance_after_inr": show(row["balance"]),
        "note": row["note"],
    }
    return shown | ({"payment_id": row["payment"]} if row["payment"] else {})


def credit_lot(lot: Lot) -> dict[str, Any]:
    shown = {
        "type": "topup" if lot.paid else kind_of_grant(lot.id),
        "amount_inr": show(lot.amount),
        "left_inr": show(lot.left),
        "added_at": moment(lot.added),
        "expires_at": moment_optional(lot.expires),
        "note": "Top-up" if lot.paid else lot.reason,
    }
    return shown | ({"payment_id": lot.payment} if lot.payment else {})
