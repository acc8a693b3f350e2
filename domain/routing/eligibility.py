"""Whether a route may serve a step of a request, and if not, every reason why.

Reasons are stable codes: they are shown in routing receipts. Residency fails closed: only a route that is
known to be in India is in India.
"""

from collections.abc import Collection
from typing import Literal

from domain.catalog.model import INDIA, Model, Openness, Route
from domain.catalog.price import offers_tier
from domain.routing.needs import Needs, Step

Reason = Literal[
    "residency",
    "openness",
    "pinned_elsewhere",
    "not_configured",
    "no_price",
    "modality",
    "context_length",
    "service_tier",
    "parameters",
    "circuit_open",
    "no_credit",
]

EXPLANATIONS: dict[Reason, str] = {
    "residency": "is not resident in India",
    "openness": "does not serve a model as open as asked for",
    "pinned_elsewhere": "is not the provider asked for",
    "not_configured": "has no key here",
    "no_price": "has no price here and serves only with your own key",
    "modality": "does not serve this kind of request",
    "context_length": "cannot take a prompt this long",
    "service_tier": "is not offered in the service tier asked for",
    "parameters": "does not accept a parameter of the request",
    "circuit_open": "has failed again and again and rests for half a minute",
    "no_credit": "would cost more than there is to spend",
}

_OPEN: frozenset[Openness] = frozenset({"open", "permissive"})
_STANDARD_TIERS = frozenset({"", "auto", "default"})


def exclusions(
    route: Route, *, model: Model, step: Step, needs: Needs, configured: Collection[str]
) -> tuple[Reason, ...]:
    """All reasons against this route, those of policy first; none where it is eligible.

    `configured` are the ids of the providers that can be called on the platform's keys; an org's own always can be.
    """
    reasons: list[Reason] = []
    if needs.india_only and route.residency != INDIA:
        reasons.append("residency")
    if (needs.open_weights and model.openness not in _OPEN) or (needs.permissive and model.openness != "permissive"):
        reasons.append("openness")
    if step.provider is not None and step.provider != route.provider:
        reasons.append("pinned_elsewhere")
    if not route.owner and route.provider not in configured:
        reasons.append("not_configured")
    if route.rates is None:
        reasons.append("no_price")
    if model.modality != needs.modality:
        reasons.append("modality")
    if needs.input_tokens_least > route.context_length or 0 < route.priced_to_tokens < needs.input_tokens:
        reasons.append("context_length")
    if needs.service_tier not in _STANDARD_TIERS and not (
        route.owner or (route.rates and offers_tier(route.rates, needs.service_tier))
    ):
        reasons.append("service_tier")
    if not needs.fields.isdisjoint(route.refuses) or not _can_say(route, needs):
        reasons.append("parameters")
    return tuple(reasons)


def _can_say(route: Route, needs: Needs) -> bool:
    """Whether the route's wire has words for all that the request asks for."""
    return route.takes is None or needs.fields - needs.idle <= route.takes
