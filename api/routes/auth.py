"""Signing in with GitHub or Google, and signing out.

The dance: the browser is given a ticket and sent to the provider; it comes back with a code and the ticket's state; who
it is about is asked of the provider, behind the browser's back; then a session begins, always a new one.
"""

from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from adapters.wiring import App
from api.caller import AGENT_LENGTH_MAX, WHO, PersonActor, Services, public
from api.client_address import address_of
from api.errors import documented
from api.schemas.sessions import SignedOut
from api.session import LOOPBACK_NAMES, Token, clear_cookie, set_cookie, token_of
from api.sign_in import (
    LANDING,
    Ticket,
    check_pace,
    give_ticket,
    local_path,
    new_ticket,
    redeem_ticket,
    tear_up_ticket,
)
from api.sign_in_page import NAMES, sign_in_page, sorry_page
from domain.accounts.person import email_digest, mailbox_digest, person_stream, subject_digest
from domain.accounts.ports import IdentityProvider
from domain.accounts.sign_in import (
    Proof,
    SignedIn,
    end_all_sessions,
    end_session,
    session_expiry,
    sign_in,
    start_session,
)
from domain.kernel.errors import Forbidden, NotFound, Refusal, Unavailable
from domain.kernel.money import rupees

router = APIRouter(tags=["Sign-in"])
STEP = ("not_found", "rate_limit_exceeded", "provider_not_configured", "sign_in_unavailable")
UNSHARED = {"cache-control": "no-store", "referrer-policy": "no-referrer"}


@router.get("/sign-in", response_class=Response, dependencies=[Depends(public)])
def show_sign_in(request: Request, app: Services, next: str = LANDING) -> Response:
    """The page where people sign in; who is signed in sees their orgs and invitations, and can sign out. `next` is the
    path to go on to after signing in; one of another site is ignored."""
    return sign_in_page(app, request, next=local_path(next))


@router.get(
    "/auth/{provider}",
    status_code=303,
    response_class=Response,
    responses=documented(*STEP),
    dependencies=[Depends(public)],
)
async def begin_sign_in(provider: str, request: Request, app: Services, next: str = LANDING) -> Response:
    """Sends the browser to `github` or `google`, to come back to `/auth/{provider}/callback`. `next` as at
    `/sign-in`."""
    try:
        chosen = _chosen(app, provider)
        if (home := _same_machine(app, request)) is not None:
            return RedirectResponse(f"{home}/auth/{provider}?{urlencode({'next': local_path(next)})}", 303, UNSHARED)
        await check_pace(app, request)
        ticket = new_ticket(app, provider=provider, next=next)
        address = await run_in_threadpool(
            chosen.address,
            redirect_uri=_callback(app, provider),
            state=ticket.state,
            verifier=ticket.verifier,
            nonce=ticket.nonce,
        )
    except Refusal as refusal:
        return sorry_page(app, request, refusal)
    response = RedirectResponse(address, 303, UNSHARED)
    give_ticket(app, response, ticket)
    return response


@router.get(
    "/auth/{provider}/callback",
    status_code=303,
    response_class=Response,
    responses=documented(*STEP, "sign_in_invalid", "sign_in_refused", "ledger_unavailable"),
    dependencies=[Depends(public)],
)
async def finish_sign_in(
    provider: str, request: Request, app: Services, code: str = "", state: str = "", error: str = ""
) -> Response:
    """Where the provider sends the browser back. Sets the session's cookie and goes on to where the sign-in was begun
    for. A session that the browser had before ends."""
    try:
        chosen = _chosen(app, provider)
        await check_pace(app, request)
        ticket = await redeem_ticket(app, request, provider=provider, state=state)
        if error or not code:
            raise Forbidden("sign_in_refused", f"{NAMES[provider]} did not say who you are; begin again at /sign-in.")
        token = await run_in_threadpool(_start, app, request, chosen, ticket, code)
    except Refusal as refusal:
        return sorry_page(app, request, refusal)
    response = RedirectResponse(ticket.next, 303, UNSHARED)
    tear_up_ticket(app, response)
    set_cookie(app, response, token)
    return response


