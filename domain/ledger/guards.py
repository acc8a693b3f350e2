"""The rules of admission, pure: what may be held, and what each fact of the log does to the guards.

This is the model of `migrations/0003_ledger_commit.sql`, which decides the same in the database: a property test drives
both, and `verify` folds the whole log through `evolve` and compares the result with the guard tables row by row.
"""

from dataclasses import dataclass, field

from domain.accounts.events import OrgCreated, WorkspaceBudgetChanged, WorkspaceCreated
from domain.kernel.clock import ist_day, ist_month
from domain.kernel.events import Event
from domain.kernel.money import Balance
from domain.keys.events import EphemeralKeyMinted, KeyLimitsChanged, KeyMinted, TrialBegan
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditReturned,
    CreditWithheld,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    RequestSettled,
)


@dataclass
class Allowance:
    """What a key or workspace may spend in a month (India time) and how often it may call in a day.

    `used` and `held` belong to `month` (yyyymm), `calls` to `day`; a hold of an earlier month no longer counts here.
    The further allowance of a hold is for good, without months: 0.
    """

    budget: int | None = None
    daily: int | None = None
    month: int = 0
    used: int = 0
    held: int = 0
    day: int = 0
    calls: int = 0

    def roll(self, *, month: int, day: int) -> None:
        if month > self.month:
            self.month, self.used, self.held = month, 0, 0
        if day > self.day:
            self.day, self.calls = day, 0


@dataclass
class Hold:
    org: str
    key: str
    workspace: str
    month: int
    amount: int
    expires: int
    version: int
    allowance: str | None = None

    @property
    def scopes(self) -> list[tuple[str, int]]:
        """The allowances that it counts against, each with its month."""
        return _scopes(self.key, self.workspace, self.allowance, self.month)


@dataclass
class Guards:
    """All balances, allowances and open holds, as the facts so far have made them."""

    balances: dict[str, Balance] = field(default_factory=dict)
    allowances: dict[str, Allowance] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)


@dataclass(frozen=True)
class Denied:
    """Why a hold or extension was not made: the code, the limit or what is available, and what is used or held."""

    code: str
    limit: int | None = None
    used: int | None = None


def may_hold(guards: Guards, held: CreditHeld) -> Denied | None:
    """None if the credit can be set aside; checks in the published order: daily, key, workspace, balance; what an
    ephemeral key or a trial allows comes before those."""
    this_month, day = ist_month(held.at), ist_day(held.at)
    for scope, month in _scopes(held.key, held.workspace, held.allowance, this_month):
        allowance = guards.allowances.get(scope)
        if allowance is None:
            return Denied("unknown")
        if allowance.month > month or allowance.day > day:
            return Denied("period")
        calls = allowance.calls if allowance.day == day else 0
        if allowance.daily is not None and calls + 1 > allowance.daily:
            return Denied("trial_daily" if scope == held.allowance else "daily", allowance.daily, calls)
        spent = allowance.used + allowance.held if allowance.month == month else 0
        if allowance.budget is not None and spent + held.amount > allowance.budget:
            return Denied(_budget_code(held, scope), allowance.budget, spent)
    balance = guards.balances.get(held.org)
    if balance is None:
        return Denied("insufficient_credits")
    if balance.available < held.amount:
        return Denied("insufficient_credits", balance.available, balance.held)
    return None


def may_extend(guards: Guards, request: str, amount: int) -> Denied | None:
    """None if the running request's hold can grow by `amount`; no budget stops 0, which only moves the deadline."""
    hold = guards.holds.get(request)
    if hold is None:
        return Denied("ended")
    for scope, month in hold.scopes:
        allowance = guards.allowances[scope]
        if allowance.month != month or allowance.budget is None or amount == 0:
            continue
        spent = allowance.used + allowance.held
        if spent + amount > allowance.budget:
            return Denied(_budget_code(hold, scope), allowance.budget, spent)
    balance = guards.balances[hold.org]
    if balance.available < amount:
        return Denied("insufficient_credits", balance.available, balance.held)
    return None


def may_end(guards: Guards, request: str, cost: int, *, held: int | None = None) -> Denied | None:
    """None if the request is still open, its hold covers the cost, and is what the ending believes to be `held`."""
    hold = guards.holds.get(request)
    if hold is None:
        return Denied("ended", None, cost)
    if not 0 <= cost <= hold.amount:
        return Denied("over", hold.amount, cost)
    return Denied("held", hold.amount, cost) if held not in (None, hold.amount) else None


