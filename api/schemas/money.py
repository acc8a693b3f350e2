"""Rupees as they cross the edge: a decimal number or string comes in, a decimal string goes out, nano-rupees inside."""

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from domain.kernel.money import format_inr, parse_inr


def _nanos(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int | float | str | Decimal):
        raise ValueError('give an amount in rupees, such as 50 or "12.5"')
    return parse_inr(str(given))


Rupees = Annotated[
    int,
    BeforeValidator(_nanos),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "description": "Rupees, up to nine decimals"}),
]
"""An amount that a caller gives, as nano-rupees."""

Amount = Annotated[str, WithJsonSchema({"type": "string", "description": "Rupees, exact decimal", "example": "12.5"})]
"""An amount that is shown."""


def show(nanos: int) -> str:
    return format_inr(nanos)


def show_optional(nanos: int | None) -> str | None:
    return None if nanos is None else format_inr(nanos)
