"""Days and months of limits are India's, in the database as in the rules: at the stroke of midnight and not before,
over leap days and the end of the financial year, with holds that live across it."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import uvloop

from domain.kernel.clock import SECOND
from domain.ledger.guards import Denied
from tests.adapters.bookings import release_of, settlement_of
from tests.adapters.test_ledger import Books, books, within, writing

__all__ = ["books"]

INDIA = ZoneInfo("Asia/Kolkata")
LAST_DAYS = {
    "2027-03-31": 202704,
    "2027-02-28": 202703,
    "2028-02-29": 202803,
    "2027-12-31": 202801,
    "2026-11-30": 202612,
}
"""Last days of months that begin after the time of these tests, and the month that follows each."""


def midnight_after(day: str) -> int:
    """The end of the day on India's clocks, by the database of time zones; microseconds since 1970."""
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=INDIA)
    return int(noon.timestamp()) * SECOND + 12 * 3_600 * SECOND


@pytest.mark.parametrize("day", LAST_DAYS)
def test_a_budget_is_free_again_on_the_first_at_midnight_and_not_a_microsecond_before(books: Books, day: str) -> None:
    midnight = midnight_after(day)
    time_is = [midnight - SECOND]
    key = books.found("org_b", monthly_budget=100)

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            spent = books.hold(100, at=time_is[0], key=key)
            assert await within(5, writer.hold("spent", spent)) == [None]
            assert await within(5, writer.end("spent", settlement_of(spent, cost=100, at=time_is[0]))) == [None]
            time_is[0] = midnight - 1
            early = writer.hold("early", books.hold(1, at=time_is[0], key=key))
            assert await within(5, early) == [Denied("key_budget", 100, 100)]
            time_is[0] = midnight
            assert await within(5, writer.hold("first", books.hold(100, at=midnight, key=key))) == [None]
            more = writer.hold("more", books.hold(1, at=midnight, key=key))
            assert await within(5, more) == [Denied("key_budget", 100, 100)]

    uvloop.run(run())
    allowance = books.check().allowances[key.key]
    assert (allowance.month, allowance.used, allowance.held) == (LAST_DAYS[day], 0, 100)


@pytest.mark.parametrize("day", [*LAST_DAYS, "2028-02-28", "2026-12-24"])
def test_a_days_calls_are_free_again_at_midnight_and_not_a_microsecond_before(books: Books, day: str) -> None:
    midnight = midnight_after(day)
    time_is = [midnight - SECOND]
    key = books.found("org_b", daily_limit=2)

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            calls = [writer.hold(f"r{n}", books.hold(at=time_is[0], key=key)) for n in range(3)]
            assert await within(5, *calls) == [None, None, Denied("daily", 2, 2)]
            time_is[0] = midnight - 1
            early = writer.hold("early", books.hold(at=time_is[0], key=key))
            assert await within(5, early) == [Denied("daily", 2, 2)]
            time_is[0] = midnight
            calls = [writer.hold(f"s{n}", books.hold(at=midnight, key=key)) for n in range(3)]
            assert await within(5, *calls) == [None, None, Denied("daily", 2, 2)]

    uvloop.run(run())
    books.check()


def test_the_28th_of_february_is_not_the_last_in_a_leap_year(books: Books) -> None:
    midnight = midnight_after("2028-02-28")
    time_is = [midnight - SECOND]
    key = books.found("org_b", monthly_budget=100)

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            assert await within(5, writer.hold("a", books.hold(100, at=time_is[0], key=key))) == [None]
            time_is[0] = midnight
            leap = writer.hold("b", books.hold(1, at=midnight, key=key))
            assert await within(5, leap) == [Denied("key_budget", 100, 100)]

    uvloop.run(run())
    assert books.check().allowances[key.key].month == 202802


@pytest.mark.parametrize("day", LAST_DAYS)
def test_a_hold_of_before_midnight_ends_in_its_own_month(books: Books, day: str) -> None:
    midnight = midnight_after(day)
    time_is = [midnight - 1]
    key = books.found("org_b", monthly_budget=100)

    async def run() -> None:
        async with writing(books.url, clock=lambda: time_is[0]) as writer:
            settled, released = (books.hold(50, at=time_is[0], key=key) for _ in range(2))
            held = writer.hold("settled", settled), writer.hold("released", released)
            assert await within(5, *held) == [None, None]
            time_is[0] = midnight
            assert await within(5, writer.hold("new", books.hold(60, at=midnight, key=key))) == [None]
            ends = (
                writer.end("settled", settlement_of(settled, cost=50, at=midnight)),
                writer.end("released", release_of(released, at=midnight)),
            )
            assert await within(5, *ends) == [None, None]
            more = writer.hold("more", books.hold(41, at=midnight, key=key))
            assert await within(5, more) == [Denied("key_budget", 100, 60)]
            assert await within(5, writer.hold("rest", books.hold(40, at=midnight, key=key))) == [None]

    uvloop.run(run())
    allowance = books.check().allowances[key.key]
    assert (allowance.month, allowance.used, allowance.held) == (LAST_DAYS[day], 0, 100)
