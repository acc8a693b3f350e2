"""Checks the collections that are watched, each about every five minutes, and lets their alerts look at the result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.wiring import App
from domain.kernel.clock import DAY, SECOND
from domain.monitoring.alerts import judge
from domain.monitoring.checks import Wanted, is_due, record_checks
from domain.monitoring.events import Checked
from domain.monitoring.monitors import set_monitored
from domain.routing.needs import Step
from projections.collections import collection_of
from projections.monitoring import alerts_of, found_of, monitored
from projections.runner import wait_for
from workers.each import each
from workers.jobs import Job

BATCH = 100
BY = "worker:check_collections"
PROJECTED_SECONDS = 5


def run(app: App) -> int:
    """Checks what is due and answers how many that were. While another run is under way, anywhere, it does nothing."""
    with app.claimed("checks of collections") as ours:
        return _check_due(app) if ours else 0


def _check_due(app: App) -> int:
    now, period = app.clock(), app.settings.canary_seconds
    with app.reading() as connection:
        watched = monitored(connection)
    due = [row for row in watched if is_due(row["collection"], last=row["last"], at=now, period_seconds=period)]
    left = app.checks_left({row["org"] for row in due}) if due else {}
    due = [row for row in due if left[row["org"]] > 0]
    of_org = Counter(row["org"] for row in due)
    wanted: list[Wanted] = []

    def want(row: Mapping[str, Any]) -> bool:
        found = _wanted(app, row["collection"], org=row["org"], nanos_max=left[row["org"]] // of_org[row["org"]])
        wanted.extend([] if found is None else [found])
        return found is not None

    each(due, want, named=lambda row: f"the check of {row['collection']}")
    if wanted:
        app.directory.catch_up()  # what orgs bring of their own
    return sum(_check(app, wanted[first : first + BATCH]) for first in range(0, len(wanted), BATCH))


def _wanted(app: App, slug: str, *, org: str, nanos_max: int) -> Wanted | None:
    """What is to be checked of a collection; nothing of one that is there no more, which is forgotten."""
    with app.reading() as connection:
        collection = collection_of(connection, slug)
    if collection is None or collection["deleted"]:
        set_monitored(app.store, org=org, collection=slug, monitored=False, monitored_max=0, at=app.clock(), by=BY)
        return None
    steps = tuple(Step(model=step["model"], provider=step["provider"]) for step in collection["steps"])
    return Wanted(steps, nanos_max, owner=org, collection=slug)


def _check(app: App, wanted: Sequence[Wanted]) -> int:
    checks = app.run_checks(wanted)
    at = app.clock()
    position = record_checks(app.store, checks, at=at, by=BY)
    if position is not None:
        with app.reading() as connection:
            wait_for(connection, "monitoring", position, timeout_seconds=PROJECTED_SECONDS)
    each(
        checks,
        lambda check: _judge_alerts(app, check, at),
        named=lambda check: f"judging the alerts of {check.collection}",
    )
    return len(checks)


def _judge_alerts(app: App, check: Checked, at: int) -> int:
    """How many alerts there were."""
    with app.reading() as connection:
        alerts = alerts_of(connection, check.collection)
        by_step = found_of(connection, check.collection, since=at - DAY) if alerts else {}
    quiet = app.settings.alert_quiet_seconds * SECOND
    for alert in alerts:
        steps = by_step if alert.step is None else [alert.step]
        found = [each for step in steps for each in by_step.get(step, ())]
        judge(app.store, alert, found, org=check.owner, at=at, by=BY, quiet=quiet)
    return len(alerts)


JOB = Job("check_collections", 2, run)
