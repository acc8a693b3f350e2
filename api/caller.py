"""Who calls, and what a route demands of them. A route that demands nothing must say so, or the product does not start.

The demands are coroutines that never wait, so that FastAPI runs them where they are and not in a thread.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from adapters.wiring import App, Witness
from api.attempts import Attempts
from api.client_address import address_of, client_address
from api.session import SAFE_METHODS, Token, check_same_site, token_of
from domain.accounts.events import Role
from domain.accounts.roles import require_role
from domain.kernel.errors import Forbidden, Unauthenticated, Unavailable
from domain.keys.agents import TOKEN_LENGTH_MAX, TOKEN_START, not_accepted
from domain.keys.directory import Caller
from domain.keys.key import key_digest

AGENT_LENGTH_MAX = 300
KEY_LENGTH_MAX = 200
KEY_PREFIX = b"br-"
WHO = ("no_session", "invalid_api_key", "forbidden_scope", "forbidden_role", "csrf_failed", "ledger_unavailable")
"""What any call under `/me` may be refused with, by reason of who makes it."""
NEWS_SECONDS = 0.25
"""A little longer than the directory takes to hear of a new key, session or member."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts under `/me`: a person in a session, in the org that they look at; or a key of full scope, in its own.

    `role` is None where the person is no member of that org (any more). `person` and `session` are empty for keys,
    `key_id` for persons.
    """

    org: str
    role: Role | None
    person: str = ""
    session: str = ""
    key_id: str = ""

    @property
    def by(self) -> str:
        """The actor as events name it."""
        return f"user:{self.person}" if self.person else f"key:{self.key_id}"


def presented_key(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The API key that a request shows, or an agent's token: a bearer in `authorization`, else `x-br-api-key`, else
    `x-api-key`.

    Header names are in lower case. A bearer that is none of our keys makes way for the other two headers, since clients
    send their own there. None if there is no key, or nothing that could be one.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == b"bearer ":
                found[name] = value[7:].strip()
        elif name in (b"x-br-api-key", b"x-api-key"):
            found[name] = value.strip()
    own = [found.get(name, b"") for name in (b"authorization", b"x-br-api-key", b"x-api-key")]
    key = next((key for key in own if key.startswith(KEY_PREFIX)), b"") or next(filter(None, own), b"")
    return key if 0 < len(key) <= (TOKEN_LENGTH_MAX if key.startswith(TOKEN_START) else KEY_LENGTH_MAX) else None


def app_of(request: Request) -> App:
    services: App = request.app.state.services
    return services


async def _services(request: Request) -> App:
    """With a witness to what the call changes."""
    app = app_of(request)
    if request.method in SAFE_METHODS:
        return app
    agent = request.headers.get("user-agent", "")[:AGENT_LENGTH_MAX]
    witness = Witness(app.vault.seal, app.new_id, address=str(address_of(app, request) or ""), agent=agent)
    return replace(app, store=app.store.witnessed(witness))


def find_caller(app: App, presented: bytes | None) -> Caller:
    """Raises Unauthenticated `invalid_api_key`, and Unavailable while changes of keys may not have arrived here."""
    _require_fresh(app)
    caller = None if presented is None else app.directory.find(key_digest(app.pepper, presented))
    if caller is None or (caller.expires is not None and caller.expires <= app.clock()):
        raise Unauthenticated(
            "invalid_api_key",
            "Send 'Authorization: Bearer br-…' with a key that is neither revoked, disabled nor expired.",
        )
    return caller


async def _find(app: App, presented: bytes | None) -> Caller:
    """As `find_caller`, and the agent of a token where the operator has named an issuer of such."""
    if presented is None or not presented.startswith(TOKEN_START) or app.agents is None:
        return find_caller(app, presented)
    claims = await app.agents.claims_of(presented)
    _require_fresh(app)
    caller = app.directory.find_agent(claims, app.settings.agent_claims)
    if caller is None:
        raise not_accepted("no agent has this identity; register it with POST /me/agents")
    return caller


def _require_fresh(app: App) -> None:
    if not app.directory.fresh():
        raise Unavailable("ledger_unavailable", "Keys cannot be checked at the moment; try again.", retry_after=1)


async def caller_of(
    app: App, wrong_keys: Attempts | None, headers: Sequence[tuple[bytes, bytes]], peer: str | None
) -> Caller:
    """Whose key these headers show, to a request from `peer`; raises as `find_caller`.

    A key that is not known yet gets a second look: it may have been minted a moment ago. Wrong keys are counted per
    client; one that showed too many is told to wait (TooMany `rate_limit_exceeded`). A good key never is.
    """
    presented = presented_key(headers)
    try:
        return await _find(app, presented)
    except Unauthenticated as refusal:
        if presented is None:
            raise
        wrong = refusal
    address = None
    if wrong_keys is not None:
        address = client_address(peer, headers, app.settings.trusted_proxies)
        wrong_keys.check(address)
    if presented.startswith((KEY_PREFIX, TOKEN_START)):
        await asyncio.sleep(NEWS_SECONDS)
        with suppress(Unauthenticated):
            return await _find(app, presented)
    if wrong_keys is not None:
        await wrong_keys.failed(address)
    raise wrong


async def _caller_of(request: Request) -> Caller:
    peer = None if request.client is None else request.client.host
    return await caller_of(app_of(request), request.app.state.wrong_keys, request.headers.raw, peer)


# What a route can demand


async def public(request: Request) -> None:
    """Open to all. A key is not needed; one that is shown must be good."""
    presented = presented_key(request.headers.raw)
    if presented is not None and presented.startswith(KEY_PREFIX):
        await _caller_of(request)


async def key(request: Request) -> Caller:
    """Any key."""
    return await _caller_of(request)


async def standard_key(request: Request) -> Caller:
    """A key that can have keys under it: none of a trial, no ephemeral one, no agent."""
    caller = await _caller_of(request)
    if caller.tier != "standard":
        raise Forbidden("forbidden_scope", "This takes a standard key; use one of POST /me/keys.")
    return caller


async def signed_in(request: Request) -> Actor:
    """A person in a session, be they a member of the org that they look at or not (any more); or a key of full scope,
    whatever it may do. A key that is shown goes before a cookie."""
    app = app_of(request)
    if presented_key(request.headers.raw) is None:
        return await _person_of(app, request)
    caller = await _caller_of(request)
    if caller.scope != "full":
        raise Forbidden("forbidden_scope", "This key may only call models; use a key of full scope.")
    role = app.directory.directory.role_of(f"key:{caller.key_id}", caller.org)
    return Actor(caller.org, role, key_id=caller.key_id)


async def person(request: Request) -> Actor:
    """A person in a session."""
    actor = await signed_in(request)
    if not actor.person:
        raise Forbidden("forbidden_scope", "A key belongs to one org and is nobody; sign in for this.")
    return actor


async def member(request: Request) -> Actor:
    """Whoever belongs to the org: to read."""
    return await _with_role(request, "member")


async def admin(request: Request) -> Actor:
    """Who runs the org: keys, workspaces, people."""
    return await _with_role(request, "admin")


async def owner(request: Request) -> Actor:
    """Whose org it is: money that moves, and the end of the org."""
    return await _with_role(request, "owner")


async def operator(request: Request) -> None:
    """Whoever runs the product: by BR_OPERATOR_TOKEN as bearer; while none is set, from this machine alone."""
    token = app_of(request).settings.operator_token
    if token is not None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not compare_digest(given, b"Bearer " + token.get_secret_value().encode()):
            await _count_wrong(request)
            raise Unauthenticated("invalid_api_key", "Send 'Authorization: Bearer …' with the operator's token.")
    elif not _is_local(request):
        raise Forbidden("forbidden_scope", "Set BR_OPERATOR_TOKEN to read this from another machine.")


KeyCaller = Annotated[Caller, Depends(key)]
StandardKeyCaller = Annotated[Caller, Depends(standard_key)]
AnyActor = Annotated[Actor, Depends(signed_in)]
PersonActor = Annotated[Actor, Depends(person)]
MemberActor = Annotated[Actor, Depends(member)]
AdminActor = Annotated[Actor, Depends(admin)]
OwnerActor = Annotated[Actor, Depends(owner)]
Services = Annotated[App, Depends(_services)]
DEMANDS = {
    public: "public",
    key: "key",
    standard_key: "standard_key",
    signed_in: "signed_in",
    person: "person",
    member: "member",
    admin: "admin",
    owner: "owner",
    operator: "operator",
}


def demands(app: FastAPI) -> dict[tuple[str, str], str]:
    """What each route demands, by method and path. Raises RuntimeError for a route that does not say exactly one."""
    table: dict[tuple[str, str], str] = {}
    for route in app.routes:
        if not isinstance(route, APIRoute):
            raise RuntimeError(f"{route!r} is no route that can demand anything")
        said = {DEMANDS[call] for call in _calls(route.dependant) if call in DEMANDS}
        if len(said) != 1:
            raise RuntimeError(f"{route.path} must demand exactly one of {[*DEMANDS.values()]}")
        table |= {(method, route.path): next(iter(said)) for method in route.methods or ()}
    return table


def _calls(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)


async def _with_role(request: Request, needed: Role) -> Actor:
    actor = await signed_in(request)
    require_role(actor.role, needed)
    return actor


async def _person_of(app: App, request: Request) -> Actor:
    """By the cookie. What is not known yet gets a second look: it may have begun a moment ago, on another process."""
    token = token_of(app, request)
    actor = None if token is None else _find_person(app, token)
    if token is not None and (actor is None or actor.role is None):
        await asyncio.sleep(NEWS_SECONDS)
        actor = _find_person(app, token)
    if token is None or actor is None:
        raise Unauthenticated("no_session", "Sign in, or send 'Authorization: Bearer br-…' with a full-scope key.")
    check_same_site(app, request, token)
    return actor


def _find_person(app: App, token: Token) -> Actor | None:
    """None where the session has ended. Raises Unavailable while endings may not have arrived here."""
    if not app.directory.fresh():
        raise Unavailable("ledger_unavailable", "Sessions cannot be checked now; try again.", retry_after=1)
    directory = app.directory.directory
    session = directory.session(token.person, token.session)
    if session is None or session.expires <= app.clock():
        return None
    role = directory.role_of(f"user:{token.person}", token.org)
    return Actor(token.org, role, person=token.person, session=token.session)


async def _count_wrong(request: Request) -> None:
    """For a credential that is no key. Raises TooMany `rate_limit_exceeded`."""
    wrong_keys: Attempts | None = request.app.state.wrong_keys
    if wrong_keys is not None:
        address = address_of(app_of(request), request)
        wrong_keys.check(address)
        await wrong_keys.failed(address)


def _is_local(request: Request) -> bool:
    """Straight from this machine; a proxy beside us speaks for others, and says so in a header."""
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
