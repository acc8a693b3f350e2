"""India's States as GST numbers them, and what a PIN code hints at. A hint may suggest or warn; no tax follows from it.

Codes: the list of the GST network. Union territories: CGST Act, section 2(114); those with a
legislature count as States.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.kernel.errors import Invalid

ABROAD = "96"
"""The code that GST documents carry for a place outside India."""


@dataclass(frozen=True, slots=True)
class State:
    """`union_territory` is True where UTGST takes the place of SGST."""

    code: str
    name: str
    union_territory: bool = False


STATES: Mapping[str, State] = {
    state.code: state
    for state in (
        State("01", "Jammu and Kashmir"),
        State("02", "Himachal Pradesh"),
        State("03", "Punjab"),
        State("04", "Chandigarh", union_territory=True),
        State("05", "Uttarakhand"),
        State("06", "Haryana"),
        State("07", "Delhi"),
        State("08", "Rajasthan"),
        State("09", "Uttar Pradesh"),
        State("10", "Bihar"),
        State("11", "Sikkim"),
        State("12", "Arunachal Pradesh"),
        State("13", "Nagaland"),
        State("14", "Manipur"),
        State("15", "Mizoram"),
        State("16", "Tripura"),
        State("17", "Meghalaya"),
        State("18", "Assam"),
        State("19", "West Bengal"),
        State("20", "Jharkhand"),
        State("21", "Odisha"),
        State("22", "Chhattisgarh"),
        State("23", "Madhya Pradesh"),
        State("24", "Gujarat"),
        State("26", "Dadra and Nagar Haveli and Daman and Diu", union_territory=True),
        State("27", "Maharashtra"),
        State("29", "Karnataka"),
        State("30", "Goa"),
        State("31", "Lakshadweep", union_territory=True),
        State("32", "Kerala"),
        State("33", "Tamil Nadu"),
        State("34", "Puducherry"),
        State("35", "Andaman and Nicobar Islands", union_territory=True),
        State("36", "Telangana"),
        State("37", "Andhra Pradesh"),
        State("38", "Ladakh", union_territory=True),
        State("97", "Other Territory", union_territory=True),
    )
}
"""Where somebody in India can be. 25 and 28 are gone: Daman and Diu is in 26, Andhra Pradesh became 37."""


def check_state(code: str) -> str:
    """The code as it is. Raises Invalid `invalid_request` for one that is no State of today."""
    if code not in STATES:
        raise Invalid(
            "invalid_request", "Give the two-digit GST code of the State, such as 29 for Karnataka.", param="state"
        )
    return code


def show_state(code: str) -> str:
    """For documents, name and code as rule 46(n) of the CGST Rules asks: `Karnataka (29)`."""
    name = "Outside India" if code == ABROAD else STATES[code].name
    return f"{name} ({code})"


def check_pin(text: str) -> str:
    """The PIN code without blanks. Raises Invalid `invalid_request` unless six digits are left, the first not 0."""
    pin = "".join(text.split())
    if not (len(pin) == 6 and pin.isascii() and pin.isdigit() and pin[0] != "0"):
        raise Invalid("invalid_request", "Give the PIN code as six digits, such as 560001.", param="pin")
    return pin


def states_of_pin(pin: str) -> tuple[str, ...]:
    """Codes of the States that a PIN code may lie in, the likeliest first; empty where its digits tell nothing."""
    prefix = int(check_pin(pin)[:3])
    return tuple(dict.fromkeys(code for code, ranges in _PIN_PREFIXES if any(a <= prefix <= b for a, b in ranges)))


def city_of_pin(pin: str) -> str | None:
    """The city that a PIN code belongs to, for the largest ones."""
    return _CITIES.get(check_pin(pin)[:3])


# By the first three digits. Postal circles cross State borders, so ranges overlap; a row above is the likelier one.
_PIN_PREFIXES: Sequence[tuple[str, Sequence[tuple[int, int]]]] = (
    ("07", [(110, 110)]),
    ("06", [(121, 136)]),
    ("04", [(160, 160)]),
    ("03", [(140, 160)]),
    ("02", [(171, 177)]),
    ("38", [(194, 194)]),
    ("01", [(180, 194)]),
    ("05", [(246, 246), (248, 249), (263, 263)]),
    ("09", [(201, 285)]),
    ("05", [(244, 263)]),
    ("08", [(301, 345)]),
    ("24", [(360, 396)]),
    ("26", [(362, 362), (396, 396)]),
    ("30", [(403, 403)]),
    ("27", [(400, 445)]),
    ("23", [(450, 488)]),
    ("22", [(490, 497)]),
    ("36", [(500, 509)]),
    ("37", [(500, 535)]),
    ("29", [(560, 591)]),
    ("34", [(605, 605)]),
    ("33", [(600, 643)]),
    ("32", [(670, 695)]),
    ("31", [(682, 682)]),
    ("34", [(533, 533), (607, 607), (609, 609), (673, 673)]),
    ("11", [(737, 737)]),
    ("19", [(700, 743)]),
    ("35", [(744, 744)]),
    ("21", [(751, 770)]),
    ("18", [(781, 788)]),
    ("12", [(790, 792)]),
    ("17", [(793, 794)]),
    ("14", [(795, 795)]),
    ("15", [(796, 796)]),
    ("13", [(797, 798)]),
    ("16", [(799, 799)]),
    ("10", [(800, 813), (821, 821), (823, 824)]),
    ("20", [(813, 835)]),
    ("10", [(800, 855)]),
)

_CITIES: Mapping[str, str] = {
    "110": "New Delhi",
    "121": "Faridabad",
    "122": "Gurugram",
    "141": "Ludhiana",
    "143": "Amritsar",
    "160": "Chandigarh",
    "171": "Shimla",
    "180": "Jammu",
    "190": "Srinagar",
    "208": "Kanpur",
    "226": "Lucknow",
    "248": "Dehradun",
    "302": "Jaipur",
    "380": "Ahmedabad",
    "390": "Vadodara",
    "395": "Surat",
    "400": "Mumbai",
    "411": "Pune",
    "440": "Nagpur",
    "452": "Indore",
    "462": "Bhopal",
    "492": "Raipur",
    "500": "Hyderabad",
    "520": "Vijayawada",
    "530": "Visakhapatnam",
    "560": "Bengaluru",
    "570": "Mysuru",
    "575": "Mangaluru",
    "600": "Chennai",
    "605": "Puducherry",
    "625": "Madurai",
    "641": "Coimbatore",
    "682": "Kochi",
    "695": "Thiruvananthapuram",
    "700": "Kolkata",
    "751": "Bhubaneswar",
    "781": "Guwahati",
    "800": "Patna",
    "834": "Ranchi",
}
