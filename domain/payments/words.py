"""An amount in words, as Indian documents close with: thousands, lakhs and crores."""

_ONES = [
    "Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve",
    "Thirteen", "Fourteen", "Fifteen", "Sixteen", "Seventeen", "Eighteen", "Nineteen",
]  # fmt: skip
_TENS = ["", "", "Twenty", "Thirty", "Forty", "Fifty", "Sixty", "Seventy", "Eighty", "Ninety"]
_GROUPS = ((10_000_000, "Crore"), (100_000, "Lakh"), (1_000, "Thousand"), (100, "Hundred"))


def amount_in_words(paise: int) -> str:
    """`Rupees One Thousand One Hundred Eighty Only`; paise, where there are any, as `… and Fifty Paise Only`."""
    assert paise >= 0
    rupees, rest = divmod(paise, 100)
    parts = ["Rupees", number_in_words(rupees)]
    if rest:
        parts += ["and", number_in_words(rest), "Paise"]
    return " ".join([*parts, "Only"])


def number_in_words(number: int) -> str:
    """Any whole number from 0; above 99 crore the crores are counted in the same words (`One Lakh Crore`)."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] if ones == 0 else f"{_TENS[tens]} {_ONES[ones]}"
    size, name = next(group for group in _GROUPS if number >= group[0])
    count, rest = divmod(number, size)
    words = f"{number_in_words(count)} {name}"
    return words if rest == 0 else f"{words} {number_in_words(rest)}"
