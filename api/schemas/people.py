"""Persons, orgs, members and invitations as callers write and read them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.times import moment, moment_optional
from domain.accounts.events import OrgKind, Role
from domain.accounts.membership import Invitation, Member
from domain.accounts.org import Org


class PersonRow(BaseModel):
    id: str
    name: str
    email: str
    providers: list[str] = Field(description="What the person can sign in with")
    signed_up_at: str


class KeySelf(BaseModel):
    id: str
    name: str
    prefix: str


class OrgRow(BaseModel):
    id: str
    name: str
    kind: OrgKind
    role: Role | None = Field(description="The caller's own")
    members: int
    active: bool = Field(description="Whether it is the one that calls of this session or key are about")
    created_at: str


class Limits(BaseModel):
    """Null is without limit."""

    keys: int
    workspaces: int
    people: int = Field(description="Members and open invitations")
    teams: int = Field(description="Team orgs that one person has founded")
    requests_per_minute: int | None = Field(description="Of each key")


class Me(BaseModel):
    person: PersonRow | None = Field(description="Null for a key")
    key: KeySelf | None = Field(description="Null for a person")
    org: OrgRow | None = Field(description="Null where the person was taken out of the org that they looked at")
    role: Role | None
    tier: Literal["standard", "trial"] | None = Field(
        description="What new keys of the org are: trial keys while it never paid and has nothing to spend"
    )
    limits: Limits
    csrf_token: str | None = Field(description="To be sent in `x-br-csrf` with every change by this session")


class OrgList(BaseModel):
    object: str = "list"
    data: list[OrgRow]


class NewOrg(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "Acme Research"}})

    name: str


class Switch(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"org": "org_0199f2c41d7a0123456789abcdef"}}
    )

    org: str


class DeletedOrg(BaseModel):
    id: str
    deleted: bool = True
    active: str | None = Field(description="The org that the session looks at from now on; null for a key")


class NewMember(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"email": "asha@example.com", "role": "member"}}
    )

    email: str
    role: str = "member"


class RolePatch(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"role": "admin"}})

    role: str


class MemberRow(BaseModel):
    id: str
    name: str | None = Field(description="Null for a person who is erased")
    email: str | None
    role: Role
    you: bool
    since: str


class PendingRow(BaseModel):
    id: str
    email: str | None
    role: Role
    invited_at: str
    expires_at: str
    mailed_at: str | None = Field(description="Null until the letter is sent")
    mail_problem: str | None = Field(description="Why the letter will never arrive")


class People(BaseModel):
    object: str = "list"
    data: list[MemberRow]
    pending: list[PendingRow] = Field(description="Invitations that have neither been answered nor run out")


class Removed(BaseModel):
    id: str
    deleted: bool = True


class InvitationRow(BaseModel):
    id: str
    org: str
    org_name: str
    role: Role
    invited_at: str
    expires_at: str


class InvitationList(BaseModel):
    object: str = "list"
    data: list[InvitationRow]


class Declined(BaseModel):
    id: str
    declined: bool = True


def org_row(org: Org, *, by: str, active: str) -> dict[str, Any]:
    return {
        "id": org.id,
        "name": org.name,
        "kind": org.kind,
        "role": org.role_of(by),
        "members": len(org.members),
        "active": org.id == active,
        "created_at": moment(org.created),
    }


def member_row(member: Member, *, name: str | None, email: str | None, you: str) -> dict[str, Any]:
    """`you` is the person who asks."""
    return {
        "id": member.person,
        "name": name,
        "email": email,
        "role": member.role,
        "you": member.person == you,
        "since": moment(member.since),
    }


def pending_row(invitation: Invitation, *, email: str | None) -> dict[str, Any]:
    return {
        "id": invitation.id,
        "email": email,
        "role": invitation.role,
        "invited_at": moment(invitation.invited),
        "expires_at": moment(invitation.expires),
        "mailed_at": None if invitation.mail_problem else moment_optional(invitation.mailed),
        "mail_problem": invitation.mail_problem or None,
    }


def invitation_row(org: Org, invitation: Invitation) -> dict[str, Any]:
    return {
        "id": invitation.id,
        "org": org.id,
        "org_name": org.name,
        "role": invitation.role,
        "invited_at": moment(invitation.invited),
        "expires_at": moment(invitation.expires),
    }
