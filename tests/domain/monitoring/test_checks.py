"""When checks are due, and that each is on record once."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import SECOND
from domain.monitoring.checks import is_due, record_checks
from domain.monitoring.events import Checked, Ping
from tests.memory_store import MemoryStore

START = 1_793_440_000 * SECOND
NAMES = st.text("abcdefgh-0123456789", min_size=1, max_size=30)


@given(name=NAMES, step=st.integers(1, 30))
def test_a_collection_is_checked_at_once_and_then_about_every_five_minutes(name: str, step: int) -> None:
    last, times = None, []
    for at in range(START, START + 3_600 * SECOND, step * SECOND):
        if is_due(name, last=last, at=at, period_seconds=300):
            last = at
            times.append(at)
    assert times[0] == START
    assert len(times) in (12, 13)
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert all(abs(gap - 300 * SECOND) <= step * SECOND for gap in gaps)


def test_collections_do_not_come_all_at_once() -> None:
    times = {
        next(
            at
            for at in range(START, START + 301 * SECOND, SECOND)
            if is_due(f"collection-{number}", last=START - 1, at=at, period_seconds=300)
        )
        for number in range(200)
    }
    assert len(times) > 100


def test_a_check_is_on_record_once_for_its_moment() -> None:
    store = MemoryStore()
    check = Checked(owner="org_a", collection="ours", pings=(Ping(step=0, model="m", provider="p", end="answered"),))
    own = Checked(pings=check.pings)
    assert record_checks(store, [check, own], at=START, by="test") is not None
    assert record_checks(store, [check], at=START, by="test") is None
    assert record_checks(store, [], at=START, by="test") is None
    assert record_checks(store, [check], at=START + 1, by="test") is not None
    assert [stream for stream, _ in store.facts] == [
        f"check:ours/{START}",
        f"check:product/{START}",
        f"check:ours/{START + 1}",
    ]
