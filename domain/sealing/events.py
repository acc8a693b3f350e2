"""The fact that a block of the log was closed. Stream: `seal`."""

from domain.kernel.events import Event, fact


@fact("log.sealed.v1")
class LogSealed(Event, frozen=True, kw_only=True):
    """Block `number` holds the `count` events at positions `first` to `last`. `root` is the Merkle root over them;
    `header` chains it to the `previous` block's header. All hashes are SHA-256 in hex."""

    number: int
    first: int
    last: int
    count: int
    root: str
    previous: str
    header: str
