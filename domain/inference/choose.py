"""Which routes a call takes: its own fallbacks or its org's saved chain, over the catalog, by what is set up and how
routes do at this moment."""

import msgspec

from domain.byo.routes import with_given_key, with_own
from domain.catalog.catalog import Catalog
from domain.inference.messages import Ask
from domain.inference.outlet import Services
from domain.keys.directory import Caller
from domain.routing.chains import with_chain
from domain.routing.needs import Step
from domain.routing.plan import Plan, plan

SAVED_CHAIN = "chain:saved"


def choose(ask: Ask, caller: Caller, catalog: Catalog, services: Services) -> tuple[Ask, Catalog, Plan]:
    """The ask with the chain that it goes by, the catalog with what the org has brought for it, and its plan. Raises as
    `plan`."""
    if ask.needs.may_chain and (steps := services.chain(caller.org, ask.model)):
        needs = with_chain(ask.needs, steps, models=caller.models)
        if needs is not ask.needs:
            ask = msgspec.structs.replace(ask, needs=needs, constraints=(*ask.constraints, SAVED_CHAIN))
    own = services.own(caller.org)
    if own is not None:
        catalog, steps = with_own(catalog, own, caller.org, ask.needs.steps)
        ask = _with_steps(ask, steps)
    if ask.upstream_key is None:
        return ask, catalog, plan(ask.needs, catalog, services.configured(), services.health.health())
    catalog, steps = with_given_key(catalog, caller.org, ask.needs.steps)
    ask = _with_steps(ask, steps)
    chosen = plan(ask.needs, catalog, services.configured(), services.health.health())
    if ask.needs.steps[0].provider is None:  # whichever comes first is asked, and no other sees the key
        chosen = msgspec.structs.replace(chosen, attempts=chosen.attempts[:1])
    return ask, catalog, chosen


def _with_steps(ask: Ask, steps: tuple[Step, ...]) -> Ask:
    return msgspec.structs.replace(ask, needs=msgspec.structs.replace(ask.needs, steps=steps))
