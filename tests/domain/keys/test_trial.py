"""Trials: given an org without credit, when keys are minted and credit comes in, then these tiers and limits."""

import pytest

from domain.accounts.org import Org
from domain.kernel.errors import Invalid
from domain.kernel.money import Balance, rupees
from domain.kernel.store import fold
from domain.keys.directory import Caller, Directory
from domain.keys.events import TrialBegan
from domain.keys.key import key_digest, make_secret
from domain.keys.service import KeyTerms, KeyWishes, mint_key, update_key
from domain.keys.trial import TrialTerms, end_overtaken_trial, needs_trial
from domain.ledger.account import Account
from domain.ledger.credit import grant_credit
from domain.ledger.events import CreditAdded, CreditGranted, CreditHeld
from tests.given import NOON, PEPPER, given_org
from tests.memory_store import MemoryStore

TERMS = TrialTerms(models=frozenset({"small"}))


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store, inr=0)
    return store


def mint(
    store: MemoryStore, key: str, trial: TrialTerms | None = TERMS, scope: str = "inference", **limits: int
) -> str:
    secret = make_secret(key.encode().ljust(24, b"x"), kind="trial-")
    mint_key(
        store,
        org="org_a",
        key=key,
        secret=secret,
        pepper=PEPPER,
        terms=KeyTerms(name=key, scope=scope, **limits),
        active_max=9,
        at=NOON,
        by="test",
        trial=trial,
    )
    return secret


def caller(store: MemoryStore, secret: str) -> Caller:
    found = fold(Directory(), store.facts).find(key_digest(PEPPER, secret.encode()))
    assert found is not None
    return found


def test_the_first_trial_key_begins_the_trial_that_all_share(store: MemoryStore) -> None:
    before = len(store.facts)
    first, second = mint(store, "key_1"), mint(store, "key_2", rpm_limit=5)
    assert store.names(before) == ["TrialBegan", "KeyMinted", "KeyMinted"]
    for secret, own in ((first, None), (second, 5)):
        found = caller(store, secret)
        assert (found.tier, found.allowance, found.trial_rpm_limit) == ("trial", "trial:org_a", 60)
        assert found.rpm_limit == own
    assert first.startswith("br-trial-")


def test_the_first_credit_makes_standard_keys_of_them_for_good(store: MemoryStore) -> None:
    secret = mint(store, "key_1")
    grant_credit(store, org="org_a", grant="g", amount=1, reason="r", at=NOON, by="test")
    grant_credit(store, org="org_a", grant="h", amount=1, reason="r", at=NOON, by="test")
    assert store.names().count("TrialEnded") == 1
    found = caller(store, secret)
    assert (found.tier, found.allowance, found.trial_rpm_limit) == ("standard", "", None)
    assert caller(store, mint(store, "key_2")).tier == "standard"


def test_credit_that_comes_while_a_trial_begins_ends_it(store: MemoryStore) -> None:
    """The route saw no credit; by the time of its decision there is."""
    grant_credit(store, org="org_a", grant="g", amount=1, reason="r", at=NOON, by="test")
    assert caller(store, mint(store, "key_1")).tier == "standard"
    assert store.names()[-2:] == ["KeyMinted", "TrialEnded"]


def test_credit_that_is_all_in_calls_ends_a_trial_too(store: MemoryStore) -> None:
    """It came in, and a call of a standard key took it, before the trial key was there."""
    mint(store, "key_0", trial=None)
    grant_credit(store, org="org_a", grant="g", amount=5, reason="r", at=NOON, by="test")
    held = CreditHeld(
        at=NOON,
        org="org_a",
        key="key_0",
        workspace="ws_org_a",
        amount=5,
        expires=NOON + 1,
        endpoint="chat",
        model="m",
        candidates=("p/m",),
    )
    store.facts += [("trial:org_a", TrialBegan(org="org_a", rpm_limit=1, daily_limit=1)), ("request:r", held)]
    assert store.balance("org_a").available == 0
    end_overtaken_trial(store, org="org_a", at=NOON, by="test")
    assert store.names()[-1] == "TrialEnded"


def test_an_operator_who_opens_no_model_gives_no_trial(store: MemoryStore) -> None:
    with pytest.raises(Invalid) as refused:
        mint(store, "key_1", TrialTerms())
    assert refused.value.code == "trial_ceiling"
    assert "key_1" not in fold(Org(), store.facts).keys


@pytest.mark.parametrize("limits", [{"rpm_limit": 61}, {"daily_limit": 201}])
def test_no_limit_of_a_trial_key_is_above_the_trial(store: MemoryStore, limits: dict[str, int]) -> None:
    with pytest.raises(Invalid) as refused:
        mint(store, "key_1", **limits)
    assert (refused.value.code, refused.value.param) == ("trial_ceiling", *limits)
    mint(store, "key_1", rpm_limit=60, daily_limit=200)
    with pytest.raises(Invalid) as refused:
        update_key(store, org="org_a", key="key_1", wishes=KeyWishes(**limits), at=NOON, by="test")
    assert (refused.value.code, refused.value.param) == ("trial_ceiling", *limits)
    grant_credit(store, org="org_a", grant="g", amount=1, reason="r", at=NOON, by="test")
    update_key(store, org="org_a", key="key_1", wishes=KeyWishes(**limits), at=NOON, by="test")


def test_a_trial_key_calls_models_and_no_more(store: MemoryStore) -> None:
    with pytest.raises(Invalid) as refused:
        mint(store, "key_1", scope="full")
    assert (refused.value.code, refused.value.param) == ("trial_ceiling", "scope")


def test_who_paid_or_has_something_to_spend_needs_no_trial() -> None:
    promo = Account().evolve("", CreditGranted(org="o", grant="g", amount=rupees(1), reason="r"))
    paid = Account().evolve("", CreditAdded(org="o", payment="p", order="o", amount=rupees(1)))
    assert needs_trial(Account(), Balance())
    assert needs_trial(promo, Balance(spent=rupees(1)))
    assert not needs_trial(promo, Balance(available=1))
    assert not needs_trial(promo, Balance(held=1))
    assert not needs_trial(paid, Balance(spent=rupees(1)))
