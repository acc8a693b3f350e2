"""The facts of saved fallback chains. Stream: `routing:<org>`."""

from domain.kernel.events import Event, fact
from domain.routing.needs import Step


@fact("routing.chain_set.v1")
class ChainSet(Event, frozen=True, kw_only=True):
    """Calls of `model` that name neither fallbacks nor a provider go on with these steps, in this order; the first may
    lead, which pins the model itself."""

    org: str
    model: str
    steps: tuple[Step, ...]


@fact("routing.chain_cleared.v1")
class ChainCleared(Event, frozen=True, kw_only=True):
    """Calls of `model` have no fallbacks again but their own."""

    org: str
    model: str
