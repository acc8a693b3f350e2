"""The HTTP application around the hot routes: every module in api/routes that has a `router` is a door of it."""

import importlib
import logging
import pkgutil
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import api.routes
from adapters.wiring import App
from api.attempts import Attempts
from api.caller import demands
from api.cors import CORS
from api.errors import envelope, error_body, status_and_type, status_of
from domain.kernel.errors import Invalid, NotFound, Refusal, TooLarge

if TYPE_CHECKING:
    from adapters.gateway import Gateway

VERSION = "0.1.0"
PUBLIC_READS = frozenset({"/health", "/livez", "/readyz", "/openapi.json", "/status.json", "/status.rss"})
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")
_log = logging.getLogger(__name__)


def build(services: App, *, gateway: "Gateway | None" = None) -> FastAPI:
    """Everything but the hot routes; `gateway` are the live services that these stand on, where they run beside it.

    Raises RuntimeError if a route does not say what it demands of its callers.
    """
    app = FastAPI(
        title="BharatRouter",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.gateway = gateway
    app.state.wrong_keys = None
    if gateway is not None:
        app.state.wrong_keys = Attempts(
            gateway.rates,
            purpose="wrong_key",
            limit=services.settings.wrong_keys_rpm,
            secret=services.pepper,
            clock=lambda: time.monotonic_ns() // 1_000,
        )
    for found in pkgutil.iter_modules(api.routes.__path__, "api.routes."):
        app.router.routes.extend(importlib.import_module(found.name).router.routes)
    demands(app)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_middleware(Edge, new_id=lambda: services.new_id("req"), body_bytes_max=services.settings.body_bytes_max)
    return app


class Edge:
    """What every reply has: a request id, CORS where other origins may read, the envelope even for faults of ours.
    And what no request has: a body over the limit."""

    def __init__(self, app: ASGIApp, new_id: Callable[[], str], body_bytes_max: int) -> None:
        self._app = app
        self._new_id = new_id
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = self._new_id().encode()
        common = [(b"x-br-request-id", request), (b"x-request-id", request)]
        if scope["path"].startswith("/v1/") or scope["path"] in PUBLIC_READS:
            common += CORS
            if (preflight := _preflight(scope)) is not None:
                await _send(send, 204, [*common, *preflight], b"")
                return
        started = False

        async def send_with_common(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *common]}
            await send(message)

        try:
            await self._app(scope, _limited(receive, self._body_bytes_max), send_with_common)
        except Exception:  # the last stop: a caller gets the envelope, and whoever runs the product the trace
            _log.exception("request %s failed in the gateway", request.decode())
            if started:
                raise
            body = envelope("api_error", "internal_error", "The gateway failed; nothing was charged.", None)
            await _send(send, 500, [*common, (b"content-type", b"application/json")], body)


def _limited(receive: Receive, bytes_max: int) -> Receive:
    """The same, but HTTPException 413 is raised once more than `bytes_max` of a body have come."""
    taken = 0

    async def receive_within() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > bytes_max:
            raise HTTPException(413)
        return message

    return receive_within


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _preflight(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """The answer to a browser that asks before it calls. No credentials ride along with `*`, so any header may."""
    headers = dict(scope["headers"])
    if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
        return None
    asked = headers.get(b"access-control-request-headers", b"")
    return [
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", asked if _HEADER_NAMES.fullmatch(asked) else b"authorization, content-type"),
        (b"access-control-max-age", b"86400"),
        (b"vary", b"access-control-request-headers"),
    ]


def reply(refusal: Refusal) -> Response:
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    return Response(error_body(refusal), status_of(refusal), headers, "application/json")


async def _refused(_: Request, refusal: Any) -> Response:
    return reply(refusal)


async def _invalid(_: Request, error: Any) -> Response:
    """The first thing that is wrong, and where: `workspace_id`, or `models[2]`."""
    first = error.errors()[0]
    path = [part for part in first["loc"] if part not in ("body", "query", "path", "header")]
    if first["type"] == "json_invalid":
        return reply(Invalid("invalid_request", "The body is no valid JSON."))
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    message = first["msg"].removeprefix("Value error, ")
    return reply(Invalid("invalid_request", f"{param or 'body'}: {message}.", param=param or None))


async def _no_route(request: Request, error: Any) -> Response:
    """What the framework itself refuses."""
    if error.status_code == 404:
        return reply(NotFound("not_found", f"There is nothing at {request.url.path}; see /openapi.json."))
    if error.status_code == 405:
        status, type = status_and_type("method_not_allowed")
        message = f"{request.url.path} does not take {request.method}."
        return Response(envelope(type, "method_not_allowed", message, None), status, error.headers, "application/json")
    if error.status_code == 413:
        return reply(TooLarge("payload_too_large", "The body is too large; send less at once."))
    return reply(Invalid("invalid_request", f"The request cannot be read: {error.detail}."))
