"""What an alert says over any series of checks: breach and recovery in turn, never twice within an hour, and only after
three checks."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import SECOND
from domain.monitoring.alerts import ALL_PPM, QUIET, Found, Standing, due, figure_of, judge, record_told
from domain.monitoring.events import AlertBreached, AlertRecovered
from domain.monitoring.monitors import Alert
from tests.memory_store import MemoryStore

MINUTE = 60 * SECOND
START = 1_793_440_000 * SECOND
ALERT = Alert(
    id="alr_1",
    collection="ours",
    metric="error_rate",
    threshold=500_000,
    window_minutes=30,
    step=None,
    mail="org",
    webhook="",
    created=START,
)

# Minutes between one check and the next, whether it was answered, and how long it took.
CHECKS = st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(0, 5_000)), max_size=120)


def series_of(checks: Sequence[tuple[int, bool, int]]) -> list[Found]:
    found, at = [], START
    for gap, answered, milliseconds in checks:
        at += gap * MINUTE
        found.append(Found(at, answered, milliseconds))
    return found


def told(store: MemoryStore) -> list[AlertBreached | AlertRecovered]:
    return [fact for _, fact in store.facts if isinstance(fact, AlertBreached | AlertRecovered)]


def watch(found: Sequence[Found], alert: Alert = ALERT) -> MemoryStore:
    """The alert looks after each check, twice, as a worker does that dies and begins again."""
    store = MemoryStore()
    for number, each in enumerate(found, start=1):
        for _ in range(2):
            judge(store, alert, found[:number], org="org_a", at=each.at, by="test")
    return store


@given(checks=CHECKS, metric=st.sampled_from(["error_rate", "latency_p95"]))
def test_breach_and_recovery_take_turns_and_are_an_hour_apart(checks: list, metric: str) -> None:
    threshold = 500_000 if metric == "error_rate" else 2_500
    alert = replace(ALERT, metric=metric, threshold=threshold)
    notices = told(watch(series_of(checks), alert))
    assert [type(notice) for notice in notices] == [AlertBreached, AlertRecovered] * (len(notices) // 2) + [
        AlertBreached
    ] * (len(notices) % 2)
    assert [notice.notice for notice in notices] == list(range(1, len(notices) + 1))
    for earlier, later in pairwise(notices):
        assert later.at - earlier.at >= QUIET
    for notice in notices:
        assert notice.checks >= 3
        assert (notice.figure >= threshold) == isinstance(notice, AlertBreached)


@given(checks=CHECKS)
def test_nothing_that_lasts_goes_untold(checks: list) -> None:
    """At the end, either what was told last is how it stands, or it is too early to say otherwise."""
    found = series_of(checks)
    if not found:
        return
    notices, now = told(watch(found)), found[-1].at
    within = [each for each in found if each.at > now - 30 * MINUTE]
    if len(within) < 3 or (notices and now - notices[-1].at < QUIET):
        return
    failed = sum(not each.answered for each in within)
    assert bool(notices and isinstance(notices[-1], AlertBreached)) == (2 * failed >= len(within))


@given(times=st.lists(st.integers(0, 60_000), min_size=3, max_size=200))
def test_p95_is_the_time_that_so_many_answers_stayed_within(times: list[int]) -> None:
    found = [Found(START + number, True, time) for number, time in enumerate(times)]
    figure = figure_of("latency_p95", found)
    assert figure == sorted(times)[math.ceil(len(times) * 0.95) - 1]


@given(answers=st.lists(st.booleans(), min_size=3))
def test_the_error_rate_is_a_share_of_what_was_tried(answers: list[bool]) -> None:
    found = [Found(START + number, answered, 0) for number, answered in enumerate(answers)]
    assert figure_of("error_rate", found) == answers.count(False) * ALL_PPM // len(answers)


def test_a_check_of_many_steps_is_one_check() -> None:
    once = [Found(START, False, 0)] * 5
    assert figure_of("error_rate", once) is None
    thrice = [Found(START + number, False, 0) for number in range(3) for _ in range(5)]
    assert figure_of("error_rate", thrice) == ALL_PPM


def test_latency_says_nothing_where_nothing_was_answered() -> None:
    failed = [Found(START + number, False, 9_000) for number in range(9)]
    assert figure_of("latency_p95", failed) is None
    assert due(Standing(), figure=None, threshold=1, at=START) is None


def test_only_what_is_within_the_window_counts() -> None:
    old = [Found(START + number * MINUTE, False, 0) for number in range(3)]
    store = MemoryStore()
    assert not judge(store, ALERT, old, org="org_a", at=START + 31 * MINUTE, by="test")
    assert judge(store, ALERT, old, org="org_a", at=START + 29 * MINUTE, by="test")


def test_a_notice_is_handed_over_once() -> None:
    store = watch([Found(START + number * MINUTE, False, 0) for number in range(3)])
    for _ in range(2):
        record_told(store, org="org_a", alert="alr_1", notice=1, at=START, by="test")
    assert store.names() == ["AlertBreached", "AlertTold"]
