"""Collections are checked, alerts told and incidents opened against real servers: providers over HTTP that fail when
told to, PostgreSQL, Valkey and letters."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from adapters.canaries import run_checks
from adapters.log import decode
from adapters.settings import Settings
from adapters.wiring import App
from domain.accounts.members import remove_member
from domain.byo.own import EndpointTerms, add_endpoint, host_of, save_key
from domain.collections.collection import SLUG_ENTROPY_BYTES
from domain.collections.service import Draft, create_collection, delete_collection
from domain.kernel.clock import DAY
from domain.kernel.events import Event
from domain.kernel.mail import MailDelayed, MailRefused, MailUnreachable
from domain.kernel.money import rupees
from domain.ledger.credit import grant_credit
from domain.ledger.events import Attempt, HoldReleased
from domain.monitoring.checks import Wanted
from domain.monitoring.events import (
    AlertBreached,
    AlertRecovered,
    AlertSet,
    AlertTold,
    Checked,
    IncidentClosed,
    IncidentOpened,
    MonitoringStopped,
)
from domain.monitoring.monitors import set_alert, set_monitored
from domain.routing.needs import Step
from projections.monitoring import health_of
from projections.runner import Runner
from tests.at_once import at_once
from tests.fakes import FakeClock, Letterbox
from tests.given import given_member, given_org, given_person, given_team
from tests.projections.history import append
from tests.simulated_providers import Simulated
from tests.workers.scene import project
from workers import check_collections, tell_alerts, watch_providers

STEPS = (Step(model="steady", provider="sim-india"), Step(model="steady"), Step(model="steady-embedding"))
OWNER = "user:usr_asha"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, providers: Simulated) -> Settings:
    return providers.settings(tmp_path, "other", public_url="https://br.example", redis_url=redis_url)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """Asha owns a team with credit."""
    app = make_app()
    given_person(app.store, "asha", seal=app.vault.seal)
    given_team(app.store, "usr_asha")
    give(app, "org_team")
    return app


def give(app: App, org: str) -> None:
    grant_credit(app.store, org=org, grant="g", amount=rupees(10), reason="t", at=app.clock(), by="test")


def monitored(app: App, *, org: str = "org_team", steps: tuple[Step, ...] = STEPS, name: str = "Ours") -> str:
    slug = create_collection(
        app.store,
        app.vault,
        org=org,
        entropy=(name.encode() * SLUG_ENTROPY_BYTES)[:SLUG_ENTROPY_BYTES],
        draft=Draft(name=name, model=steps[0].model, steps=steps),
        catalog=app.catalog,
        collections_max=50,
        at=app.clock(),
        by=OWNER,
    )
    set_monitored(app.store, org=org, collection=slug, monitored=True, monitored_max=5, at=app.clock(), by=OWNER)
    project(app)
    return slug


def alerted(app: App, slug: str, *, mail: str = "usr_asha", **fields: Any) -> None:
    wanted = {"alert": "alr_1", "metric": "error_rate", "threshold": 300_000, "window_minutes": 30} | fields
    event = AlertSet(owner="org_team", collection=slug, mail=mail, **wanted)
    set_alert(app.store, event, steps=len(STEPS), at=app.clock(), by=OWNER)
    project(app)


class Projecting:
    """Read models that follow the log while a job runs, as they do beside one."""

    def __init__(self, url: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=Runner(url).run, args=[self._stop])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


@pytest.fixture
def projecting(database_url: str, make_app: Callable[..., App]) -> Iterator[None]:
    with Projecting(database_url):
        yield


def facts(app: App, *kinds: type[Event]) -> list[Any]:
    rows = app.log.after(0, limit=10_000)
    names = {kind.NAME for kind in kinds}
    return [decode(name, bytes(state)) for _, _, _, name, state in rows if name in names]


def later(app: App, clock: FakeClock, minutes: int = 5) -> int:
    clock.forward(seconds=60 * minutes)
    return check_collections.run(app)


@pytest.mark.usefixtures("projecting")
def test_every_step_is_asked_for_one_token_at_once_and_then_every_five_minutes(
    app: App, clock: FakeClock, providers: Simulated, redis_url: str
) -> None:
    slug, asked = monitored(app), len(providers.requests())
    streams = {row[1].partition(":")[0] for row in app.log.after(0, limit=10_000)}
    assert check_collections.run(app) == 1
    assert check_collections.run(app) == 0
    bodies = [each["body"] for each in providers.requests()[asked:]]
    assert len(bodies) == 3
    chats = [body for body in bodies if "messages" in body]
    assert [(body["model"], body["max_tokens"]) for body in chats] == [("steady", 1)] * 2
    assert sum("input" in body for body in bodies) == 1
    (check,) = facts(app, Checked)
    assert [(ping.step, ping.model, ping.provider, ping.end) for ping in check.pings] == [
        (0, "steady", "sim-india", "answered"),
        (1, "steady", "sim-india", "answered"),
        (2, "steady-embedding", "sim-india", "answered"),
    ]
    assert (check.owner, check.collection) == ("org_team", slug)
    assert later(app, clock) == 1
    assert len(facts(app, Checked)) == 2
    with app.reading() as connection:
        rows = health_of(connection, slug, days=1, now=clock())
    assert [(row["model"], row["provider"], row["uptime"], row["checks"]) for row in rows] == [
        ("steady", "sim-india", 1.0, 4),
        ("steady-embedding", "sim-india", 1.0, 2),
    ]
    assert rows[0]["last_check"] == clock()
    # It was free, and nothing but the checks is left of it.
    assert {row[1].partition(":")[0] for row in app.log.after(0, limit=10_000)} == streams | {"check"}
    assert check.worth > 0
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("routes:*") == []


@pytest.mark.usefixtures("projecting")
def test_who_has_no_credit_is_not_checked_and_what_checks_cost_us_is_bounded(
    app: App, make_app: Callable[..., App], settings: Settings, clock: FakeClock
) -> None:
    given_org(app.store, "org_poor", inr=0)
    monitored(app, org="org_poor")
    assert check_collections.run(app) == 0
    give(app, "org_poor")
    assert check_collections.run(make_app(settings.model_copy(update={"canary_inr": 0}))) == 0
    assert check_collections.run(app) == 1
    worth = facts(app, Checked)[0].worth
    assert app.checks_left(["org_poor"]) == {"org_poor": 5_000_000_000 - worth}
    clock.forward(seconds=DAY // 1_000_000)
    assert app.checks_left(["org_poor"]) == {"org_poor": 5_000_000_000}


@pytest.mark.usefixtures("projecting")
def test_a_collection_that_is_gone_is_watched_no_more(app: App, clock: FakeClock) -> None:
    gone, there = monitored(app, name="Gone"), monitored(app, name="There")
    delete_collection(app.store, org="org_team", slug=gone, at=clock(), by=OWNER)
    project(app)
    assert check_collections.run(app) == 1
    assert [fact.collection for fact in facts(app, Checked)] == [there]
    assert [fact.collection for fact in facts(app, MonitoringStopped)] == [gone]


def test_one_check_that_cannot_be_made_keeps_no_other_from_it(app: App) -> None:
    broken: Any = Wanted((None,), 10**9, owner="org_team", collection="broken")
    dear = Wanted(STEPS, 0, owner="org_team", collection="dear")
    good = Wanted(STEPS, 10**9, owner="org_team", collection="good")
    assert [found.collection for found in run_checks(app, [broken, dear, good])] == ["good"]


def test_a_step_that_nothing_can_serve_has_failed_without_a_call(app: App, providers: Simulated) -> None:
    asked = len(providers.requests())
    steps = (Step(model="steady", provider="groq"), Step(model="groq/theirs"), Step(model="byoe:ours"))
    (found,) = run_checks(app, [Wanted(steps, 10**9, owner="org_team", collection="c")])
    assert [(ping.model, ping.end) for ping in found.pings] == [
        ("steady", "no_route"),
        ("groq/theirs", "no_route"),
        ("byoe:ours", "no_route"),
    ]
    assert len(providers.requests()) == asked


def test_an_orgs_own_key_and_endpoint_are_tried_as_its_requests_would_be(app: App, providers: Simulated) -> None:
    host = host_of(f"{providers.url}/sim-abroad/v1")
    save_key(
        app.store,
        org="org_team",
        provider="sim-abroad",
        host=host,
        sealed=app.vault.seal("org_team", "sk-of-the-team", bound_to=host),
        mask="…team",
        label="",
        always_use=True,
        verified=True,
        discovered=("theirs",),
        at=app.clock(),
        by=OWNER,
    )
    terms = EndpointTerms(name="Ours", model="m", base_url="http://10.0.0.1/v1", upstream="m", residency=None)
    add_endpoint(app.store, org="org_team", endpoint="end_1", terms=terms, sealed="", mask="", at=app.clock(), by=OWNER)
    app.directory.catch_up()
    steps = (
        Step(model="steady", provider="sim-abroad"),
        Step(model="sim-abroad/theirs"),
        Step(model="byoe:ours"),
        Step(model="steady", provider="sim-india"),
    )
    asked = len(providers.requests())
    (found,) = run_checks(app, [Wanted(steps, 10**9, owner="org_team", collection="c")])
    assert [(ping.provider, ping.end, ping.own) for ping in found.pings] == [
        ("sim-abroad", "answered", True),
        ("sim-abroad", "answered", True),
        ("byoe:ours", "connect", True),  # the guard of addresses holds for checks too
        ("sim-india", "answered", False),
    ]
    keys = [each["headers"].get("authorization") for each in providers.requests()[asked:]]
    assert keys.count("Bearer …team") == 2
    (stranger,) = run_checks(app, [Wanted(steps[1:3], 10**9, owner="org_other", collection="c")])
    assert [ping.end for ping in stranger.pings] == ["no_route", "no_route"]


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("err503", "status"),
        ("err401", "status"),
        ("err400", "answered"),
        ("close", "cut"),
        ("null", "unusable"),
        ("notjson", "unusable"),
    ],
)
def test_what_a_provider_does_is_told_as_for_calls(app: App, providers: Simulated, script: str, end: str) -> None:
    providers.play(script, provider="sim-india")
    (found,) = run_checks(app, [Wanted(STEPS[:1], 10**9)])
    assert found.pings[0].end == end


def test_two_workers_check_a_collection_once(app: App, make_app: Callable[..., App]) -> None:
    monitored(app)
    apps = [app, make_app(), make_app()]
    with Projecting(app.database_url):
        at_once(*[partial(check_collections.run, one) for one in apps])
    assert len(facts(app, Checked)) == 1


@pytest.mark.usefixtures("projecting")
def test_an_alert_is_told_once_when_it_is_raised_and_once_when_it_is_over(
    app: App, clock: FakeClock, providers: Simulated, box: Letterbox
) -> None:
    slug = monitored(app)
    alerted(app, slug)
    providers.play("err503", provider="sim-india")
    for _ in range(4):
        later(app, clock)
        tell(app)
    (breached,) = facts(app, AlertBreached)
    assert breached.checks == 3
    (mail,) = box.mails
    assert mail.to == "asha@example.com"
    assert "Ours: alert" in mail.subject
    for part in (mail.text, mail.html):
        assert f"{breached.figure // 10_000}." in part
        assert "30.0 %" in part
        assert f"https://br.example/me/collections/{slug}/health" in part
    providers.play("", provider="sim-india")
    for _ in range(24):
        later(app, clock)
        tell(app)
    assert len(facts(app, AlertBreached)) == len(facts(app, AlertRecovered)) == 1
    assert [mail.subject.partition(",")[0] for mail in box.mails] == ["Ours: alert", "Ours: recovered"]
    assert len({mail.id for mail in box.mails}) == 2


@pytest.mark.usefixtures("projecting")
def test_an_alert_of_a_step_looks_at_that_step_alone(app: App, clock: FakeClock, providers: Simulated) -> None:
    slug = monitored(app)
    for step in (0, 2):
        alerted(app, slug, alert=f"alr_{step}", step=step)
    providers.play("err503", provider="sim-india", model="steady-embedding")
    for _ in range(4):
        later(app, clock)
    assert [(fact.alert, fact.figure) for fact in facts(app, AlertBreached)] == [("alr_2", 1_000_000)]


def tell(app: App) -> int:
    project(app)
    return tell_alerts.run(app)


def raised(app: App, clock: FakeClock, providers: Simulated) -> None:
    """An alert that nobody was told of yet."""
    alerted(app, monitored(app))
    providers.play("err503", provider="sim-india")
    with Projecting(app.database_url):
        for _ in range(4):
            later(app, clock)
    assert len(facts(app, AlertBreached)) == 1


def test_a_letter_that_cannot_be_sent_now_is_sent_later_and_once(
    app: App, clock: FakeClock, providers: Simulated, box: Letterbox
) -> None:
    raised(app, clock, providers)
    for fault in (MailUnreachable("away"), MailDelayed("later"), AttributeError("a fault of ours")):
        box.fault = fault
        assert tell(app) == 0
    box.fault = None
    assert tell(app) == 1
    assert tell(app) == tell_alerts.run(app) == 0
    assert len(box.mails) == 1
    assert [fact.problem for fact in facts(app, AlertTold)] == [""]


def test_an_address_that_refuses_is_asked_once(
    app: App, clock: FakeClock, providers: Simulated, box: Letterbox
) -> None:
    raised(app, clock, providers)
    box.fault = MailRefused("no such mailbox")
    assert tell(app) == tell(app) == 0
    assert [fact.problem for fact in facts(app, AlertTold)] == ["no such mailbox"]


def test_who_has_left_the_org_is_told_nothing(app: App, clock: FakeClock, providers: Simulated, box: Letterbox) -> None:
    ravi = given_member(app.store, "org_team", "ravi", role="member", by=OWNER, seal=app.vault.seal)
    alerted(app, monitored(app), mail=ravi)
    remove_member(app.store, org="org_team", person=ravi, at=clock(), by=OWNER)
    providers.play("err503", provider="sim-india")
    with Projecting(app.database_url):
        for _ in range(4):
            later(app, clock)
    assert tell(app) == 0
    assert not box.mails
    assert "no member" in facts(app, AlertTold)[0].problem


def test_old_news_is_not_told(app: App, clock: FakeClock, providers: Simulated, box: Letterbox) -> None:
    raised(app, clock, providers)
    clock.forward(seconds=DAY // 1_000_000)
    assert tell(app) == 0


# Incidents


def called(app: App, *attempts: Attempt) -> None:
    """A call of a customer that came to this."""
    who = {"org": "o", "key": "k", "workspace": "w", "endpoint": "chat", "model": "steady", "held": 0}
    released = HoldReleased(at=app.clock(), **who, code="all_routes_failed", attempts=attempts)
    with psycopg.connect(app.database_url) as connection:
        append(connection, [(f"request:{app.new_id('req')}", released)])
    project(app)


FAILED = Attempt("sim-india/steady", "status", 503, 10)


@pytest.mark.usefixtures("projecting")
def test_calls_that_fail_open_an_incident_and_checks_of_ours_close_it(
    app: App, clock: FakeClock, providers: Simulated
) -> None:
    providers.play("err503", provider="sim-india")
    called(app, FAILED, Attempt("own:sim-abroad/steady", "status", 401, 10))
    assert watch_providers.run(app) == 0
    called(app, FAILED)
    called(app, FAILED)
    assert watch_providers.run(app) == 1
    (opened,) = facts(app, IncidentOpened)
    assert (opened.provider, opened.severity, opened.models) == ("sim-india", "down", ("steady",))
    asked = len(providers.requests())
    for _ in range(5):
        clock.forward(seconds=60)
        project(app)
        assert watch_providers.run(app) == 0
    assert len(providers.requests()) == asked + 5  # nobody else called
    providers.play("", provider="sim-india")
    for _ in range(20):
        clock.forward(seconds=60)
        project(app)
        watch_providers.run(app)
    (closed,) = facts(app, IncidentClosed)
    assert (closed.incident, closed.reason) == (opened.incident, "recovered")
    assert all(not check.owner and not check.collection for check in facts(app, Checked))


@pytest.mark.usefixtures("projecting")
def test_what_customers_call_is_looked_at_while_they_do_not(app: App, clock: FakeClock, providers: Simulated) -> None:
    called(app, FAILED)
    watch_providers.run(app)
    assert not facts(app, Checked)
    for _ in range(12):
        clock.forward(seconds=60)
        project(app)
        watch_providers.run(app)
    assert len(facts(app, Checked)) == 2
    clock.forward(seconds=8 * DAY // 1_000_000)
    watch_providers.run(app)
    assert len(facts(app, Checked)) == 2  # nobody called for a week