@router.post("/auth/logout", response_model=SignedOut, responses=documented(*WHO, "invalid_request"))
def sign_out(actor: PersonActor, app: Services, response: Response, everywhere: bool = False) -> object:
    """Ends this session, or with `everywhere=true` all sessions of the person; in force on every gateway within a
    second."""
    if everywhere:
        end_all_sessions(app.store, person=actor.person, at=app.clock())
    else:
        end_session(app.store, person=actor.person, session=actor.session, at=app.clock())
    app.directory.catch_up()
    clear_cookie(app, response)
    response.headers["cache-control"] = "no-store"
    return {"signed_out": True, "everywhere": everywhere}


def _start(app: App, request: Request, provider: IdentityProvider, ticket: Ticket, code: str) -> Token:
    """Asks the provider who it is, and begins a session of that person. The id of a session is never a browser's
    choice, so nobody can be made to sign in to one that somebody else knows."""
    known = provider.identify(
        code=code,
        redirect_uri=_callback(app, ticket.provider),
        verifier=ticket.verifier,
        nonce=ticket.nonce,
    )
    proof = Proof(
        provider=ticket.provider,
        subject_digest=subject_digest(app.pepper, provider=ticket.provider, subject=known.subject),
        name=known.name,
        login=known.login,
        email=known.email,
        email_digest=email_digest(app.pepper, known.email) if known.email_verified else None,
        mailbox_digest=mailbox_digest(app.pepper, known.email),
    )
    signed_in = sign_in(
        app.store,
        app.vault.seal,
        proof,
        person=app.new_id("usr"),
        org=app.new_id("org"),
        workspace=app.new_id("ws"),
        credit=rupees(app.settings.sign_up_inr),
        at=app.clock(),
    )
    session = _new_session(app, request, signed_in)
    before = token_of(app, request)
    if before is not None:
        end_session(app.store, person=before.person, session=before.session, at=app.clock())
    app.directory.catch_up()
    return Token(signed_in.person, session, signed_in.home)


def _new_session(app: App, request: Request, who: SignedIn) -> str:
    subject, session, at = person_stream(who.person), app.new_id("ses"), app.clock()
    agent = request.headers.get("user-agent", "")[:AGENT_LENGTH_MAX]
    start_session(
        app.store,
        person=who.person,
        session=session,
        active=who.home,
        agent=app.vault.seal(subject, agent),
        address=app.vault.seal(subject, str(address_of(app, request) or "")),
        expires=session_expiry(at),
        at=at,
    )
    return session


def _chosen(app: App, provider: str) -> IdentityProvider:
    """Raises NotFound for what is no provider, Unavailable for one that the operator has not set up."""
    if provider not in NAMES:
        raise NotFound("not_found", "Sign in with /auth/github or /auth/google.", param="provider")
    chosen = app.identities.get(provider)
    if chosen is None:
        raise Unavailable(
            "provider_not_configured",
            f"Signing in with {NAMES[provider]} is not set up here; the operator sets BR_{provider.upper()}_CLIENT_ID.",
        )
    return chosen


def _callback(app: App, provider: str) -> str:
    """As registered with the provider: by the operator's word alone, whatever host the request named."""
    return f"{app.settings.public_url.rstrip('/')}/auth/{provider}/callback"


def _same_machine(app: App, request: Request) -> str | None:
    """Our own address, where a browser on this machine came by another of its names. It must begin where it is to come
    back to, since cookies stay with a name."""
    home = urlsplit(app.settings.public_url)
    came_by = urlsplit(f"//{request.headers.get('host', '')}").hostname
    strays = home.hostname in LOOPBACK_NAMES and came_by in LOOPBACK_NAMES and came_by != home.hostname
    return app.settings.public_url.rstrip("/") if strays else None
