"""Promo codes: what an operator may offer, what a code is worth, and why it may not be used."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.money import NANOS_PER_PAISA, percent_down_to_paisa, rupees
from domain.ledger.credit import grant_credit
from domain.payments.events import PromoCreated, PromoRedeemed
from domain.payments.promo import Promo, check_promo, clean_code, create_promo, disable_promo
from tests.given import NOON, given_org
from tests.memory_store import MemoryStore

FIXED: dict[str, Any] = {"code": "DIWALI26", "fixed": rupees(50)}
PERCENT: dict[str, Any] = {"code": "TENPC", "percent": 10, "cap": rupees(50)}


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store, inr=0)
    return store


def create(store: MemoryStore, **terms: Any) -> int | None:
    return create_promo(store, PromoCreated(**terms), at=NOON, by="operator")


def check(store: MemoryStore, code: str, *, bought: int | None = None, at: int = NOON) -> Promo:
    return check_promo(store, org="org_a", code=code, bought=bought, at=at)


def test_a_code_may_ask_for_a_least_purchase(store: MemoryStore) -> None:
    create(store, **FIXED, bought_min=rupees(500))
    assert check(store, "DIWALI26").terms is not None, "how much is bought is not known yet"
    assert check(store, "DIWALI26", bought=rupees(500)).credit(rupees(500)) == rupees(50)
    with pytest.raises(Invalid, match="₹500") as refused:
        check(store, "DIWALI26", bought=rupees(500) - 1)
    assert refused.value.code == "promo_invalid"


@pytest.mark.parametrize(("given", "clean"), [("diwali26", "DIWALI26"), (" ABC ", "ABC"), ("9" * 20, "9" * 20)])
def test_a_code_is_read_in_upper_case(given: str, clean: str) -> None:
    assert clean_code(given) == clean


@pytest.mark.parametrize("given", ["", "AB", "A" * 21, "WITH SPACE", "दिवाली", "CODE\n1", "A-B-C", "ＡＢＣ"])
def test_what_cannot_be_a_code_is_refused(given: str) -> None:
    with pytest.raises(Invalid) as refused:
        clean_code(given)
    assert refused.value.code == "promo_invalid"


@pytest.mark.parametrize(
    "terms",
    [
        {"code": "lower", "fixed": 1},
        {"code": "NOTHING"},
        FIXED | {"percent": 10, "cap": 1},
        FIXED | {"cap": 1},
        FIXED | {"fixed": 0},
        FIXED | {"bought_min": 0},
        FIXED | {"fixed": 10**18},
        PERCENT | {"cap": None},
        PERCENT | {"percent": 0},
        PERCENT | {"percent": 101},
        FIXED | {"starts": NOON, "ends": NOON},
        FIXED | {"uses_max": 0},
        FIXED | {"credit_days": 0},
    ],
)
def test_terms_that_make_no_sense_are_refused(store: MemoryStore, terms: dict[str, Any]) -> None:
    before = len(store.facts)
    with pytest.raises(Invalid):
        create(store, **terms)
    assert len(store.facts) == before


def test_a_code_is_created_once_and_disabled_once(store: MemoryStore) -> None:
    before = len(store.facts)
    assert create(store, **FIXED)
    assert create(store, **FIXED) is None
    with pytest.raises(Invalid, match="other terms"):
        create(store, **FIXED | {"fixed": rupees(51)})
    disable_promo(store, code="DIWALI26", at=NOON, by="operator")
    assert disable_promo(store, code="DIWALI26", at=NOON, by="operator") is None
    assert store.names(before) == ["PromoCreated", "PromoDisabled"]
    with pytest.raises(NotFound):
        disable_promo(store, code="NOSUCH", at=NOON, by="operator")


@pytest.mark.parametrize(
    ("terms", "at", "says"),
    [
        ({}, NOON, ""),
        ({"starts": NOON}, NOON, ""),
        ({"starts": NOON + 1}, NOON, "yet"),
        ({"ends": NOON + 1}, NOON, ""),
        ({"ends": NOON}, NOON, "over"),
        ({"uses_max": 2}, NOON, ""),
        ({"uses_max": 1}, NOON, "as often as it may"),
    ],
)
def test_a_code_has_its_time_and_its_number_of_uses(
    store: MemoryStore, terms: dict[str, Any], at: int, says: str
) -> None:
    create(store, **FIXED | terms)
    store.facts.append(("redemption:DIWALI26", PromoRedeemed(code="DIWALI26", org="org_b", payment="p", amount=1)))
    if not says:
        assert check(store, "DIWALI26", at=at).credit(rupees(100)) == rupees(50)
        return
    with pytest.raises(Invalid, match=says) as refused:
        check(store, "DIWALI26", at=at)
    assert refused.value.code == "promo_invalid"


def test_unknown_disabled_and_redeemed_codes_are_told_apart(store: MemoryStore) -> None:
    create(store, **FIXED)
    create(store, **PERCENT)
    disable_promo(store, code="TENPC", at=NOON, by="operator")
    grant_credit(store, org="org_a", grant="promo:DIWALI26", amount=1, reason="promo", at=NOON, by="t")
    for code, says in (("NOSUCH", "no such"), ("TENPC", "no longer")):
        with pytest.raises(Invalid, match=says):
            check(store, code)
    with pytest.raises(Conflict) as refused:
        check(store, "DIWALI26")
    assert refused.value.code == "promo_redeemed"


@given(bought_paise=st.integers(0, 10**12), percent=st.integers(1, 100), cap_paise=st.integers(1, 10**9))
def test_a_percentage_is_rounded_down_to_a_paisa_and_capped(bought_paise: int, percent: int, cap_paise: int) -> None:
    bought, cap = bought_paise * NANOS_PER_PAISA, cap_paise * NANOS_PER_PAISA
    share = percent_down_to_paisa(bought, percent)
    assert share % NANOS_PER_PAISA == 0
    assert 0 <= bought * percent - share * 100 < 100 * NANOS_PER_PAISA
    terms = PromoCreated(code="ABC", percent=percent, cap=cap)
    assert Promo(terms).credit(bought) == min(share, cap)


def test_credit_lives_so_many_days_or_for_ever() -> None:
    assert Promo(PromoCreated(code="ABC", fixed=1)).expires(NOON) is None
    assert Promo(PromoCreated(code="ABC", fixed=1, credit_days=7)).expires(NOON) == NOON + 7 * DAY
