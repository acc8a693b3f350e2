"""Ephemeral keys: what the parent may not do they may not either, and they leave the directory when they are over."""

from typing import Any

import pytest

from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Forbidden, Invalid
from domain.kernel.store import fold
from domain.keys.directory import CLOCKS_APART, Caller, Directory
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.key import key_digest, make_secret
from domain.keys.service import KeyTerms, KeyWishes, revoke_key, rotate_key, update_key
from tests.given import NOON, PEPPER, Minted, given_key, given_org
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store)
    return store


def minted(store: MemoryStore, parent: Minted, number: int = 1, *, at: int = NOON, **terms: Any) -> str:
    secret = make_secret(number.to_bytes(24), kind="eph-")
    known = fold(Directory(), store.facts).find(key_digest(PEPPER, parent.secret.encode()))
    assert known is not None
    mint_ephemeral_key(
        store,
        key=f"eph_{number}",
        secret=secret,
        pepper=PEPPER,
        parent=parent.key,
        parent_models=known.models,
        parent_expires=known.expires,
        terms=EphemeralTerms(**terms),
        at=at,
    )
    return secret


def find(store: MemoryStore, secret: str) -> Caller | None:
    return fold(Directory(), store.facts).find(key_digest(PEPPER, secret.encode()))


def test_it_calls_as_its_parent_with_less(store: MemoryStore) -> None:
    parent = given_key(store, "org_a", terms=KeyTerms(name="p", rpm_limit=9, models=("a", "b")))
    caller = find(store, minted(store, parent, ttl_seconds=60, budget=5, rpm_limit=2, models=("b",)))
    assert caller is not None
    assert (caller.key_id, caller.by, caller.tier, caller.scope) == (parent.key, "key:eph_1", "ephemeral", "inference")
    assert (caller.rpm_limit, caller.child_rpm_limit, caller.allowance) == (9, 2, "eph_1")
    assert (caller.models, caller.expires) == (frozenset({"b"}), NOON + 60 * SECOND)
    plain = find(store, minted(store, parent, 2))
    assert plain is not None
    assert (plain.models, plain.allowance, plain.expires) == (frozenset({"a", "b"}), "", NOON + 600 * SECOND)


def test_it_dies_with_its_parent_and_lives_on_through_its_rotation(store: MemoryStore) -> None:
    parent = given_key(store, "org_a")
    secret = minted(store, parent)
    rotate_key(
        store,
        org="org_a",
        key=parent.key,
        secret=make_secret(b"r" * 24),
        pepper=PEPPER,
        grace_minutes=0,
        at=NOON,
        by="t",
    )
    caller = find(store, secret)
    assert caller is not None
    assert caller.expires == NOON + 600 * SECOND
    for disabled in (True, False):
        update_key(store, org="org_a", key=parent.key, wishes=KeyWishes(disabled=disabled), at=NOON, by="t")
        assert (find(store, secret) is None) is disabled
    revoke_key(store, org="org_a", key=parent.key, reason="", at=NOON, by="t")
    assert find(store, secret) is None


def test_what_the_parent_loses_it_loses(store: MemoryStore) -> None:
    parent = given_key(store, "org_a", terms=KeyTerms(name="p", models=("a", "b")))
    secret = minted(store, parent, models=("b",))
    update_key(store, org="org_a", key=parent.key, wishes=KeyWishes(models=("a",)), at=NOON, by="t")
    caller = find(store, secret)
    assert caller is not None
    assert caller.models == frozenset()  # none, not all


def test_it_never_outlives_its_parent(store: MemoryStore) -> None:
    parent = given_key(store, "org_a", terms=KeyTerms(name="p", expires_days=1))
    caller = find(store, minted(store, parent, at=NOON + DAY - 5 * SECOND, ttl_seconds=60))
    assert caller is not None
    assert caller.expires == NOON + DAY


@pytest.mark.parametrize("terms", [{"ttl_seconds": 9}, {"ttl_seconds": 7_201}, {"budget": -1}, {"rpm_limit": 0}])
def test_what_is_out_of_bounds_is_refused(store: MemoryStore, terms: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        minted(store, given_key(store, "org_a"), **terms)


def test_it_is_given_no_model_that_the_parent_may_not_use(store: MemoryStore) -> None:
    with pytest.raises(Forbidden) as refused:
        minted(store, given_key(store, "org_a", terms=KeyTerms(name="p", models=("a",))), models=("a", "b"))
    assert refused.value.code == "forbidden_scope"


def test_thousands_that_are_over_leave_nothing_behind(store: MemoryStore) -> None:
    parent = given_key(store, "org_a")
    directory = fold(Directory(), store.facts)
    seen, at = len(store.facts), NOON
    for number in range(3_000):
        at += SECOND
        mint_ephemeral_key(
            store,
            key=f"eph_{number}",
            secret=f"br-eph-{number}",
            pepper=PEPPER,
            parent=parent.key,
            parent_models=None,
            parent_expires=None,
            terms=EphemeralTerms(ttl_seconds=10),
            at=at,
        )
        store.facts, (fact,) = store.facts[:seen], store.facts[seen:]
        directory.evolve(*fact)
        assert directory.children(parent.key) <= 10 + CLOCKS_APART // SECOND
    revoke_key(store, org="org_a", key=parent.key, reason="", at=at + DAY, by="t")
    directory.evolve(*store.facts[-1])
    assert directory.children(parent.key) == 0
    assert directory._ephemeral == directory._children == {}
