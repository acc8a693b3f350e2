"""Who joins an org, in which role, and who leaves. Each function decides on the org as a whole and appends once.

`by` is who acts, `user:…`, `key:…` or an operator; what they may do follows from their role at that very moment. An
admin does nothing to owners, nor makes one. An org that has persons has an owner.
"""

from collections.abc import Set as AbstractSet

from domain.accounts.events import (
    InvitationAccepted,
    InvitationDeclined,
    InvitationMailed,
    InvitationWithdrawn,
    MemberAdded,
    MemberInvited,
    MemberRemoved,
    Role,
    RoleChanged,
    TeamJoined,
)
from domain.accounts.membership import Invitation
from domain.accounts.org import Org, require_org
from domain.accounts.person import Person, person_stream
from domain.accounts.roles import ROLES, require_role
from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store

INVITATION_DAYS = 14


def invite_member(
    store: Store,
    *,
    org: str,
    invitation: str,
    sealed_email: str,
    email_digest: str,
    role: str,
    people_max: int,
    at: int,
    by: str,
) -> int | None:
    """Invites whoever has verified the address of that digest, for 14 days. `sealed_email` is sealed under the org.
    An earlier invitation to the address ends with it. A repeat with the same id changes nothing.

    Raises Conflict `member_limit` where members and invitations are `people_max` already, Conflict `last_owner` where
    the org's first person would not be its owner, Invalid `personal_org`, Forbidden `forbidden_role`, NotFound.
    """

    def decide(state: Org) -> Decision:
        require_org(state)
        require_role(state.role_of(by), "admin")
        if invitation in state.invitations:
            return []
        if state.kind == "personal":
            raise Invalid("personal_org", "A personal org has one person; found a team with POST /me/orgs.")
        wanted = check_role(role)
        _require_role_over(state, by, wanted)
        others = []
        for other in state.open_invitations(at):
            if other.email_digest == email_digest:
                _require_role_over(state, by, other.role)
            else:
                others.append(other)
        if len(state.members) + len(others) >= people_max:
            raise Conflict("member_limit", f"An org has at most {people_max} members and invitations; withdraw one.")
        if wanted != "owner" and not state.owners():
            raise Conflict("last_owner", "This org has no owner yet; invite its first person as owner.")
        invited = MemberInvited(
            org=org,
            invitation=invitation,
            email=sealed_email,
            email_digest=email_digest,
            role=wanted,
            expires=at + INVITATION_DAYS * DAY,
        )
        return [(f"org:{org}", invited)]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def withdraw_invitation(store: Store, *, org: str, invitation: str, at: int, by: str) -> int | None:
    """Raises NotFound for an invitation that is not open (any more), Forbidden `forbidden_role`."""

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        _require_role_over(state, by, _open_invitation(state, invitation, at=at).role)
        return [(f"org:{org}", InvitationWithdrawn(org=org, invitation=invitation))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def record_invitation_mailed(store: Store, *, org: str, invitation: str, problem: str, at: int, by: str) -> int | None:
    """Puts on record that the letter is sent, or for which `problem` it never will be. Nothing changes where that is on
    record, or the invitation has ended."""

    def decide(state: Org) -> Decision:
        known = state.invitations.get(invitation)
        if known is None or known.mailed is not None:
            return []
        return [(f"org:{org}", InvitationMailed(org=org, invitation=invitation, problem=problem))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def accept_invitation(
    store: Store, *, org: str, invitation: str, person: str, email_digests: AbstractSet[str], at: int
) -> int | None:
    """Makes the person a member, who has verified the addresses of those digests. Who is a member already keeps their
    role. Raises NotFound where no open invitation is for them, or they are erased at the same moment."""

    def decide(state: Org) -> Decision:
        invited = _open_invitation(state, invitation, at=at, to=email_digests)
        facts: list[Event] = [InvitationAccepted(org=org, invitation=invitation, person=person)]
        if person not in state.members:
            facts.append(MemberAdded(org=org, person=person, role=invited.role))
        return [(f"org:{org}", fact) for fact in facts]

    joins = _by_their_addresses(person, email_digests, TeamJoined(team=org))
    return store.change(joins, Change(f"org:{org}", Org(), decide), at=at, by=person_stream(person))


def decline_invitation(
    store: Store, *, org: str, invitation: str, person: str, email_digests: AbstractSet[str], at: int
) -> int | None:
    """Raises NotFound where no open invitation is for them."""

    def decide(state: Org) -> Decision:
        _open_invitation(state, invitation, at=at, to=email_digests)
        return [(f"org:{org}", InvitationDeclined(org=org, invitation=invitation, person=person))]

    answers = _by_their_addresses(person, email_digests)
    return store.change(answers, Change(f"org:{org}", Org(), decide), at=at, by=person_stream(person))


def change_role(store: Store, *, org: str, person: str, role: str, at: int, by: str) -> int | None:
    """In force on every process within a second, for the person and for keys that they have minted.

    Raises NotFound, Forbidden `forbidden_role`, Conflict `last_owner`, Invalid `invalid_request`.
    """

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        now, wanted = state.member(person), check_role(role)
        _require_role_over(state, by, now.role)
        _require_role_over(state, by, wanted)
        if wanted == now.role:
            return []
        _keep_an_owner(state, person)
        return [(f"org:{org}", RoleChanged(org=org, person=person, role=wanted))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def remove_member(store: Store, *, org: str, person: str, at: int, by: str) -> int | None:
    """Takes somebody out of the org, or themself. Full-scope keys that they have minted can do no more than call models
    from then on.

    Raises NotFound, Forbidden `forbidden_role`, Conflict `last_owner`, Invalid `personal_org`.
    """

    def decide(state: Org) -> Decision:
        leaving = state.member(person)
        if by != f"user:{person}":
            require_role(state.role_of(by), "admin")
            _require_role_over(state, by, leaving.role)
        if state.kind == "personal":
            raise Invalid("personal_org", "A personal org stays with its person.")
        _keep_an_owner(state, person)
        return [(f"org:{org}", MemberRemoved(org=org, person=person))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def check_role(role: str) -> Role:
    """Raises Invalid for what is no role."""
    if role not in ROLES:
        raise Invalid("invalid_request", f"role must be one of {', '.join(ROLES)}.", param="role")
    return role


def _require_role_over(state: Org, by: str, role: Role) -> None:
    """Owners are touched and made by owners alone."""
    if role == "owner":
        require_role(state.role_of(by), "owner")


def _keep_an_owner(state: Org, leaving: str) -> None:
    """Raises Conflict `last_owner` where the person is the one who must stay an owner."""
    if [owner.person for owner in state.owners()] == [leaving]:
        raise Conflict("last_owner", "An org keeps an owner; make somebody else one first, or delete the org.")


def _by_their_addresses(person: str, email_digests: AbstractSet[str], *facts: Event) -> Change[Person]:
    """The facts of a person who is there and has those addresses, when what they do is decided; else NotFound."""

    def decide(state: Person) -> Decision:
        if not state.exists or not email_digests <= state.email_digests:
            raise _no_invitation()
        return [(person_stream(person), fact) for fact in facts]

    return Change(person_stream(person), Person(), decide)


def _open_invitation(state: Org, id: str, *, at: int, to: AbstractSet[str] | None = None) -> Invitation:
    """`to` are the digests of the addresses that it may be for; None for any. Raises NotFound."""
    for invitation in state.open_invitations(at):
        if invitation.id == id and (to is None or invitation.email_digest in to):
            return invitation
    raise _no_invitation()


def _no_invitation() -> NotFound:
    return NotFound("not_found", "No such invitation is open; it may have run out or been withdrawn.", param="id")
