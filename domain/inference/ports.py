"""What serving a call needs of the outside world: a provider's reply as it arrives, and how it can break."""

from collections.abc import Sequence
from typing import Literal, Protocol

FaultKind = Literal["connect", "timeout", "cut", "protocol", "too_large"]


class UpstreamFault(Exception):
    """The call to a provider broke below the level of its API.

    `kind` says how:
      connect    no connection was made, or none was free; nothing was sent
      timeout    the provider kept silent for too long
      cut        the connection ended before the reply did
      protocol   what came back is not a reply that we understand
      too_large  the body passed the limit of the reader
    `started` is true when the head of the reply (status and headers) had arrived. Unless `kind` is "connect",
    the provider may have done the work, and may charge for it, even if not one byte came back.
    `message` names no host, header or body, so it may be shown to the caller.
    """

    def __init__(self, kind: FaultKind, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.message = message
        self.started = started


class Reply(Protocol):
    """A provider's reply whose head has arrived. One reader at a time; call `close()` in a `finally`."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, in the order in which they came; a name may occur more than once."""

    async def next_block(self) -> bytes:
        """All of the body that arrived since the last call, waiting for at least a byte; `b""` at its end.

        Raises UpstreamFault (cut, timeout, protocol), but first hands out everything that arrived before it.
        Reading slowly slows the provider down, so that little is kept in memory.
        """

    async def read(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamFault: "too_large" past `limit` bytes, and as `next_block`."""

    def close(self) -> None:
        """Ends the exchange; harmless when repeated. The connection is kept for another call if the body had
        come to its end, and is aborted otherwise."""
