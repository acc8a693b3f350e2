"""The end of a person: what it takes along, what stays, and when it is refused."""

from collections.abc import Callable

import pytest

from domain.accounts.erasure import erase_person
from domain.accounts.members import accept_invitation, decline_invitation
from domain.accounts.org import Org
from domain.accounts.person import Person, email_digest
from domain.kernel.errors import Conflict, NotFound, Unauthenticated, Unavailable
from tests.given import (
    NOON,
    PEPPER,
    given_invitation,
    given_key,
    given_member,
    given_person,
    given_session,
    given_team,
)
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """Asha owns a team that Ravi is a member of; Ravi has a key of his own and one of the team."""
    store = MemoryStore()
    given_person(store, "asha")
    given_team(store, "usr_asha")
    given_member(store, "org_team", "ravi", role="admin", by="user:usr_asha")
    given_session(store, "usr_ravi", active="org_team", session="ses_1")
    given_key(store, "org_home_ravi", key="key_own", by="user:usr_ravi")
    given_key(store, "org_team", key="key_team", by="user:usr_ravi")
    return store


def erase(store: MemoryStore, person: str) -> list[str]:
    """Everything that was forgotten."""
    forgotten: list[str] = []
    home = f"org_home_{person.removeprefix('usr_')}"
    erase_person(
        store, forgotten.append, person=person, home=home, teams=["org_team"], at=NOON + 1, by=f"user:{person}"
    )
    return forgotten


def org(store: MemoryStore, id: str) -> Org:
    return store.fold(f"org:{id}", Org())


def test_sessions_memberships_and_the_own_org_with_its_keys_end_at_once(store: MemoryStore) -> None:
    assert erase(store, "usr_ravi") == ["user:usr_ravi", "org_home_ravi"]
    person = store.fold("user:usr_ravi", Person())
    assert (person.exists, person.sessions, person.name) == (False, {}, "")
    home, team = org(store, "org_home_ravi"), org(store, "org_team")
    assert (home.exists, home.keys["key_own"].revoked) == (False, NOON + 1)
    assert (list(team.members), team.keys["key_team"].revoked) == (["usr_asha"], None)
    assert team.role_of("key:key_team") is None, "the team's key has lost what its minter lost"
    with pytest.raises(Unauthenticated):
        given_session(store, "usr_ravi", active="org_home_ravi")


def test_a_repeat_appends_nothing_and_forgets_again(store: MemoryStore) -> None:
    erase(store, "usr_ravi")
    before = list(store.facts)
    assert erase(store, "usr_ravi") == ["user:usr_ravi", "org_home_ravi"]
    assert store.facts == before


def test_the_last_owner_of_a_team_is_not_erased(store: MemoryStore) -> None:
    before = list(store.facts)
    with pytest.raises(Conflict) as refused:
        erase(store, "usr_asha")
    assert refused.value.code == "last_owner"
    assert store.facts == before
    with pytest.raises(NotFound):
        erase(store, "usr_nobody")


def test_who_has_joined_another_team_meanwhile_is_not_erased_until_that_is_known(store: MemoryStore) -> None:
    """`teams` is what somebody knew a moment ago: nobody may be erased and stay a member."""
    given_team(store, "usr_asha", "org_other")
    invitation = given_invitation(store, "org_other", "ravi@example.com", by="user:usr_asha")
    digests = {email_digest(PEPPER, "ravi@example.com")}
    accept_invitation(store, org="org_other", invitation=invitation, person="usr_ravi", email_digests=digests, at=NOON)
    before = list(store.facts)
    with pytest.raises(Unavailable):
        erase(store, "usr_ravi")
    assert store.facts == before


@pytest.mark.parametrize("answer", [accept_invitation, decline_invitation])
def test_an_invitation_is_not_answered_by_who_is_erased_or_has_lost_the_address(
    store: MemoryStore, answer: Callable[..., object]
) -> None:
    given_team(store, "usr_asha", "org_other")
    invitation = given_invitation(store, "org_other", "ravi@example.com", by="user:usr_asha")
    digests = {email_digest(PEPPER, "ravi@example.com")}
    erase(store, "usr_ravi")
    for person in ("usr_ravi", "usr_asha"):
        with pytest.raises(NotFound):
            answer(store, org="org_other", invitation=invitation, person=person, email_digests=digests, at=NOON + 2)
    assert list(org(store, "org_other").members) == ["usr_asha"]
