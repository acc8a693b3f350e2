"""The spine: every inference call takes this road.

plan → hold (durable, before anyone is called) → attempt, fail over → relay → settle (durable, before the last bytes
leave) or release. It runs in a task that the client cannot cancel, so every call that was held is ended.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from domain.catalog.model import Route
from domain.catalog.price import ceiling
from domain.inference.bill import Run, counted, extend_to, hold, note_refusal, rates_of, release, settle
from domain.inference.choose import choose
from domain.inference.messages import Ask
from domain.inference.outlet import Outlet, Served, Services
from domain.inference.ports import Reply, UpstreamFault
from domain.inference.relay import Broken, Stream, relay
from domain.inference.replies import Unusable, answer_with, closing_chunk, error_of_body, read_whole, usage_of
from domain.inference.sse import DONE, frame_of
from domain.inference.wires.registry import WIRES
from domain.inference.wires.wire import Untranslatable, Wire
from domain.kernel.clock import SECOND
from domain.kernel.errors import Invalid, OutOfCredit, Refusal, TooMany, Unavailable, UpstreamFailed
from domain.keys.directory import Caller
from domain.routing.health import RouteHealth, circuit_name
from domain.routing.plan import Plan, own_alone
from domain.routing.replies import should_fail_over

ERROR_BYTES_MAX = 64 << 10
ANSWER_BYTES_MAX = 64 << 20

_FOR_MONEY = frozenset({"insufficient_credits", "max_cost_exceeded", "budget_exceeded"})
"""Refusals that a call can escape which costs nothing."""


async def serve(request: str, ask: Ask, caller: Caller, outlet: Outlet, services: Services) -> None:
    """Serves one call and ends its hold. Raises a Refusal if nothing was sent to the outlet; that charges nothing."""
    started = services.clock()
    try:
        catalog = services.catalog()
        ask, catalog, chosen = choose(ask, caller, catalog, services)
        try:
            run = await hold(request, ask, caller, chosen, catalog, services, started)
        except (OutOfCredit, TooMany) as refusal:
            chosen = _own_instead(chosen, refusal)
            run = await hold(request, ask, caller, chosen, catalog, services, started)
    except Unavailable:
        raise
    except Refusal as refusal:
        with suppress(Unavailable):  # the caller is better served with the reason
            await note_refusal(request, ask, caller, refusal, services)
        raise
    try:
        await _attempt(run, chosen, outlet)
    finally:
        if not run.ended:  # cancelled, or a fault of ours: the credit must not stay held
            with suppress(Unavailable):  # the hold expires
                await asyncio.shield(release(run, code="internal_error"))


def _own_instead(chosen: Plan, refusal: Refusal) -> Plan:
    """The plan without what there is no money for. Raises the refusal where money is not what is missing, or the org
    has nothing of its own to call."""
    left = own_alone(chosen) if refusal.code in _FOR_MONEY else None
    if left is None:
        raise refusal
    return left


async def _attempt(run: Run, chosen: Plan, outlet: Outlet) -> None:
    """Tries the routes in order until one answers. Raises UpstreamFailed when none did, Invalid when a provider says
    that the request itself is wrong."""
    last = "no route could be tried"
    for route in _in_turn(chosen, run.services.health):
        if outlet.gone:  # nobody is there to be answered, and nothing has been produced
            await release(run, code="client_gone")
            return
        if run.renewal_due:
            await extend_to(run, run.held)
        if run.ended:
            last = "the credit could not be held any longer"
            break
        provider = run.catalog.providers[route.provider]
        wire = WIRES[provider.wire]
        begun = run.services.clock()
        limit = run.output_tokens_max if run.limit_upstream and run.output_tokens_max and not route.owner else None
        try:
            body = wire.body(run.ask, route, provider, limit)
        except Untranslatable as unsaid:
            run.record(route, "parameters", begun=begun, counts=False)
            last = f"{route.provider}: the request has {unsaid}"
            continue
        model = run.catalog.models.get(route.model)  # an org's own key may open what no catalog has
        reasoning = model is not None and model.reasoning
        patience = run.services.patience.reasoning_first_byte if reasoning else run.services.patience.first_byte
        try:
            reply = await run.services.upstream.call(
                route,
                run.ask.endpoint,
                body,
                streamed=run.ask.streamed,
                first_byte_seconds=patience,
                key=run.ask.upstream_key if route.given else None,
            )
        except UpstreamFault as fault:
            run.record(route, fault.kind, begun=begun, cost_unknown=fault.kind != "connect")
            last = f"{route.provider}: {fault.message}"
            continue
        first_byte_ms = (run.services.clock() - begun) // 1000
        try:
            if reply.status == 200:
                failure = await _take(run, route, wire, reply, first_byte_ms, outlet)
            else:
                failure = await _refused_by(run, route, wire, reply, begun=begun)
        finally:
            reply.close()
        if failure is None:
            return
        last = f"{route.provider}: {failure}"
    if run.attempts and all(attempt.end == "parameters" for attempt in run.attempts):
        await release(run, code="no_route")
        raise Invalid("no_route", f"No route has words for this request; nobody was asked. The last one, {last}.")
    await release(run, code="all_routes_failed")
    raise UpstreamFailed(
        "all_routes_failed",
        f"Every route failed; nothing was charged. The last one said: {last}",
    )


def _in_turn(chosen: Plan, health: RouteHealth) -> Iterator[Route]:
    """The routes as they are due. One call alone may try a circuit that has rested: who comes second finds it last, as
    those are that are open."""
    late = []
    for route in chosen.attempts:
        name = circuit_name(route)
        if name not in chosen.probes:
            yield route
        elif health.take_probe(name):
            try:
                yield route
            finally:
                health.end_probe(name)
        else:
            late.append(route)
    yield from late


async def _refused_by(run: Run, route: Route, wire: Wire, reply: Reply, *, begun: int) -> str:
    """Why the provider did not serve. Raises Invalid when the request would be refused anywhere."""
    status = reply.status
    try:
        body = await reply.read(ERROR_BYTES_MAX)
        told, status = error_of_body(body), wire.status(status, body)
    except UpstreamFault as fault:
        told = fault.message
    about_key = status in (401, 402, 403)
    run.record(route, "status", begun=begun, status=reply.status, counts=should_fail_over(status))
    if about_key and route.owner:
        return f"HTTP {status}: it does not serve on your own key; look at the key and its account there"
    if should_fail_over(status):
        return f"HTTP {status}" if about_key else f"HTTP {status}, {told}"
    await release(run, code="invalid_request")
    raise Invalid("invalid_request", f"{route.provider} refused the request: {told}")


async def _take(run: Run, route: Route, wire: Wire, reply: Reply, first_byte_ms: int, outlet: Outlet) -> str | None:
    """Relays and settles a 200. Returns why it was no answer after all, if another route may still be tried."""
    begun = run.services.clock() - first_byte_ms * 1000
    try:
        if run.ask.streamed:
            await _take_stream(run, route, wire, reply, first_byte_ms, outlet)
        else:
            await _take_whole(run, route, wire, reply, first_byte_ms, outlet)
    except Unusable as error:
        run.record(route, "unusable", begun=begun, status=200, cost_unknown=True)
        return str(error)
    except UpstreamFault as fault:
        run.record(route, fault.kind, begun=begun, status=200, cost_unknown=True)
        return fault.message
    except Broken as broken:
        run.record(route, broken.kind, begun=begun, status=200, cost_unknown=True, counts=not outlet.gone)
        if not broken.opened:
            return broken.message
        with suppress(Unavailable):  # the hold expires
            await release(run, code="provider_broke")
        outlet.finish(
            error_frame("api_error", "provider_broke", f"{broken.message} Nothing was charged.") + frame_of(DONE)
        )
    return None


async def _take_whole(run: Run, route: Route, wire: Wire, reply: Reply, first_byte_ms: int, outlet: Outlet) -> None:
    begun = run.services.clock() - first_byte_ms * 1000
    body = await reply.read(ANSWER_BYTES_MAX)
    whole = read_whole(run.ask.endpoint, wire.whole(body, _answer_id(run), run.started // SECOND))
    usage = usage_of(whole.usage, run.catalog.providers[route.provider].usage)
    if usage is None:
        usage = await counted(run, whole.text())
    run.observe(route, begun=begun, latency_micros=max(first_byte_ms, 1) * 1000, output_tokens=usage.output)
    ending = "client_gone" if outlet.gone else "finished"
    debited = await settle(run, route, usage, first_byte_ms=first_byte_ms, ending=ending, tier=whole.tier)
    served = Served(route.provider, route.model, first_byte_ms, debited)
    outlet.whole(served, answer_with(whole, model=route.model, usage=usage, cost_nanos=debited))


async def _take_stream(run: Run, route: Route, wire: Wire, reply: Reply, first_byte_ms: int, outlet: Outlet) -> None:
    rates = rates_of(run, route)
    begun = run.services.clock() - first_byte_ms * 1000

    async def grow(tokens: int) -> int:
        """Extends the hold towards so many output tokens, and answers how many it covers."""
        needed = ceiling(rates, input_tokens=run.ask.needs.input_tokens, output_tokens=tokens)
        await extend_to(run, needed)
        return run.tokens_held(rates)

    stream = Stream(
        served=Served(route.provider, route.model, first_byte_ms),
        outlet=outlet,
        choices=run.ask.choices,
        grow=grow,
        due=lambda: run.renewal_due,
        count=run.services.tokenizer.count,
        tokens_held=run.tokens_held(rates),
        grace_seconds=run.services.patience.disconnect_grace,
        id=_answer_id(run),
        created=run.started // SECOND,
        frames=wire.frames(),
        clock=run.services.clock,
    )
    await relay(reply, stream)
    usage = usage_of(stream.usage, run.catalog.providers[route.provider].usage)
    if usage is None:
        usage = await counted(run, "".join(stream.text))
    latency = max(stream.content_at - begun, 1) if stream.content_at else 0
    run.observe(route, begun=begun, latency_micros=latency, output_tokens=usage.output)
    try:
        debited = await settle(run, route, usage, first_byte_ms=first_byte_ms, ending=stream.ending, tier=stream.tier)
    except Unavailable as refusal:
        if not stream.opened:
            raise
        outlet.finish(error_frame("api_error", refusal.code, refusal.message) + frame_of(DONE))
        return
    closing = closing_chunk(id=stream.id, created=stream.created, model=route.model, usage=usage, cost_nanos=debited)
    outlet.finish(stream.last_frames() + frame_of(closing) + frame_of(DONE))


def _answer_id(run: Run) -> str:
    """The id of an answer whose provider gives it none."""
    return f"chatcmpl-{run.request}"


def error_frame(type: str, code: str, message: str) -> bytes:
    error = {"message": message, "type": type, "param": None, "code": code}
    return frame_of(msgspec.json.encode({"error": error}))
