"""Teams: given who is in, when somebody asks, then these facts, or this refusal."""

import pytest

from domain.accounts.events import MemberInvited
from domain.accounts.members import (
    accept_invitation,
    change_role,
    decline_invitation,
    remove_member,
    withdraw_invitation,
)
from domain.accounts.org import Org
from domain.accounts.person import Person, email_digest
from domain.accounts.teams import delete_org, found_team
from domain.kernel.clock import DAY
from domain.kernel.errors import Invalid, NotFound, Refusal
from domain.keys.events import KeyMinted
from domain.keys.service import KeyTerms, mint_key
from tests.given import (
    NOON,
    PEPPER,
    given_invitation,
    given_key,
    given_member,
    given_org,
    given_person,
    given_team,
)
from tests.memory_store import MemoryStore

OWNER, ADMIN, MEMBER = "user:usr_asha", "user:usr_admin", "user:usr_member"


@pytest.fixture
def store() -> MemoryStore:
    """A team of an owner, an admin and a member."""
    store = MemoryStore()
    given_person(store, "asha")
    given_team(store, "usr_asha")
    given_member(store, "org_team", "admin", role="admin", by=OWNER)
    given_member(store, "org_team", "member", by=ADMIN)
    return store


def refusal(code: str) -> "pytest.RaisesExc[Refusal]":
    return pytest.RaisesExc(Refusal, check=lambda refused: refused.code == code)


def org(store: MemoryStore, id: str = "org_team") -> Org:
    return store.fold(f"org:{id}", Org())


def roles(store: MemoryStore) -> dict[str, str]:
    return {member.person.removeprefix("usr_"): member.role for member in org(store).members.values()}


def answer_as(store: MemoryStore, name: str, invitation: str, *, at: int = NOON) -> None:
    digests = {email_digest(PEPPER, f"{name}@example.com")}
    accept_invitation(store, org="org_team", invitation=invitation, person=f"usr_{name}", email_digests=digests, at=at)


def minted(store: MemoryStore, key: str, *, by: str) -> str:
    """The actor that a key of full scope is."""
    terms = KeyTerms(name=key)
    mint_key(store, org="org_team", key=key, secret=f"br-{key}", pepper=PEPPER, terms=terms, active_max=9, at=1, by=by)
    return f"key:{key}"


def test_who_founds_a_team_owns_it(store: MemoryStore) -> None:
    assert roles(store) == {"asha": "owner", "admin": "admin", "member": "member"}
    assert org(store).founder == "usr_asha"
    before = len(store.facts)
    given_team(store, "usr_asha")
    assert store.names(before) == []


def test_a_person_founds_so_many_teams_and_a_deleted_one_makes_room(store: MemoryStore) -> None:
    def found(id: str) -> None:
        found_team(store, person="usr_asha", org=id, workspace=f"ws_{id}", name="T", teams_max=2, at=NOON)

    found("org_2")
    with refusal("org_limit"):
        found("org_3")
    delete_org(store, org="org_team", founder="usr_asha", at=NOON, by=OWNER)
    found("org_3")
    assert store.fold("user:usr_asha", Person()).teams == ("org_2", "org_3")


def test_an_invitation_is_for_whoever_has_verified_the_address(store: MemoryStore) -> None:
    given_person(store, "ravi")
    invitation = given_invitation(store, "org_team", "Ravi@Example.com", role="admin", by=OWNER)
    with refusal("not_found"):
        answer_as(store, "admin", invitation)
    answer_as(store, "ravi", invitation)
    assert roles(store)["ravi"] == "admin"
    with refusal("not_found"):
        answer_as(store, "ravi", invitation)


def test_an_invitation_runs_out_after_14_days(store: MemoryStore) -> None:
    given_person(store, "ravi")
    invitation = given_invitation(store, "org_team", "ravi@example.com", by=ADMIN)
    with refusal("not_found"):
        answer_as(store, "ravi", invitation, at=NOON + 14 * DAY)
    answer_as(store, "ravi", invitation, at=NOON + 14 * DAY - 1)


def test_inviting_again_replaces_and_withdrawing_and_declining_end(store: MemoryStore) -> None:
    given_person(store, "ravi")
    first = given_invitation(store, "org_team", "ravi@example.com", by=ADMIN)
    second = given_invitation(store, "org_team", "RAVI@example.com", role="admin", by=ADMIN)
    assert [each.id for each in org(store).open_invitations(NOON)] == [second]
    with refusal("not_found"):
        answer_as(store, "ravi", first)
    decline_invitation(
        store,
        org="org_team",
        invitation=second,
        person="usr_ravi",
        email_digests={email_digest(PEPPER, "ravi@example.com")},
        at=NOON,
    )
    third = given_invitation(store, "org_team", "ravi@example.com", by=ADMIN)
    withdraw_invitation(store, org="org_team", invitation=third, at=NOON, by=ADMIN)
    with refusal("not_found"):
        withdraw_invitation(store, org="org_team", invitation=third, at=NOON, by=ADMIN)
    assert not org(store).invitations


