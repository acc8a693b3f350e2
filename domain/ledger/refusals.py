"""What a caller is told when the ledger says no: the numbers behind the decision, and what to do next."""

from domain.kernel.clock import SECOND, next_ist_midnight, next_ist_month
from domain.kernel.errors import Conflict, OutOfCredit, Refusal, TooMany, Unavailable
from domain.kernel.money import format_inr
from domain.ledger.guards import Denied

MONEY_CODES = frozenset({"insufficient_credits", "key_budget", "workspace_budget", "ephemeral_budget"})


def room_nanos(denied: Denied) -> int:
    """What could still be held, by the limit that said no."""
    if denied.limit is None:
        return 0
    if denied.code == "insufficient_credits":
        return denied.limit
    return max(denied.limit - (denied.used or 0), 0)


def refusal_of(denied: Denied, *, needed: int, at: int) -> Refusal:
    """The refusal for a hold of `needed` nano-rupees that was not made at the moment `at`."""
    limit, used = denied.limit or 0, denied.used or 0
    match denied.code:
        case "insufficient_credits":
            return OutOfCredit(
                "insufficient_credits",
                f"This call needs ₹{format_inr(needed)} held; ₹{format_inr(limit)} is available and "
                f"₹{format_inr(used)} is held by calls in flight. Add credit, wait for running calls to end, or lower "
                "max_tokens.",
            )
        case "key_budget" | "workspace_budget":
            owner = "workspace" if denied.code == "workspace_budget" else "key"
            return TooMany(
                "budget_exceeded",
                f"This {owner}'s monthly budget is ₹{format_inr(limit)}; ₹{format_inr(used)} is used or held and this "
                f"call needs ₹{format_inr(needed)}. Raise the budget, or wait for the next month (India time).",
                retry_after=(next_ist_month(at) - at) // SECOND + 1,
            )
        case "ephemeral_budget":
            return TooMany(
                "budget_exceeded",
                f"This ephemeral key's budget is ₹{format_inr(limit)}; ₹{format_inr(used)} is used or held and this "
                f"call needs ₹{format_inr(needed)}. Mint another key.",
                retry_after=(next_ist_month(at) - at) // SECOND + 1,
                repeatable=False,
            )
        case "trial_daily":
            return TooMany(
                "daily_limit_reached",
                f"The trial keys of this org may make {limit} requests a day together. They are free again at "
                "midnight, India time; add credit to lift that.",
                retry_after=(next_ist_midnight(at) - at) // SECOND + 1,
            )
        case "daily":
            return TooMany(
                "daily_limit_reached",
                f"This key's daily limit of {limit} requests is reached. It is free again at midnight, India time.",
                retry_after=(next_ist_midnight(at) - at) // SECOND + 1,
            )
        case "duplicate":
            return Conflict("idempotency_conflict", "This request was already made.", repeatable=False)
        case _:
            return Unavailable(
                "ledger_unavailable", "The ledger could not take this call. Try again shortly.", retry_after=1
            )