def evolve(guards: Guards, stream: str, event: Event) -> None:
    """What a recorded fact does to the guards. Raises AssertionError if history breaks a promise."""
    match event:
        case OrgCreated():
            guards.balances[stream.removeprefix("org:")] = Balance()
        case WorkspaceCreated():
            guards.allowances[stream.removeprefix("workspace:")] = Allowance(budget=event.monthly_budget)
        case WorkspaceBudgetChanged():
            guards.allowances[stream.removeprefix("workspace:")].budget = event.monthly_budget
        case KeyMinted():
            guards.allowances[stream.removeprefix("key:")] = Allowance(
                budget=event.monthly_budget, daily=event.daily_limit
            )
        case KeyLimitsChanged():
            allowance = guards.allowances[stream.removeprefix("key:")]
            allowance.budget, allowance.daily = event.monthly_budget, event.daily_limit
        case EphemeralKeyMinted() if event.budget is not None:
            guards.allowances[stream.removeprefix("ephemeral:")] = Allowance(budget=event.budget)
        case TrialBegan():
            guards.allowances[stream] = Allowance(daily=event.daily_limit)
        case CreditGranted() | CreditAdded() | CreditReturned():
            guards.balances[event.org].available += event.amount
        case CreditExpired() | CreditWithheld():
            guards.balances[event.org].available -= event.amount
            assert guards.balances[event.org].available >= 0, f"{event.org} lost credit that was promised to calls"
        case CreditHeld():
            _hold(guards, stream.removeprefix("request:"), event)
        case HoldExtended():
            _extend(guards, stream.removeprefix("request:"), event)
        case RequestSettled():
            _end(guards, stream.removeprefix("request:"), held=event.held, cost=event.cost)
        case HoldReleased() | HoldExpired():
            _end(guards, stream.removeprefix("request:"), held=event.held, cost=0)
        case _:
            pass


def _hold(guards: Guards, request: str, event: CreditHeld) -> None:
    this_month, day = ist_month(event.at), ist_day(event.at)
    balance = guards.balances[event.org]
    balance.available -= event.amount
    balance.held += event.amount
    assert balance.available >= 0, f"{event.org} was promised more than it had by {request}"
    for scope, month in _scopes(event.key, event.workspace, event.allowance, this_month):
        allowance = guards.allowances[scope]
        allowance.roll(month=month, day=day)
        allowance.held += event.amount
        allowance.calls += 1
    guards.holds[request] = Hold(
        event.org,
        event.key,
        event.workspace,
        this_month,
        event.amount,
        event.expires,
        version=1,
        allowance=event.allowance or None,
    )


def _extend(guards: Guards, request: str, event: HoldExtended) -> None:
    hold = guards.holds[request]
    balance = guards.balances[hold.org]
    balance.available -= event.amount
    balance.held += event.amount
    assert balance.available >= 0, f"{hold.org} was promised more than it had by {request}"
    for scope, month in hold.scopes:
        if guards.allowances[scope].month == month:
            guards.allowances[scope].held += event.amount
    hold.amount += event.amount
    hold.expires = event.expires
    hold.version += 1


def _end(guards: Guards, request: str, *, held: int, cost: int) -> None:
    hold = guards.holds.pop(request)
    assert 0 <= cost <= held == hold.amount, f"{request} cost {cost}, held {held} by its ending, {hold.amount} before"
    balance = guards.balances[hold.org]
    balance.available += hold.amount - cost
    balance.held -= hold.amount
    balance.spent += cost
    for scope, month in hold.scopes:
        if guards.allowances[scope].month == month:
            guards.allowances[scope].used += cost
            guards.allowances[scope].held -= hold.amount


def _scopes(key: str, workspace: str, allowance: str | None, month: int) -> list[tuple[str, int]]:
    """In the order of checking."""
    further = [(allowance, 0)] if allowance else []
    return [*further, (key, month), (workspace, month)]


def _budget_code(held: CreditHeld | Hold, scope: str) -> str:
    if scope == held.allowance:
        return "ephemeral_budget"
    return "key_budget" if scope == held.key else "workspace_budget"
