"""How much credit a call must hold before anyone is called, so that no balance, however small, is ever
overshot.
"""

from collections.abc import Callable, Collection, Sequence

import msgspec

from domain.catalog.model import Route
from domain.catalog.price import Rates, ceiling, is_plain, output_tokens_within, reachable
from domain.kernel.errors import OutOfCredit
from domain.kernel.money import format_inr

OUTPUT_TOKENS_FLOOR = 16

_BYTES_PER_TOKEN_DEAREST = 3
_BYTES_PER_TOKEN_LEAST = 6
_TOKENS_PER_IMAGE_MAX = 4096


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """`amount_nanos` is what to hold now. `output_tokens_max` is where each choice must stop; when `cut`,
    the money set it, and it has to go upstream as the output limit.
    """

    amount_nanos: int
    output_tokens_max: int
    cut: bool


def size_hold(
    attempts: Sequence[Route],
    *,
    input_tokens: int,
    output_tokens_wanted: int | None,
    choices: int = 1,
    available_nanos: int | None = None,
    first_output_tokens: int | None = None,
    tier: str = "",
    rare: Callable[[], Collection[str]] = tuple,
) -> Sizing:
    """The hold that covers this call on the dearest of the planned attempts.

    Output is as wanted, else the most that any attempt can write, else what `available_nanos` allows, but
    never under `OUTPUT_TOKENS_FLOOR` (or what was wanted, if that is less). With `first_output_tokens` only
    that much output per choice is held at first, and a stream has to extend its hold before it passes it.
    Token figures but `input_tokens` are per choice. `tier` is what the call asks for, `rare` gives the classes of
    usage that it can cause, as in `reachable`. Raises OutOfCredit `insufficient_credits` if not even
    the floor is affordable.
    """
    rates = [
        route.rates
        if is_plain(route.rates)
        else reachable(route.rates, prompt_tokens=input_tokens, tier=tier, rare=rare())
        for route in attempts
        if route.rates is not None
    ]
    if len(rates) != len(attempts) or not rates:
        raise ValueError("a hold needs attempts, and a price for each of them")
    limit = output_tokens_wanted
    if limit is None:
        limit = max(route.max_output_tokens for route in attempts)
    cut = False
    if available_nanos is not None and _dearest(rates, input_tokens, limit * choices) > available_nanos:
        floor = min(OUTPUT_TOKENS_FLOOR, limit)
        needed_nanos = _dearest(rates, input_tokens, floor * choices)
        if needed_nanos > available_nanos:
            needed, available = format_inr(needed_nanos), format_inr(available_nanos)
            raise OutOfCredit(
                "insufficient_credits",
                f"This call needs at least ₹{needed} and ₹{available} is available. "
                "Add credit, shorten the prompt, or choose a cheaper model.",
            )
        limit = min(
            output_tokens_within(each, nanos=available_nanos, input_tokens=input_tokens) // choices for each in rates
        )
        cut = True
    held = limit if first_output_tokens is None else min(limit, first_output_tokens)
    return Sizing(amount_nanos=_dearest(rates, input_tokens, held * choices), output_tokens_max=limit, cut=cut)


def estimate_input_tokens(body_bytes: int, *, images: int = 0, image_bytes: int = 0) -> int:
    """An upper bound of the input tokens of a request of this size, where no tokenizer has counted them.

    `image_bytes` is how much of the body is embedded images; those cost by the picture, not by the byte.
    """
    text_bytes = max(body_bytes - image_bytes, 0)
    return -(-text_bytes // _BYTES_PER_TOKEN_DEAREST) + images * _TOKENS_PER_IMAGE_MAX


def least_input_tokens(body_bytes: int, *, image_bytes: int = 0) -> int:
    """A lower bound for the same, good enough to say that a prompt cannot fit a model."""
    return max(body_bytes - image_bytes, 0) // _BYTES_PER_TOKEN_LEAST


def _dearest(rates: Sequence[Rates], input_tokens: int, output_tokens: int) -> int:
    return max(ceiling(each, input_tokens=input_tokens, output_tokens=output_tokens) for each in rates)
