"""Who calls, and what a route demands of them. A route that demands nothing must say so, or the product does not start.

The demands are coroutines that never wait, so that FastAPI runs them where they are and not in a thread.
"""

import asyncio
from collections.abc import Iterator, Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from adapters.wiring import App
from domain.kernel.errors import Forbidden, Unauthenticated, Unavailable
from domain.keys.directory import Caller
from domain.keys.key import key_digest

KEY_LENGTH_MAX = 200
KEY_PREFIX = b"br-"
NEWS_SECONDS = 0.25
"""A little longer than the directory takes to hear of a new key."""


def presented_key(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The API key that a request shows: a bearer in `authorization`, else `x-br-api-key`, else `x-api-key`.

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
    return key if 0 < len(key) <= KEY_LENGTH_MAX else None


def app_of(request: Request) -> App:
    services: App = request.app.state.services
    return services


async def _services(request: Request) -> App:
    return app_of(request)


def find_caller(app: App, presented: bytes | None) -> Caller:
    """Raises Unauthenticated `invalid_api_key`, and Unavailable while changes of keys may not have arrived here."""
    if not app.directory.fresh():
        raise Unavailable("ledger_unavailable", "Keys cannot be checked at the moment; try again.", retry_after=1)
    caller = None if presented is None else app.directory.find(key_digest(app.pepper, presented))
    if caller is None or (caller.expires is not None and caller.expires <= app.clock()):
        raise Unauthenticated(
            "invalid_api_key",
            "Send 'Authorization: Bearer br-…' with a key that is neither revoked, disabled nor expired.",
        )
    return caller


async def caller_of(app: App, presented: bytes | None) -> Caller:
    """As `find_caller`, but a key that is not known yet gets a second look: it may have been minted a moment ago."""
    try:
        return find_caller(app, presented)
    except Unauthenticated:
        if presented is None or not presented.startswith(KEY_PREFIX):
            raise
    await asyncio.sleep(NEWS_SECONDS)
    return find_caller(app, presented)


# What a route can demand


async def public(request: Request) -> None:
    """Open to all. A key is not needed; one that is shown must be good."""
    presented = presented_key(request.headers.raw)
    if presented is not None and presented.startswith(KEY_PREFIX):
        await caller_of(app_of(request), presented)


async def key(request: Request) -> Caller:
    """Any key."""
    return await caller_of(app_of(request), presented_key(request.headers.raw))


async def full(request: Request) -> Caller:
    """A key of full scope: what a signed-in person could do, a program does with it."""
    presented = presented_key(request.headers.raw)
    if presented is None:
        raise Unauthenticated("no_session", "Sign in, or send 'Authorization: Bearer br-…' with a full-scope key.")
    caller = await caller_of(app_of(request), presented)
    if caller.scope != "full":
        raise Forbidden("forbidden_scope", "This key may only call models; use a key of full scope.")
    return caller


async def operator(request: Request) -> None:
    """Whoever runs the product: by BR_OPERATOR_TOKEN as bearer; while none is set, from this machine alone."""
    token = app_of(request).settings.operator_token
    if token is not None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not compare_digest(given, b"Bearer " + token.get_secret_value().encode()):
            raise Unauthenticated("invalid_api_key", "Send 'Authorization: Bearer …' with the operator's token.")
    elif not _is_local(request):
        raise Forbidden("forbidden_scope", "Set BR_OPERATOR_TOKEN to read this from another machine.")


KeyCaller = Annotated[Caller, Depends(key)]
FullCaller = Annotated[Caller, Depends(full)]
Services = Annotated[App, Depends(_services)]
DEMANDS = {public: "public", key: "key", full: "full", operator: "operator"}


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


def _is_local(request: Request) -> bool:
    """Straight from this machine; a proxy beside us speaks for others, and says so in a header."""
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
