"""The invitations that wait for a person: those to an e-mail address that they have verified."""

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, PersonActor, Services
from api.errors import documented
from api.schemas.people import Declined, InvitationList, OrgRow, invitation_row, org_row
from domain.accounts.members import accept_invitation, decline_invitation
from domain.accounts.membership import Invitation
from domain.accounts.org import Org
from domain.kernel.errors import NotFound

router = APIRouter(tags=["Members"])


@router.get("/me/invitations", response_model=InvitationList, responses=documented(*WHO))
def list_invitations(actor: PersonActor, app: Services) -> object:
    """Oldest first; those that have run out are left out."""
    return {"object": "list", "data": [invitation_row(*each) for each in _waiting(app, actor.person)]}


@router.post("/me/invitations/{id}/accept", response_model=OrgRow, responses=documented(*WHO, "not_found"))
def accept(id: str, actor: PersonActor, app: Services) -> object:
    """Makes the person a member of the org. The session stays where it is; `POST /me/orgs/switch` goes there."""
    org = _org_of(app, actor.person, id)
    digests = _email_digests(app, actor.person)
    accept_invitation(app.store, org=org, invitation=id, person=actor.person, email_digests=digests, at=app.clock())
    app.directory.catch_up()
    return org_row(app.directory.directory.orgs[org], by=actor.by, active=actor.org)


@router.post("/me/invitations/{id}/decline", response_model=Declined, responses=documented(*WHO, "not_found"))
def decline(id: str, actor: PersonActor, app: Services) -> object:
    """Ends the invitation; the org may send another."""
    org = _org_of(app, actor.person, id)
    digests = _email_digests(app, actor.person)
    decline_invitation(app.store, org=org, invitation=id, person=actor.person, email_digests=digests, at=app.clock())
    app.directory.catch_up()
    return {"id": id, "declined": True}


def _org_of(app: App, person: str, invitation: str) -> str:
    app.directory.catch_up()
    for org, waiting in _waiting(app, person):
        if waiting.id == invitation:
            return org.id
    raise NotFound("not_found", "No such invitation; list yours with GET /me/invitations.", param="id")


def _waiting(app: App, person: str) -> list[tuple[Org, Invitation]]:
    return app.directory.directory.invitations_to(_email_digests(app, person), at=app.clock())


def _email_digests(app: App, person: str) -> frozenset[str]:
    known = app.directory.directory.person(person)
    return frozenset() if known is None else known.email_digests
