"""Money is a whole number of nano-rupees. This is the one module that divides it, and each division names its rounding.

A rate is ₹ per million tokens with at most three decimals, so one token costs a whole number of nano-rupees and
tokens times rate is exact: metering never rounds.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

NANOS_PER_RUPEE = 1_000_000_000
NANOS_PER_PAISA = 10_000_000


@dataclass
class Balance:
    """An org's nano-rupees: free to hold, set aside for requests in flight, and spent since its first day.

    None is ever negative, and `spent` only grows."""

    available: int = 0
    held: int = 0
    spent: int = 0


def rupees(amount: int) -> int:
    """Whole rupees as nano-rupees."""
    return amount * NANOS_PER_RUPEE


def parse_inr(text: str) -> int:
    """Nano-rupees of a decimal number of rupees with at most nine decimals; raises ValueError on anything else."""
    try:
        nanos = Decimal(text).scaleb(9)
    except InvalidOperation:
        raise ValueError(f"not an amount in rupees: {text!r}") from None
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise ValueError(f"not an amount in rupees with at most nine decimals: {text!r}")
    return int(nanos)


def format_inr(nanos: int) -> str:
    """Exact decimal rupees without an exponent or superfluous zeros: `0.000123`, `100`, `-1.5`."""
    sign, digits = ("-" if nanos < 0 else ""), f"{abs(nanos):010d}"
    whole, fraction = digits[:-9], digits[-9:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def show_inr(nanos: int) -> str:
    """For people: `₹1,23,456.78`, Indian grouping, paise rounded half up in magnitude."""
    paise = (abs(nanos) + NANOS_PER_PAISA // 2) // NANOS_PER_PAISA
    whole, fraction = divmod(paise, 100)
    head, tail = str(whole)[:-3], str(whole)[-3:]
    groups = [tail]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return f"{'-' if nanos < 0 else ''}₹{','.join(groups)}.{fraction:02d}"


def percent_down_to_paisa(nanos: int, percent: int) -> int:
    """So many percent of an amount that is not negative, rounded down to a whole paisa, in nano-rupees."""
    return nanos * percent // (100 * NANOS_PER_PAISA) * NANOS_PER_PAISA


def rate_from_inr_per_mtok(text: str) -> int:
    """Nano-rupees per token of a price in ₹ per million tokens with at most three decimals; raises ValueError."""
    nanos = Decimal(text).scaleb(3)
    if not nanos.is_finite() or nanos < 0 or nanos != nanos.to_integral_value():
        raise ValueError(f"not a price per million tokens with at most three decimals: {text!r}")
    return int(nanos)


def rate_from_usd_per_mtok(text: str, *, inr_per_usd: Decimal, margin: Decimal) -> int:
    """Nano-rupees per token of a price in US dollars per million tokens, rounded up to a whole nano-rupee."""
    exact = Decimal(text) * inr_per_usd * (1 + margin) * 1000
    if not exact.is_finite() or exact < 0:
        raise ValueError(f"not a price per million tokens: {text!r}")
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))


def half_up(numerator: int, denominator: int) -> int:
    """The one rounding of taxes: to the nearest whole number, a half upwards. Neither may be negative."""
    return (2 * numerator + denominator) // (2 * denominator)


def nanos_from_inr(text: str, *, parts: int = 1) -> int:
    """Nano-rupees of one of so many equal parts of an amount of rupees, rounded up; raises ValueError."""
    nanos = parse_inr(text)
    if nanos < 0:
        raise ValueError(f"not a price: {text!r}")
    return -(-nanos // parts)


def nanos_from_usd(text: str, *, inr_per_usd: Decimal, margin: Decimal, parts: int = 1) -> int:
    """Nano-rupees of one of so many equal parts of an amount of US dollars, rounded up; raises ValueError."""
    exact = Decimal(text) * inr_per_usd * (1 + margin) * NANOS_PER_RUPEE / parts
    if not exact.is_finite() or exact < 0:
        raise ValueError(f"not a price: {text!r}")
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))
