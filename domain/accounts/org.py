"""An org with all it has configured, as its facts make it: one whole, so that rules across members, keys and workspaces
hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from domain.accounts.events import (
    InvitationAccepted,
    InvitationDeclined,
    InvitationMailed,
    InvitationWithdrawn,
    MemberAdded,
    MemberInvited,
    MemberRemoved,
    OrgCreated,
    OrgDeleted,
    OrgKind,
    Role,
    RoleChanged,
    WorkspaceCreated,
)
from domain.accounts.membership import Invitation, Member
from domain.accounts.roles import lower
from domain.accounts.workspace import Workspace, created_workspace
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.keys.events import KeyMinted, Tier
from domain.keys.key import Key, minted_key
from domain.keys.trial import Trial

NAME_LENGTH_MAX = 80

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Org:
    """`id` is empty until the org is created. `email` is sealed. Keys and workspaces are in the order of their making,
    revoked and deleted ones included; members (by person) and invitations only while they are."""

    id: str = ""
    name: str = ""
    email: str = ""
    kind: OrgKind = "team"
    founder: str = ""
    created: int = 0
    deleted: int | None = None
    workspaces: Mapping[str, Workspace] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)
    members: Mapping[str, Member] = field(default_factory=dict)
    invitations: Mapping[str, Invitation] = field(default_factory=dict)
    trial: Trial = field(default_factory=Trial)

    def evolve(self, stream: str, event: Event) -> "Org":
        kind, _, id = stream.partition(":")
        match event:
            case OrgCreated():
                return replace(
                    self,
                    id=id,
                    name=event.name,
                    email=event.email,
                    kind=event.kind,
                    founder=event.founder,
                    created=event.at,
                )
            case WorkspaceCreated():
                return replace(self, workspaces={**self.workspaces, id: created_workspace(id, event)})
            case KeyMinted():
                return replace(self, keys={**self.keys, id: minted_key(id, event)})
            case _ if kind == "workspace":
                return replace(self, workspaces={**self.workspaces, id: self.workspaces[id].evolve(event)})
            case _ if kind == "key":
                return replace(self, keys={**self.keys, id: self.keys[id].evolve(event)})
            case _ if kind == "trial":
                return replace(self, trial=self.trial.evolve(stream, event))
            case _ if kind == "org":
                return self._evolve_members(event)
            case _:
                return self

    def _evolve_members(self, event: Event) -> "Org":
        match event:
            case MemberAdded():
                member = Member(event.person, event.role, event.at)
                return replace(self, members={**self.members, event.person: member})
            case RoleChanged():
                member = replace(self.members[event.person], role=event.role)
                return replace(self, members={**self.members, event.person: member})
            case MemberRemoved():
                return replace(self, members=_without(self.members, event.person))
            case MemberInvited():
                still = {
                    id: invitation
                    for id, invitation in self.invitations.items()
                    if invitation.email_digest != event.email_digest and invitation.expires > event.at
                }
                return replace(self, invitations={**still, event.invitation: _invitation(event)})
            case InvitationAccepted() | InvitationDeclined() | InvitationWithdrawn():
                return replace(self, invitations=_without(self.invitations, event.invitation))
            case InvitationMailed() if event.invitation in self.invitations:
                mailed = replace(self.invitations[event.invitation], mailed=event.at, mail_problem=event.problem)
                return replace(self, invitations={**self.invitations, event.invitation: mailed})
            case OrgDeleted():
                return replace(self, deleted=event.at, members={}, invitations={})
            case _:
                return self

    @property
    def exists(self) -> bool:
        return bool(self.id) and self.deleted is None

    @property
    def default_workspace(self) -> Workspace:
        return next(workspace for workspace in self.workspaces.values() if workspace.default)

    def workspace(self, id: str) -> Workspace:
        """Raises NotFound where the org has no such workspace, or no longer."""
        workspace = self.workspaces.get(id)
        if workspace is None or workspace.deleted is not None:
            raise NotFound("not_found", "No such workspace; list yours with GET /me/workspaces.", param="id")
        return workspace

    def key(self, id: str) -> Key:
        """Raises NotFound where the org never had such a key."""
        key = self.keys.get(id)
        if key is None:
            raise NotFound("not_found", "No such key; list yours with GET /me/keys.", param="id")
        return key

    def member(self, person: str) -> Member:
        """Raises NotFound for somebody who is no member."""
        member = self.members.get(person)
        if member is None:
            raise NotFound("not_found", "No such member; list yours with GET /me/members.", param="id")
        return member

    def open_invitations(self, at: int) -> list[Invitation]:
        return [invitation for invitation in self.invitations.values() if invitation.expires > at]

    def active_keys(self, at: int) -> list[Key]:
        """Those with a secret; agents are no keys to their org."""
        return [key for key in self.keys.values() if key.tier != "agent" and key.active(at)]

    def live_agents(self) -> list[Key]:
        return [key for key in self.keys.values() if key.tier == "agent" and key.revoked is None]

    def tier_of(self, key: Key) -> Tier:
        """A trial key is a standard one when the trial is over."""
        return "standard" if key.tier == "trial" and not self.trial.running else key.tier

    def live_workspaces(self) -> list[Workspace]:
        return [workspace for workspace in self.workspaces.values() if workspace.deleted is None]

    def owners(self) -> list[Member]:
        return [member for member in self.members.values() if member.role == "owner"]

    def role_of(self, by: str) -> Role | None:
        """What an actor may do here: `user:…` as a member; `key:…`, if it is a live key of full scope, what it was
        minted with, yet no more than the person behind it may now; an operator all."""
        kind, _, id = by.partition(":")
        if kind == "user":
            member = self.members.get(id)
            return None if member is None else member.role
        if kind == "key":
            key = self.keys.get(id)
            if key is None or key.revoked is not None or key.scope != "full":
                return None
            return lower(key.role, self.role_of(f"user:{key.minter}")) if key.minter else key.role
        return "owner"

    def person_behind(self, by: str) -> str:
        """The person who answers for what an actor does; empty for operators and their keys."""
        kind, _, id = by.partition(":")
        if kind == "user":
            return id
        return self.keys[id].minter if kind == "key" and id in self.keys else ""


def require_org(org: Org) -> None:
    """Raises NotFound for an org that was never there, or is deleted."""
    if not org.exists:
        raise NotFound("not_found", "No such org.", param="org")


def clean_name(name: str) -> str:
    """The name without outer blanks. Raises Invalid if nothing or too much is left, or control characters are in it."""
    name = name.strip()
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise Invalid(
            "invalid_request",
            f"Give a name of 1 to {NAME_LENGTH_MAX} printable characters.",
            param="name",
        )
    return name


def check_limit(amount: int | None, *, param: str, least: int = 0) -> int | None:
    """The limit as given, None for no limit. Raises Invalid if it is below `least` or beyond what a bigint holds."""
    if amount is not None and not least <= amount < 2**62:
        raise Invalid("invalid_request", f"{param} must be at least {least}, or null for no limit.", param=param)
    return amount


def _invitation(event: MemberInvited) -> Invitation:
    return Invitation(
        id=event.invitation,
        email=event.email,
        email_digest=event.email_digest,
        role=event.role,
        invited=event.at,
        expires=event.expires,
        by=event.by,
    )


def _without(mapping: Mapping[str, T], gone: str) -> Mapping[str, T]:
    return {id: each for id, each in mapping.items() if id != gone}