def test_members_and_open_invitations_are_counted_together(store: MemoryStore) -> None:
    given_invitation(store, "org_team", "one@example.com", by=OWNER, people_max=4)
    with refusal("member_limit"):
        given_invitation(store, "org_team", "two@example.com", by=OWNER, people_max=4)
    given_invitation(store, "org_team", "one@example.com", by=OWNER, people_max=4)
    given_invitation(store, "org_team", "two@example.com", by=OWNER, people_max=4, at=NOON + 14 * DAY)


def test_who_is_a_member_already_keeps_their_role(store: MemoryStore) -> None:
    invitation = given_invitation(store, "org_team", "asha@example.com", by=ADMIN)
    before = len(store.facts)
    answer_as(store, "asha", invitation)
    assert store.names(before) == ["TeamJoined", "InvitationAccepted"]
    assert roles(store)["asha"] == "owner"


@pytest.mark.parametrize("role", ["", "Owner", "operator"])
def test_there_are_three_roles(store: MemoryStore, role: str) -> None:
    with refusal("invalid_request"):
        given_invitation(store, "org_team", "x@example.com", role=role, by=OWNER)
    with refusal("invalid_request"):
        change_role(store, org="org_team", person="usr_member", role=role, at=NOON, by=OWNER)


def test_a_member_changes_nothing_but_may_leave(store: MemoryStore) -> None:
    invitation = given_invitation(store, "org_team", "x@example.com", by=OWNER)
    with refusal("forbidden_role"):
        given_invitation(store, "org_team", "y@example.com", by=MEMBER)
    with refusal("forbidden_role"):
        withdraw_invitation(store, org="org_team", invitation=invitation, at=NOON, by=MEMBER)
    with refusal("forbidden_role"):
        change_role(store, org="org_team", person="usr_member", role="owner", at=NOON, by=MEMBER)
    with refusal("forbidden_role"):
        remove_member(store, org="org_team", person="usr_admin", at=NOON, by=MEMBER)
    with refusal("forbidden_role"):
        delete_org(store, org="org_team", founder="usr_asha", at=NOON, by=MEMBER)
    with refusal("forbidden_role"):
        minted(store, "key_m", by=MEMBER)
    remove_member(store, org="org_team", person="usr_member", at=NOON, by=MEMBER)
    assert "member" not in roles(store)
    with refusal("not_found"):
        remove_member(store, org="org_team", person="usr_member", at=NOON, by=MEMBER)


def test_an_admin_does_nothing_to_owners_and_makes_none(store: MemoryStore) -> None:
    owner_to_be = given_invitation(store, "org_team", "x@example.com", role="owner", by=OWNER)
    for attempt in (
        lambda: given_invitation(store, "org_team", "y@example.com", role="owner", by=ADMIN),
        lambda: given_invitation(store, "org_team", "x@example.com", role="member", by=ADMIN),
        lambda: withdraw_invitation(store, org="org_team", invitation=owner_to_be, at=NOON, by=ADMIN),
        lambda: change_role(store, org="org_team", person="usr_asha", role="member", at=NOON, by=ADMIN),
        lambda: change_role(store, org="org_team", person="usr_admin", role="owner", at=NOON, by=ADMIN),
        lambda: remove_member(store, org="org_team", person="usr_asha", at=NOON, by=ADMIN),
        lambda: delete_org(store, org="org_team", founder="usr_asha", at=NOON, by=ADMIN),
    ):
        with refusal("forbidden_role"):
            attempt()
    change_role(store, org="org_team", person="usr_member", role="admin", at=NOON, by=ADMIN)
    remove_member(store, org="org_team", person="usr_member", at=NOON, by=ADMIN)


def test_the_last_owner_stays(store: MemoryStore) -> None:
    with refusal("last_owner"):
        remove_member(store, org="org_team", person="usr_asha", at=NOON, by=OWNER)
    with refusal("last_owner"):
        change_role(store, org="org_team", person="usr_asha", role="admin", at=NOON, by=OWNER)
    change_role(store, org="org_team", person="usr_admin", role="owner", at=NOON, by=OWNER)
    remove_member(store, org="org_team", person="usr_asha", at=NOON, by=ADMIN)
    with refusal("last_owner"):
        remove_member(store, org="org_team", person="usr_admin", at=NOON, by=ADMIN)


