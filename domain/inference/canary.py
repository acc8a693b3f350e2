"""A call of one token that only looks whether a route answers. It is planned as any call, over the same routes, and
leaves nothing behind: no hold, no debit, nothing that a circuit or an average would count.
"""

import asyncio
from dataclasses import dataclass

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Provider, Route
from domain.catalog.price import ceiling, reachable
from domain.inference.choose import choose
from domain.inference.messages import Ask, Endpoint, parse
from domain.inference.outlet import Services
from domain.inference.ports import UpstreamFault
from domain.inference.replies import Unusable, read_whole
from domain.inference.wires.registry import WIRES
from domain.inference.wires.wire import Untranslatable
from domain.kernel.clock import SECOND
from domain.kernel.errors import Refusal
from domain.keys.directory import Caller
from domain.monitoring.checks import Wanted
from domain.monitoring.events import Checked, Ping
from domain.routing.needs import Step
from domain.routing.replies import should_fail_over

PATIENCE_SECONDS = 15
"""For the whole of an answer of one token."""
ANSWER_BYTES_MAX = 1 << 20

_ENDPOINTS: dict[str, Endpoint] = {"chat": "chat", "embedding": "embeddings"}


@dataclass(frozen=True, slots=True)
class Planned:
    """The call that is to be made for the step of this number. `worth` is the most, in nano-rupees, that the provider
    may charge the product for it."""

    number: int
    ask: Ask
    route: Route
    provider: Provider
    worth: int


async def check(wanted: Wanted, services: Services, at_once: asyncio.Semaphore) -> Checked | None:
    """Tries each step, so many at once, on the route that a request of the org would be sent to first; what was found.
    None where that might cost more than it may: then nobody is called.

    A step without a route counts as failed. Models that cannot be asked for one token (speech, transcription) are
    passed over.
    """
    catalog, caller = services.catalog(), _anybody_of(wanted.owner)
    plans = [_plan(number, step, catalog, services, caller) for number, step in enumerate(wanted.steps)]
    worth = sum(plan.worth for plan in plans if isinstance(plan, Planned))
    if worth > wanted.nanos_max:
        return None

    async def found(plan: Planned | Ping) -> Ping:
        if isinstance(plan, Ping):
            return plan
        async with at_once:
            return await _ping(plan, services)

    pings = await asyncio.gather(*[found(plan) for plan in plans if plan is not None])
    return Checked(owner=wanted.owner, collection=wanted.collection, pings=tuple(pings), worth=worth)


def _plan(number: int, step: Step, catalog: Catalog, services: Services, caller: Caller) -> Planned | Ping | None:
    model = catalog.models.get(step.model)
    endpoint = _ENDPOINTS.get("chat" if model is None else model.modality)
    if endpoint is None:
        return None
    try:
        ask, catalog, chosen = choose(_ask(step, endpoint), caller, catalog, services)
    except Refusal:
        return Ping(step=number, model=step.model, provider=step.provider or "", end="no_route")
    route = chosen.attempts[0]
    worth = 0
    if route.rates is not None:
        tokens = ask.needs.input_tokens
        rates = reachable(route.rates, prompt_tokens=tokens, tier="")
        worth = ceiling(rates, input_tokens=tokens, output_tokens=int(endpoint == "chat"))
    return Planned(number, ask, route, catalog.providers[route.provider], worth)


def _ask(step: Step, endpoint: Endpoint) -> Ask:
    """The smallest request there is. It names no fallbacks, so that no saved chain is put behind it."""
    body: dict[str, object] = {"model": step.model, "fallbacks": []}
    if step.provider is not None:
        body["provider"] = step.provider
    prompt = {"messages": [{"role": "user", "content": "Hi"}]} if endpoint == "chat" else {"input": "Hi"}
    return parse(endpoint, msgspec.json.encode(body | prompt))


def _anybody_of(org: str) -> Caller:
    """A caller of the org that no key limits."""
    return Caller(
        org=org,
        key_id="",
        workspace="",
        scope="inference",
        name="",
        prefix="",
        digest=b"",
        rpm_limit=None,
        daily_limit=None,
        expires=None,
        models=None,
    )


async def _ping(plan: Planned, services: Services) -> Ping:
    begun = services.clock()
    status = 0
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            status, end = await _call(plan, services)
    except TimeoutError:
        end = "timeout"
    except UpstreamFault as fault:
        end = fault.kind
    except Unusable:
        status, end = 200, "unusable"
    except Untranslatable:
        end = "no_route"
    return Ping(
        step=plan.number,
        model=plan.route.model,
        provider=plan.route.provider,
        end=end,
        status=status,
        milliseconds=(services.clock() - begun) // 1000,
        own=bool(plan.route.owner),
    )


async def _call(plan: Planned, services: Services) -> tuple[int, str]:
    """The status, and how it ended. A provider that refuses the request as such is there: as for calls, that is no
    failure of the route."""
    route, ask = plan.route, plan.ask
    wire = WIRES[plan.provider.wire]
    body = wire.body(ask, route, plan.provider, 1 if ask.endpoint == "chat" else None)
    reply = await services.upstream.call(route, ask.endpoint, body, streamed=False, first_byte_seconds=PATIENCE_SECONDS)
    try:
        answer = await reply.read(ANSWER_BYTES_MAX)
        if reply.status == 200:
            read_whole(ask.endpoint, wire.whole(answer, "canary", services.clock() // SECOND))
            return 200, "answered"
        return reply.status, "status" if should_fail_over(wire.status(reply.status, answer)) else "answered"
    finally:
        reply.close()
