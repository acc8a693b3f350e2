"""The trial of an org that has no credit yet: keys that call a few models free of charge, until credit comes in.

An org has one trial at most. It begins with its first trial key and ends with its first credit, by a fact of the same
transaction, so that whoever follows the log knows at once; then its trial keys are standard keys.
"""

from dataclasses import dataclass, replace

import msgspec

from domain.kernel.errors import Invalid
from domain.kernel.events import Event
from domain.kernel.money import Balance
from domain.kernel.store import Decision, Reader, Store
from domain.keys.events import TrialBegan, TrialEnded
from domain.ledger.account import Account


class TrialTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator gives away: these models, none being no trials at all, and so many calls in a rolling minute
    and in a day of India time, for all trial keys of an org together."""

    models: frozenset[str] = frozenset()
    rpm_limit: int = 60
    daily_limit: int = 200


@dataclass(frozen=True, slots=True)
class Trial:
    """`rpm_limit` and `daily_limit` are None until it begins."""

    rpm_limit: int | None = None
    daily_limit: int | None = None
    ended: bool = False

    @property
    def running(self) -> bool:
        return self.rpm_limit is not None and not self.ended

    def evolve(self, stream: str, event: Event) -> "Trial":
        match event:
            case TrialBegan():
                return replace(self, rpm_limit=event.rpm_limit, daily_limit=event.daily_limit)
            case TrialEnded():
                return replace(self, ended=True)
            case _:
                return self


def trial_stream(org: str) -> str:
    """The stream of an org's trial, which is also the name of the allowance that its trial keys share."""
    return f"trial:{org}"


def needs_trial(account: Account, balance: Balance) -> bool:
    """Whether the org can call models by a trial only: it never paid, and has nothing to spend."""
    return balance.available + balance.held <= 0 and not any(lot.paid for lot in account.lots.values())


def end_trial(read: Reader, org: str) -> Decision:
    """The fact to append with credit that comes in; none where no trial is running."""
    trial = read.fold(trial_stream(org), Trial())
    return [(trial_stream(org), TrialEnded(org=org))] if trial.running else []


def end_overtaken_trial(store: Store, *, org: str, at: int, by: str) -> int | None:
    """Ends a trial that has begun while credit came in, and so missed it. To be called after every trial key."""

    def decide(read: Reader) -> Decision:
        balance = read.balance(org)
        return end_trial(read, org) if balance.available + balance.held > 0 else []

    return store.locked(decide, at=at, by=by)


def check_ceiling(trial: Trial, *, rpm_limit: int | None, daily_limit: int | None) -> None:
    """Raises Invalid `trial_ceiling` for limits of a trial key above those of its trial; None is none of its own."""
    for param, limit, most in (
        ("rpm_limit", rpm_limit, trial.rpm_limit),
        ("daily_limit", daily_limit, trial.daily_limit),
    ):
        if limit is not None and most is not None and limit > most:
            raise Invalid(
                "trial_ceiling", f"{param} of a trial key is at most {most}; add credit to lift that.", param=param
            )


def check_trial_models(models: frozenset[str]) -> None:
    """Raises Invalid `trial_ceiling` where the operator opens no models to trials."""
    if not models:
        raise Invalid(
            "trial_ceiling", "This org has no credit, and no model is open to trial keys here. Add credit first."
        )
