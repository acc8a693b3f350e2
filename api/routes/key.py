"""The calling key about itself."""

from fastapi import APIRouter

from api.caller import KeyCaller, Services
from api.errors import documented
from api.schemas.keys import OwnKey, ephemeral_row, key_row
from api.schemas.money import show, show_optional
from projections import balances, budgets, keys

router = APIRouter(tags=["Keys"])


@router.get("/v1/key", response_model=OwnKey, responses=documented("invalid_api_key", "ledger_unavailable"))
def show_own_key(caller: KeyCaller, app: Services) -> object:
    """The row of the calling key, and what it has left by each of its limits. An ephemeral key is shown with its own
    prefix, budget, limit and end; what is left is by the key that it spends by as well. The day of a trial is that of
    all trial keys of the org together."""
    org = app.directory.directory.orgs[caller.org]
    key, workspace = org.keys[caller.key_id], org.workspaces[caller.workspace]
    now = app.clock()
    with app.reading() as connection:
        row = keys.key_row(connection, caller.org, caller.key_id, now=now)
        of_key = budgets.budget_of(connection, key.id, now=now)
        of_workspace = budgets.budget_of(connection, workspace.id, now=now)
        balance = balances.balance_of(connection, caller.org)
    shown = key_row(org, key, row)
    left_of_key = _rest(key.monthly_budget, of_key)
    if (child := app.directory.directory.ephemeral(caller.digest)) is not None:
        shown |= ephemeral_row(child)
        if child.budget is not None:
            rest = max(child.budget - app.spent_of(child.id), 0)
            left_of_key = rest if left_of_key is None else min(rest, left_of_key)
    days = {key.id: key.daily_limit} | ({caller.allowance: org.trial.daily_limit} if caller.tier == "trial" else {})
    return shown | {
        "left": {
            "daily_calls": min(
                (max(limit - app.calls_today(of), 0) for of, limit in days.items() if limit is not None), default=None
            ),
            "monthly_budget_inr": show_optional(left_of_key),
            "workspace_budget_inr": show_optional(_rest(workspace.monthly_budget, of_workspace)),
            "balance_inr": show(balance["available"] if balance else 0),
        }
    }


def _rest(budget: int | None, spent: dict[str, int]) -> int | None:
    return None if budget is None else max(budget - spent["used"] - spent["held"], 0)
