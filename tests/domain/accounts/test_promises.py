"""What must hold of every org, whatever its people do in whatever order."""

from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.accounts.events import MemberAdded
from domain.accounts.members import accept_invitation, change_role, remove_member, withdraw_invitation
from domain.accounts.org import Org
from domain.accounts.person import email_digest
from domain.accounts.roles import ROLES, reaches
from domain.accounts.teams import delete_org
from domain.kernel.errors import Refusal
from domain.keys.directory import Directory
from domain.keys.service import KeyTerms, mint_key
from tests.given import NOON, PEPPER, given_invitation, given_member, given_org, given_person, given_team
from tests.memory_store import MemoryStore

NAMES = ("asha", "ravi", "meera", "john")
PEOPLE_MAX = 3
ORGS = ("org_team", "org_op", "org_home_asha")

Step = tuple[str, str, str, str, str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["invite"] * 4 + ["accept"] * 4 + ["role"] * 3 + ["remove"] * 3 + ["withdraw", "key", "delete"]
        ),
        st.sampled_from(ORGS[:1] * 4 + ORGS),
        st.sampled_from([*(f"user:usr_{name}" for name in NAMES), "operator", "key:key_0", "key:key_1"]),
        st.sampled_from(NAMES),
        st.sampled_from(ROLES),
        st.integers(0, 8),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS)
def test_whatever_people_do_the_promises_of_an_org_hold(steps: list[Step]) -> None:
    store = MemoryStore()
    for name in NAMES:
        given_person(store, name)
    given_team(store, "usr_asha")
    given_member(store, "org_team", "ravi", role="admin", by="user:usr_asha")
    given_org(store, "org_op")
    for number, name in enumerate(("ravi", "asha")):
        given_full_key(store, "org_team", f"key_{number}", by=f"user:usr_{name}", at=NOON)
    keys = 2
    for days, (kind, org, by, name, role, wait) in enumerate(steps):
        at = NOON + (days + wait) * 86_400_000_000
        before = {id: org_of(store, id) for id in ORGS}
        with suppress(Refusal):
            if kind == "key":
                given_full_key(store, org, f"key_{keys}", by=by, at=at)
                keys += 1
            else:
                ACTIONS[kind](store, org, by, name, role, at)
        check(store, at=at, before=before)
    directory = Directory()
    for fact in store.facts:
        directory.evolve(*fact)
    for name in NAMES:
        expected = {org for org in ORGS + HOMES if f"usr_{name}" in org_of(store, org).members}
        assert {org.id for org in directory.orgs_of(f"usr_{name}")} == expected
        digest = email_digest(PEPPER, f"{name}@example.com")
        assert {invitation.id for _, invitation in directory.invitations_to([digest], at=0)} == {
            invitation.id
            for org in ORGS
            for invitation in org_of(store, org).invitations.values()
            if invitation.email_digest == digest
        }


HOMES = tuple(f"org_home_{name}" for name in NAMES[1:])


def check(store: MemoryStore, *, at: int, before: dict[str, Org]) -> None:
    for id in ORGS:
        org = org_of(store, id)
        if org.members:
            assert org.owners(), f"{id} has persons and no owner"
        assert len(org.members) + len(org.open_invitations(at)) <= PEOPLE_MAX
        if org.deleted is not None:
            assert id != "org_home_asha"
            assert not org.members
            assert not org.invitations
            assert not [key for key in org.keys.values() if key.revoked is None]
        for key in org.keys.values():
            role = org.role_of(f"key:{key.id}")
            if key.minter and role is not None:
                assert reaches(org.members[key.minter].role, role), "a key may more than who minted it"
    assert set(org_of(store, "org_home_asha").members) == {"usr_asha"}
    for id, org_before in before.items():
        was, now = owners(org_before), owners(org_of(store, id))
        if was != now and not isinstance(store.facts[-1][1], MemberAdded):
            by = store.facts[-1][1].by
            assert org_before.role_of(by) == "owner", f"{by} made or unmade an owner"


def owners(org: Org) -> set[str]:
    return {member.person for member in org.owners()}


def org_of(store: MemoryStore, id: str) -> Org:
    return store.fold(f"org:{id}", Org())


def given_full_key(store: MemoryStore, org: str, key: str, *, by: str, at: int) -> None:
    terms = KeyTerms(name=key)
    mint_key(store, org=org, key=key, secret=f"br-{key}", pepper=PEPPER, terms=terms, active_max=5, at=at, by=by)


def invite(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    given_invitation(store, org, f"{name}@example.com", role=role, by=by, people_max=PEOPLE_MAX, at=at)


def accept(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    digests = {email_digest(PEPPER, f"{name}@example.com")}
    for invitation in org_of(store, org).invitations:
        with suppress(Refusal):
            accept_invitation(store, org=org, invitation=invitation, person=f"usr_{name}", email_digests=digests, at=at)


def change(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    change_role(store, org=org, person=f"usr_{name}", role=role, at=at, by=by)


def remove(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    remove_member(store, org=org, person=f"usr_{name}", at=at, by=by)


def withdraw(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    for invitation in org_of(store, org).invitations:
        withdraw_invitation(store, org=org, invitation=invitation, at=at, by=by)


def delete(store: MemoryStore, org: str, by: str, name: str, role: str, at: int) -> None:
    delete_org(store, org=org, founder=org_of(store, org).founder, at=at, by=by)


ACTIONS: dict[str, Callable[[MemoryStore, str, str, str, str, int], None]] = {
    "invite": invite,
    "accept": accept,
    "role": change,
    "remove": remove,
    "withdraw": withdraw,
    "delete": delete,
}
