"""When incidents open and close, over any history of minutes."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.events import Event
from domain.monitoring.events import IncidentChanged, IncidentClosed, IncidentOpened
from domain.monitoring.incidents import (
    FORGOTTEN_MINUTES,
    MINUTE,
    NEWS_MINUTES,
    Incidents,
    Minute,
    minutes_within,
    next_facts,
    state_now,
)

FIRST = 29_890_000
NONE = Incidents()
MODELS = ("m1", "m2")

# For each minute and model: answered and failed, or nothing seen.
SEEN = st.none() | st.tuples(st.integers(0, 12), st.integers(0, 12))
HISTORY = st.lists(st.tuples(SEEN, SEEN), max_size=90)


def lived(history: Sequence[tuple]) -> list[tuple[int, Event]]:
    """What is put on record when every minute is looked at, twice."""
    incidents, routes = Incidents(), {model: [] for model in MODELS}
    told: list[tuple[int, Event]] = []
    for number, row in enumerate(history):
        minute = FIRST + number
        for model, seen in zip(MODELS, row, strict=True):
            if seen is not None and sum(seen):
                routes[model].append(Minute(minute, *seen))
        known = {model: seen[-FORGOTTEN_MINUTES:] for model, seen in routes.items() if seen}
        for look in range(2):
            facts = next_facts(incidents, known, provider="p", id=f"inc_{number}", at=minute * MINUTE)
            assert not (look and facts), "it was on record already"
            for fact in facts:
                incidents = incidents.evolve("incident:p", fact)
                told.append((minute, fact))
    return told


@given(history=HISTORY)
def test_incidents_open_change_and_close_in_order(history: list) -> None:
    open_as = ""
    for minute, fact in lived(history):
        match fact:
            case IncidentOpened():
                assert not open_as
                open_as = fact.incident
                assert fact.models
            case IncidentChanged():
                assert fact.incident == open_as
                assert fact.models
            case IncidentClosed():
                assert fact.incident == open_as
                open_as = ""
        if isinstance(fact, IncidentOpened):
            recent = [seen for each in history[: minute - FIRST + 1][-NEWS_MINUTES:] for seen in each if seen]
            assert sum(failed for _, failed in recent) >= 3


@given(history=st.lists(st.tuples(st.tuples(st.integers(0, 50), st.just(0)), SEEN), max_size=60))
def test_what_never_fails_has_no_incident(history: list) -> None:
    named = {model for _, fact in lived(history) if not isinstance(fact, IncidentClosed) for model in fact.models}
    assert "m1" not in named


@given(history=HISTORY)
def test_what_has_closed_was_well_or_long_unseen(history: list) -> None:
    for minute, fact in lived(history):
        if isinstance(fact, IncidentClosed):
            until = history[: minute - FIRST + 1]
            if fact.reason == "unobserved":
                assert any(
                    not any(seen and sum(seen) for seen in each[-FORGOTTEN_MINUTES:])
                    for each in zip(*until, strict=True)
                )
            else:
                assert any(seen and seen[0] for each in until[-NEWS_MINUTES:] for seen in each)


def facts(routes: Mapping[str, Sequence[Minute]], incidents: Incidents = NONE, *, minute: int) -> list[Event]:
    return next_facts(incidents, routes, provider="p", id="inc_1", at=minute * MINUTE)


def test_three_failures_in_a_row_open_an_incident_whatever_was_before() -> None:
    """A circuit that is open lets few calls through: those must be enough."""
    busy = [Minute(FIRST, 1_000, 3), *(Minute(FIRST + n, 0, 2) for n in (1, 2, 3))]
    assert not facts({"m1": busy[:1]}, minute=FIRST)
    (opened,) = facts({"m1": busy}, minute=FIRST + 3)
    assert opened == IncidentOpened(provider="p", incident="inc_1", severity="down", models=("m1",))


def test_two_failures_are_none_and_old_ones_are_no_news() -> None:
    assert not facts({"m1": [Minute(FIRST, 0, 2)]}, minute=FIRST)
    assert not facts({"m1": [Minute(FIRST, 0, 9)]}, minute=FIRST + NEWS_MINUTES)


def test_a_provider_of_which_something_works_is_degraded_and_not_down() -> None:
    (opened,) = facts({"m1": [Minute(FIRST, 0, 9)], "m2": [Minute(FIRST, 9, 0)]}, minute=FIRST)
    assert isinstance(opened, IncidentOpened)
    assert (opened.severity, opened.models) == ("degraded", ("m1",))
    incidents = Incidents().evolve("incident:p", opened)
    (changed,) = facts({"m1": [Minute(FIRST, 0, 9)], "m2": [Minute(FIRST + 1, 0, 9)]}, incidents, minute=FIRST + 1)
    assert isinstance(changed, IncidentChanged)
    assert (changed.severity, changed.models) == ("down", ("m1", "m2"))


def test_it_closes_when_it_has_been_well_for_some_minutes() -> None:
    incidents = Incidents("inc_1", "down", frozenset({"m1"}))
    seen = [Minute(FIRST, 0, 9), Minute(FIRST + 1, 50, 0)]
    assert not facts({"m1": seen}, incidents, minute=FIRST + 1)
    seen += [Minute(FIRST + 2, 50, 0), Minute(FIRST + 3, 50, 1)]
    (closed,) = facts({"m1": seen}, incidents, minute=FIRST + 3)
    assert closed == IncidentClosed(provider="p", incident="inc_1", reason="recovered")


def test_what_nobody_calls_any_more_closes_without_a_claim() -> None:
    incidents = Incidents("inc_1", "down", frozenset({"m1"}))
    seen = {"m1": [Minute(FIRST, 0, 9)]}
    assert not facts(seen, incidents, minute=FIRST + FORGOTTEN_MINUTES - 1)
    (closed,) = facts(seen, incidents, minute=FIRST + FORGOTTEN_MINUTES)
    assert closed == IncidentClosed(provider="p", incident="inc_1", reason="unobserved")


def test_nothing_seen_is_no_data() -> None:
    assert state_now(None, answered=0, failed=0) == "no_data"
    assert state_now(None, answered=1, failed=5) == "up"
    assert state_now(None, answered=0, failed=1) == "degraded"
    assert state_now("down", answered=9, failed=0) == "down"


def test_minutes_of_an_incident_are_cut_at_the_ends_of_a_day() -> None:
    day = 1_440 * MINUTE
    assert minutes_within(day - 10 * MINUTE, day + 5 * MINUTE, first=day, last=2 * day) == 5
    assert minutes_within(day - 10 * MINUTE, None, first=0, last=day) == 10
    assert minutes_within(2 * day, None, first=0, last=day) == 0
    assert minutes_within(5, 6, first=0, last=day) == 1
