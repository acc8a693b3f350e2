"""The rules of admission, one by one; that the database follows them is shown beside its adapter."""

from dataclasses import replace

import pytest

from domain.accounts.events import OrgCreated, WorkspaceBudgetChanged, WorkspaceCreated
from domain.kernel.clock import ist_day, ist_month, next_ist_midnight, next_ist_month
from domain.kernel.events import Event
from domain.keys.events import KeyLimitsChanged, KeyMinted
from domain.ledger.events import CreditGranted, CreditHeld, HoldExtended
from domain.ledger.guards import Allowance, Balance, Denied, Guards, Hold, evolve, may_end, may_extend, may_hold
from tests.adapters.bookings import hold_of, release_of, settlement_of
from tests.given import NOON

TOMORROW, NEXT_MONTH = next_ist_midnight(NOON), next_ist_month(NOON)


def guards(
    *, credit: int = 100, budget: int | None = None, daily: int | None = None, shared: int | None = None
) -> Guards:
    minted = KeyMinted(
        org="o", workspace="w", name="k", prefix="p", digest="d", monthly_budget=budget, daily_limit=daily
    )
    facts: list[tuple[str, Event]] = [
        ("org:o", OrgCreated(name="O")),
        ("workspace:w", WorkspaceCreated(org="o", name="W", monthly_budget=shared)),
        ("key:k", minted),
    ]
    if credit:
        facts.append(("account:o", CreditGranted(org="o", grant="g", amount=credit, reason="r")))
    return after(Guards(), *facts)


def after(state: Guards, *facts: tuple[str, Event]) -> Guards:
    for stream, event in facts:
        evolve(state, stream, event)
    return state


def held(amount: int, *, at: int = NOON) -> CreditHeld:
    return hold_of(org="o", key="k", workspace="w", amount=amount, at=at, expires=at + 1)


def more(amount: int) -> HoldExtended:
    return HoldExtended(at=NOON, org="o", amount=amount, expires=NOON + 9)


def test_a_hold_may_take_the_last_nano_and_not_one_more() -> None:
    state = after(guards(credit=100), ("request:r", held(60)))
    assert may_hold(state, held(40)) is None
    assert may_hold(state, held(41)) == Denied("insufficient_credits", 40, 60)


@pytest.mark.parametrize(
    ("limits", "denied"),
    [
        ({"budget": 69}, Denied("key_budget", 69, 60)),
        ({"shared": 69}, Denied("workspace_budget", 69, 60)),
        ({"daily": 1}, Denied("daily", 1, 1)),
        ({"budget": 70, "shared": 70, "daily": 2}, None),
    ],
)
def test_a_limit_counts_what_is_held(limits: dict[str, int], denied: Denied | None) -> None:
    assert may_hold(after(guards(**limits), ("request:r", held(60))), held(10)) == denied


def test_a_limit_counts_what_is_used() -> None:
    state = after(guards(budget=69), ("request:r", held(60)), ("request:r", settlement_of(held(60), cost=60, at=NOON)))
    assert may_hold(state, held(9)) is None
    assert may_hold(state, held(10)) == Denied("key_budget", 69, 60)


def test_the_first_of_the_published_order_is_told() -> None:
    everything = {"credit": 0, "budget": 0, "daily": 0, "shared": 0}
    told = []
    for lifted in ("daily", "budget", "shared", "credit"):
        denied = may_hold(guards(**everything), held(1))
        assert denied is not None
        told.append(denied.code)
        everything[lifted] = 100
    assert told == ["daily", "key_budget", "workspace_budget", "insufficient_credits"]
    assert may_hold(guards(**everything), held(1)) is None


def test_nought_is_a_limit_and_none_is_not() -> None:
    assert may_hold(guards(budget=0), held(0)) is None
    assert may_hold(guards(daily=0), held(0)) == Denied("daily", 0, 0)
    assert may_hold(guards(budget=None, daily=None, shared=None), held(100)) is None


@pytest.mark.parametrize("missing", ["key", "workspace"])
def test_an_unknown_key_or_workspace_holds_nothing(missing: str) -> None:
    stranger = hold_of(**{"org": "o", "key": "k", "workspace": "w"} | {missing: "x"}, amount=1, at=NOON, expires=NOON)
    assert may_hold(guards(), stranger) == Denied("unknown")


def test_an_unknown_org_has_no_credit() -> None:
    stranger = hold_of(org="x", key="k", workspace="w", amount=0, at=NOON, expires=NOON)
    assert may_hold(guards(), stranger) == Denied("insufficient_credits")


def test_midnight_frees_the_days_calls_and_not_the_months_money() -> None:
    state = after(guards(daily=1, budget=10), ("request:r", held(6)))
    assert may_hold(state, held(4, at=TOMORROW - 1)) == Denied("daily", 1, 1)
    assert may_hold(state, held(4, at=TOMORROW)) is None
    assert may_hold(state, held(5, at=TOMORROW)) == Denied("key_budget", 10, 6)


def test_a_new_month_frees_the_budget_even_of_what_is_still_held() -> None:
    state = after(guards(budget=10), ("request:r", held(10)))
    assert may_hold(state, held(1, at=NEXT_MONTH - 1)) == Denied("key_budget", 10, 10)
    assert may_hold(state, held(10, at=NEXT_MONTH)) is None


