"""What a request asks of a route: the models it names, in order, and the conditions that bind them."""

from typing import Literal

import msgspec

from domain.catalog.model import Modality

Optimize = Literal["price", "latency", "uptime", "throughput", "auto"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a chain: a model, and the provider it is pinned to, if it is."""

    model: str
    provider: str | None = None


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """`steps[0]` is the primary, the others are fallbacks. Everything else binds every step.

    `input_tokens` is an upper bound and decides about money; `input_tokens_least` is a lower bound and
    decides whether the prompt fits a model at all. `fields` are the top-level fields the provider would
    see; `service_tier` is what the request asks for, empty where it does not say.
    """

    steps: tuple[Step, ...]
    modality: Modality = "chat"
    optimize: Optimize = "price"
    india_only: bool = False
    open_weights: bool = False
    permissive: bool = False
    input_tokens: int = 0
    input_tokens_least: int = 0
    fields: frozenset[str] = frozenset()
    service_tier: str = ""
