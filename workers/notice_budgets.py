"""Puts on record that a monthly budget is used to 80 and to 100 %, once each; whoever wants to be told hears of it by
webhook."""

from collections.abc import Mapping
from typing import Any

from adapters.wiring import App
from domain.kernel.clock import ist_month
from domain.webhooks.budgets import PERCENTS, notice_budget, percent_of
from domain.webhooks.events import BudgetReached
from projections.webhooks import budgets_running_out
from workers.each import each
from workers.jobs import Job


def run(app: App) -> int:
    """Looks at every budget of the month that runs out; answers how many there was something to say of."""
    at = app.clock()
    with app.reading() as connection:
        rows = budgets_running_out(connection, now=at, percent=min(PERCENTS) - 1)
    return each(rows, lambda row: _notice(app, row, at=at), named=lambda row: f"the notice of {row['scope']}'s budget")


def _notice(app: App, row: Mapping[str, Any], *, at: int) -> bool:
    percent = percent_of(used=row["used"], budget=row["budget"])
    if percent <= row["told"]:
        return False
    reached = BudgetReached(
        owner=row["org"],
        scope=row["scope"],
        name=row["name"],
        month=ist_month(at),
        percent=percent,
        used=row["used"],
        budget=row["budget"],
    )
    return notice_budget(app.store, reached, at=at, by="worker:notice_budgets")


JOB = Job("notice_budgets", 30, run)
