"""Where a person is signed in, and the end of it."""

from fastapi import APIRouter, Response

from adapters.wiring import App
from api.caller import WHO, PersonActor, Services
from api.errors import documented
from api.schemas.sessions import EndedSession, SessionList
from api.schemas.times import moment
from api.session import clear_cookie
from domain.accounts.events import SessionStarted
from domain.accounts.person import Person, person_stream
from domain.accounts.sign_in import end_session
from domain.kernel.errors import NotFound
from domain.kernel.store import fold_recorded

router = APIRouter(tags=["Account"])


@router.get("/me/sessions", response_model=SessionList, responses=documented(*WHO))
def list_sessions(actor: PersonActor, app: Services) -> object:
    """The sessions in which the person is signed in, newest first."""
    subject = person_stream(actor.person)
    rows = [
        {
            "id": started.session,
            "current": started.session == actor.session,
            "started_at": moment(started.at),
            "expires_at": moment(started.expires),
            "agent": _opened(app, subject, started.agent),
            "address": _opened(app, subject, started.address),
        }
        for started in _sessions(app, actor.person)
    ]
    return {"object": "list", "data": rows[::-1]}


@router.delete("/me/sessions/{id}", response_model=EndedSession, responses=documented(*WHO, "not_found"))
def remove_session(id: str, actor: PersonActor, app: Services, response: Response) -> object:
    """Ends one of the person's sessions, within a second on every gateway; also the one that asks."""
    if id not in {started.session for started in _sessions(app, actor.person)}:
        raise NotFound("not_found", "No such session; list yours with GET /me/sessions.", param="id")
    end_session(app.store, person=actor.person, session=id, at=app.clock())
    app.directory.catch_up()
    if id == actor.session:
        clear_cookie(app, response)
    return {"id": id, "ended": True}


def _sessions(app: App, person: str) -> list[SessionStarted]:
    """How each session began that has not ended, oldest first: from the log itself, since the directory knows only
    that a session is, and one of another gateway a moment later."""
    facts = app.log.stream(person_stream(person))
    state, now = fold_recorded(Person(), facts), app.clock()
    live = {session.id for session in state.sessions.values() if session.expires > now}
    events = [fact.event for fact in facts]
    return [event for event in events if isinstance(event, SessionStarted) and event.session in live]


def _opened(app: App, subject: str, sealed: str) -> str:
    return (sealed and app.vault.open(subject, sealed)) or ""
