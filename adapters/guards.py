"""What each fact of the control path does to the guards, in the transaction that appends it.

The ledger's own facts (holds and their endings) reach the guards through `ledger_commit` alone. The rules are those of
`domain.ledger.guards.evolve`, by which `verify` recomputes every row.
"""

from collections.abc import Callable
from typing import Any

import psycopg

from domain.accounts.events import OrgCreated, WorkspaceBudgetChanged, WorkspaceCreated
from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.keys.events import KeyLimitsChanged, KeyMinted
from domain.ledger.events import CreditGranted

NEW_ALLOWANCE = "insert into allowance (scope, budget, daily) values (%s, %s, %s)"

EFFECTS: dict[type[Event], tuple[str, Callable[[str, Any], tuple[object, ...]]]] = {
    OrgCreated: ("insert into balance (org, available) values (%s, 0)", lambda org, fact: (org,)),
    CreditGranted: (
        "update balance set available = available + %s where org = %s",
        lambda org, fact: (fact.amount, fact.org),
    ),
    WorkspaceCreated: (NEW_ALLOWANCE, lambda workspace, fact: (workspace, fact.monthly_budget, None)),
    WorkspaceBudgetChanged: (
        "update allowance set budget = %s where scope = %s",
        lambda workspace, fact: (fact.monthly_budget, workspace),
    ),
    KeyMinted: (NEW_ALLOWANCE, lambda key, fact: (key, fact.monthly_budget, fact.daily_limit)),
    KeyLimitsChanged: (
        "update allowance set budget = %s, daily = %s where scope = %s",
        lambda key, fact: (fact.monthly_budget, fact.daily_limit, key),
    ),
}


def effect(stream: str, event: Event) -> tuple[str, tuple[object, ...]] | None:
    """The statement and its parameters, or None for a fact that touches no guard."""
    if type(event) not in EFFECTS:
        return None
    statement, parameters = EFFECTS[type(event)]
    return statement, parameters(stream.partition(":")[2], event)


def available(connection: psycopg.Connection[Any], org: str) -> int:
    """Nano-rupees that can still be held for the org. Raises NotFound."""
    row = connection.execute("select available from balance where org = %s", [org]).fetchone()
    if row is None:
        raise NotFound("not_found", "No such org.", param="org")
    return int(row[0])
