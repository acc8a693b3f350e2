"""GST on a top-up, in whole paise: what is taxable, which heads the tax falls under, and each refund's share of it.

The tax is two equal halves, each rounded once, half up, to the paisa; IGST is their sum. So CGST and SGST are always
equal as the law has them, the same money is paid whatever the State, and taxable amount and heads make the total with
nothing left to round off. Against rounding the whole tax once the difference is at most one paisa, and none at all on
whole rupees at 18 % on top. Section 170 of the CGST Act (whole rupees) is about what a return pays, not a document.
"""

from typing import Literal

from domain.kernel.money import NANOS_PER_PAISA, half_up
from domain.payments.events import Tax
from domain.payments.gstin import state_of
from domain.payments.states import ABROAD, STATES

GstMode = Literal["on_top", "included"]
HEADS = ("cgst", "sgst", "utgst", "igst")


def place_of_supply(
    *, supplier_state: str, buyer_gstin: str | None, buyer_state: str | None, abroad: bool = False
) -> str:
    """The State's code in which the service counts as supplied: IGST Act, sections 12(2) and 13(2).

    A registered buyer is where he is registered, whatever his address says; anybody else is at his address; without one
    on record the supplier's own State counts. A buyer outside India is `96`.
    """
    if buyer_gstin is not None:
        return state_of(buyer_gstin)
    if abroad:
        return ABROAD
    return supplier_state if buyer_state is None else buyer_state


def split(
    paise: int, *, mode: GstMode, percent: int, supplier_state: str, place: str, special_zone: bool = False
) -> Tax:
    """The tax on `paise`, which is the taxable amount where GST comes on top, and the total where it is included.

    `percent` is the whole rate. Within a State (or union territory) half is CGST and half SGST (or UTGST), otherwise,
    and always for a special economic zone (IGST Act, section 7(5)(b)), all is IGST. That a supply abroad or to a zone
    may be free of it under a letter of undertaking is not decided here: then `percent` is 0.
    """
    assert paise >= 0
    assert 0 <= percent <= 100
    half = half_up(paise * percent, 200 if mode == "on_top" else 200 + 2 * percent)
    taxable = paise if mode == "on_top" else paise - 2 * half
    if place != supplier_state or special_zone:
        return Tax(taxable=taxable, percent=percent, igst=2 * half)
    if STATES[place].union_territory:
        return Tax(taxable=taxable, percent=percent, cgst=half, utgst=half)
    return Tax(taxable=taxable, percent=percent, cgst=half, sgst=half)


def credit_nanos(tax: Tax) -> int:
    """The credit that a payment buys: its taxable amount, to the paisa."""
    return tax.taxable * NANOS_PER_PAISA


def refund_share(original: Tax, *, taxable: int, refunded_before: int) -> Tax:
    """What a refund of `taxable` paise gives back, head by head, after refunds of `refunded_before` taxable paise.

    Each head is the difference of two running totals, so that refunds add up to the original, to the paisa, however it
    is cut up. Raises ValueError if more would go back than came.
    """
    if taxable < 0 or refunded_before < 0 or refunded_before + taxable > original.taxable:
        raise ValueError(f"cannot refund {taxable} after {refunded_before} of {original.taxable} paise")

    def running(amount: int, refunded: int) -> int:
        return half_up(amount * refunded, original.taxable) if original.taxable else 0

    shares = {
        head: running(getattr(original, head), refunded_before + taxable)
        - running(getattr(original, head), refunded_before)
        for head in HEADS
    }
    return Tax(taxable=taxable, percent=original.percent, **shares)
