"""Turns what a request needs, what the catalog offers and how routes do into an ordered list of attempts, and the
receipt of why.

Pure: the same needs over the same catalog and health give the same plan.
"""

from collections.abc import Collection

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.catalog.price import blended
from domain.kernel.errors import Invalid, NotFound
from domain.routing.eligibility import EXPLANATIONS, Reason, exclusions
from domain.routing.health import NOTHING_OBSERVED, Health, circuit_name
from domain.routing.needs import OWN_ENDPOINT, Needs, Step
from domain.routing.ranking import UNOBSERVED, Figures, figures_of, rank

ATTEMPTS_MAX = 10
UNLISTED = 1 << 40
"""The price of an org's own route that we have none for: it goes behind those whose price is known."""


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
    looked at. `observed` has the figures that put the eligible ones in order, by `provider/model` and in the order of
    the catalog; `probes` are those of them whose circuit may be tried by one call.
    """

    attempts: tuple[Route, ...]
    candidates: tuple[Candidate, ...]
    observed: dict[str, Figures] = {}
    probes: frozenset[str] = frozenset()

    @property
    def receipt(self) -> dict[str, Figures]:
        """The figures to be kept: none where there was nothing to choose between and nothing wrong."""
        if len(self.observed) == 1 and all(each.circuit == "closed" for each in self.observed.values()):
            return {}
        return self.observed


def plan(needs: Needs, catalog: Catalog, configured: Collection[str], health: Health = NOTHING_OBSERVED) -> Plan:
    """The routes to try, in order: step after step, inside a step ranked, at most `ATTEMPTS_MAX`, each
    route once and in the first step that it fits.

    A step without an eligible route is passed over, and so is one after the first that names what is not there (any
    more). Raises NotFound `model_not_found` where the first names no model of the catalog, or one that the request
    itself lists has a slip; Invalid `no_route` if no step has an eligible route.
    """
    attempts: list[Route] = []
    candidates: list[Candidate] = []
    observed: dict[str, Figures] = {}
    probes: set[str] = set()
    for index, step in enumerate(needs.steps):
        model = catalog.models.get(step.model)
        if model is None:
            if index == 0 or not (step.saved or names_own(step, catalog)):
                raise NotFound(
                    "model_not_found",
                    f"There is no model '{step.model}'. GET /v1/models lists those there are.",
                    param="model" if index == 0 else f"fallbacks[{index - 1}].model",
                )
            candidates.append(_absent(step, index))
            continue
        if step.provider is not None and step.provider not in catalog.providers:
            candidates.append(_absent(step, index))
        eligible: dict[str, Route] = {}
        figures: dict[str, Figures] = {}
        for route in catalog.routes_of(step.model):
            name = route.name
            circuit = name if not route.owner else circuit_name(route)
            standing = health.get(circuit, UNOBSERVED)
            against = exclusions(route, model=model, step=step, needs=needs, configured=configured)
            if standing.avoided and step.provider is not None and not against:
                against = ("circuit_open",)
            if not against and name not in observed:
                eligible[name] = route
                figures[name] = figures_of(
                    standing, needs.optimize, price=_price(route), step=index, own=route.owner != ""
                )
                if standing.circuit == "probe":
                    probes.add(circuit)
            candidates.append(
                Candidate(
                    step=index,
                    model=route.model,
                    provider=route.name.removesuffix(f"/{route.model}") if route.owner else route.provider,
                    residency=route.residency,
                    excluded=against,
                )
            )
        attempts += [eligible[name] for name in rank(needs.optimize, figures)] if figures else []
        observed |= figures
    if not attempts:
        raise _no_route(needs.steps, candidates)
    return Plan(
        attempts=tuple(attempts[:ATTEMPTS_MAX]),
        candidates=tuple(candidates),
        observed=observed,
        probes=frozenset(probes),
    )


def own_alone(chosen: Plan) -> Plan | None:
    """The plan without what costs the org anything; None where nothing is left, or nothing was left out."""
    kept = tuple(route for route in chosen.attempts if route.owner)
    if not kept or len(kept) == len(chosen.attempts):
        return None
    names = {route.name for route in kept}
    return msgspec.structs.replace(
        chosen,
        attempts=kept,
        candidates=tuple(
            found
            if found.excluded or f"{found.provider}/{found.model}" in names
            else msgspec.structs.replace(found, excluded=("no_credit",))
            for found in chosen.candidates
        ),
        observed={name: figures for name, figures in chosen.observed.items() if name in names},
    )


def names_own(step: Step, catalog: Catalog) -> bool:
    """Whether a step names what only an org itself can have set up: an endpoint of its own, `byoe:<slug>`, or a model
    that its own key opens, `provider/model-id`."""
    provider, slash, _ = step.model.partition("/")
    is_endpoint = step.model.startswith(OWN_ENDPOINT) or (step.provider or "").startswith(OWN_ENDPOINT)
    return is_endpoint or (slash != "" and provider in catalog.providers)


def _price(route: Route) -> int:
    """What ranks a route among its siblings: what it costs, or of an org's own what the platform would ask for it."""
    if not route.owner:
        return blended(route.rates) if route.rates else 0
    return blended(route.listed) if route.listed else UNLISTED


def _absent(step: Step, index: int) -> Candidate:
    """The line of the receipt for a step that leads nowhere."""
    provider, _, model = step.model.partition("/")
    if step.provider is not None or not model:
        provider, model = step.provider or "any", step.model
    return Candidate(step=index, model=model, provider=provider, residency="", excluded=("not_configured",))


def _no_route(steps: tuple[Step, ...], candidates: list[Candidate]) -> Invalid:
    wanted = " or ".join(f"'{step.model}'" + (f" at '{step.provider}'" if step.provider else "") for step in steps)
    told = [found for found in candidates if "pinned_elsewhere" not in found.excluded] or candidates
    reasons = "; ".join(
        f"{found.provider} {' and '.join(EXPLANATIONS[reason] for reason in found.excluded)}" for found in told
    )
    return Invalid("no_route", f"No route can serve {wanted}: {reasons or 'no provider offers it'}.")
