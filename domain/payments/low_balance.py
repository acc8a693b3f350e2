"""When an org is told that its credit runs low: once it is below the org's threshold, at most once in 24 hours."""

from dataclasses import dataclass, replace

from domain.kernel.clock import DAY
from domain.kernel.events import Event
from domain.kernel.store import Decision, Reader, Store
from domain.payments.billing import billing_stream
from domain.payments.events import LowBalanceNoticed, LowBalanceSet

QUIET = DAY
"""Microseconds between two notices."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`threshold` in nano-rupees, None for never; `noticed` the moment of the last notice."""

    threshold: int | None = None
    noticed: int | None = None

    def evolve(self, stream: str, event: Event) -> "Alert":
        match event:
            case LowBalanceSet():
                return replace(self, threshold=event.threshold)
            case LowBalanceNoticed():
                return replace(self, noticed=event.at)
            case _:
                return self


def notice_low_balance(store: Store, *, org: str, at: int, by: str) -> LowBalanceNoticed | None:
    """Puts on record that the org is now told, and returns what it is to be told; None where it needs no telling.

    Whoever gets a notice mails it once. It is on record before that, so that two that ask at once, or a crash, may cost
    a mail but never bring a second one.
    """
    notice: LowBalanceNoticed | None = None

    def decide(read: Reader) -> Decision:
        nonlocal notice
        alert = read.fold(billing_stream(org), Alert())
        available = read.balance(org).available
        if alert.threshold is None or available >= alert.threshold:
            return []
        if alert.noticed is not None and at - alert.noticed < QUIET:
            return []
        notice = LowBalanceNoticed(org=org, available=available, threshold=alert.threshold)
        return [(billing_stream(org), notice)]

    store.locked(decide, at=at, by=by)
    return notice
