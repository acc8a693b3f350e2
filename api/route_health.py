"""How routes and providers do, as the API shows it: by what this process knows of all processes' calls."""

from collections.abc import Collection, Iterable
from statistics import median_low
from typing import Any

from fastapi import Request

from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.routing.health import NOTHING_OBSERVED, Health, circuit_name
from domain.routing.ranking import Standing

STATES = {"closed": "up", "open": "down", "half_open": "recovering", "probe": "recovering"}
UNOBSERVED = {"state": "unknown", "latency_ms": None, "failure_rate": None}


def health_of(request: Request) -> Health:
    """Nothing where no calls are served beside the app."""
    gateway = request.app.state.gateway
    found: Health = NOTHING_OBSERVED if gateway is None else gateway.services.health.health()
    return found


def route_health(route: Route, health: Health) -> dict[str, Any]:
    """`state` is `up`, `down` while its circuit is open, `recovering` until a call has tried it again, or `unknown`;
    `latency_ms` to the first token and `failure_rate` (0 to 1) are moving averages."""
    standing = health.get(circuit_name(route))
    return UNOBSERVED if standing is None else _shown(STATES[standing.circuit], [standing])


def provider_health(routes: Collection[Route], health: Health, *, configured: bool) -> dict[str, Any]:
    """`state` as in `provider_state`, or `unknown` where nothing was called yet; the averages are the medians of its
    routes."""
    observed = [health[name] for route in routes if (name := circuit_name(route)) in health]
    state = provider_state(routes, health, configured=configured)
    return UNOBSERVED if configured and not observed else _shown(state, observed)


def provider_state(routes: Collection[Route], health: Health, *, configured: bool) -> str:
    """`not_configured` without a key, `down` where every circuit is open, `degraded` where some are, else `up`."""
    if not configured:
        return "not_configured"
    broken = routes_open(routes, health)
    return "up" if not broken else "down" if broken == len(routes) else "degraded"


def routes_open(routes: Iterable[Route], health: Health) -> int:
    """How many circuits are open."""
    found = [health[name] for route in routes if (name := circuit_name(route)) in health]
    return sum(standing.circuit == "open" for standing in found)


def routes_by_provider(catalog: Catalog) -> dict[str, list[Route]]:
    """Of every provider, in catalog order; of some none."""
    found: dict[str, list[Route]] = {provider: [] for provider in catalog.providers}
    for routes in catalog.routes.values():
        for route in routes:
            found[route.provider].append(route)
    return found


def _shown(state: str, standings: Collection[Standing]) -> dict[str, Any]:
    latencies = [each.latency_micros for each in standings if each.latency_micros is not None]
    failures = [each.failures_ppm for each in standings if each.failures_ppm is not None]
    return {
        "state": state,
        "latency_ms": median_low(latencies) // 1000 if latencies else None,
        "failure_rate": median_low(failures) / 1_000_000 if failures else None,
    }
