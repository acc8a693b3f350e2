"""Moments are whole microseconds since 1970, UTC. Days and months of an org are India's, which has no summer time."""

from datetime import UTC, date, datetime, timedelta, timezone

SECOND = 1_000_000
DAY = 86_400 * SECOND
IST = timezone(timedelta(hours=5, minutes=30), "IST")
IST_OFFSET = 19_800 * SECOND


def ist_day(at: int) -> int:
    """Days since 1970-01-01 on India's calendar."""
    return (at + IST_OFFSET) // DAY


def ist_month(at: int) -> int:
    """The month on India's calendar as `yyyymm`."""
    when = date.fromordinal(date(1970, 1, 1).toordinal() + ist_day(at))
    return when.year * 100 + when.month


def day_to_date(day: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day)


def date_to_day(when: date) -> int:
    return when.toordinal() - date(1970, 1, 1).toordinal()


def next_ist_midnight(at: int) -> int:
    return (ist_day(at) + 1) * DAY - IST_OFFSET


def next_ist_month(at: int) -> int:
    """The first moment of the next month on India's calendar."""
    year, month = divmod(ist_month(at), 100)
    first = date(year + month // 12, month % 12 + 1, 1)
    return date_to_day(first) * DAY - IST_OFFSET


def to_datetime(at: int) -> datetime:
    return datetime.fromtimestamp(at // SECOND, UTC).replace(microsecond=at % SECOND)


def to_iso(at: int) -> str:
    return to_datetime(at).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_moment(text: str) -> int:
    """Microseconds of an ISO 8601 moment; a bare date is its end on India's calendar. Raises ValueError."""
    if len(text) == 10:
        return (date_to_day(date.fromisoformat(text)) + 1) * DAY - IST_OFFSET - 1
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    delta = when - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * DAY + delta.seconds * SECOND + delta.microseconds
