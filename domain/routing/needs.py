"""What a request asks of a route: the models it names, in order, and the conditions that bind them."""

from typing import Literal

import msgspec

from domain.catalog.model import OWN_ENDPOINT as OWN_ENDPOINT
from domain.catalog.model import Modality

Optimize = Literal["price", "latency", "uptime", "throughput", "auto"]


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a chain: a model, and the provider it is pinned to, if it is. One of a `saved` chain may name what is
    no longer there. One that `leads` stands before the others, for the primary itself."""

    model: str
    provider: str | None = None
    saved: bool = False
    leads: bool = False


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """`steps[0]` is the primary, the others are fallbacks. Everything else binds every step. `may_chain`: the request
    leaves it to its org what comes after the primary.

    `input_tokens` is an upper bound and decides about money; `input_tokens_least` is a lower bound and
    decides whether the prompt fits a model at all. `fields` are the top-level fields the provider would
    see, and what stands inside them that not every wire can say, as `field:what`; those of them in `idle` ask
    for nothing. `service_tier` is what the request asks for, empty for the standard one.
    """

    steps: tuple[Step, ...]
    may_chain: bool = False
    modality: Modality = "chat"
    optimize: Optimize = "price"
    india_only: bool = False
    open_weights: bool = False
    permissive: bool = False
    input_tokens: int = 0
    input_tokens_least: int = 0
    fields: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()
    service_tier: str = ""
