"""When it is told that a monthly budget runs out: at 80 and at 100 %, each once a month."""

from dataclasses import dataclass

from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.webhooks.events import BudgetReached

PERCENTS = (80, 100)


@dataclass(frozen=True, slots=True)
class Told:
    """The month (`yyyymm`) that was told of last, and the highest share in it."""

    month: int = 0
    percent: int = 0

    def evolve(self, stream: str, event: Event) -> "Told":
        return Told(event.month, event.percent) if isinstance(event, BudgetReached) else self


def percent_of(*, used: int, budget: int) -> int:
    """The highest of `PERCENTS` that is reached, in whole per cent rounded half up, else 0: a call that does not fit
    into what is left is refused, so that the last bit of a budget may never be used."""
    share = (used * 200 + budget) // (2 * budget) if budget else 0
    return max((percent for percent in PERCENTS if share >= percent), default=0)


def notice_budget(store: Store, reached: BudgetReached, *, at: int, by: str) -> bool:
    """Puts on record that a share of a budget is used, unless that or more is on record for the month; whether it
    was not."""
    stream = f"budget:{reached.scope}"

    def decide(told: Told) -> Decision:
        return [] if told.month == reached.month and told.percent >= reached.percent else [(stream, reached)]

    return store.change(Change(stream, Told(), decide), at=at, by=by) is not None
