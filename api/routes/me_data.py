"""What is kept about a person: all of it, and its end."""

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from adapters.wiring import App
from api.caller import WHO, PersonActor, Services
from api.errors import documented
from api.schemas.personal_data import Erased, Erasure, PersonalData
from api.schemas.times import moment
from api.session import clear_cookie
from domain.accounts.person import person_stream
from domain.kernel.errors import Invalid
from domain.kernel.events import Recorded
from domain.payments.billing import books_subject, read_buyer
from projections.audit import origins_of
from projections.collections import starred_by

router = APIRouter(tags=["Account"])
SEALED = frozenset({"name", "login", "email", "agent", "address"})
ENVELOPE = frozenset({"at", "by", "cause"})
CALLS_MAX = 10_000


@router.get("/me/export", response_model=PersonalData, responses=documented(*WHO))
def export_person(actor: PersonActor, app: Services, response: Response) -> object:
    """All that is kept about the person who asks, in clear. What their orgs have configured, spent and paid is those
    orgs': see `/me/audit` and `/me/billing/ledger.jsonl`."""
    subject = person_stream(actor.person)
    with app.reading() as connection:
        calls = origins_of(connection, subject, limit=CALLS_MAX)
        stars = starred_by(connection, actor.person)
    facts = app.log.stream(subject)
    response.headers["content-disposition"] = 'attachment; filename="bharatrouter.json"'
    response.headers["cache-control"] = "no-store"
    return {
        "person": actor.person,
        "facts": [_fact(app, subject, fact) for fact in facts],
        "memberships": [
            {
                "org": org.id,
                "name": org.name,
                "role": org.members[actor.person].role,
                "since": moment(org.members[actor.person].since),
            }
            for org in app.directory.directory.orgs_of(actor.person)
        ],
        "calls": [
            {
                "at": moment(call["at"]),
                "address": app.vault.open(subject, call["address"]) or "",
                "agent": app.vault.open(subject, call["agent"]) or "",
            }
            for call in calls
        ],
        "stars": [{"slug": star["slug"], "at": moment(star["at"])} for star in stars],
        "billing_address": _billing_address(app, actor.person),
    }


@router.delete("/me", response_model=Erased, responses=documented(*WHO, "invalid_request", "last_owner"))
def erase(wanted: Erasure, actor: PersonActor, app: Services, response: Response) -> object:
    """Erases the person who asks, for good: signs them out everywhere, takes them out of their orgs, ends their
    personal org and its keys, and destroys the key by which what is kept of them could be read. What is left of its
    credit is lost: ask for a refund first. Books and tax documents stay, as the law asks."""
    person = app.directory.directory.person(actor.person)
    email = person and person.email and app.vault.open(person_stream(actor.person), person.email)
    if wanted.confirm.strip().lower() != (email or actor.person).lower():
        raise Invalid("invalid_request", "Give your e-mail address, as GET /me shows it.", param="confirm")
    app.erase_person(actor.person, by=actor.by)
    clear_cookie(app, response)
    return {"id": actor.person, "erased": True}


def _fact(app: App, subject: str, fact: Recorded) -> dict[str, Any]:
    said = {name: value for name, value in msgspec.to_builtins(fact.event).items() if name not in ENVELOPE}
    opened = {name: app.vault.open(subject, said[name]) for name in SEALED & said.keys() if said[name]}
    return {"position": fact.position, "name": fact.event.NAME, "at": moment(fact.event.at), "fields": said | opened}


def _billing_address(app: App, person: str) -> dict[str, Any] | None:
    known = app.directory.directory.person(person)
    sealed = app.billing_profile(known.home).buyer if known else None
    text = app.vault.open(books_subject(known.home), sealed) if known and sealed else None
    return None if text is None else msgspec.to_builtins(read_buyer(text))