def test_a_stranger_finds_no_role_anywhere(store: MemoryStore) -> None:
    given_person(store, "ravi")
    with refusal("forbidden_role"):
        given_invitation(store, "org_team", "ravi@example.com", by="user:usr_ravi")
    with refusal("not_found"):
        remove_member(store, org="org_team", person="usr_ravi", at=NOON, by="user:usr_ravi")
    with pytest.raises(NotFound):
        given_invitation(store, "org_none", "ravi@example.com", by=OWNER)


def test_a_personal_org_is_of_one_person(store: MemoryStore) -> None:
    with refusal("personal_org"):
        given_invitation(store, "org_home_asha", "x@example.com", by=OWNER)
    with refusal("personal_org"):
        remove_member(store, org="org_home_asha", person="usr_asha", at=NOON, by=OWNER)
    with pytest.raises(Invalid, match="teams can be deleted"):
        delete_org(store, org="org_home_asha", founder="usr_asha", at=NOON, by=OWNER)


def test_the_first_person_of_an_org_is_its_owner(store: MemoryStore) -> None:
    given_org(store, "org_op")
    with refusal("last_owner"):
        given_invitation(store, "org_op", "x@example.com", role="admin", by="operator")
    given_member(store, "org_op", "ravi", role="owner", by="operator")
    given_invitation(store, "org_op", "x@example.com", role="admin", by="operator")
    assert org(store, "org_op").role_of("user:usr_ravi") == "owner"


def test_a_deleted_org_has_nobody_and_nothing_but_its_books(store: MemoryStore) -> None:
    live = minted(store, "key_1", by=OWNER)
    given_invitation(store, "org_team", "ravi@example.com", by=OWNER)
    before = len(store.facts)
    delete_org(store, org="org_team", founder="usr_asha", at=NOON, by=live)
    assert store.names(before) == ["KeyRevoked", "OrgDeleted", "TeamClosed"]
    gone = org(store)
    assert (gone.members, gone.invitations, gone.exists) == ({}, {}, False)
    for attempt in (
        lambda: delete_org(store, org="org_team", founder="usr_asha", at=NOON, by=OWNER),
        lambda: given_invitation(store, "org_team", "y@example.com", by="operator"),
        lambda: given_key(store, "org_team"),
    ):
        with refusal("not_found"):
            attempt()


# Keys


def test_a_key_has_the_role_of_whom_it_was_minted_by_and_never_more_than_they_have_now(store: MemoryStore) -> None:
    by_owner, by_admin = minted(store, "key_o", by=OWNER), minted(store, "key_a", by=ADMIN)
    by_key = minted(store, "key_k", by=by_admin)
    made = [event for _, event in store.facts if isinstance(event, KeyMinted)]
    assert [(event.role, event.minter) for event in made] == [
        ("owner", "usr_asha"),
        ("admin", "usr_admin"),
        ("admin", "usr_admin"),
    ]

    def now(*keys: str) -> list[str | None]:
        whole = org_with_keys(store)
        return [whole.role_of(key) for key in keys]

    assert now(by_owner, by_admin, by_key) == ["owner", "admin", "admin"]
    change_role(store, org="org_team", person="usr_admin", role="owner", at=NOON, by=OWNER)
    assert now(by_admin, by_key) == ["admin", "admin"], "no key grows"
    change_role(store, org="org_team", person="usr_admin", role="member", at=NOON, by=OWNER)
    assert now(by_admin, by_key) == ["member", "member"]
    with refusal("forbidden_role"):
        minted(store, "key_late", by=by_admin)
    remove_member(store, org="org_team", person="usr_admin", at=NOON, by=OWNER)
    assert now(by_owner, by_admin, by_key) == ["owner", None, None]


def test_an_operators_key_owns_and_one_for_inference_is_nobody(store: MemoryStore) -> None:
    given_key(store, "org_team", key="key_op")
    given_key(store, "org_team", key="key_i", terms=KeyTerms(name="i", scope="inference"))
    whole = org_with_keys(store)
    assert [whole.role_of(f"key:{key}") for key in ("key_op", "key_i", "key_none")] == ["owner", None, None]


def org_with_keys(store: MemoryStore) -> Org:
    """As a decision sees it."""
    return store.fold("org:org_team", Org())


def test_an_invitation_on_record_names_nobody(store: MemoryStore) -> None:
    given_invitation(store, "org_team", "ravi@example.com", by=OWNER)
    invited = store.facts[-1][1]
    assert isinstance(invited, MemberInvited)
    assert invited.email == "sealed for org_team: ravi@example.com"
    assert invited.email_digest == email_digest(PEPPER, "ravi@example.com")
