"""Opens and closes the incidents of providers by what was seen of them, and looks itself where nobody calls: at what
was called within the last week, and at what fails, so that it is known when it is well again.
"""

from collections.abc import Mapping

import msgspec

from adapters.wiring import App
from domain.kernel.clock import DAY, SECOND
from domain.monitoring.checks import Wanted, record_checks
from domain.monitoring.events import Checked
from domain.monitoring.incidents import Incidents, judge_provider, next_facts
from domain.routing.needs import Step
from projections.runner import wait_for
from projections.status import minutes_seen, open_incidents, routes_seen
from workers.each import each
from workers.jobs import Job

BY = "worker:watch_providers"
LOOKED_AFTER = 7 * DAY
"""How long after its last call a provider is still looked after."""
FAILING_SECONDS = 60
"""How often what fails is looked at, where no call tells."""
PROJECTED_SECONDS = 5


def run(app: App) -> int:
    """Answers how many incidents changed. While another run is under way, anywhere, it does nothing."""
    with app.claimed("incidents of providers") as ours:
        if not ours:
            return 0
        with app.reading() as connection:
            incidents = open_incidents(connection)
        _look(app, incidents)
        return _judge(app, incidents)


def _look(app: App, incidents: Mapping[str, Incidents]) -> None:
    """Checks what was not seen for a while, and puts on record what was found."""
    due = _unseen(app, incidents)
    if not due:
        return
    (check,) = app.run_checks([Wanted(tuple(due), nanos_max=1 << 40)]) or (Checked(pings=()),)
    called = tuple(ping for ping in check.pings if ping.end != "no_route")
    if called:
        check = msgspec.structs.replace(check, pings=called)
        position = record_checks(app.store, [check], at=app.clock(), by=BY)
        assert position is not None, "nothing was on record at this moment"
        with app.reading() as connection:
            wait_for(connection, "status", position, timeout_seconds=PROJECTED_SECONDS)


def _unseen(app: App, incidents: Mapping[str, Incidents]) -> list[Step]:
    """Of each provider that customers call and that was not seen for a while, the route that was called last; and every
    failing route that was not seen for a minute."""
    now = app.clock()
    with app.reading() as connection:
        routes = routes_seen(connection, after=now - LOOKED_AFTER)
    by_call = sorted(routes, key=lambda route: route.called)
    latest = {route.provider: route for route in by_call if route.called > now - LOOKED_AFTER}
    newest = {route.provider: route.seen for route in sorted(routes, key=lambda route: route.seen)}
    before = now - app.settings.canary_seconds * SECOND
    due = {(route.provider, route.model) for route in latest.values() if newest[route.provider] <= before}
    fresh = {(route.provider, route.model) for route in routes if route.seen > now - FAILING_SECONDS * SECOND}
    due |= {(provider, model) for provider, each in incidents.items() for model in each.models} - fresh
    configured = app.configured_providers()
    return [Step(model=model, provider=provider) for provider, model in sorted(due) if provider in configured]


def _judge(app: App, incidents: Mapping[str, Incidents]) -> int:
    now = app.clock()
    with app.reading() as connection:
        seen = minutes_seen(connection, now=now)

    def judge(provider: str) -> int:
        routes, known, id = seen.get(provider, {}), incidents.get(provider, Incidents()), app.new_id("inc")
        if not next_facts(known, routes, provider=provider, id=id, at=now):
            return 0
        return judge_provider(app.store, provider, routes, id=id, at=now, by=BY)

    return each(sorted(seen.keys() | incidents.keys()), judge, named="judging the incidents of {}".format)


JOB = Job("watch_providers", 10, run)
