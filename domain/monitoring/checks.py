"""When a collection is checked, and how what was found is put on record.

Checks are free for whoever asks for them, so they are bounded for whoever pays: by a period, by how many collections an
org has watched, by a sum a day, and by having credit at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.monitoring.events import Checked
from domain.routing.needs import Step

PRODUCT = "product"
"""What the product looks after by itself, in place of a collection."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A collection of `owner` that is to be checked, for at most so many nano-rupees of the product's; without either,
    routes that the product looks after by itself."""

    steps: tuple[Step, ...]
    nanos_max: int
    owner: str = ""
    collection: str = ""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Whether a check is on record already."""

    there: bool = False

    def evolve(self, stream: str, event: Event) -> "_Recorded":
        return _Recorded(True)


def is_due(collection: str, *, last: int | None, at: int, period_seconds: int) -> bool:
    """Whether it is time for the next check, the last of which was at `last` (microseconds since 1970), if there was
    any. Each collection has a moment of the period that is its own, so that they do not come all at once."""
    if last is None:
        return True
    period = period_seconds * SECOND
    offset = crc32(collection.encode()) % period
    return (at - offset) // period > (last - offset) // period


def record_checks(store: Store, checks: Sequence[Checked], *, at: int, by: str) -> int | None:
    """Puts what was found on record, all of it at once, each in a stream of its own; the position of the last. One of a
    collection at that very moment is on record already."""

    def change(check: Checked) -> Change[_Recorded]:
        stream = f"check:{check.collection or PRODUCT}/{at}"

        def decide(recorded: _Recorded) -> Decision:
            return [] if recorded.there else [(stream, check)]

        return Change(stream, _Recorded(), decide)

    return store.change(*map(change, checks), at=at, by=by) if checks else None
