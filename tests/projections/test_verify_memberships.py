"""`verify` sees access that the rules would not have given."""

import pytest

from domain.accounts.erasure import erase_person
from domain.accounts.events import (
    InvitationAccepted,
    MemberAdded,
    MemberInvited,
    MemberRemoved,
    OrgDeleted,
    PersonErased,
    RoleChanged,
)
from domain.accounts.teams import delete_org
from domain.kernel.events import Event
from domain.keys.events import KeyMinted
from projections.verify_memberships import Memberships
from tests.given import NOON, given_key, given_member, given_person, given_team
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """A team of an owner and a member, with a key."""
    store = MemoryStore()
    given_person(store, "asha")
    given_team(store, "usr_asha")
    given_member(store, "org_team", "ravi", by="user:usr_asha")
    given_key(store, "org_team", key="key_1")
    return store


def problems(store: MemoryStore, *more: tuple[str, Event]) -> list[str]:
    checks = Memberships()
    return [problem for fact in [*store.facts, *more] for problem in checks.enter(*fact)]


def test_what_the_product_itself_records_is_clean(store: MemoryStore) -> None:
    delete_org(store, org="org_team", founder="usr_asha", at=NOON, by="user:usr_asha")
    assert problems(store) == []


KEY = KeyMinted(org="org_team", workspace="w", name="n", prefix="p", digest="00")
INVITED = MemberInvited(
    org="org_team", invitation="inv_1", email="", email_digest="aa", role="member", at=NOON, expires=NOON + 5
)
ACCEPTED = InvitationAccepted(org="org_team", invitation="inv_1", person="usr_x", at=NOON + 5)


@pytest.mark.parametrize(
    ("forged", "named"),
    [
        ([RoleChanged(org="org_team", person="usr_asha", role="member")], "no owner"),
        ([MemberRemoved(org="org_team", person="usr_asha")], "no owner"),
        ([MemberRemoved(org="org_team", person="usr_x")], "no member"),
        ([MemberAdded(org="org_team", person="usr_ravi", role="owner")], "theirs already"),
        ([INVITED, ACCEPTED], "not open"),
        ([ACCEPTED], "not open"),
        ([OrgDeleted(org="org_team")], "live keys"),
    ],
)
def test_what_breaks_a_rule_is_named(store: MemoryStore, forged: list[Event], named: str) -> None:
    (problem,) = problems(store, *[("org:org_team", event) for event in forged])
    assert named in problem


def test_a_deleted_org_gets_nothing_new(store: MemoryStore) -> None:
    delete_org(store, org="org_team", founder="usr_asha", at=NOON, by="user:usr_asha")
    assert problems(store, ("key:key_2", KEY)) == ["a key was minted for an org that is deleted"]
    assert problems(store, ("org:org_team", MemberAdded(org="org_team", person="usr_x", role="owner")))


def test_a_personal_org_is_of_one_person(store: MemoryStore) -> None:
    stranger = MemberAdded(org="org_home_asha", person="usr_ravi", role="member")
    assert problems(store, ("org:org_home_asha", stranger)) == ["a personal org has more than one person"]


def test_an_erased_person_is_nobodys_member_and_alone_takes_their_own_org_along(store: MemoryStore) -> None:
    gone = {"person": "usr_ravi", "home": "org_home_ravi", "at": NOON, "by": "user:usr_ravi"}
    before = list(store.facts)
    erase_person(store, lambda _: None, teams=["org_team"], **gone)
    assert problems(store) == []
    assert problems(store, ("org:org_home_asha", OrgDeleted(org="org_home_asha"))) == [
        "an org was deleted that has live keys, or is the own of a person who is not erased"
    ]
    back = MemberAdded(org="org_team", person="usr_ravi", role="member")
    assert "is erased" in problems(store, ("org:org_team", back))[0]
    store.facts[:] = before
    assert problems(store, ("user:usr_ravi", PersonErased())) == ["a person was erased who is still a member"]
