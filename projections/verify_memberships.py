"""Checks that access is as its rules say: an org that has persons has an owner, invitations are answered once and in
time, a deleted org has neither people nor live keys."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from domain.accounts.events import (
    InvitationAccepted,
    InvitationDeclined,
    InvitationWithdrawn,
    MemberAdded,
    MemberInvited,
    MemberRemoved,
    OrgCreated,
    OrgDeleted,
    PersonErased,
    Role,
    RoleChanged,
)
from domain.kernel.events import Event
from domain.keys.events import KeyMinted, KeyRevoked


@dataclass(slots=True)
class _Org:
    """What the log has said of an org: roles by person, and when invitations run out."""

    personal: bool = False
    founder: str = ""
    deleted: bool = False
    roles: dict[str, Role] = field(default_factory=dict)
    invitations: dict[str, int] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


class Memberships:
    """Told every event in the order of the log, it yields what is wrong with it."""

    def __init__(self) -> None:
        self._orgs: defaultdict[str, _Org] = defaultdict(_Org)
        self._erased: set[str] = set()

    def enter(self, stream: str, event: Event) -> Iterator[str]:
        kind, _, id = stream.partition(":")
        if kind == "org":
            org = self._orgs[id]
            yield from self._changed(org, event)
            if org.roles and "owner" not in org.roles.values():
                yield "the org has persons, but no owner"
            if org.personal and len(org.roles) > 1:
                yield "a personal org has more than one person"
        elif isinstance(event, PersonErased):
            self._erased.add(id)
            if any(id in org.roles and not org.personal for org in self._orgs.values()):
                yield "a person was erased who is still a member"
        elif isinstance(event, KeyMinted):
            self._orgs[event.org].keys.add(id)
            if self._orgs[event.org].deleted:
                yield "a key was minted for an org that is deleted"
        elif isinstance(event, KeyRevoked):
            self._orgs[event.org].keys.discard(id)

    def _changed(self, org: _Org, event: Event) -> Iterator[str]:
        match event:
            case OrgCreated():
                org.personal, org.founder = event.kind == "personal", event.founder
            case MemberAdded():
                if org.deleted or event.person in org.roles or event.person in self._erased:
                    yield f"{event.person} was added to an org that is deleted, or theirs already, or is erased"
                org.roles[event.person] = event.role
            case RoleChanged() | MemberRemoved():
                if org.roles.pop(event.person, None) is None:
                    yield f"{event.person} was changed or removed, but is no member"
                if isinstance(event, RoleChanged):
                    org.roles[event.person] = event.role
            case MemberInvited():
                org.invitations[event.invitation] = event.expires
            case InvitationAccepted() | InvitationDeclined() | InvitationWithdrawn():
                if org.invitations.pop(event.invitation, 0) <= event.at:
                    yield f"invitation {event.invitation} was answered or withdrawn, but was not open"
            case OrgDeleted():
                if org.keys or (org.personal and org.founder not in self._erased):
                    yield "an org was deleted that has live keys, or is the own of a person who is not erased"
                org.deleted, org.roles, org.invitations = True, {}, {}
            case _:
                pass
