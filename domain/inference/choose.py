"""Which routes a call takes: its own fallbacks or its org's saved chain, over the catalog, by what is set up and how
routes do at this moment."""

import msgspec

from domain.catalog.catalog import Catalog
from domain.inference.messages import Ask
from domain.inference.outlet import Services
from domain.keys.directory import Caller
from domain.routing.chains import with_chain
from domain.routing.plan import Plan, plan

SAVED_CHAIN = "chain:saved"


def choose(ask: Ask, caller: Caller, catalog: Catalog, services: Services) -> tuple[Ask, Plan]:
    """The ask with the chain that it goes by, and its plan. Raises as `plan`."""
    if ask.needs.may_chain and (steps := services.chain(caller.org, ask.model)):
        needs = with_chain(ask.needs, steps, models=caller.models)
        if needs is not ask.needs:
            ask = msgspec.structs.replace(ask, needs=needs, constraints=(*ask.constraints, SAVED_CHAIN))
    return ask, plan(ask.needs, catalog, services.configured(), services.health.health())
