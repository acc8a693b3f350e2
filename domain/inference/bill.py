"""The money of one call: its hold, the extensions, and its one ending. `serve.py` says when; this says how much."""

from dataclasses import dataclass, field

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Route
from domain.catalog.price import Rates, applied, ceiling, cost, dearest_output, is_plain, reachable
from domain.inference.messages import Ask, prompt_text, token_numbers
from domain.inference.metering import Usage
from domain.inference.outlet import Services
from domain.kernel.clock import SECOND
from domain.kernel.errors import OutOfCredit, Refusal, Unavailable
from domain.kernel.money import format_inr
from domain.keys.directory import Caller
from domain.ledger.events import Attempt, CreditHeld, HoldExtended, HoldReleased, RequestRefused, RequestSettled
from domain.ledger.guards import Denied
from domain.ledger.refusals import MONEY_CODES, refusal_of, room_nanos
from domain.ledger.sizing import Sizing, size_hold
from domain.routing.health import Outcome, circuit_name
from domain.routing.plan import Plan

HOLD_TRIES = 3
UNBOUNDED = 1 << 40
"""More tokens than any answer has."""


@dataclass
class Run:
    """One held call on its way. `held` grows with extensions; `attempts` are those that have ended."""

    request: str
    caller: Caller
    ask: Ask
    catalog: Catalog
    services: Services
    started: int
    held: int
    renew_after: int
    output_tokens_max: int
    limit_upstream: bool
    attempts: list[Attempt] = field(default_factory=list)
    ended: bool = False

    def record(
        self,
        route: Route,
        end: str,
        *,
        begun: int,
        status: int = 0,
        cost_unknown: bool = False,
        counts: bool = True,
    ) -> None:
        """Keeps how an attempt failed that began at `begun`, and whether that `counts` against the route."""
        self.attempts.append(
            Attempt(
                route=route.name,
                end=end,
                status=status,
                milliseconds=(self.services.clock() - begun) // 1000,
                cost_unknown=cost_unknown,
            )
        )
        if counts and not route.given:
            failed = Outcome(route=circuit_name(route), at=self.services.clock(), failed=True)
            self.services.health.observe(failed)

    def observe(self, route: Route, *, begun: int, latency_micros: int, output_tokens: int) -> None:
        """Tells how a route did that has answered: the time to its first token (0: not known) and its pace."""
        if route.given:
            return
        now = self.services.clock()
        pace = output_tokens * 1_000 * SECOND // (now - begun) if now > begun else 0
        self.services.health.observe(
            Outcome(
                route=circuit_name(route),
                at=now,
                latency_micros=latency_micros,
                tokens_per_kilosecond=pace,
                streamed=self.ask.streamed,
            )
        )

    @property
    def free(self) -> bool:
        """The platform pays: nothing is held and nothing debited."""
        return self.caller.tier == "trial"

    @property
    def renewal_due(self) -> bool:
        """Half of the time is over after which the sweeper takes this hold for abandoned."""
        return self.services.clock() > self.renew_after

    def tokens_held(self, rates: Rates) -> int:
        """Output tokens that the hold covers at these rates."""
        if self.free:
            return UNBOUNDED
        left = self.held - ceiling(rates, input_tokens=self.ask.needs.input_tokens, output_tokens=0)
        each = dearest_output(rates)
        return left // each if each else UNBOUNDED


async def hold(
    request: str, ask: Ask, caller: Caller, chosen: Plan, catalog: Catalog, services: Services, started: int
) -> Run:
    """Sets the credit aside. A ceiling above what is there is cut to it, and the cut becomes the output limit.

    Raises the refusal that the ledger's no amounts to, and Unavailable.
    """
    first = services.sizes.first_hold(ask.model) if ask.streamed else None
    wanted = 0 if ask.endpoint == "embeddings" else ask.output_tokens
    expires, renew_after = _deadlines(services, at=started)
    candidates = tuple([route.name for route in chosen.attempts])
    excluded = {
        f"{found.provider}/{found.model}": ",".join(found.excluded) for found in chosen.candidates if found.excluded
    }
    if caller.tier != "trial":
        _check_max_cost(ask, chosen)
    denied: Denied | None = None
    amount = 0
    for _ in range(HOLD_TRIES):
        sizing = _size(ask, chosen, denied, wanted=wanted, first=first, at=started)
        amount = 0 if caller.tier == "trial" else sizing.amount_nanos
        event = CreditHeld(
            at=started,
            by=caller.by,
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
            allowance=caller.allowance,
            optimize=ask.needs.optimize,
            observed=chosen.receipt,
        )
        denied = await services.ledger.hold(request, event)
        if denied is None:
            return Run(
                request=request,
                caller=caller,
                ask=ask,
                catalog=catalog,
                services=services,
                started=started,
                held=amount,
                renew_after=renew_after,
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
            tier=ask.needs.service_tier,
            rare=ask.rare,
        )
    except OutOfCredit as refusal:
        if denied is None or denied.code == "insufficient_credits":
            raise
        raise refusal_of(denied, needed=_floor(ask, chosen), at=at) from refusal


def _floor(ask: Ask, chosen: Plan) -> int:
    """What the smallest useful answer would need."""
    smallest = size_hold(
        chosen.attempts,
        input_tokens=ask.needs.input_tokens,
        output_tokens_wanted=16,
        choices=ask.choices,
        tier=ask.needs.service_tier,
        rare=ask.rare,
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
        tier=ask.needs.service_tier,
        rare=ask.rare,
    ).amount_nanos
    if most > ask.max_cost:
        raise OutOfCredit(
            "max_cost_exceeded",
            f"This call can cost up to ₹{format_inr(most)}, more than max_cost_inr of ₹{format_inr(ask.max_cost)}. "
            "Lower max_tokens, raise max_cost_inr, or leave it out.",
            param="max_cost_inr",
        )


