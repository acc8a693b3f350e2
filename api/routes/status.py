"""How providers do and did: a page, the same for programs, and a feed of incidents."""

from hashlib import sha256
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from adapters.wiring import App
from api.caller import Services, public
from api.errors import documented
from api.schemas.status import StatusPage, status_feed, status_for_people, status_page
from api.web.render import read_only_page, render
from projections.status import days_of, incidents, last_seen, seen_lately

router = APIRouter(tags=["Health"], dependencies=[Depends(public)])
HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
RSS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/rss+xml": {"schema": {"type": "string"}}}},
    304: {"description": "Nothing has changed since"},
}
SHARED_SECONDS = 15
"""How long an answer may be kept on its way, since all see the same."""


@router.get("/status", response_class=Response, responses=HTML | documented("ledger_unavailable"))
def status(app: Services) -> Response:
    """How every provider does now and did for 90 days, and its incidents, for people."""
    now, nonce = app.clock(), app.entropy(16).hex()
    page, told = _look(app, now)
    shown = status_for_people(page, told, _names(app), now=now)
    return read_only_page(render("status.html", nonce=nonce, **shown), nonce=nonce)


@router.get("/status.json", response_model=StatusPage, responses=documented("ledger_unavailable"))
def status_json(app: Services, response: Response) -> object:
    """How every provider that can be called here does now, how it did on each of 90 days, and all incidents in them.
    It rests on the calls of customers on the product's own keys and on checks; what was not called is not known."""
    response.headers["cache-control"] = f"public, max-age={SHARED_SECONDS}"
    return _look(app, app.clock())[0]


@router.get("/status.rss", response_class=Response, responses=RSS | documented("ledger_unavailable"))
def status_rss(app: Services, request: Request) -> Response:
    """Incidents as RSS 2.0: an item when one opens and one when it ends. Answers 304 to whoever has the newest."""
    with app.reading() as connection:
        told = incidents(connection, now=app.clock())
    feed = status_feed(told, _names(app), url=app.settings.public_url.rstrip("/"))
    etag = f'"{sha256(feed).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": f"public, max-age={SHARED_SECONDS}"}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(feed, headers=headers, media_type="application/rss+xml; charset=utf-8")


def _look(app: App, now: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All that is shown, and the incidents in it as they are kept. Left out are providers that cannot be called."""
    with app.reading() as connection:
        told = incidents(connection, now=now)
        configured = app.configured_providers()
        page = status_page(
            [provider for provider in app.catalog.providers.values() if provider.id in configured],
            lately=seen_lately(connection, now=now),
            seen=last_seen(connection),
            days=days_of(connection, now=now),
            incidents=told,
            now=now,
        )
    return page, told


def _names(app: App) -> dict[str, str]:
    return {provider.id: provider.name for provider in app.catalog.providers.values()}
