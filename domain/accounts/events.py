"""The facts of persons, orgs and workspaces. Streams: `user:<id>`, `claim:<what>/<digest>`, `org:<id>`,
`workspace:<id>`, `act:<id>`.

A fact that names an org as `org` is part of what that org has configured, whatever its stream; facts of persons name
orgs otherwise, so that nobody's sign-in stands in the way of a change of an org.
"""

from typing import Literal

from domain.kernel.events import Event, fact

Role = Literal["member", "admin", "owner"]
OrgKind = Literal["personal", "team"]

# Persons. What is sealed is sealed under `user:<id>`, so that erasing that key erases the person.


@fact("accounts.person_signed_up.v1")
class PersonSignedUp(Event, frozen=True, kw_only=True):
    """`name` is sealed. `home` is the personal org that was made with the person. `returning` says that the identity,
    the address or its mailbox had been seen before, as another person's: such a person gets no sign-up credit."""

    name: str
    home: str
    returning: bool = False


@fact("accounts.identity_linked.v1")
class IdentityLinked(Event, frozen=True, kw_only=True):
    """The person can sign in with this identity; said again when its e-mail address changes.

    `subject_digest` is the keyed hash in hex of the provider's own id. `login` and `email` are sealed; `email_digest`
    is the keyed hash of the address, empty unless the provider says that the address is verified."""

    provider: str
    subject_digest: str
    login: str = ""
    email: str = ""
    email_digest: str = ""


@fact("accounts.claimed.v1")
class Claimed(Event, frozen=True, kw_only=True):
    """The person has shown that the identity, e-mail address or mailbox whose digest names the stream is theirs. It
    outlives the person: a mailbox that was seen once never brings sign-up credit again."""

    person: str


@fact("accounts.session_started.v1")
class SessionStarted(Event, frozen=True, kw_only=True):
    """`active` is the org that the person looks at; `agent` (of the browser) and `address` are sealed; `expires` in
    microseconds since 1970."""

    session: str
    active: str
    expires: int
    agent: str = ""
    address: str = ""


@fact("accounts.session_org_switched.v1")
class SessionOrgSwitched(Event, frozen=True, kw_only=True):
    session: str
    active: str


@fact("accounts.session_ended.v1")
class SessionEnded(Event, frozen=True, kw_only=True):
    session: str


@fact("accounts.all_sessions_ended.v1")
class AllSessionsEnded(Event, frozen=True, kw_only=True):
    pass


@fact("accounts.team_founded.v1")
class TeamFounded(Event, frozen=True, kw_only=True):
    team: str


@fact("accounts.team_joined.v1")
class TeamJoined(Event, frozen=True, kw_only=True):
    """The person has accepted an invitation to a team. Beside `MemberAdded`, so that what ends the person and what
    makes them a member cannot pass each other by."""

    team: str


@fact("accounts.team_closed.v1")
class TeamClosed(Event, frozen=True, kw_only=True):
    """A team that the person founded was deleted, by whomever; it counts no longer."""

    team: str


@fact("accounts.person_erased.v1")
class PersonErased(Event, frozen=True, kw_only=True):
    """The key of all that was sealed for the person is destroyed."""


# Orgs


@fact("accounts.org_created.v1")
class OrgCreated(Event, frozen=True, kw_only=True):
    """`email` is sealed with the org's own key, so that erasing the key erases the address and keeps the books.
    `founder` is a person, or nobody where an operator made the org."""

    name: str
    email: str = ""
    kind: OrgKind = "team"
    founder: str = ""


@fact("accounts.org_deleted.v1")
class OrgDeleted(Event, frozen=True, kw_only=True):
    """Nobody is a member any more and no invitation holds; its keys are revoked by facts of the same transaction. Its
    books stay."""

    org: str


@fact("accounts.member_added.v1")
class MemberAdded(Event, frozen=True, kw_only=True):
    org: str
    person: str
    role: Role


@fact("accounts.role_changed.v1")
class RoleChanged(Event, frozen=True, kw_only=True):
    org: str
    person: str
    role: Role


@fact("accounts.member_removed.v1")
class MemberRemoved(Event, frozen=True, kw_only=True):
    """The person left, if it is `by` themself; else somebody removed them."""

    org: str
    person: str


@fact("accounts.member_invited.v1")
class MemberInvited(Event, frozen=True, kw_only=True):
    """`email` is sealed under the org; `email_digest` is what the invited person must have verified. An earlier
    invitation to the same address ends with this one. `expires` in microseconds since 1970."""

    org: str
    invitation: str
    email: str
    email_digest: str
    role: Role
    expires: int


@fact("accounts.invitation_accepted.v1")
class InvitationAccepted(Event, frozen=True, kw_only=True):
    """`MemberAdded` follows in the same transaction, unless the person was a member already."""

    org: str
    invitation: str
    person: str


@fact("accounts.invitation_declined.v1")
class InvitationDeclined(Event, frozen=True, kw_only=True):
    org: str
    invitation: str
    person: str


@fact("accounts.invitation_withdrawn.v1")
class InvitationWithdrawn(Event, frozen=True, kw_only=True):
    org: str
    invitation: str


@fact("accounts.invitation_mailed.v1")
class InvitationMailed(Event, frozen=True, kw_only=True):
    """The letter is sent; or will never be, for the reason in `problem`."""

    org: str
    invitation: str
    problem: str = ""


# Workspaces


@fact("accounts.workspace_created.v1")
class WorkspaceCreated(Event, frozen=True, kw_only=True):
    """`monthly_budget` in nano-rupees, None for no limit; every org has exactly one `default` workspace."""

    org: str
    name: str
    default: bool = False
    monthly_budget: int | None = None


@fact("accounts.workspace_renamed.v1")
class WorkspaceRenamed(Event, frozen=True, kw_only=True):
    org: str
    name: str


@fact("accounts.workspace_budget_changed.v1")
class WorkspaceBudgetChanged(Event, frozen=True, kw_only=True):
    org: str
    monthly_budget: int | None = None


@fact("accounts.workspace_deleted.v1")
class WorkspaceDeleted(Event, frozen=True, kw_only=True):
    """Its keys move to the org's default workspace by `KeyMoved` events of the same transaction."""

    org: str


# Where changes came from


@fact("accounts.acted.v1")
class Acted(Event, frozen=True, kw_only=True):
    """The `facts` facts that stand right before this one in the log are one change, made over HTTP from this network
    address by a program that calls itself `agent`; both are sealed under `subject`: the person who made the change, or
    the org of the key that did."""

    facts: int
    subject: str
    address: str
    agent: str
