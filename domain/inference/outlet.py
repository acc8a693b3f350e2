"""What the spine needs around it: where answers go, who calls providers, who counts tokens."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from pydantic import SecretStr

from domain.byo.own import Own
from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.inference.messages import Endpoint
from domain.inference.ports import Reply
from domain.inference.sizes import OutputSizes
from domain.ledger.ports import Ledger
from domain.routing.health import LocalHealth, RouteHealth
from domain.routing.needs import Step


class Served(msgspec.Struct, frozen=True):
    """What a caller is told about how it was served. `cost_nanos` is None while a stream is still running."""

    provider: str
    model: str
    first_byte_ms: int
    cost_nanos: int | None = None


class Outlet(Protocol):
    """The caller's side of one call. Nothing here raises when the caller has left; `gone` tells."""

    @property
    def gone(self) -> bool: ...

    def when_gone(self, leave: Callable[[], None]) -> None:
        """`leave` is called once when the caller hangs up before the answer has ended; at once if it already has."""

    def whole(self, served: Served, body: bytes) -> None:
        """Sends a whole answer."""

    def open(self, served: Served) -> None:
        """Begins a stream: from here on, failures are frames."""

    async def send(self, frames: bytes) -> None:
        """Sends frames of an open stream; waits while the caller reads slowly."""

    def finish(self, frames: bytes) -> None:
        """Sends the last frames and ends the stream."""


class Upstream(Protocol):
    def call(
        self,
        route: Route,
        endpoint: Endpoint,
        body: bytes,
        *,
        streamed: bool,
        first_byte_seconds: float,
        key: SecretStr | None = None,
    ) -> Awaitable[Reply]:
        """Asks one provider; `streamed` is what the body asks for, `key` is one that came with the request for this
        route. Raises UpstreamFault."""
        ...


class Tokenizer(Protocol):
    def count(self, text: str) -> Awaitable[int]:
        """How many tokens a common tokenizer makes of this text; for providers that do not tell."""
        ...


class Patience(msgspec.Struct, frozen=True):
    """How long we wait, in seconds; `hold` is how long credit stays set aside without a sign of life."""

    first_byte: float = 60
    reasoning_first_byte: float = 300
    disconnect_grace: float = 10
    hold: float = 900


@dataclass(frozen=True)
class Services:
    """All that serving a call needs. `configured` gives the providers that can be called now on the platform's keys,
    `chain` the steps that an org has saved for a model, `own` what an org has brought, None for most."""

    catalog: Callable[[], Catalog]
    configured: Callable[[], Collection[str]]
    ledger: Ledger
    upstream: Upstream
    tokenizer: Tokenizer
    sizes: OutputSizes
    patience: Patience
    clock: Callable[[], int]
    health: RouteHealth = field(default_factory=lambda: LocalHealth(lambda: 0))
    chain: Callable[[str, str], Sequence[Step]] = lambda org, model: ()
    own: Callable[[str], Own | None] = lambda org: None
