"""Who calls, and what they may do."""

from typing import Any

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, Actor, AnyActor, Services
from api.errors import documented
from api.schemas.people import Me, org_row
from api.schemas.times import moment
from api.session import csrf_token
from domain.accounts.person import person_stream

router = APIRouter(tags=["Account"])


@router.get("/me", response_model=Me, responses=documented(*WHO))
def show_me(actor: AnyActor, app: Services) -> object:
    """The calling person or key, the org that calls are about, the role in it, and the limits that hold."""
    org = app.directory.directory.orgs.get(actor.org)
    key = None if org is None else org.keys.get(actor.key_id)
    settings = app.settings
    return {
        "person": _person(app, actor) if actor.person else None,
        "key": None if key is None else {"id": key.id, "name": key.name, "prefix": key.prefix},
        "org": None if org is None or actor.role is None else org_row(org, by=actor.by, active=actor.org),
        "role": actor.role,
        "tier": None if actor.role is None else "standard" if app.trial_for(actor.org) is None else "trial",
        "limits": {
            "keys": settings.keys_max,
            "workspaces": settings.workspaces_max,
            "people": settings.people_max,
            "teams": settings.teams_max,
            "requests_per_minute": settings.gateway_rpm or None,
        },
        "csrf_token": csrf_token(app.pepper, actor.session) if actor.session else None,
    }


def _person(app: App, actor: Actor) -> dict[str, Any] | None:
    person = app.directory.directory.person(actor.person)
    if person is None:
        return None
    subject = person_stream(person.id)
    return {
        "id": person.id,
        "name": app.vault.open(subject, person.name) or "",
        "email": (person.email and app.vault.open(subject, person.email)) or "",
        "providers": sorted({identity.provider for identity in person.identities.values()}),
        "signed_up_at": moment(person.signed_up),
    }
