"""The spine: every inference call takes this road.

plan → hold (durable, before anyone is called) → attempt, fail over → relay → settle (durable, before the last bytes
leave) or release. It runs in a task that the client cannot cancel, so every call that was held is ended.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.catalog.price import Rates, ceiling, cost
from domain.inference.messages import Ask, payload, prompt_text, token_numbers
from domain.inference.metering import Usage
from domain.inference.outlet import Outlet, Served, Services
from domain.inference.ports import Reply, UpstreamFault
from domain.inference.relay import Broken, Stream, relay
from domain.inference.replies import (
    Unusable,
    answer_with,
    closing_chunk,
    error_of_body,
    read_whole,
    usage_of,
)
from domain.inference.sse import DONE, frame_of
from domain.kernel.clock import SECOND
from domain.kernel.errors import Invalid, OutOfCredit, Refusal, Unavailable, UpstreamFailed
from domain.kernel.money import format_inr
from domain.keys.directory import Caller
from domain.ledger.events import Attempt, CreditHeld, HoldExtended, HoldReleased, RequestRefused, RequestSettled
from domain.ledger.guards import Denied
from domain.ledger.refusals import MONEY_CODES, refusal_of, room_nanos
from domain.ledger.sizing import Sizing, size_hold
from domain.routing.plan import Plan, plan
from domain.routing.replies import should_fail_over

ERROR_BYTES_MAX = 64 << 10
ANSWER_BYTES_MAX = 64 << 20
HOLD_TRIES = 3


@dataclass
class Run:
    """One held call on its way. `held` grows with extensions; `attempts` are those that have ended."""

    request: str
    caller: Caller
    ask: Ask
    catalog: Catalog
    started: int
    held: int
    expires: int
    output_tokens_max: int
    limit_upstream: bool
    attempts: list[Attempt] = field(default_factory=list)
    ended: bool = False


async def serve(request: str, ask: Ask, caller: Caller, outlet: Outlet, services: Services) -> None:
    """Serves one call and ends its hold. Raises a Refusal if nothing was sent to the outlet; that charges nothing."""
    started = services.clock()
    try:
        catalog = services.catalog()
        chosen = plan(ask.needs, catalog, services.configured())
        run = await _hold(request, ask, caller, chosen, catalog, services, started)
    except Unavailable:
        raise
    except Refusal as refusal:
        with suppress(Unavailable):  # the caller is better served with the reason
            await _note_refusal(request, ask, caller, refusal, services)
        raise
    try:
        await _attempt(run, chosen, outlet, services)
    finally:
        if not run.ended:  # cancelled, or a fault of ours: the credit must not stay held
            with suppress(Unavailable):  # the hold expires
                await asyncio.shield(_release(run, services, code="internal_error"))


# Hold


async def _hold(
    request: str, ask: Ask, caller: Caller, chosen: Plan, catalog: Catalog, services: Services, started: int
) -> Run:
    """Sets the credit aside. A ceiling above what is there is cut to it, and the cut becomes the output limit."""
    first = services.sizes.first_hold(ask.model) if ask.streamed else None
    wanted = 0 if ask.endpoint == "embeddings" else ask.output_tokens
    expires = started + int(services.patience.hold * SECOND)
    candidates = tuple(f"{route.provider}/{route.model}" for route in chosen.attempts)
    excluded = {
        f"{found.provider}/{found.model}": ",".join(found.excluded) for found in chosen.candidates if found.excluded
    }
    _check_max_cost(ask, chosen)
    denied: Denied | None = None
    amount = 0
    for _ in range(HOLD_TRIES):
        sizing = _size(ask, chosen, denied, wanted=wanted, first=first, at=started)
        amount = sizing.amount_nanos
        event = CreditHeld(
            at=started,
            by=f"key:{caller.key_id}",
            org=caller.org,
            key=caller.key_id,
            workspace=caller.workspace,
            amount=amount,
            expires=expires,
            endpoint=ask.endpoint,
            model=ask.model,
            candidates=candidates,
            excluded=excluded,
            constraints=ask.constraints,
            body_digest=ask.body_digest,
            input_tokens=ask.needs.input_tokens,
            output_tokens=sizing.output_tokens_max,
            streamed=ask.streamed,
        )
        denied = await services.ledger.hold(request, event)
        if denied is None:
            return Run(
                request=request,
                caller=caller,
                ask=ask,
                catalog=catalog,
                started=started,
                held=amount,
                expires=expires,
                output_tokens_max=sizing.output_tokens_max,
                limit_upstream=sizing.cut,
            )
        if denied.code not in MONEY_CODES:
            break
    assert denied is not None
    raise refusal_of(denied, needed=amount, at=started)


def _size(ask: Ask, chosen: Plan, denied: Denied | None, *, wanted: int | None, first: int | None, at: int) -> Sizing:
    """The hold to try: the whole ceiling first; after a no for money, what that limit has room for.

    A call that set no limit of its own takes half of the room, so that one call cannot lock out its siblings.
    """
    room = None if denied is None else room_nanos(denied)
    if room is not None and wanted is None and not ask.streamed:
        room = max(room // 2, min(room, _floor(ask, chosen)))
    try:
        return size_hold(
            chosen.attempts,
            input_tokens=ask.needs.input_tokens,
            output_tokens_wanted=wanted,
            choices=ask.choices,
            available_nanos=room,
            first_output_tokens=first,
        )
    except OutOfCredit as refusal:
        if denied is None or denied.code == "insufficient_credits":
            raise
        raise refusal_of(denied, needed=_floor(ask, chosen), at=at) from refusal


def _floor(ask: Ask, chosen: Plan) -> int:
    """What the smallest useful answer would need."""
    smallest = size_hold(
        chosen.attempts, input_tokens=ask.needs.input_tokens, output_tokens_wanted=16, choices=ask.choices
    )
    return smallest.amount_nanos


def _check_max_cost(ask: Ask, chosen: Plan) -> None:
    if ask.max_cost is None:
        return
    most = size_hold(
        chosen.attempts,
        input_tokens=ask.needs.input_tokens,
        output_tokens_wanted=0 if ask.endpoint == "embeddings" else ask.output_tokens,
        choices=ask.choices,
    ).amount_nanos
    if most > ask.max_cost:
        raise OutOfCredit(
            "max_cost_exceeded",
            f"This call can cost up to ₹{format_inr(most)}, more than max_cost_inr of ₹{format_inr(ask.max_cost)}. "
            "Lower max_tokens, raise max_cost_inr, or leave it out.",
            param="max_cost_inr",
        )


# Attempts


async def _attempt(run: Run, chosen: Plan, outlet: Outlet, services: Services) -> None:
    """Tries the routes in order until one answers. Raises UpstreamFailed when none did, Invalid when a provider says
    that the request itself is wrong."""
    last = "no route could be tried"
    for route in chosen.attempts:
        if outlet.gone:  # nobody is there to be answered, and nothing has been produced
            await _release(run, services, code="client_gone")
            return
        if _renewal_due(run, services):
            await _extend_to(run, run.held, services)
        if run.ended:
            last = "the credit could not be held any longer"
            break
        provider = run.catalog.providers[route.provider]
        body = payload(
            run.ask,
            upstream=route.upstream,
            output_limit_field=provider.output_limit_field,
            output_tokens=run.output_tokens_max if run.limit_upstream and run.output_tokens_max else None,
            stream_usage=provider.usage.stream == "last_chunk",
        )
        reasoning = run.catalog.models[route.model].reasoning
        patience = services.patience.reasoning_first_byte if reasoning else services.patience.first_byte
        begun = services.clock()
        try:
            reply = await services.upstream.call(route, run.ask.endpoint, body, first_byte_seconds=patience)
        except UpstreamFault as fault:
            _record(run, route, fault.kind, begun=begun, services=services, cost_unknown=fault.kind != "connect")
            last = f"{route.provider}: {fault.message}"
            continue
        first_byte_ms = (services.clock() - begun) // 1000
        try:
            if reply.status == 200:
                failure = await _take(run, route, reply, first_byte_ms, outlet, services)
            else:
                failure = await _refused_by(run, route, reply, services, begun=begun)
        finally:
            reply.close()
        if failure is None:
            return
        last = f"{route.provider}: {failure}"
    await _release(run, services, code="all_routes_failed")
    raise UpstreamFailed(
        "all_routes_failed",
        f"Every route failed; nothing was charged. The last one said: {last}",
    )


async def _refused_by(run: Run, route: Route, reply: Reply, services: Services, *, begun: int) -> str:
    """Why the provider did not serve. Raises Invalid when the request would be refused anywhere."""
    try:
        told = error_of_body(await reply.read(ERROR_BYTES_MAX))
    except UpstreamFault as fault:
        told = fault.message
    _record(run, route, "status", begun=begun, services=services, status=reply.status)
    if should_fail_over(reply.status):
        return f"HTTP {reply.status}" if reply.status in (401, 402, 403) else f"HTTP {reply.status}, {told}"
    await _release(run, services, code="invalid_request")
    raise Invalid("invalid_request", f"{route.provider} refused the request: {told}")


async def _take(
    run: Run, route: Route, reply: Reply, first_byte_ms: int, outlet: Outlet, services: Services
) -> str | None:
    """Relays and settles a 200. Returns why it was no answer after all, if another route may still be tried."""
    begun = services.clock() - first_byte_ms * 1000
    try:
        if run.ask.streamed:
            await _take_stream(run, route, reply, first_byte_ms, outlet, services)
        else:
            await _take_whole(run, route, reply, first_byte_ms, outlet, services)
    except Unusable as error:
        _record(run, route, "unusable", begun=begun, services=services, status=200, cost_unknown=True)
        return str(error)
    except UpstreamFault as fault:
        _record(run, route, fault.kind, begun=begun, services=services, status=200, cost_unknown=True)
        return fault.message
    except Broken as broken:
        _record(run, route, broken.kind, begun=begun, services=services, status=200, cost_unknown=True)
        if not broken.opened:
            return broken.message
        with suppress(Unavailable):  # the hold expires
            await _release(run, services, code="provider_broke")
        outlet.finish(
            error_frame("api_error", "provider_broke", f"{broken.message} Nothing was charged.") + frame_of(DONE)
        )
    return None


async def _take_whole(
    run: Run, route: Route, reply: Reply, first_byte_ms: int, outlet: Outlet, services: Services
) -> None:
    body = await reply.read(ANSWER_BYTES_MAX)
    whole = read_whole(run.ask.endpoint, body)
    usage = usage_of(whole.usage, run.catalog.providers[route.provider].usage)
    if usage is None:
        usage = await _counted(run, whole.text(), services)
    ending = "client_gone" if outlet.gone else "finished"
    debited = await _settle(run, route, usage, first_byte_ms, ending, services)
    served = Served(route.provider, route.model, first_byte_ms, debited)
    outlet.whole(served, answer_with(whole, model=route.model, usage=usage, cost_nanos=debited))


async def _take_stream(
    run: Run, route: Route, reply: Reply, first_byte_ms: int, outlet: Outlet, services: Services
) -> None:
    rates = _rates(route)

    async def grow(tokens: int) -> int:
        """Extends the hold towards so many output tokens, and answers how many it covers."""
        needed = ceiling(rates, input_tokens=run.ask.needs.input_tokens, output_tokens=tokens)
        await _extend_to(run, needed, services)
        return _tokens_held(run, rates)

    stream = Stream(
        served=Served(route.provider, route.model, first_byte_ms),
        outlet=outlet,
        choices=run.ask.choices,
        grow=grow,
        due=lambda: _renewal_due(run, services),
        count=services.tokenizer.count,
        tokens_held=_tokens_held(run, rates),
        grace_seconds=services.patience.disconnect_grace,
        id=f"chatcmpl-{run.request}",
        created=run.started // SECOND,
    )
    await relay(reply, stream)
    usage = usage_of(stream.usage, run.catalog.providers[route.provider].usage)
    if usage is None:
        usage = await _counted(run, "".join(stream.text), services)
    try:
        debited = await _settle(run, route, usage, first_byte_ms, stream.ending, services)
    except Unavailable as refusal:
        if not stream.opened:
            raise
        outlet.finish(error_frame("api_error", refusal.code, refusal.message) + frame_of(DONE))
        return
    closing = closing_chunk(id=stream.id, created=stream.created, model=route.model, usage=usage, cost_nanos=debited)
    outlet.finish(stream.last_frames() + frame_of(closing) + frame_of(DONE))


def _record(
    run: Run,
    route: Route,
    end: str,
    *,
    begun: int,
    services: Services,
    status: int = 0,
    cost_unknown: bool = False,
) -> None:
    run.attempts.append(
        Attempt(
            route=f"{route.provider}/{route.model}",
            end=end,
            status=status,
            milliseconds=(services.clock() - begun) // 1000,
            cost_unknown=cost_unknown,
        )
    )


# Settle


async def _settle(run: Run, route: Route, usage: Usage, first_byte_ms: int, ending: str, services: Services) -> int:
    """Debits the usage and returns what was debited: never more than could be held for it."""
    rates = _rates(route)
    worth = cost(rates, usage)
    if worth > run.held and _plausible(run, usage):
        await _extend_to(run, worth, services)
    debited = min(worth, run.held)
    now = services.clock()
    event = RequestSettled(
        at=now,
        by=f"key:{run.caller.key_id}",
        org=run.caller.org,
        key=run.caller.key_id,
        workspace=run.caller.workspace,
        endpoint=run.ask.endpoint,
        model=route.model,
        provider=route.provider,
        residency=route.residency,
        held=run.held,
        cost=debited,
        usage=usage,
        rates=rates,
        attempts=(
            *run.attempts,
            Attempt(
                route=f"{route.provider}/{route.model}",
                end="served",
                status=200,
                milliseconds=first_byte_ms,
            ),
        ),
        first_byte_ms=first_byte_ms,
        duration_ms=(now - run.started) // 1000,
        ending=ending,
        shortfall=worth - debited,
        streamed=run.ask.streamed,
    )
    if ending == "finished" and run.ask.endpoint == "chat":
        services.sizes.observe(route.model, usage.output // run.ask.choices)
    ended = await _end(run, event, services)
    return debited if ended else 0  # its hold had expired: the user got the credit back


async def _end(run: Run, event: RequestSettled | HoldReleased, services: Services) -> bool:
    """Records the one ending of this request. False if it had ended before."""
    run.ended = True
    denied = await services.ledger.end(run.request, event)
    if denied is not None and denied.code == "held" and denied.limit is not None:
        # An extension was recorded whose answer was lost: the hold is larger than we knew.
        run.held = denied.limit
        denied = await services.ledger.end(run.request, msgspec.structs.replace(event, held=run.held))
    return denied is None


def _renewal_due(run: Run, services: Services) -> bool:
    """Half of the time is over after which the sweeper takes this hold for abandoned."""
    return services.clock() > run.expires - int(services.patience.hold * SECOND) // 2


async def _extend_to(run: Run, needed: int, services: Services) -> None:
    """Grows the hold towards `needed` nano-rupees, as far as the money goes, and renews its deadline."""
    more = max(needed - run.held, 0)
    if run.ask.max_cost is not None:
        more = min(more, max(run.ask.max_cost - run.held, 0))
    for _ in range(HOLD_TRIES):
        now = services.clock()
        expires = now + int(services.patience.hold * SECOND)
        event = HoldExtended(at=now, by=f"key:{run.caller.key_id}", org=run.caller.org, amount=more, expires=expires)
        try:
            denied = await services.ledger.extend(run.request, event)
        except Unavailable:
            return  # what is held already is still good
        if denied is None:
            run.held += more
            run.expires = expires
            return
        if denied.code == "ended":  # its deadline had passed
            run.held, run.ended = 0, True
            return
        room = room_nanos(denied) if denied.code in MONEY_CODES else 0
        if not 0 < room < more:
            return
        more = room


async def _release(run: Run, services: Services, *, code: str) -> None:
    now = services.clock()
    await _end(
        run,
        HoldReleased(
            at=now,
            by=f"key:{run.caller.key_id}",
            org=run.caller.org,
            key=run.caller.key_id,
            workspace=run.caller.workspace,
            endpoint=run.ask.endpoint,
            model=run.ask.model,
            held=run.held,
            code=code,
            attempts=tuple(run.attempts),
            duration_ms=(now - run.started) // 1000,
            streamed=run.ask.streamed,
        ),
        services,
    )


async def _note_refusal(request: str, ask: Ask, caller: Caller, refusal: Refusal, services: Services) -> None:
    await services.ledger.note(
        request,
        RequestRefused(
            at=services.clock(),
            by=f"key:{caller.key_id}",
            org=caller.org,
            key=caller.key_id,
            workspace=caller.workspace,
            endpoint=ask.endpoint,
            model=ask.model[:200],
            code=refusal.code,
            streamed=ask.streamed,
        ),
    )


async def _counted(run: Run, text: str, services: Services) -> Usage:
    """What the gateway counts itself where a provider reports nothing."""
    prompt = token_numbers(run.ask) if run.ask.endpoint == "embeddings" else 0
    prompt += await services.tokenizer.count(prompt_text(run.ask))
    output = await services.tokenizer.count(text) if text else 0
    return Usage(input=prompt, output=output, source="counted")


def _plausible(run: Run, usage: Usage) -> bool:
    """Whether more than the hold may be asked for: a report beyond all bounds must not empty a balance."""
    return (
        usage.prompt_tokens <= 4 * run.ask.needs.input_tokens + 1_000
        and usage.output <= 2 * max(run.output_tokens_max, 1) * run.ask.choices + 1_000
    )


def _tokens_held(run: Run, rates: Rates) -> int:
    """Output tokens that the hold covers at this route's rate."""
    left = run.held - ceiling(rates, input_tokens=run.ask.needs.input_tokens, output_tokens=0)
    return left // rates.output if rates.output else 1 << 40


def _rates(route: Route) -> Rates:
    assert route.rates is not None, "the plan holds priced routes only"
    return route.rates


def error_frame(type: str, code: str, message: str) -> bytes:
    error = {"message": message, "type": type, "param": None, "code": code}
    return frame_of(msgspec.json.encode({"error": error}))
