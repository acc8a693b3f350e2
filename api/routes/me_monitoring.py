"""Monitoring of an org's collections: checks of every step, how they did, and alerts."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from adapters.wiring import App
from api.caller import WHO, Actor, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.monitoring import (
    AlertList,
    CheckResult,
    DeletedAlert,
    MadeAlert,
    Monitored,
    MonitorHealth,
    NewAlert,
    alert_row,
    check_result,
    threshold_of,
)
from api.schemas.times import moment
from domain.accounts.person import clean_email, person_stream
from domain.collections.collection import Collection, no_such_collection, read_slug
from domain.collections.service import look_at
from domain.inference.canary import check
from domain.kernel.clock import SECOND, next_ist_midnight
from domain.kernel.errors import Invalid, OutOfCredit, TooMany, Unavailable
from domain.kernel.store import fold_recorded
from domain.monitoring.checks import Wanted, record_checks
from domain.monitoring.events import AlertSet
from domain.monitoring.monitors import Alert, Monitors, monitor_stream, remove_alert, set_alert, set_monitored
from domain.webhooks.deliveries import SECRET_BYTES, make_secret
from domain.webhooks.endpoints import ALERT_TYPES, Endpoints, add_endpoint, remove_alert_endpoint
from projections.monitoring import breached, health_of

router = APIRouter(tags=["Monitoring"])

CHECKS_AT_ONCE = 10
DAYS_DEFAULT, DAYS_MAX = 7, 90
ORG_CHECKS = 5
"""Checks that an org may ask for within a minute; of one collection it is one."""


@router.post(
    "/me/collections/{slug}/monitor",
    response_model=Monitored,
    responses=documented(*WHO, "invalid_request", "not_found", "monitor_limit"),
)
def monitor(slug: str, wanted: Monitored, caller: AdminActor, app: Services) -> object:
    """Begins or ends to check a collection of the org: at once, then about every five minutes, each step is called for
    one token, on the route that a request of yours would be sent to first. We charge nothing for it; on your own keys
    and endpoints the token is yours. It counts in no circuit and no average. There are no checks while the org has no
    credit, and no more on a day when they have cost us as much as they may. A repeat is harmless."""
    collection = _own(app, caller, slug)
    set_monitored(
        app.store,
        org=caller.org,
        collection=collection.slug,
        monitored=wanted.monitored,
        monitored_max=app.settings.monitored_max,
        at=app.clock(),
        by=caller.by,
    )
    return {"monitored": wanted.monitored}


@router.get(
    "/me/collections/{slug}/health",
    response_model=MonitorHealth,
    responses=documented(*WHO, "invalid_request", "not_found"),
)
def show_health(
    slug: str,
    caller: MemberActor,
    app: Services,
    days: Annotated[int, Query(ge=1, le=DAYS_MAX, description="Days of India's calendar, today included")] = (
        DAYS_DEFAULT
    ),
) -> object:
    """How each model and provider did in the checks of these days."""
    collection, now = _own(app, caller, slug), app.clock()
    with app.reading() as connection:
        rows = health_of(connection, collection.slug, days=days, now=now)
    monitored = collection.slug in _monitors(app, caller.org).since
    return {
        "monitored": monitored,
        "paused": _why_paused(app, caller.org) if monitored else None,
        "health": [row | {"last_check": moment(row["last_check"])} for row in rows],
    }


@router.post(
    "/me/collections/{slug}/check",
    response_model=CheckResult,
    responses=documented(
        *WHO, "not_found", "insufficient_credits", "daily_limit_reached", "rate_limit_exceeded", "overloaded"
    ),
)
async def check_now(slug: str, caller: AdminActor, app: Services, request: Request) -> object:
    """Checks a collection of the org now, whether it is monitored or not, and answers what was found. Once a minute for
    each collection, five times a minute for all of them together, and within what checks may cost us a day."""
    wanted = await run_in_threadpool(_wanted, app, caller, slug)
    gateway = request.app.state.gateway
    if gateway is None:
        raise Unavailable("overloaded", "Nothing is called from here; ask another gateway.", retry_after=1)
    limits = ((f"check:{wanted.collection}", 1), (f"checks:{caller.org}", ORG_CHECKS))
    window = await gateway.rates.take(*limits)
    if not window.allowed:
        raise TooMany(
            "rate_limit_exceeded",
            "A collection can be checked once a minute, and all of an org five times; wait a little.",
            retry_after=max(1, round(window.retry_seconds)),
        )
    found = await check(wanted, gateway.services, asyncio.Semaphore(CHECKS_AT_ONCE))
    if found is None:
        raise _used_up(app)
    at = app.clock()
    await run_in_threadpool(record_checks, app.store, [found], at=at, by=caller.by)
    return check_result(found.pings, at=at)


@router.get("/me/collections/{slug}/alerts", response_model=AlertList, responses=documented(*WHO, "not_found"))
def list_alerts(slug: str, caller: MemberActor, app: Services) -> object:
    """The alerts of a collection of the org, oldest first."""
    collection = _own(app, caller, slug)
    alerts = _monitors(app, caller.org).alerts_of(collection.slug)
    with app.reading() as connection:
        raised = breached(connection, collection.slug)
    endpoints = app.webhooks_of(caller.org)
    return {
        "object": "list",
        "data": [_row(app, caller.org, alert, endpoints, breached=alert.id in raised) for alert in alerts],
    }


@router.post(
    "/me/collections/{slug}/alerts",
    status_code=201,
    response_model=MadeAlert,
    responses=documented(*WHO, "invalid_request", "not_found", "alert_limit", "address_refused"),
)
def add_alert(slug: str, wanted: NewAlert, caller: AdminActor, app: Services) -> object:
    """Adds an alert, up to ten for each collection. After at least three checks within its window it tells once when
    its figure reaches the threshold, and once when it is below again; never twice within an hour. It is told by e-mail
    to a member of the org, by a webhook of its own, or both."""
    collection = _own(app, caller, slug)
    mail = "" if wanted.email is None else _recipient(app, caller.org, wanted.email)
    url = None if wanted.webhook_url is None else app.egress.check_url(wanted.webhook_url, param="webhook_url")
    alert, endpoint = app.new_id("alr"), "" if url is None else app.new_id("wh")
    event = AlertSet(
        owner=caller.org,
        collection=collection.slug,
        alert=alert,
        metric=wanted.metric,
        threshold=threshold_of(wanted.metric, wanted.threshold),
        window_minutes=wanted.window_minutes,
        step=wanted.step,
        mail=mail,
        webhook=endpoint,
    )
    at, secret = app.clock(), None
    set_alert(app.store, event, steps=len(collection.steps), at=at, by=caller.by)
    if url is not None:
        secret = make_secret(app.entropy(SECRET_BYTES))
        add_endpoint(
            app.store,
            org=caller.org,
            endpoint=endpoint,
            url=app.vault.seal(caller.org, url),
            secret=app.vault.seal(caller.org, secret),
            types=ALERT_TYPES,
            alert=alert,
            endpoints_max=0,
            at=at,
            by=caller.by,
        )
    made = _monitors(app, caller.org).alerts[alert]
    row = _row(app, caller.org, made, app.webhooks_of(caller.org), breached=False)
    return row | {"webhook_secret": secret}


@router.delete(
    "/me/collections/{slug}/alerts/{alert}",
    response_model=DeletedAlert,
    responses=documented(*WHO, "not_found"),
)
def delete_alert(slug: str, alert: str, caller: AdminActor, app: Services) -> object:
    """Deletes the alert, and its webhook."""
    collection, at = _own(app, caller, slug), app.clock()
    remove_alert(app.store, org=caller.org, collection=collection.slug, alert=alert, at=at, by=caller.by)
    remove_alert_endpoint(app.store, org=caller.org, alert=alert, at=at, by=caller.by)
    return {"id": alert, "deleted": True}


def _own(app: App, caller: Actor, slug: str) -> Collection:
    """Raises NotFound for what is not there, or another org's."""
    found = look_at(app.store, org=caller.org, slug=read_slug(slug), org_of=app.directory.directory.orgs.get)
    if found.owner != caller.org:
        raise no_such_collection()
    return found


