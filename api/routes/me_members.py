"""The people of an org: its members, and who is invited."""

from typing import Any

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.people import MemberRow, NewMember, PendingRow, People, Removed, RolePatch, member_row, pending_row
from domain.accounts.members import change_role, invite_member, remove_member, withdraw_invitation
from domain.accounts.membership import Invitation, Member
from domain.accounts.person import clean_email, email_digest, person_stream

router = APIRouter(tags=["Members"])


@router.get("/me/members", response_model=People, responses=documented(*WHO))
def list_members(actor: MemberActor, app: Services) -> object:
    """Everybody who is a member of the org, and everybody who has been invited and not answered yet."""
    org = app.directory.directory.orgs[actor.org]
    return {
        "object": "list",
        "data": [_member(app, member, you=actor.person) for member in org.members.values()],
        "pending": [_pending(app, org.id, invitation) for invitation in org.open_invitations(app.clock())],
    }


@router.post(
    "/me/members",
    status_code=201,
    response_model=PendingRow,
    responses=documented(*WHO, "invalid_request", "personal_org", "member_limit", "last_owner"),
)
def invite(wanted: NewMember, actor: AdminActor, app: Services) -> object:
    """Invites an e-mail address for 14 days, by mail. Whoever signs in with it, verified, can accept. An earlier
    invitation to it ends. Owners are invited by owners alone."""
    email, invitation = clean_email(wanted.email), app.new_id("inv")
    invite_member(
        app.store,
        org=actor.org,
        invitation=invitation,
        sealed_email=app.vault.seal(actor.org, email),
        email_digest=email_digest(app.pepper, email),
        role=wanted.role,
        people_max=app.settings.people_max,
        at=app.clock(),
        by=actor.by,
    )
    app.directory.catch_up()
    return _pending(app, actor.org, app.directory.directory.orgs[actor.org].invitations[invitation])


@router.patch(
    "/me/members/{id}",
    response_model=MemberRow,
    responses=documented(*WHO, "invalid_request", "not_found", "last_owner"),
)
def change_member(id: str, wanted: RolePatch, actor: AdminActor, app: Services) -> object:
    """Changes a member's role, in force within a second on every gateway, also for keys of full scope that they have
    minted. Owners are made and changed by owners alone; the last one stays."""
    change_role(app.store, org=actor.org, person=id, role=wanted.role, at=app.clock(), by=actor.by)
    app.directory.catch_up()
    return _member(app, app.directory.directory.orgs[actor.org].member(id), you=actor.person)


@router.delete(
    "/me/members/{id}", response_model=Removed, responses=documented(*WHO, "not_found", "last_owner", "personal_org")
)
def delete_member(id: str, actor: MemberActor, app: Services) -> object:
    """Takes a member out of the org: an admin anybody but owners, an owner anybody, everybody themself. Keys that they
    have minted go on calling models; those of full scope can do nothing else any more."""
    remove_member(app.store, org=actor.org, person=id, at=app.clock(), by=actor.by)
    app.directory.catch_up()
    return {"id": id, "deleted": True}


@router.delete("/me/members/pending/{id}", response_model=Removed, responses=documented(*WHO, "not_found"))
def withdraw(id: str, actor: AdminActor, app: Services) -> object:
    """Withdraws an invitation."""
    withdraw_invitation(app.store, org=actor.org, invitation=id, at=app.clock(), by=actor.by)
    app.directory.catch_up()
    return {"id": id, "deleted": True}


def _member(app: App, member: Member, *, you: str) -> dict[str, Any]:
    person = app.directory.directory.person(member.person)
    if person is None:
        return member_row(member, name=None, email=None, you=you)
    subject = person_stream(person.id)
    name = app.vault.open(subject, person.name)
    email = app.vault.open(subject, person.email) if person.email else None
    return member_row(member, name=name, email=email, you=you)


def _pending(app: App, org: str, invitation: Invitation) -> dict[str, Any]:
    return pending_row(invitation, email=app.vault.open(org, invitation.email))
