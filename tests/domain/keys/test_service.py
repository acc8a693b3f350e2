"""Keys: given what happened, when somebody asks, then these facts, or this refusal."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts.members import change_role
from domain.accounts.org import Org
from domain.accounts.service import create_workspace, delete_workspace, update_workspace
from domain.kernel.clock import DAY
from domain.kernel.errors import Forbidden, Invalid, NotFound, Refusal
from domain.kernel.store import fold
from domain.keys.directory import Directory
from domain.keys.events import KeyLimitsChanged, KeyMinted
from domain.keys.key import key_digest
from domain.keys.service import KeyTerms, KeyWishes, mint_key, revoke_key, rotate_key, update_key
from tests.given import NOON, PEPPER, given_key, given_member, given_org, given_person, given_team, given_workspace
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store)
    return store


def change(store: MemoryStore, key: str, wishes: KeyWishes, *, at: int = NOON) -> None:
    update_key(store, org="org_a", key=key, wishes=wishes, at=at, by="t")


def code_of(refused: pytest.ExceptionInfo[Refusal]) -> tuple[str, str | None]:
    return refused.value.code, refused.value.param


def test_a_minted_key_is_recorded_by_its_digest_and_first_letters_alone(store: MemoryStore) -> None:
    key = given_key(store, "org_a", terms=KeyTerms(name=" ci ", expires_days=2, models=("b", "a", "b")))
    minted = store.facts[-1][1]
    assert isinstance(minted, KeyMinted)
    assert (minted.name, minted.workspace, minted.expires) == ("ci", "ws_org_a", NOON + 2 * DAY)
    assert minted.models == ("b", "a")
    assert minted.digest == key_digest(PEPPER, key.secret.encode()).hex()
    assert key.secret.startswith(minted.prefix)
    assert len(minted.prefix) == 12
    assert key.secret not in str(msgspec.json.encode(minted))


def test_expired_and_revoked_keys_make_room_and_free_their_names(store: MemoryStore) -> None:
    for number in range(5):
        given_key(store, "org_a", key=f"key_{number}", terms=KeyTerms(name=f"k{number}", expires_days=1))
    with pytest.raises(Invalid) as refused:
        given_key(store, "org_a", terms=KeyTerms(name="k5"))
    assert code_of(refused)[0] == "key_limit"
    revoke_key(store, org="org_a", key="key_0", reason="", at=NOON, by="t")
    given_key(store, "org_a", terms=KeyTerms(name="k0"))
    given_key(store, "org_a", terms=KeyTerms(name="k1"), at=NOON + DAY)


def test_a_disabled_key_keeps_its_place(store: MemoryStore) -> None:
    key = given_key(store, "org_a", terms=KeyTerms(name="k"))
    change(store, key.key, KeyWishes(disabled=True))
    with pytest.raises(Invalid) as refused:
        given_key(store, "org_a", terms=KeyTerms(name="k"))
    assert code_of(refused) == ("duplicate_key_name", "name")


def test_a_key_that_replaces_another_revokes_it_in_the_same_breath(store: MemoryStore) -> None:
    old = given_key(store, "org_a", key="key_old", terms=KeyTerms(name="development"))
    before = len(store.facts)
    mint_key(
        store,
        org="org_a",
        key="key_new",
        secret="br-new",
        pepper=PEPPER,
        terms=KeyTerms(name="development"),
        active_max=1,
        at=NOON,
        by="t",
        replacing="development",
    )
    assert [stream for stream, _ in store.facts[before:]] == [f"key:{old.key}", "key:key_new"]
    assert store.names(before) == ["KeyRevoked", "KeyMinted"]


def test_one_changed_limit_is_recorded_with_all_limits(store: MemoryStore) -> None:
    key = given_key(store, "org_a", terms=KeyTerms(name="k", monthly_budget=5, rpm_limit=6, daily_limit=7))
    change(store, key.key, KeyWishes(daily_limit=None))
    expected = KeyLimitsChanged(org="org_a", monthly_budget=5, rpm_limit=6, daily_limit=None, at=NOON, by="t")
    assert store.facts[-1] == (f"key:{key.key}", expected)


def test_asking_for_what_is_already_so_changes_nothing(store: MemoryStore) -> None:
    key = given_key(store, "org_a", terms=KeyTerms(name="k", daily_limit=7, models=("m",)))
    before = len(store.facts)
    change(store, key.key, KeyWishes(name="k", daily_limit=7, models=("m",), disabled=False))
    change(store, key.key, KeyWishes())
    assert store.names(before) == []
    revoke_key(store, org="org_a", key=key.key, reason="", at=NOON, by="t")
    revoke_key(store, org="org_a", key=key.key, reason="", at=NOON, by="t")
    assert store.names(before) == ["KeyRevoked"]


def test_revoked_and_foreign_keys_cannot_be_changed(store: MemoryStore) -> None:
    given_org(store, "org_b")
    foreign = given_key(store, "org_b")
    key = given_key(store, "org_a")
    revoke_key(store, org="org_a", key=key.key, reason="", at=NOON, by="t")
    for victim in (foreign, key):
        with pytest.raises(NotFound):
            change(store, victim.key, KeyWishes(name="x"))
    with pytest.raises(NotFound):
        revoke_key(store, org="org_a", key=foreign.key, reason="", at=NOON, by="t")


WISHES = st.builds(
    KeyWishes,
    name=st.sampled_from(["a", "b"]),
    daily_limit=st.none() | st.integers(0, 9),
    models=st.sampled_from([(), ("m",), ("m", "n")]),
    disabled=st.booleans(),
)
STEPS = st.lists(st.tuples(st.integers(0, 3), st.just("revoke") | WISHES), max_size=20)


@given(STEPS)
def test_the_directory_knows_exactly_the_keys_that_open_doors(steps: list[tuple[int, object]]) -> None:
    store = MemoryStore()
    given_org(store)
    keys = [given_key(store, "org_a", key=f"key_{n}", terms=KeyTerms(name=f"k{n}")) for n in range(4)]
    for number, step in steps:
        try:
            if isinstance(step, KeyWishes):
                change(store, keys[number].key, step)
            else:
                revoke_key(store, org="org_a", key=keys[number].key, reason="", at=NOON, by="t")
        except Refusal:
            pass
    directory = fold(Directory(), store.facts)
    org = fold(Org(), store.facts)
    assert directory.orgs["org_a"] == org
    for key in keys:
        caller = directory.find(key_digest(PEPPER, key.secret.encode()))
        known = org.keys[key.key]
        assert (caller is not None) is (known.revoked is None and not known.disabled)
        if caller is not None:
            assert (caller.name, caller.daily_limit, caller.workspace) == (
                known.name,
                known.daily_limit,
                "ws_org_a",
            )
            assert caller.models == (frozenset(known.models) or None)
    names = [key.name for key in org.active_keys(NOON)]
    assert len(names) == len(set(names))


WHAT_ADMINS_DO: dict[str, Callable[[MemoryStore, dict[str, Any]], object]] = {
    "mint": lambda store, who: given_key(store, "org_team", by=str(who["by"])),
    "change": lambda store, who: update_key(store, key="key_1", wishes=KeyWishes(rpm_limit=None, name="x"), **who),
    "rotate": lambda store, who: rotate_key(store, key="key_1", secret="br-new", pepper=PEPPER, grace_minutes=0, **who),
    "revoke": lambda store, who: revoke_key(store, key="key_1", reason="r", **who),
    "make a workspace": lambda store, who: create_workspace(
        store, workspace="ws_new", name="n", monthly_budget=None, workspaces_max=20, **who
    ),
    "change a workspace": lambda store, who: update_workspace(store, workspace="ws_org_team", name="n", **who),
    "delete a workspace": lambda store, who: delete_workspace(store, workspace="ws_other", **who),
}


@pytest.mark.parametrize("what", WHAT_ADMINS_DO)
def test_who_is_no_admin_any_more_changes_nothing_even_where_nobody_has_heard_of_it(
    store: MemoryStore, what: str
) -> None:
    given_person(store, "asha")
    given_team(store, "usr_asha")
    given_member(store, "org_team", "ravi", role="admin", by="user:usr_asha")
    given_workspace(store, "org_team", "ws_other")
    given_key(store, "org_team", key="key_1", by="user:usr_ravi")
    change_role(store, org="org_team", person="usr_ravi", role="member", at=NOON, by="user:usr_asha")
    before = list(store.facts)
    for by in ("user:usr_ravi", "user:usr_stranger", "key:key_1"):
        with pytest.raises(Forbidden) as refused:
            WHAT_ADMINS_DO[what](store, {"org": "org_team", "at": NOON, "by": by})
        assert refused.value.code == "forbidden_role"
    assert store.facts == before
    change_role(store, org="org_team", person="usr_ravi", role="admin", at=NOON, by="user:usr_asha")
    WHAT_ADMINS_DO[what](store, {"org": "org_team", "at": NOON, "by": "user:usr_ravi"})