async def settle(
    run: Run, route: Route, usage: Usage, *, first_byte_ms: int, ending: str, tier: str | None = None
) -> int:
    """Debits the usage and returns what was debited: never more than could be held for it, and nothing on a trial.

    `tier` is the service tier that the provider says it served in, None where it does not say. If that is not the one
    that was asked for, the standard rates apply.
    """
    asked = run.ask.needs.service_tier
    tier = asked if tier is None or tier == asked else ""
    rates = applied(_priced(route), prompt_tokens=usage.prompt_tokens, tier=tier, at=run.started)
    worth = cost(rates, usage)
    if worth > run.held and not run.free and _plausible(run, usage):
        await extend_to(run, worth)
    debited = min(worth, run.held)
    now = run.services.clock()
    event = RequestSettled(
        at=now,
        by=run.caller.by,
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
                route=route.name,
                end="served",
                status=200,
                milliseconds=first_byte_ms,
            ),
        ),
        first_byte_ms=first_byte_ms,
        duration_ms=(now - run.started) // 1000,
        ending=ending,
        shortfall=0 if run.free else worth - debited,
        streamed=run.ask.streamed,
        waived=worth if run.free else 0,
        own=route.owner != "",
    )
    if ending == "finished" and run.ask.endpoint == "chat":
        run.services.sizes.observe(route.model, usage.output // run.ask.choices)
    ended = await _end(run, event)
    return debited if ended else 0  # its hold had expired: the user got the credit back


async def _end(run: Run, event: RequestSettled | HoldReleased) -> bool:
    """Records the one ending of this request. False if it had ended before."""
    run.ended = True
    denied = await run.services.ledger.end(run.request, event)
    if denied is not None and denied.code == "held" and denied.limit is not None:
        # An extension was recorded whose answer was lost: the hold is larger than we knew.
        run.held = denied.limit
        denied = await run.services.ledger.end(run.request, msgspec.structs.replace(event, held=run.held))
    return denied is None


def _deadlines(services: Services, *, at: int) -> tuple[int, int]:
    """When a hold expires, and when it is to be renewed."""
    patience = int(services.patience.hold * SECOND)
    return at + patience, at + patience - patience // 2


async def extend_to(run: Run, needed: int) -> None:
    """Grows the hold towards `needed` nano-rupees, as far as the money goes, and renews its deadline."""
    more = 0 if run.free else max(needed - run.held, 0)
    if run.ask.max_cost is not None:
        more = min(more, max(run.ask.max_cost - run.held, 0))
    for _ in range(HOLD_TRIES):
        now = run.services.clock()
        expires, renew_after = _deadlines(run.services, at=now)
        event = HoldExtended(at=now, by=run.caller.by, org=run.caller.org, amount=more, expires=expires)
        try:
            denied = await run.services.ledger.extend(run.request, event)
        except Unavailable:
            return  # what is held already is still good
        if denied is None:
            run.held += more
            run.renew_after = renew_after
            return
        if denied.code == "ended":  # its deadline had passed
            run.held, run.ended = 0, True
            return
        room = room_nanos(denied) if denied.code in MONEY_CODES else 0
        if not 0 < room < more:
            return
        more = room


async def release(run: Run, *, code: str) -> None:
    """Gives the whole hold back; `code` is what the caller is told."""
    now = run.services.clock()
    await _end(
        run,
        HoldReleased(
            at=now,
            by=run.caller.by,
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
    )


async def note_refusal(request: str, ask: Ask, caller: Caller, refusal: Refusal, services: Services) -> None:
    """Records that a known key was turned away."""
    await services.ledger.note(
        request,
        RequestRefused(
            at=services.clock(),
            by=caller.by,
            org=caller.org,
            key=caller.key_id,
            workspace=caller.workspace,
            endpoint=ask.endpoint,
            model=ask.model[:200],
            code=refusal.code,
            streamed=ask.streamed,
        ),
    )


async def counted(run: Run, text: str) -> Usage:
    """What the gateway counts itself where a provider reports nothing."""
    prompt = token_numbers(run.ask) if run.ask.endpoint == "embeddings" else 0
    prompt += await run.services.tokenizer.count(prompt_text(run.ask))
    output = await run.services.tokenizer.count(text) if text else 0
    return Usage(input=prompt, output=output, source="counted")


def _plausible(run: Run, usage: Usage) -> bool:
    """Whether more than the hold may be asked for: a report beyond all bounds must not empty a balance."""
    return (
        usage.prompt_tokens <= 4 * run.ask.needs.input_tokens + 1_000
        and usage.output <= 2 * max(run.output_tokens_max, 1) * run.ask.choices + 1_000
    )


def rates_of(run: Run, route: Route) -> Rates:
    """The dearest rates that this call can meet on a route."""
    needs = run.ask.needs
    rates = _priced(route)
    if is_plain(rates):
        return rates
    return reachable(rates, prompt_tokens=needs.input_tokens, tier=needs.service_tier, rare=run.ask.rare())


def _priced(route: Route) -> Rates:
    assert route.rates is not None, "the plan holds priced routes only"
    return route.rates
