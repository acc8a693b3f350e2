"""What people see where they sign in: the ways to do so; and once they are, as whom, which teams invite them, and how
to sign out."""

from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request, Response

from adapters.wiring import App
from api.errors import status_of
from api.session import LOOPBACK_NAMES, csrf_token, token_of
from api.sign_in import LANDING
from api.web.render import acting_page, read_only_page, render
from domain.accounts.person import Person, person_stream
from domain.kernel.errors import Refusal
from domain.payments.document import show_day

NAMES = {"github": "GitHub", "google": "Google"}


def sign_in_page(app: App, request: Request, *, next: str) -> Response:
    """For whoever comes; `next` is the path to go on to after signing in."""
    return _page(app, next=next, who=_who(app, request))


def sorry_page(app: App, request: Request, refusal: Refusal) -> Response:
    """Why a sign-in came to nothing, with the ways to try again: a page for people, the envelope for programs."""
    if "text/html" not in request.headers.get("accept", ""):
        raise refusal
    response = _page(app, next=LANDING, sorry=refusal.message, status=status_of(refusal))
    if refusal.retry_after is not None:
        response.headers["retry-after"] = str(refusal.retry_after)
    return response


def _page(app: App, *, next: str, who: dict[str, Any] | None = None, sorry: str = "", status: int = 200) -> Response:
    nonce = app.entropy(16).hex()
    ways = [
        {"name": name, "address": f"/auth/{provider}?{urlencode({'next': next})}"}
        for provider, name in NAMES.items()
        if provider in app.identities
    ]
    page = render(
        "sign_in.html",
        nonce=nonce,
        ways=ways,
        sorry=sorry,
        who=who,
        credit_inr=app.settings.sign_up_inr,
        simulated=bool(ways) and urlsplit(app.settings.github_url).hostname in LOOPBACK_NAMES,
    )
    response = (read_only_page if who is None else acting_page)(page, nonce=nonce, status=status)
    response.headers["cache-control"] = "no-store"
    return response


def _who(app: App, request: Request) -> dict[str, Any] | None:
    """Whoever is signed in. They may have come from another gateway a moment ago, so the log itself is looked at."""
    token = token_of(app, request)
    if token is None or not app.directory.caught_up():
        return None
    directory, now = app.directory.directory, app.clock()
    session, person = directory.session(token.person, token.session), directory.person(token.person)
    if person is None or session is None or session.expires <= now:
        return None
    return {
        "name": _opened(app, person, person.name) or person.id,
        "email": _opened(app, person, person.email),
        "csrf": csrf_token(app.pepper, session.id),
        "orgs": [{"name": org.name, "role": org.members[person.id].role} for org in directory.orgs_of(person.id)],
        "invitations": [
            {"id": invited.id, "org": org.name, "role": invited.role, "until": show_day(invited.expires)}
            for org, invited in directory.invitations_to(person.email_digests, at=now)
        ],
    }


def _opened(app: App, person: Person, sealed: str) -> str:
    return (sealed and app.vault.open(person_stream(person.id), sealed)) or ""
