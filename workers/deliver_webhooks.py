"""Delivers notices to the endpoints of orgs: to each one at a time and in order, to all of them at once, so that one
that is slow or broken holds up nobody but itself.

A worker that dies between sending and recording sends the same notice again, under the same `webhook-id`.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from adapters.wiring import App, WebhookCaller
from domain.kernel.store import fold_recorded
from domain.webhooks.deliveries import (
    GIVEN_UP_AFTER,
    GONE,
    Delivery,
    body_of,
    delivery_stream,
    headers_of,
    problem_of,
    record_attempt,
)
from domain.webhooks.endpoints import disable_endpoint
from domain.webhooks.events import DeliveryTried
from projections.webhooks import due
from workers.jobs import Job
from workers.letters import owner_address, webhook_disabled_letter

AT_ONCE_MAX = 100
TAKES_NEW_SECONDS = 30
"""How long one run looks for more to do; what is under way then still has its ten seconds."""
LOOKS_EVERY_SECONDS = 0.5
BY = "worker:deliver_webhooks"

_log = logging.getLogger(__name__)
_Row = Mapping[str, Any]


def run(app: App) -> int:
    """Delivers what is due and answers how many attempts were made. While another run is under way, it has them all."""
    if not _due(app, busy=(), done=()):
        return 0
    with app.claimed("webhooks") as ours:
        return asyncio.run(_deliver(app)) if ours else 0


def _due(app: App, *, busy: Collection[str], done: Collection[str]) -> list[dict[str, Any]]:
    with app.reading() as connection:
        return due(connection, now=app.clock(), busy=busy, done=done, limit=AT_ONCE_MAX - len(busy))


async def _deliver(app: App) -> int:
    until = time.monotonic() + TAKES_NEW_SECONDS
    caller = app.webhook_caller()
    under_way: dict[asyncio.Task[None], str] = {}
    begun: set[str] = set()  # the read model is a moment late
    try:
        while True:
            if len(under_way) < AT_ONCE_MAX and time.monotonic() < until:
                for row in _due(app, busy=under_way.values(), done=begun):
                    begun.add(row["delivery"])
                    under_way[asyncio.create_task(_attempt(app, caller, row))] = row["endpoint"]
            if not under_way:
                return len(begun)
            done, _ = await asyncio.wait(under_way, timeout=LOOKS_EVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                endpoint = under_way.pop(task)
                if task.exception() is not None:
                    _log.error("a delivery to %s failed, the others go on", endpoint, exc_info=task.exception())
    finally:
        await caller.close()


async def _attempt(app: App, caller: WebhookCaller, row: _Row) -> None:
    org, endpoint, delivery = row["org"], row["endpoint"], row["delivery"]
    wanted = app.webhooks_of(org).by_id.get(endpoint)
    made = fold_recorded(Delivery(), app.log.stream(delivery_stream(delivery))).attempts
    if wanted is None or wanted.disabled or made != row["attempts"]:
        return
    at = app.clock()
    url, secrets = app.vault.open(org, wanted.url), [app.vault.open(org, each) for each in wanted.secrets(at)]
    if url is None:  # the org is erased
        return
    body = body_of(row["type"], at=row["at"], data=row["data"])
    headers = headers_of(delivery, body, secrets=[secret for secret in secrets if secret], at=at)
    answer = await caller.post(url, headers, body)
    tried = DeliveryTried(
        owner=org,
        endpoint=endpoint,
        delivery=delivery,
        attempt=0,
        milliseconds=answer.milliseconds,
        status=answer.status,
        problem=answer.problem or problem_of(answer.status),
    )
    at = app.clock()
    over = record_attempt(app.store, tried, attempts_before=made, type=row["type"], at=at, by=BY)
    # Letters are sent by a loop of their own, so from another thread.
    if answer.status == GONE:
        await asyncio.to_thread(_disable, app, org, endpoint, url, reason="gone")
    elif over and tried.problem and row["failing_since"] and at - row["failing_since"] >= GIVEN_UP_AFTER:
        await asyncio.to_thread(_disable, app, org, endpoint, url, reason="failing")


def _disable(app: App, org: str, endpoint: str, url: str, *, reason: str) -> None:
    """The fact first, then the mail: nobody is told twice."""
    at = app.clock()
    if not disable_endpoint(app.store, org=org, endpoint=endpoint, reason=reason, at=at, by=BY):
        return
    to = owner_address(app, org)
    if app.mailer is not None and to:
        letter = webhook_disabled_letter(
            endpoint, url=url, reason=reason, to=to, at=at, public_url=app.settings.public_url
        )
        app.mailer.send(letter)


JOB = Job("deliver_webhooks", 2, run)
