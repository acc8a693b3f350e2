"""A no of the ledger comes with the numbers behind it and with what to do next."""

import pytest

from domain.kernel.clock import SECOND, next_ist_midnight, next_ist_month
from domain.kernel.errors import Conflict, OutOfCredit, Refusal, TooMany, Unavailable
from domain.kernel.money import rupees
from domain.ledger.guards import Denied
from domain.ledger.refusals import MONEY_CODES, refusal_of, room_nanos
from tests.given import NOON


@pytest.mark.parametrize(
    ("denied", "family", "code"),
    [
        (Denied("insufficient_credits", 5, 6), OutOfCredit, "insufficient_credits"),
        (Denied("insufficient_credits"), OutOfCredit, "insufficient_credits"),
        (Denied("key_budget", 5, 6), TooMany, "budget_exceeded"),
        (Denied("workspace_budget", 5, 6), TooMany, "budget_exceeded"),
        (Denied("daily", 5, 5), TooMany, "daily_limit_reached"),
        (Denied("duplicate"), Conflict, "idempotency_conflict"),
        (Denied("period"), Unavailable, "ledger_unavailable"),
        (Denied("unknown"), Unavailable, "ledger_unavailable"),
    ],
)
def test_each_no_has_its_family_and_code(denied: Denied, family: type[Refusal], code: str) -> None:
    refusal = refusal_of(denied, needed=1, at=NOON)
    assert type(refusal) is family
    assert refusal.code == code


def test_money_is_shown_as_it_is() -> None:
    message = refusal_of(Denied("insufficient_credits", rupees(2), rupees(3) + 1), needed=rupees(7), at=NOON).message
    for number in ("₹7 held", "₹2 is available", "₹3.000000001 is held"):
        assert number in message


@pytest.mark.parametrize(("code", "owner"), [("key_budget", "key's"), ("workspace_budget", "workspace's")])
def test_a_budget_says_whose_it_is(code: str, owner: str) -> None:
    message = refusal_of(Denied(code, rupees(10), rupees(9)), needed=rupees(2), at=NOON).message
    for number in (owner, "budget is ₹10", "₹9 is used or held", "needs ₹2"):
        assert number in message


@pytest.mark.parametrize(("code", "free"), [("daily", next_ist_midnight(NOON)), ("key_budget", next_ist_month(NOON))])
def test_who_comes_back_when_told_is_in_the_next_period(code: str, free: int) -> None:
    for at in (NOON, free - 1, free - SECOND):
        wait = refusal_of(Denied(code, 1, 1), needed=1, at=at).retry_after
        assert wait is not None
        assert free <= at + wait * SECOND <= free + SECOND


@pytest.mark.parametrize(
    ("denied", "room"),
    [
        (Denied("insufficient_credits", 5, 60), 5),
        (Denied("insufficient_credits"), 0),
        (Denied("key_budget", 50, 20), 30),
        (Denied("workspace_budget", 50, 60), 0),
        (Denied("workspace_budget", 50), 50),
    ],
)
def test_the_room_that_is_left_is_that_of_the_limit_that_said_no(denied: Denied, room: int) -> None:
    assert room_nanos(denied) == room
    assert denied.code in MONEY_CODES
