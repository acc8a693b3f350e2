"""State codes and the hints of PIN codes."""

import re

import pytest
from stdnum.in_ import gstin as oracle

from domain.kernel.errors import Invalid
from domain.payments.states import STATES, check_pin, check_state, city_of_pin, show_state, states_of_pin


def test_codes_name_the_states_that_others_know_by_them() -> None:
    others = oracle._STATE_CODES
    ours = {code: state.name for code, state in STATES.items()}
    renamed = {"21", "22", "26", "35", "37"}
    assert {code: ours[code] for code in set(others) & set(ours) - renamed} == {
        code: others[code] for code in set(others) & set(ours) - renamed
    }
    assert set(ours) - set(others) == {"38", "97"}
    assert set(others) - set(ours) == {"25", "28"}


def test_only_territories_without_a_legislature_take_utgst() -> None:
    assert {state.name for state in STATES.values() if state.union_territory} == {
        "Chandigarh",
        "Dadra and Nagar Haveli and Daman and Diu",
        "Lakshadweep",
        "Andaman and Nicobar Islands",
        "Ladakh",
        "Other Territory",
    }
    assert not any(STATES[code].union_territory for code in ("07", "34", "01"))


def test_a_state_is_shown_with_its_code() -> None:
    assert show_state("29") == "Karnataka (29)"
    assert show_state("96") == "Outside India (96)"


@pytest.mark.parametrize("code", ["", "28", "25", "99", "96", "4", "KA"])
def test_what_is_no_state_of_today_is_refused(code: str) -> None:
    with pytest.raises(Invalid, match="GST code") as refusal:
        check_state(code)
    assert refusal.value.param == "state"


@pytest.mark.parametrize(
    ("pin", "states"),
    [
        ("110001", ("07",)),
        ("560001", ("29",)),
        ("160017", ("04", "03")),
        ("248001", ("05", "09")),
        ("226001", ("09",)),
        ("403001", ("30", "27")),
        ("500001", ("36", "37")),
        ("520001", ("37",)),
        ("533464", ("37", "34")),
        ("605001", ("34", "33")),
        ("682001", ("32", "31")),
        ("194101", ("38", "01")),
        ("737101", ("11", "19")),
        ("744101", ("35",)),
        ("834001", ("20", "10")),
        ("800001", ("10",)),
        ("900056", ()),
        ("199999", ()),
    ],
)
def test_a_pin_hints_at_states_the_likeliest_first(pin: str, states: tuple[str, ...]) -> None:
    assert states_of_pin(pin) == states


def test_every_state_with_post_offices_can_be_hinted_at() -> None:
    hinted = {code for prefix in range(100, 1000) for code in states_of_pin(f"{prefix}001")}
    assert hinted == set(STATES) - {"97"}


def test_cities_lie_in_a_state() -> None:
    for prefix in range(100, 1000):
        if city_of_pin(f"{prefix}001"):
            assert states_of_pin(f"{prefix}001"), prefix
    assert city_of_pin("560 034") == "Bengaluru"
    assert city_of_pin("577001") is None


@pytest.mark.parametrize("text", ["", "56000", "5600011", "056000", "56OOO1", "५६०००१"])
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=re.escape("six digits")):
        check_pin(text)
