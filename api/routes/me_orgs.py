"""The orgs of a person, and which of them they look at."""

from fastapi import APIRouter, Response

from api.caller import WHO, AnyActor, PersonActor, Services
from api.errors import documented
from api.schemas.people import DeletedOrg, NewOrg, OrgList, OrgRow, Switch, org_row
from api.session import Token, set_cookie
from domain.accounts.sign_in import switch_org
from domain.accounts.teams import delete_org, found_team
from domain.kernel.errors import NotFound

router = APIRouter(tags=["Orgs"])


@router.get("/me/orgs", response_model=OrgList, responses=documented(*WHO))
def list_orgs(actor: AnyActor, app: Services) -> object:
    """The orgs that the person is a member of, the personal one first; for a key, its org."""
    directory = app.directory.directory
    orgs = directory.orgs_of(actor.person) if actor.person else [directory.orgs[actor.org]]
    return {"object": "list", "data": [org_row(org, by=actor.by, active=actor.org) for org in orgs]}


@router.post(
    "/me/orgs", status_code=201, response_model=OrgRow, responses=documented(*WHO, "invalid_request", "org_limit")
)
def add_org(wanted: NewOrg, actor: PersonActor, app: Services) -> object:
    """Founds a team, which the person owns: one balance, keys and ledger for all its members. The session stays where
    it is; `POST /me/orgs/switch` goes there."""
    org = app.new_id("org")
    found_team(
        app.store,
        person=actor.person,
        org=org,
        workspace=app.new_id("ws"),
        name=wanted.name,
        teams_max=app.settings.teams_max,
        at=app.clock(),
    )
    app.directory.catch_up()
    return org_row(app.directory.directory.orgs[org], by=actor.by, active=actor.org)


@router.post("/me/orgs/switch", response_model=OrgRow, responses=documented(*WHO, "invalid_request", "not_found"))
def switch(wanted: Switch, actor: PersonActor, app: Services, response: Response) -> object:
    """Makes this session look at another org of the person's; the reply sets the cookie that says so."""
    switch_org(app.store, person=actor.person, session=actor.session, org=wanted.org, at=app.clock())
    app.directory.catch_up()
    set_cookie(app, response, Token(actor.person, actor.session, wanted.org))
    return org_row(app.directory.directory.orgs[wanted.org], by=actor.by, active=wanted.org)


@router.delete("/me/orgs/{id}", response_model=DeletedOrg, responses=documented(*WHO, "not_found", "personal_org"))
def remove_org(id: str, actor: AnyActor, app: Services, response: Response) -> object:
    """Deletes a team; takes an owner of it. Its keys and invitations are revoked within a second, nobody is a member
    any more. Its books stay on record, and so does a balance: ask for a refund first. A session that looked at it looks
    at the personal org from then on."""
    directory = app.directory.directory
    org = directory.orgs.get(id)
    if org is None or org.role_of(actor.by) is None:
        raise NotFound("not_found", "No such org; list yours with GET /me/orgs.", param="id")
    delete_org(app.store, org=id, founder=org.founder, at=app.clock(), by=actor.by)
    app.directory.catch_up()
    if not actor.person:
        return {"id": id, "deleted": True, "active": None}
    person = directory.person(actor.person)
    if id == actor.org and person is not None:
        set_cookie(app, response, Token(actor.person, actor.session, person.home))
        return {"id": id, "deleted": True, "active": person.home}
    return {"id": id, "deleted": True, "active": actor.org}
