"""At 80 and at 100 per cent, each once a month."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.webhooks.budgets import notice_budget, percent_of
from domain.webhooks.events import BudgetReached
from tests.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("used", "percent"),
    [(0, 0), (794, 0), (795, 80), (800, 80), (994, 80), (995, 100), (1_000, 100), (5_000, 100)],
)
def test_shares_are_whole_per_cent_rounded_half_up(used: int, percent: int) -> None:
    assert percent_of(used=used, budget=1_000) == percent


def test_a_budget_of_nothing_never_runs_out() -> None:
    assert percent_of(used=0, budget=0) == 0


@given(st.lists(st.tuples(st.sampled_from([202610, 202611, 202612]), st.sampled_from([80, 100])), max_size=12))
def test_no_share_is_told_twice_and_none_after_a_higher_one(asked: list[tuple[int, int]]) -> None:
    store = MemoryStore()
    told = [
        (month, percent)
        for month, percent in sorted(asked, key=lambda each: each[0])
        if notice_budget(
            store,
            BudgetReached(owner="o", scope="key_a", name="a", month=month, percent=percent, used=1, budget=1),
            at=1,
            by="t",
        )
    ]
    assert len(told) == len(set(told))
    for month in {month for month, _ in asked}:
        percents = [percent for each, percent in told if each == month]
        assert percents == sorted(percents)
        assert percents[-1] == max(percent for each, percent in asked if each == month)
