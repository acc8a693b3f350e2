"""A GSTIN names a taxpayer and, by its first two digits, where he is registered; its last character checks it all."""

import re

from domain.kernel.errors import Invalid
from domain.payments.states import STATES

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SHAPE = re.compile(r"[0-9]{2}[A-Z]{5}[0-9]{4}[A-Z][1-9A-Z]Z[0-9A-Z]")


def check_gstin(text: str) -> str:
    """The GSTIN of an ordinary taxpayer or of a unit in a special economic zone, which look alike: upper case,
    no blanks.

    Raises Invalid `invalid_gstin`, also for the numbers of tax deductors, embassies and sellers from abroad, none of
    whom can be billed as a registered buyer.
    """
    gstin = "".join(text.split())
    gstin = gstin.upper() if gstin.isascii() else gstin
    if not _SHAPE.fullmatch(gstin):
        raise _invalid("A GSTIN has 15 characters, such as 29AAGCB7383J1Z4. Copy it from the registration certificate.")
    if gstin[:2] not in STATES:
        raise _invalid(f"A GSTIN begins with the code of its State; {gstin[:2]} is none.")
    if gstin[-1] != check_character(gstin[:-1]):
        raise _invalid("This GSTIN has a slip: its last character does not fit the others. Please copy it once more.")
    return gstin


def check_character(first_fourteen: str) -> str:
    """The fifteenth character: base 36, weights 1 and 2 in turn, both digits of each product added."""
    products = (_ALPHABET.index(sign) * (1 + place % 2) for place, sign in enumerate(first_fourteen))
    return _ALPHABET[-sum(product // 36 + product % 36 for product in products) % 36]


def state_of(gstin: str) -> str:
    """The State's code of a checked GSTIN."""
    return gstin[:2]


def pan_of(gstin: str) -> str:
    """The income-tax number (PAN) inside a checked GSTIN."""
    return gstin[2:12]


def _invalid(message: str) -> Invalid:
    return Invalid("invalid_gstin", message, param="gstin")
