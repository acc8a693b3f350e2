"""What each fact of the control path does to the guards, in the transaction that appends it.

The ledger's own facts (holds and their endings) reach the guards through `ledger_commit` alone. The rules are those of
`domain.ledger.guards.evolve`, by which `verify` recomputes every row.
"""

from collections.abc import Callable, Collection
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from domain.accounts.events import OrgCreated, WorkspaceBudgetChanged, WorkspaceCreated
from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.kernel.money import Balance
from domain.keys.events import EphemeralKeyMinted, KeyLimitsChanged, KeyMinted, TrialBegan
from domain.keys.trial import trial_stream
from domain.ledger.events import CreditAdded, CreditExpired, CreditGranted, CreditReturned, CreditWithheld

NEW_ALLOWANCE = "insert into allowance (scope, budget, daily) values (%s, %s, %s)"

Effect = tuple[str, Callable[[str, Any], tuple[object, ...]]]

MORE_AVAILABLE: Effect = (
    "update balance set available = available + %s where org = %s",
    lambda org, fact: (fact.amount, fact.org),
)
LESS_AVAILABLE: Effect = (
    "update balance set available = available - %s where org = %s",
    lambda org, fact: (fact.amount, fact.org),
)
EFFECTS: dict[type[Event], Effect] = {
    OrgCreated: ("insert into balance (org, available) values (%s, 0)", lambda org, fact: (org,)),
    CreditGranted: MORE_AVAILABLE,
    CreditAdded: MORE_AVAILABLE,
    CreditReturned: MORE_AVAILABLE,
    CreditExpired: LESS_AVAILABLE,
    CreditWithheld: LESS_AVAILABLE,
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
    EphemeralKeyMinted: (
        "insert into allowance (scope, budget) select %s, b from (values (%s::bigint)) v (b) where b is not null",
        lambda key, fact: (key, fact.budget),
    ),
    TrialBegan: (NEW_ALLOWANCE, lambda org, fact: (trial_stream(org), None, fact.daily_limit)),
}


def effect(stream: str, event: Event) -> tuple[str, tuple[object, ...]] | None:
    """The statement and its parameters, or None for a fact that touches no guard."""
    if type(event) not in EFFECTS:
        return None
    statement, parameters = EFFECTS[type(event)]
    return statement, parameters(stream.partition(":")[2], event)


def spent_of(connection: psycopg.Connection[Any], scope: str) -> int:
    """Nano-rupees that an allowance which is for good has used or holds; 0 for one that there is not."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select used + held from allowance where scope = %s", [scope]).fetchone()
    return int(row[0]) if row else 0


def forget_allowances(connection: psycopg.Connection[Any], *, below: str) -> int:
    """Deletes the allowances of ephemeral keys whose id is below, unless something is still held; how many. They have
    ended, so nothing will be asked of them: `verify` knows that they may be gone."""
    forgotten = 0
    while batch := connection.execute(
        "delete from allowance where held = 0 and scope in (select scope from allowance"
        " where scope >= 'eph_' and scope < %s and held = 0 limit 10000)",
        [below],
    ).rowcount:
        forgotten += batch
    return forgotten


def calls_of(connection: psycopg.Connection[Any], scope: str, *, day: int) -> int:
    """The calls that count against an allowance on that day of India time; 0 for one that there is not."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select calls from allowance where scope = %s and day = %s", [scope, day]).fetchone()
    return int(row[0]) if row else 0


def with_credit(connection: psycopg.Connection[Any], orgs: Collection[str]) -> set[str]:
    """Those of the orgs that have anything to spend."""
    rows = connection.execute("select org from balance where org = any(%s) and available > 0", [list(orgs)])
    return {org for (org,) in rows}


def balance(connection: psycopg.Connection[Any], org: str) -> Balance:
    """The org's balance as it decides, in nano-rupees. Raises NotFound."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select available, held, spent from balance where org = %s", [org]).fetchone()
    if row is None:
        raise NotFound("not_found", "No such org.", param="org")
    return Balance(*row)
