"""What can be done with orgs that several persons share: found one, and delete it."""

from domain.accounts.events import MemberAdded, OrgCreated, OrgDeleted, TeamClosed, TeamFounded, WorkspaceCreated
from domain.accounts.org import Org, clean_name, require_org
from domain.accounts.person import Person, person_stream
from domain.accounts.roles import require_role
from domain.kernel.errors import Invalid, Unauthenticated
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import KeyRevoked


def found_team(
    store: Store, *, person: str, org: str, workspace: str, name: str, teams_max: int, at: int
) -> int | None:
    """Makes a team org with its default workspace, which the person owns. A repeat with the same id changes nothing.

    Raises Invalid `org_limit` where the person has founded `teams_max` that still are, Invalid `invalid_request`.
    """

    def decide(state: Person) -> Decision:
        if not state.exists:
            raise Unauthenticated("no_session", "This account is gone; sign in again.")
        if org in state.teams:
            return []
        if len(state.teams) >= teams_max:
            raise Invalid("org_limit", f"A person founds at most {teams_max} team orgs; delete one you no longer need.")
        return [
            (person_stream(person), TeamFounded(team=org)),
            (f"org:{org}", OrgCreated(name=clean_name(name), kind="team", founder=person)),
            (f"workspace:{workspace}", WorkspaceCreated(org=org, name="Default", default=True)),
            (f"org:{org}", MemberAdded(org=org, person=person, role="owner")),
        ]

    return store.change(Change(person_stream(person), Person(), decide), at=at, by=person_stream(person))


def delete_org(store: Store, *, org: str, founder: str, at: int, by: str) -> int | None:
    """Deletes a team org: revokes its keys and invitations, and makes room for another one of its `founder`, who is
    named in `OrgCreated`. Its books stay, and so does a balance.

    Raises NotFound, Forbidden `forbidden_role` unless `by` is an owner, Invalid `personal_org`.
    """

    def decide(state: Org) -> Decision:
        require_org(state)
        require_role(state.role_of(by), "owner")
        if state.kind == "personal":
            raise Invalid("personal_org", "A personal org stays as long as its person; only teams can be deleted.")
        revoked = [
            (f"key:{key.id}", KeyRevoked(org=org, reason="org deleted"))
            for key in state.keys.values()
            if key.revoked is None
        ]
        return [*revoked, (f"org:{org}", OrgDeleted(org=org))]

    def close(state: Person) -> Decision:
        return [(person_stream(founder), TeamClosed(team=org))] if org in state.teams else []

    return store.change(
        Change(f"org:{org}", Org(), decide), Change(person_stream(founder), Person(), close), at=at, by=by
    )
