"""The status of providers as a page, for programs, and as a feed: what was seen, what failed, and what nobody knows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import feedparser
import msgspec
import psycopg
import pytest

from adapters.settings import Settings
from adapters.wiring import App
from domain.kernel.clock import DAY, SECOND, to_iso
from domain.kernel.events import Event
from domain.ledger.events import Attempt, HoldReleased
from domain.monitoring.checks import record_checks
from domain.monitoring.events import Checked, IncidentChanged, IncidentClosed, IncidentOpened, Ping
from tests.api.client import Client, started
from tests.fakes import FakeClock
from tests.product import write_catalog
from tests.projections.history import append

HOUR = 3_600 * SECOND
NEAR = {"provider": "sim-india", "incident": "inc_1"}
DOWN = {"severity": "down", "models": ("steady",)}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def services(database_url: str, tmp_path: Path, clock: FakeClock) -> Iterator[App]:
    write_catalog(tmp_path / "catalog", [])
    settings = Settings(home=tmp_path, catalog_dir=tmp_path / "catalog", public_url="https://br.example")
    environment = {"BR_KEY_SIM_INDIA": "k", "BR_KEY_SIM_ABROAD": "k", "BR_KEY_GROQ": "k"}
    with started(settings, database_url, environment=environment, clock=clock) as services:
        yield services


def happens(client: Client, *facts: tuple[int, Event]) -> None:
    """Facts of incidents, each so many microseconds ago."""
    now = client.services.clock()
    lines = [(f"incident:{fact.provider}", msgspec.structs.replace(fact, at=now - ago)) for ago, fact in facts]
    with psycopg.connect(client.services.database_url) as connection:
        append(connection, lines)
    client.project()


def seen(client: Client, *, ago: int, answered: int = 0, failed: int = 0, provider: str = "sim-india") -> None:
    """Checks of the product itself."""
    app = client.services
    pings = [Ping(step=0, model="steady", provider=provider, end="answered")] * answered
    pings += [Ping(step=0, model="steady", provider=provider, end="timeout")] * failed
    at = app.clock() - ago
    record_checks(app.store, [Checked(pings=tuple(pings))], at=at, by="test")
    client.project()


def status(client: Client) -> Any:
    return client("GET", "/status.json").json()


def row(client: Client, provider: str = "sim-india") -> Any:
    (found,) = [each for each in status(client)["providers"] if each["id"] == provider]
    return found


def test_where_nothing_was_called_nothing_is_known(client: Client) -> None:
    shown = status(client)
    assert shown["state"] == "no_data"
    assert {each["id"] for each in shown["providers"]} == {"sim-india", "sim-abroad", "groq"}
    for each in shown["providers"]:
        assert (each["state"], each["uptime"], each["last_seen"]) == ("no_data", None, None)
        assert len(each["days"]) == 90
        assert all(day["uptime"] is None and not day["incident_minutes"] for day in each["days"])
    assert "Nothing was called lately" in client("GET", "/status").text


def test_a_provider_is_up_as_long_as_it_was_seen_of_late(client: Client, clock: FakeClock) -> None:
    seen(client, ago=0, answered=3, failed=1)
    shown = row(client)
    assert (shown["state"], shown["uptime"], shown["last_seen"]) == ("up", 0.75, to_iso(clock()))
    assert shown["days"][-1] == {"date": shown["days"][-1]["date"], "uptime": 0.75, "incident_minutes": 0}
    assert status(client)["state"] == "up"
    clock.forward(seconds=20 * 60)
    assert row(client)["state"] == "no_data"
    seen(client, ago=0, failed=1)
    assert row(client)["state"] == "degraded"


def test_days_are_indias_and_go_back_ninety(client: Client, clock: FakeClock) -> None:
    for days, (answered, failed) in {0: (1, 0), 1: (1, 1), 89: (0, 2), 90: (5, 5)}.items():
        seen(client, ago=days * DAY, answered=answered, failed=failed)
    shown = row(client)["days"]
    assert [(place, day["uptime"]) for place, day in enumerate(shown) if day["uptime"] is not None] == [
        (0, 0.0),
        (88, 0.5),
        (89, 1.0),
    ]
    assert shown[-1]["date"] == datetime.fromtimestamp(clock() / SECOND + 19_800, UTC).date().isoformat()


def test_an_incident_is_shown_while_it_is_open_and_after(client: Client, clock: FakeClock) -> None:
    happens(client, (2 * HOUR, IncidentOpened(**NEAR, **DOWN)))
    shown = status(client)
    assert shown["state"] == "down"
    assert row(client)["state"] == "down"
    assert row(client)["days"][-1]["incident_minutes"] == 120
    (incident,) = shown["incidents"]
    assert incident == {
        "id": "inc_1",
        "provider": "sim-india",
        "severity": "down",
        "models": ["steady"],
        "opened_at": to_iso(clock() - 2 * HOUR),
        "closed_at": None,
        "end": None,
    }
    page = client("GET", "/status").text
    assert "sim-india is down" in page
    assert "2 h 0 min so far" in page
    happens(client, (HOUR, IncidentChanged(**NEAR, severity="degraded", models=("other",))))
    assert row(client)["state"] == "degraded"
    happens(client, (HOUR // 2, IncidentClosed(**NEAR, reason="recovered")))
    (incident,) = status(client)["incidents"]
    assert (incident["severity"], incident["models"], incident["end"]) == ("down", ["other"], "recovered")
    assert row(client)["days"][-1]["incident_minutes"] == 90
    assert "It recovered." in client("GET", "/status").text
    clock.forward(seconds=91 * DAY // SECOND)
    assert status(client)["incidents"] == []


def test_an_incident_over_midnight_counts_on_both_days(client: Client, clock: FakeClock) -> None:
    noon = clock()
    midnight = noon - (noon + 19_800 * SECOND) % DAY
    opened, closed = noon - (midnight - 30 * 60 * SECOND), noon - (midnight + 10 * 60 * SECOND)
    happens(client, (opened, IncidentOpened(**NEAR, **DOWN)), (closed, IncidentClosed(**NEAR, reason="unobserved")))
    assert [day["incident_minutes"] for day in row(client)["days"][-3:]] == [0, 30, 10]
    assert "nobody can tell when it ended" in client("GET", "/status").text


def test_calls_of_customers_count_but_on_their_own_keys(client: Client, clock: FakeClock) -> None:
    who = {"org": "o", "key": "k", "workspace": "w", "endpoint": "chat", "model": "steady", "held": 0}
    attempts = (Attempt("own:sim-india/steady", "status", 401), Attempt("sim-abroad/steady", "timeout"))
    released = HoldReleased(at=clock(), **who, code="all_routes_failed", attempts=attempts)
    with psycopg.connect(client.services.database_url) as connection:
        append(connection, [("request:req_1", released)])
    client.project()
    assert row(client)["state"] == "no_data"
    assert row(client, "sim-abroad")["state"] == "degraded"


def test_the_page_needs_no_script_and_escapes_what_it_shows(client: Client) -> None:
    happens(client, (HOUR, IncidentOpened(**NEAR, severity="down", models=("<b>bold</b>",))))
    reply = client("GET", "/status")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "<script" not in reply.text
    assert "<b>bold" not in reply.text
    assert "&lt;b&gt;bold" in reply.text
    assert 'href="/status.rss"' in reply.text


def test_the_feed_has_an_item_for_each_beginning_and_end(client: Client, clock: FakeClock) -> None:
    empty = feedparser.parse(client("GET", "/status.rss").content)
    assert (empty.bozo, empty.version, empty.entries) == (False, "rss20", [])
    happens(
        client,
        (3 * HOUR, IncidentOpened(**NEAR, **DOWN)),
        (2 * HOUR, IncidentClosed(**NEAR, reason="recovered")),
        (HOUR, IncidentOpened(provider="groq", incident="inc_2", severity="degraded", models=("a<b", "c"))),
    )
    reply = client("GET", "/status.rss")
    assert reply.headers["content-type"] == "application/rss+xml; charset=utf-8"
    feed = feedparser.parse(reply.content)
    assert not feed.bozo
    assert feed.feed.link == "https://br.example/status"
    assert [(entry.id, entry.title) for entry in feed.entries] == [
        ("inc_2.opened", "Groq fails in part"),
        ("inc_1.closed", "sim-india: the incident is over"),
        ("inc_1.opened", "sim-india is down"),
    ]
    assert feed.entries[0].description == "Calls fail: a&lt;b, c."
    moment = datetime.fromtimestamp((clock() - HOUR) // SECOND, UTC)
    assert datetime(*feed.entries[0].published_parsed[:6], tzinfo=UTC) == moment


def test_the_feed_is_sent_again_only_when_it_has_changed(client: Client) -> None:
    tag = client("GET", "/status.rss").headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = client("GET", "/status.rss", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client("GET", "/status.rss", headers={"if-none-match": '"x"'}).status_code == 200
    happens(client, (HOUR, IncidentOpened(**NEAR, **DOWN)))
    assert client("GET", "/status.rss", headers={"if-none-match": tag}).status_code == 200
