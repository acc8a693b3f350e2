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
    Role,
    RoleChanged,
)
from domain.kernel.events import Event
from domain.keys.events import KeyMinted, KeyRevoked


@dataclass(slots=True)
class _Org:
    """What the log has said of an org: roles by person, and when invitations run out."""

    personal: bool = False
    deleted: bool = False
    roles: dict[str, Role] = field(default_factory=dict)
    invitations: dict[str, int] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


class Memberships:
    """Told every event in the order of the log, it yields what is wrong with it."""

    def __init__(self) -> None:
        self._orgs: defaultdict[str, _Org] = defaultdict(_Org)

    def enter(self, stream: str, event: Event) -> Iterator[str]:
        kind, _, id = stream.partition(":")
        if kind == "org":
            org = self._orgs[id]
            yield from self._changed(org, event)
            if org.roles and "owner" not in org.roles.values():
                yield "the org has persons, but no owner"
            if org.personal and len(org.roles) > 1:
                yield "a personal org has more than one person"
        elif isinstance(event, KeyMinted):
            self._orgs[event.org].keys.add(id)
            if self._orgs[event.org].deleted:
                yield "a key was minted for an org that is deleted"
        elif isinstance(event, KeyRevoked):
            self._orgs[event.org].keys.discard(id)

    def _changed(self, org: _Org, event: Event) -> Iterator[str]:
        match event:
            case OrgCreated():
                org.personal = event.kind == "personal"
            case MemberAdded():
                if org.deleted or event.person in org.roles:
                    yield f"{event.person} was added to an org that is deleted, or theirs already"
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
                if org.keys or org.personal:
                    yield "an org was deleted that is a person's own, or has live keys"
                org.deleted, org.roles, org.invitations = True, {}, {}
            case _:
                pass
