"""How providers do, as anybody may see it: for programs, for people, and for readers of feeds."""

from collections.abc import Mapping, Sequence
from datetime import date
from email.utils import format_datetime
from html import escape
from typing import Any
from xml.etree import ElementTree

from pydantic import BaseModel, Field

from api.schemas.times import moment, moment_optional, show_day
from domain.catalog.model import Provider
from domain.kernel.clock import DAY, IST, IST_OFFSET, ist_day, to_datetime
from domain.monitoring.events import Severity
from domain.monitoring.incidents import State, minutes_within, state_now
from projections.status import DAYS_SHOWN

ALL_WELL = 0.99
"""A day on which so large a share of calls was answered, and without an incident, is shown as good."""

_WORDS: Mapping[State, str] = {"up": "Up", "degraded": "Degraded", "down": "Down", "no_data": "No data"}
_TITLES: Mapping[State, str] = {
    "up": "All providers that were called are up",
    "degraded": "Some calls fail",
    "down": "A provider is down",
    "no_data": "Nothing was called lately",
}
_WORST: Sequence[State] = ("down", "degraded", "up", "no_data")


class DayRow(BaseModel):
    date: str
    uptime: float | None = Field(description="Share of calls and checks that were answered; null where there were none")
    incident_minutes: int


class ProviderStatus(BaseModel):
    id: str
    name: str
    residency: str | None
    state: State = Field(description="`no_data` where nothing was called or checked for a quarter of an hour")
    last_seen: str | None
    uptime: float | None = Field(description="As of a day, over all that are shown")
    days: list[DayRow] = Field(description="90 days of India's calendar, oldest first; the last one is today")


class IncidentRow(BaseModel):
    id: str
    provider: str
    severity: Severity = Field(description="At its worst")
    models: list[str] = Field(description="Those that failed last")
    opened_at: str
    closed_at: str | None
    end: str | None = Field(description="`recovered`, or `unobserved` where nothing was called any more to tell by")


class StatusPage(BaseModel):
    state: State
    as_of: str
    providers: list[ProviderStatus]
    incidents: list[IncidentRow] = Field(description="Open ones and those of the days shown, newest first")


def status_page(
    providers: Sequence[Provider],
    *,
    lately: Mapping[str, tuple[int, int]],
    seen: Mapping[str, int],
    days: Mapping[str, Mapping[int, tuple[int, int]]],
    incidents: Sequence[Mapping[str, Any]],
    now: int,
) -> dict[str, Any]:
    """All of it: what was seen `lately` and on which `days`, answered and failed, with when it was `seen` last."""
    rows = [
        _provider(
            provider,
            lately=lately.get(provider.id, (0, 0)),
            seen=seen.get(provider.id),
            days=days.get(provider.id, {}),
            incidents=[each for each in incidents if each["provider"] == provider.id],
            now=now,
        )
        for provider in providers
    ]
    states = {row["state"] for row in rows}
    return {
        "state": next((state for state in _WORST if state in states), "no_data"),
        "as_of": moment(now),
        "providers": rows,
        "incidents": [_incident(each) for each in incidents],
    }


def _provider(
    provider: Provider,
    *,
    lately: tuple[int, int],
    seen: int | None,
    days: Mapping[int, tuple[int, int]],
    incidents: Sequence[Mapping[str, Any]],
    now: int,
) -> dict[str, Any]:
    severity = next((each["severity"] for each in incidents if each["closed"] is None), None)
    today = ist_day(now)
    return {
        "id": provider.id,
        "name": provider.name,
        "residency": provider.residency or None,
        "state": state_now(severity, answered=lately[0], failed=lately[1]),
        "last_seen": moment_optional(seen),
        "uptime": _share(*map(sum, zip(*days.values(), strict=True))) if days else None,
        "days": [
            {
                "date": show_day(day),
                "uptime": _share(*days[day]) if day in days else None,
                "incident_minutes": sum(
                    minutes_within(
                        each["opened"],
                        each["closed"],
                        first=day * DAY - IST_OFFSET,
                        last=min((day + 1) * DAY - IST_OFFSET, now),
                    )
                    for each in incidents
                ),
            }
            for day in range(today - DAYS_SHOWN + 1, today + 1)
        ],
    }


def _share(answered: int, failed: int) -> float | None:
    return round(answered / (answered + failed), 4) if answered + failed else None


def _incident(incident: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": incident["incident"],
        "provider": incident["provider"],
        "severity": incident["worst"],
        "models": incident["models"],
        "opened_at": moment(incident["opened"]),
        "closed_at": moment_optional(incident["closed"]),
        "end": incident["reason"] or None,
    }


# For people


