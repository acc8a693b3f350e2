"""An org's month in rows: what there was, what came and went, what each day's calls cost, and what was left."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from domain.kernel.clock import date_to_day, ist_day, ist_month
from domain.kernel.errors import Invalid

USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a statement: a money event at the moment `at`, or all `calls` that ended on a day (`at` is None).

    `day` is days since 1970 on India's calendar; `amount` what it did to the balance, `balance` what was there after
    it, both in nano-rupees. `type` is `topup`, `promo`, `adjustment`, `expiry`, `refund` or `usage`.
    """

    day: int
    at: int | None
    type: str
    amount: int
    calls: int = 0
    payment: str = ""
    note: str = ""
    balance: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """`month` is `yyyymm`, `last_day` is today while the month runs. Entries are in order of time, the calls of a day
    after its money events. Amounts are nano-rupees."""

    org: str
    name: str
    month: int
    first_day: int
    last_day: int
    opening: int
    entries: Sequence[Entry]
    closing: int

    @property
    def credited(self) -> int:
        """What came in: top-ups, promo credit, adjustments."""
        return sum(entry.amount for entry in self.entries if entry.amount > 0)

    @property
    def debited(self) -> int:
        """What went other than for calls: expired and refunded credit."""
        return -sum(entry.amount for entry in self.entries if entry.amount < 0 and entry.type != USAGE)

    @property
    def used(self) -> int:
        """What calls cost."""
        return -sum(entry.amount for entry in self.entries if entry.type == USAGE)

    @property
    def calls(self) -> int:
        return sum(entry.calls for entry in self.entries)


def make_statement(
    *, org: str, name: str, month: int, now: int, opening: int, entries: Iterable[Entry], closing: int
) -> Statement:
    """Puts a month in order and says the balance after each entry; money events of a day are in the order of the log.

    `closing` is known from elsewhere: raises AssertionError where the entries lead to anything else, be it by one
    nano-rupee.
    """
    balance, rows = opening, []
    for entry in sorted(entries, key=lambda entry: (entry.day, entry.type == USAGE)):
        balance += entry.amount
        rows.append(replace(entry, balance=balance))
    first_day, end_day = days_of_month(month)
    last_day = min(end_day - 1, ist_day(now))
    made = Statement(org, name, month, first_day, last_day, opening, tuple(rows), closing)
    assert made.opening + made.credited - made.debited - made.used == made.closing, (
        f"the statement of {org} for {month} ends at {balance}, the ledger at {closing}"
    )
    return made


def days_of_month(month: int) -> tuple[int, int]:
    """The first day of a month `yyyymm` and that of the next, in days since 1970 on India's calendar."""
    year, number = divmod(month, 100)
    return date_to_day(date(year, number, 1)), date_to_day(date(year + number // 12, number % 12 + 1, 1))


def read_month(text: str) -> int:
    """`yyyymm` of `2026-11`. Raises Invalid `invalid_range`."""
    try:
        if len(text) != 7:
            raise ValueError
        day = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise Invalid("invalid_range", "month must be a month like 2026-11.", param="month") from None
    return day.year * 100 + day.month


def check_month(month: int, *, created: int, now: int) -> None:
    """Refuses a month that ended before the org was `created`, or that has not begun. Raises Invalid
    `invalid_range`."""
    first, last = ist_month(created), ist_month(now)
    if not first <= month <= last:
        raise Invalid(
            "invalid_range",
            f"Statements of this org run from {show_month(first)} to {show_month(last)}.",
            param="month",
        )


def show_month(month: int) -> str:
    """`2026-11`"""
    return f"{month // 100:04d}-{month % 100:02d}"
