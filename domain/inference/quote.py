"""What a call would cost, by the same engine that holds and settles it. Nothing is called, held or recorded."""

from typing import Any

from domain.catalog.price import Rates, ceiling, reachable
from domain.inference.messages import Ask
from domain.inference.sizes import OutputSizes
from domain.kernel.money import format_inr
from domain.ledger.sizing import size_hold
from domain.routing.plan import Plan

EXPECTED_OUTPUT_TOKENS = 256


def quote(ask: Ask, chosen: Plan, sizes: OutputSizes, *, free: bool = False) -> dict[str, Any]:
    """Per eligible route the expected and the highest cost in ₹ (decimal strings), and what would be held first:
    nothing for a caller whose calls are `free`."""
    wanted = 0 if ask.endpoint == "embeddings" else ask.output_tokens
    first = sizes.first_hold(ask.model) if ask.streamed else None
    sizing = size_hold(
        chosen.attempts,
        input_tokens=ask.needs.input_tokens,
        output_tokens_wanted=wanted,
        choices=ask.choices,
        first_output_tokens=first,
        tier=ask.needs.service_tier,
        rare=ask.rare,
    )
    routes = []
    for route in chosen.attempts:
        assert isinstance(route.rates, Rates)
        rates = reachable(
            route.rates, prompt_tokens=ask.needs.input_tokens, tier=ask.needs.service_tier, rare=ask.rare()
        )
        most = route.max_output_tokens if wanted is None else wanted
        likely = min(most, EXPECTED_OUTPUT_TOKENS) * ask.choices
        routes.append(
            {
                "provider": route.provider,
                "model": route.model,
                "residency": route.residency or None,
                "price_version": rates.id,
                "expected_inr": format_inr(
                    ceiling(rates, input_tokens=(ask.needs.input_tokens * 3) // 4, output_tokens=likely)
                ),
                "ceiling_inr": format_inr(
                    ceiling(rates, input_tokens=ask.needs.input_tokens, output_tokens=most * ask.choices)
                ),
            }
        )
    return {
        "object": "quote",
        "model": ask.model,
        "input_tokens_max": ask.needs.input_tokens,
        "output_tokens_max": sizing.output_tokens_max * ask.choices,
        "hold_inr": format_inr(0 if free else sizing.amount_nanos),
        "routes": routes,
        "excluded": [
            {"provider": found.provider, "model": found.model, "reasons": list(found.excluded)}
            for found in chosen.candidates
            if found.excluded
        ],
    }
