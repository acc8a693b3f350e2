"""Moments and days as they cross the edge: ISO 8601 in UTC, and days of India's calendar."""

from datetime import date

from domain.kernel.clock import date_to_day, day_to_date, ist_day, parse_moment, to_iso
from domain.kernel.errors import Invalid

RANGE_DAYS_DEFAULT = 30
RANGE_DAYS_MAX = 366


def moment(at: int) -> str:
    return to_iso(at)


def moment_optional(at: int | None) -> str | None:
    return None if at is None else to_iso(at)


def read_moment(text: str, *, param: str) -> int:
    """Microseconds of an ISO 8601 moment, or of the end of a day. Raises Invalid `invalid_range`."""
    try:
        return parse_moment(text)
    except ValueError:
        raise Invalid(
            "invalid_range", f"{param} must be a day (2026-11-23) or a moment (2026-11-23T10:00:00Z).", param=param
        ) from None


def read_day(text: str, *, param: str) -> int:
    """Days since 1970 of `YYYY-MM-DD`. Raises Invalid `invalid_range`."""
    try:
        if len(text) != 10:
            raise ValueError
        return date_to_day(date.fromisoformat(text))
    except ValueError:
        raise Invalid("invalid_range", f"{param} must be a day like 2026-11-23.", param=param) from None


def show_day(day: int) -> str:
    return day_to_date(day).isoformat()


def read_range(first: str | None, last: str | None, *, now: int) -> tuple[int, int]:
    """First and last day, both included: 30 days up to today unless given. Raises Invalid `invalid_range`."""
    to_day = ist_day(now) if last is None else read_day(last, param="to")
    from_day = to_day - RANGE_DAYS_DEFAULT + 1 if first is None else read_day(first, param="from")
    if from_day > to_day:
        raise Invalid("invalid_range", "from must not be after to.", param="from")
    if to_day - from_day + 1 > RANGE_DAYS_MAX:
        raise Invalid("invalid_range", f"Ask for at most {RANGE_DAYS_MAX} days at once.", param="from")
    return from_day, to_day