def _monitors(app: App, org: str) -> Monitors:
    return fold_recorded(Monitors(), app.log.stream(monitor_stream(org)))


def _wanted(app: App, caller: Actor, slug: str) -> Wanted:
    """Raises OutOfCredit and TooMany where the org may not have it checked now."""
    collection = _own(app, caller, slug)
    left = app.checks_left([caller.org])[caller.org]
    if not left:
        if _why_paused(app, caller.org) == "daily_limit":
            raise _used_up(app)
        raise OutOfCredit("insufficient_credits", "Checks are free, but for orgs that have credit; top up first.")
    return Wanted(collection.steps, left, owner=caller.org, collection=collection.slug)


def _why_paused(app: App, org: str) -> Literal["no_credit", "daily_limit"] | None:
    if app.available(org) <= 0:
        return "no_credit"
    return None if app.checks_left([org])[org] else "daily_limit"


def _used_up(app: App) -> TooMany:
    now = app.clock()
    return TooMany(
        "daily_limit_reached",
        "The checks of this org have cost us what they may today; there are more tomorrow.",
        retry_after=(next_ist_midnight(now) - now) // SECOND + 1,
    )


def _recipient(app: App, org: str, email: str) -> str:
    """The member whose address it is, or `org` for that of the org. Raises Invalid for any other: an alert must not
    bring mail to strangers."""
    wanted = clean_email(email).casefold()
    known = app.directory.directory.orgs[org]
    if (_opened(app, org, known.email) or "").casefold() == wanted:
        return "org"
    for person in known.members:
        if (_address(app, person) or "").casefold() == wanted:
            return person
    raise Invalid("invalid_request", "'email' must be the address of a member of the org.", param="email")


def _row(app: App, org: str, alert: Alert, endpoints: Endpoints, *, breached: bool) -> dict[str, Any]:
    known, endpoint = app.directory.directory.orgs[org], endpoints.of_alert(alert.id)
    email = None
    if alert.mail == "org":
        email = _opened(app, org, known.email)
    elif alert.mail in known.members:
        email = _address(app, alert.mail)
    url = None if endpoint is None else _opened(app, org, endpoint.url)
    return alert_row(alert, email=email, webhook_url=url, breached=breached)


def _address(app: App, person: str) -> str | None:
    known = app.directory.directory.person(person)
    return None if known is None else _opened(app, person_stream(person), known.email)


def _opened(app: App, subject: str, sealed: str) -> str | None:
    return app.vault.open(subject, sealed) if sealed else None