@pytest.mark.parametrize("later", [TOMORROW, NEXT_MONTH])
def test_a_moment_before_the_last_seen_day_is_another_period(later: int) -> None:
    state = after(guards(), ("request:r", held(1, at=later)))
    assert may_hold(state, held(1, at=later - 1)) == Denied("period")


def test_an_old_hold_that_ends_leaves_the_new_month_alone() -> None:
    state = after(
        guards(budget=10),
        ("request:old", held(9)),
        ("request:new", held(4, at=NEXT_MONTH)),
        ("request:old", settlement_of(held(9), cost=9, at=NEXT_MONTH)),
    )
    expected = Allowance(budget=10, month=ist_month(NEXT_MONTH), used=0, held=4, day=ist_day(NEXT_MONTH), calls=1)
    assert state.allowances["k"] == expected
    assert state.allowances["w"] == replace(expected, budget=None)
    assert state.balances["o"] == Balance(available=87, held=4, spent=9)


def test_an_extension_needs_what_a_hold_needs() -> None:
    assert may_extend(after(guards(budget=10), ("request:r", held(8))), "r", 2) is None
    assert may_extend(after(guards(budget=10), ("request:r", held(8))), "r", 3) == Denied("key_budget", 10, 8)
    assert may_extend(after(guards(shared=10), ("request:r", held(8))), "r", 3) == Denied("workspace_budget", 10, 8)
    assert may_extend(after(guards(credit=10), ("request:r", held(8))), "r", 3) == Denied("insufficient_credits", 2, 8)
    assert may_extend(guards(), "r", 0) == Denied("ended")


def test_a_running_request_renews_its_deadline_though_its_budget_was_cut() -> None:
    cut = KeyLimitsChanged(org="o", monthly_budget=1)
    state = after(guards(), ("request:r", held(8)), ("key:k", cut))
    assert may_extend(state, "r", 0) is None
    assert may_extend(state, "r", 1) == Denied("key_budget", 1, 8)
    assert may_hold(state, held(0)) == Denied("key_budget", 1, 8)


def test_an_extension_of_last_months_hold_asks_the_balance_alone() -> None:
    state = after(guards(budget=10), ("request:r", held(10)), ("request:n", held(10, at=NEXT_MONTH)))
    assert may_extend(state, "r", 80) is None
    assert may_extend(state, "r", 81) == Denied("insufficient_credits", 80, 20)
    assert after(state, ("request:r", more(80))).allowances["k"].held == 10


def test_an_extension_grows_the_hold_and_moves_its_deadline() -> None:
    state = after(guards(), ("request:r", held(8)), ("request:r", more(5)))
    assert state.holds["r"] == Hold("o", "k", "w", ist_month(NOON), amount=13, expires=NOON + 9, version=2)
    assert state.balances["o"] == Balance(available=87, held=13)
    assert state.allowances["k"].held == state.allowances["w"].held == 13
    assert state.allowances["k"].calls == 1


def test_a_request_ends_once_within_its_hold_and_with_the_truth_about_it() -> None:
    state = after(guards(), ("request:r", held(8)))
    assert may_end(state, "r", 8, held=8) is None
    assert may_end(state, "r", 9, held=8) == Denied("over", 8, 9)
    assert may_end(state, "r", -1, held=8) == Denied("over", 8, -1)
    assert may_end(state, "r", 5, held=7) == Denied("held", 8, 5)
    assert may_end(after(state, ("request:r", release_of(held(8), at=NOON))), "r", 0, held=8) == Denied(
        "ended", None, 0
    )


def test_what_ends_gives_back_what_it_did_not_cost() -> None:
    state = after(guards(), ("request:r", held(8)), ("request:r", settlement_of(held(8), cost=3, at=NOON)))
    assert state.balances["o"] == Balance(available=97, held=0, spent=3)
    assert (state.allowances["k"].used, state.allowances["k"].held) == (3, 0)
    assert state.holds == {}


@pytest.mark.parametrize(
    "impossible",
    [
        ("request:n", held(93)),
        ("request:r", more(93)),
        ("request:r", settlement_of(held(8), cost=9, at=NOON)),
        ("request:r", settlement_of(held(9), cost=9, at=NOON)),
        ("request:r", release_of(held(7), at=NOON)),
    ],
)
def test_a_history_that_breaks_a_promise_is_no_history(impossible: tuple[str, Event]) -> None:
    state = after(guards(), ("request:r", held(8)))
    with pytest.raises(AssertionError):
        evolve(state, *impossible)


def test_limits_are_those_that_were_set_last() -> None:
    state = after(
        guards(),
        ("workspace:w", WorkspaceBudgetChanged(org="o", monthly_budget=5)),
        ("key:k", KeyLimitsChanged(org="o", monthly_budget=7, daily_limit=9)),
    )
    assert state.allowances == {"w": Allowance(budget=5), "k": Allowance(budget=7, daily=9)}
    state = after(state, ("key:k", KeyLimitsChanged(org="o")))
    assert state.allowances["k"] == Allowance()
