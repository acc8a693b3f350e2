"""Turns what a request needs and what the catalog offers into an ordered list of attempts, and the receipt
of why.

Pure: the same needs over the same catalog give the same plan.
"""

from collections.abc import Collection

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.catalog.price import blended
from domain.kernel.errors import Invalid, NotFound
from domain.routing.eligibility import EXPLANATIONS, Reason, exclusions
from domain.routing.needs import Needs, Step

ATTEMPTS_MAX = 10


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the routing receipt. `step` counts from 0; `excluded` is empty for a route that was
    eligible.
    """

    step: int
    model: str
    provider: str
    residency: str
    excluded: tuple[Reason, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`attempts` is never empty and names each route once; `candidates` are all routes considered, as
    looked at.
    """

    attempts: tuple[Route, ...]
    candidates: tuple[Candidate, ...]


def plan(needs: Needs, catalog: Catalog, configured: Collection[str]) -> Plan:
    """The routes to try, in order: step after step, inside a step ranked, at most `ATTEMPTS_MAX`, each
    route once.

    A step without an eligible route is passed over. Raises NotFound `model_not_found` if a step names no
    model of the catalog, Invalid `no_route` if no step has an eligible route.
    """
    attempts: dict[tuple[str, str], Route] = {}
    candidates: list[Candidate] = []
    for index, step in enumerate(needs.steps):
        model = catalog.models.get(step.model)
        if model is None:
            raise NotFound(
                "model_not_found",
                f"There is no model '{step.model}'. GET /v1/models lists those there are.",
                param="model" if index == 0 else f"fallbacks[{index - 1}].model",
            )
        eligible: list[Route] = []
        for route in catalog.routes_of(step.model):
            against = exclusions(route, model=model, step=step, needs=needs, configured=configured)
            if not against:
                eligible.append(route)
            candidates.append(
                Candidate(
                    step=index,
                    model=step.model,
                    provider=route.provider,
                    residency=route.residency,
                    excluded=against,
                )
            )
        for route in rank(eligible):
            attempts.setdefault((route.provider, route.model), route)
    if not attempts:
        raise _no_route(needs.steps, candidates)
    return Plan(attempts=tuple(attempts.values())[:ATTEMPTS_MAX], candidates=tuple(candidates))


def rank(routes: list[Route]) -> list[Route]:
    """Cheapest first by input plus output price, equal prices in catalog order.

    Every value of `optimize` ranks so as long as no route has been observed: unobserved routes tie, and
    ties go by price.
    """
    return sorted(routes, key=lambda route: blended(route.rates) if route.rates else 0)


def _no_route(steps: tuple[Step, ...], candidates: list[Candidate]) -> Invalid:
    wanted = " or ".join(f"'{step.model}'" + (f" at '{step.provider}'" if step.provider else "") for step in steps)
    told = [found for found in candidates if "pinned_elsewhere" not in found.excluded] or candidates
    reasons = "; ".join(
        f"{found.provider} {' and '.join(EXPLANATIONS[reason] for reason in found.excluded)}" for found in told
    )
    return Invalid("no_route", f"No route can serve {wanted}: {reasons or 'no provider offers it'}.")
