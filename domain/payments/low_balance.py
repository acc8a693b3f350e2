"""When an org is told that its credit runs low: once it is below the org's threshold, at most once in 24 hours."""

from domain.kernel.clock import DAY
from domain.kernel.store import Decision, Reader, Store
from domain.payments.billing import BillingProfile, billing_stream
from domain.payments.events import LowBalanceNoticed

QUIET = DAY
"""Microseconds between two notices."""


def notice_low_balance(store: Store, *, org: str, at: int, by: str) -> LowBalanceNoticed | None:
    """Puts on record that the org is now told, and returns what it is to be told; None where it needs no telling.

    Whoever gets a notice mails it once. It is on record before that, so that two that ask at once, or a crash, may cost
    a mail but never bring a second one.
    """
    notice: LowBalanceNoticed | None = None

    def decide(read: Reader) -> Decision:
        nonlocal notice
        profile = read.fold(billing_stream(org), BillingProfile())
        available = read.balance(org).available
        if profile.threshold is None or available >= profile.threshold:
            return []
        if profile.noticed is not None and at - profile.noticed < QUIET:
            return []
        notice = LowBalanceNoticed(org=org, available=available, threshold=profile.threshold)
        return [(billing_stream(org), notice)]

    store.locked(decide, at=at, by=by)
    return notice