def status_for_people(
    page: Mapping[str, Any], incidents: Sequence[Mapping[str, Any]], names: Mapping[str, str], *, now: int
) -> dict[str, Any]:
    """What the page shows. Providers of which nothing was ever seen stand together at its end."""
    shown = [row for row in page["providers"] if row["last_seen"] is not None or row["state"] != "no_data"]
    return {
        "state": page["state"],
        "title": _TITLES[page["state"]],
        "as_of": _when(now),
        "providers": [_bars(row) for row in shown],
        "unseen": [row["name"] for row in page["providers"] if row not in shown],
        "incidents": [_told(each, names, now=now) for each in incidents],
    }


def _bars(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "residency": row["residency"],
        "state": row["state"],
        "word": _WORDS[row["state"]],
        "uptime": _percent(row["uptime"]),
        "bars": [{"kind": _kind(day), "told": _day_told(day)} for day in row["days"]],
    }


def _kind(day: Mapping[str, Any]) -> str:
    """`good`, `fair`, `bad`, or `none` where there is nothing to tell by."""
    if day["uptime"] is None and not day["incident_minutes"]:
        return "none"
    if day["incident_minutes"] >= 60 or (day["uptime"] or 0) < 0.9:
        return "bad"
    return "fair" if day["incident_minutes"] or day["uptime"] < ALL_WELL else "good"


def _day_told(day: Mapping[str, Any]) -> str:
    told = [f"{date.fromisoformat(day['date']):%-d %b}"]
    told.append("no data" if day["uptime"] is None else f"{_percent(day['uptime'])} answered")
    if day["incident_minutes"]:
        told.append(f"incident for {_lasted(day['incident_minutes'])}")
    return ", ".join(told)


def _told(incident: Mapping[str, Any], names: Mapping[str, str], *, now: int) -> dict[str, Any]:
    opened, closed = incident["opened"], incident["closed"]
    minutes = minutes_within(opened, closed, first=0, last=now if closed is None else closed)
    return {
        "id": incident["incident"],
        "title": _title(incident, names),
        "open": closed is None,
        "severity": incident["worst"],
        "models": ", ".join(incident["models"]),
        "opened": _when(opened),
        "lasted": _lasted(minutes),
        "end": _END[incident["reason"]],
    }


_END = {
    "": "",
    "recovered": "It recovered.",
    "unobserved": "Nothing was called any more, so nobody can tell when it ended.",
}


def _title(incident: Mapping[str, Any], names: Mapping[str, str]) -> str:
    words = ("is down", "fails in part") if incident["closed"] is None else ("was down", "failed in part")
    return f"{names.get(incident['provider'], incident['provider'])} {words[incident['worst'] != 'down']}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.4g} %"


def _when(at: int) -> str:
    return f"{to_datetime(at).astimezone(IST):%-d %b %Y, %H:%M} IST"


def _lasted(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


# For readers of feeds


def status_feed(incidents: Sequence[Mapping[str, Any]], names: Mapping[str, str], *, url: str) -> bytes:
    """RSS 2.0, an item when an incident opens and one when it ends, newest first. The same incidents are the same
    bytes."""
    items = [item for each in incidents for item in _items(each, names)]
    items.sort(key=lambda item: item[0], reverse=True)
    ElementTree.register_namespace("atom", _ATOM)
    rss = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(rss, "channel")
    _add(channel, title="BharatRouter: status of providers", link=f"{url}/status")
    _add(channel, description="When providers of models fail, and when they are well again.", language="en-IN")
    link = {"href": f"{url}/status.rss", "rel": "self", "type": "application/rss+xml"}
    ElementTree.SubElement(channel, f"{{{_ATOM}}}link", link)
    if items:
        _add(channel, lastBuildDate=format_datetime(to_datetime(items[0][0]).replace(microsecond=0)))
    for at, id, title, told in items:
        item = ElementTree.SubElement(channel, "item")
        _add(item, title=title, description=escape(told), link=f"{url}/status#{id.partition('.')[0]}")
        ElementTree.SubElement(item, "guid", isPermaLink="false").text = id
        _add(item, pubDate=format_datetime(to_datetime(at).replace(microsecond=0)))
    feed: bytes = ElementTree.tostring(rss, encoding="utf-8", xml_declaration=True)
    return feed


_ATOM = "http://www.w3.org/2005/Atom"


def _items(incident: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[int, str, str, str]]:
    title, models = _title({**incident, "closed": None}, names), ", ".join(incident["models"])
    items = [(incident["opened"], f"{incident['incident']}.opened", title, f"Calls fail: {models}.")]
    if incident["closed"] is not None:
        ended = _END[incident["reason"]]
        name = names.get(incident["provider"], incident["provider"])
        items.append((incident["closed"], f"{incident['incident']}.closed", f"{name}: the incident is over", ended))
    return items


def _add(element: ElementTree.Element, **children: str) -> None:
    for name, text in children.items():
        ElementTree.SubElement(element, name).text = text
