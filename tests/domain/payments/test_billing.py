"""Given what somebody types, when it is to be printed on tax documents, then it is in order, or the slip is named."""

from typing import Any

import msgspec
import pytest

from domain.kernel.errors import Invalid
from domain.kernel.money import rupees
from domain.payments.billing import (
    BillingProfile,
    buyer_text,
    check_buyer,
    pin_hint,
    read_buyer,
    set_billing_address,
    set_low_balance,
)
from domain.payments.document import Buyer
from tests.given import NOON
from tests.memory_store import MemoryStore

ACME: dict[str, Any] = {
    "name": "Acme",
    "address": ("4th Floor", "Residency Road"),
    "city": "Bengaluru",
    "pin": "560025",
    "state": "29",
    "gstin": "29AAGCB7383J1Z4",
    "email": "accounts@acme.example",
}


def test_a_buyer_is_cleaned() -> None:
    given = Buyer(
        name="  Acme ",
        address=(" 4th Floor ", "", "Residency Road"),
        city="Bengaluru",
        pin="560 025",
        state="29",
        gstin="29aagcb7383j1z4",
        email=" accounts@acme.example",
    )
    assert check_buyer(given) == Buyer(**ACME)


def test_name_address_and_state_are_enough_for_a_person() -> None:
    asha = Buyer(name="Asha", address=("12 MG Road",), state="32")
    assert check_buyer(msgspec.structs.replace(asha, gstin="")) == asha
    with pytest.raises(Invalid) as refused:
        check_buyer(msgspec.structs.replace(asha, address=(" ",)))
    assert refused.value.param == "address"


def test_a_special_zone_is_known_by_its_gstin() -> None:
    assert check_buyer(Buyer(**ACME, special_zone=True)).special_zone
    with pytest.raises(Invalid) as refused:
        check_buyer(Buyer(**ACME | {"gstin": None}, special_zone=True))
    assert (refused.value.code, refused.value.param) == ("invalid_gstin", "gstin")


@pytest.mark.parametrize("name", ["आशा शर्मा", "ക്ഷിതിൻ\u200d", "Zoë O'Brien & Söhne"])
def test_names_are_written_in_any_script(name: str) -> None:
    assert check_buyer(Buyer(name=name, address=("12 MG Road",), state="32")).name == name


@pytest.mark.parametrize(
    ("changed", "code", "param"),
    [
        ({"name": " "}, "invalid_request", "name"),
        ({"name": "x" * 101}, "invalid_request", "name"),
        ({"name": "two\nlines"}, "invalid_request", "name"),
        ({"name": "turned\u202eround"}, "invalid_request", "name"),
        ({"address": ("x",) * 5}, "invalid_request", "address"),
        ({"address": ("", " ")}, "invalid_request", "address"),
        ({"state": ""}, "invalid_request", "state"),
        ({"state": "28"}, "invalid_request", "state"),
        ({"state": "Karnataka"}, "invalid_request", "state"),
        ({"state": "32"}, "invalid_gstin", "gstin"),
        ({"gstin": "29AAGCB7383J1Z5"}, "invalid_gstin", "gstin"),
        ({"pin": "12345"}, "invalid_request", "pin"),
        ({"email": "acme.example"}, "invalid_request", "email"),
        ({"email": "a b@acme.example"}, "invalid_request", "email"),
        ({"email": "@acme.example"}, "invalid_request", "email"),
        ({"email": "a@acme"}, "invalid_request", "email"),
        ({"email": "a@[1.2"}, "invalid_request", "email"),
        ({"email": "a@भारत.com"}, "invalid_request", "email"),
    ],
)
def test_a_slip_is_named(changed: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_buyer(Buyer(**ACME | changed))
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize(
    ("pin", "state", "hinted"),
    [("560025", "29", False), ("560025", "32", True), ("", "32", False), ("999999", "32", False)],
)
def test_a_pin_of_another_state_is_a_hint_and_no_error(pin: str, state: str, hinted: bool) -> None:
    buyer = check_buyer(Buyer(name="Asha", address=("12 MG Road",), pin=pin, state=state))
    hint = pin_hint(buyer)
    assert (hint is not None) == hinted
    if hint is not None:
        assert "Karnataka (29)" in hint
        assert "Kerala (32)" in hint


def test_what_is_sealed_of_a_buyer_comes_back_whole() -> None:
    buyer = Buyer(**ACME)
    assert read_buyer(buyer_text(buyer)) == buyer


def profile(store: MemoryStore) -> BillingProfile:
    return store.fold("billing:org_a", BillingProfile())


def test_the_profile_is_what_was_set_last() -> None:
    store = MemoryStore()
    assert profile(store) == BillingProfile()
    set_billing_address(
        store, org="org_a", buyer="sealed", state="29", registered=True, special_zone=True, at=NOON, by="key:k"
    )
    assert profile(store).special_zone
    set_low_balance(store, org="org_a", threshold=rupees(50), at=NOON, by="key:k")
    set_billing_address(store, org="org_a", buyer="sealed anew", state="32", registered=False, at=NOON, by="key:k")
    assert profile(store) == BillingProfile(buyer="sealed anew", state="32", threshold=rupees(50))


def test_a_threshold_is_set_once_and_lifted_by_none() -> None:
    store = MemoryStore()
    for threshold in (rupees(50), rupees(50), None, None):
        set_low_balance(store, org="org_a", threshold=threshold, at=NOON, by="key:k")
    assert store.names() == ["LowBalanceSet", "LowBalanceSet"]
    assert profile(store).threshold is None


@pytest.mark.parametrize("threshold", [0, -1, 10**17 + 1])
def test_a_threshold_is_an_amount(threshold: int) -> None:
    with pytest.raises(Invalid) as refused:
        set_low_balance(MemoryStore(), org="org_a", threshold=threshold, at=NOON, by="key:k")
    assert refused.value.code == "invalid_amount"
