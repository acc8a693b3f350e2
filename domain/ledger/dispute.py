"""What becomes of a request whose cost its org disputes: decided from the record where it says who pays, else by an
operator.

Credit that is given back is a grant with the id `dispute:<request>`, so that it never comes twice.
"""

from dataclasses import dataclass, replace
from typing import Literal

from domain.kernel.errors import Conflict, NotFound
from domain.kernel.events import Event
from domain.kernel.money import format_inr
from domain.kernel.store import Decision, Reader, Store, fold
from domain.keys.trial import end_trial
from domain.ledger.credit import account_of
from domain.ledger.events import (
    CreditGranted,
    CreditHeld,
    HoldExpired,
    HoldReleased,
    RequestDisputed,
    RequestDisputeDecided,
    RequestRefused,
    RequestSettled,
)

Outcome = Literal["given_back", "stands", "nothing_charged"]
Verdict = tuple[Outcome, str]
"""An outcome, and a sentence for the org that says why."""

_End = RequestSettled | HoldReleased | HoldExpired | RequestRefused


@dataclass(frozen=True, slots=True)
class Dispute:
    """A request's dispute, as its facts make it: not there, waiting for an operator, or decided."""

    disputed: RequestDisputed | None = None
    decided: RequestDisputeDecided | None = None

    def evolve(self, stream: str, event: Event) -> "Dispute":
        match event:
            case RequestDisputed():
                return replace(self, disputed=event)
            case RequestDisputeDecided():
                return replace(self, decided=event)
            case _:
                return self


@dataclass(frozen=True, slots=True)
class _Request:
    """Whose request it is and how it ended, if it has."""

    org: str = ""
    end: _End | None = None

    def evolve(self, stream: str, event: Event) -> "_Request":
        match event:
            case CreditHeld():
                return replace(self, org=event.org)
            case RequestSettled() | HoldReleased() | HoldExpired() | RequestRefused():
                return _Request(event.org, event)
            case _:
                return self


def verdict_of(end: _End) -> Verdict | None:
    """What the record alone says about who pays; None where somebody has to look.

    The rules are the published table of endings. A usage that the gateway counted itself, that does not add up, or that
    has no output at all is not evidence enough against a user.
    """
    if not isinstance(end, RequestSettled) or end.cost == 0:
        return "nothing_charged", "Nothing was charged for this request."
    if end.attempts and end.attempts[-1].end != "served":
        return "given_back", "The provider broke off; such an answer costs nothing."
    if end.ending == "ceiling":
        return "stands", "The answer ran to the most that could be held for it, and was ended there."
    if end.usage.source == "counted" or end.usage.unknown or (end.endpoint == "chat" and not end.usage.output):
        return None
    if end.ending == "client_gone":
        return "stands", "The connection was closed by your side; what the provider had produced by then is charged."
    return "stands", "The answer was complete, and the provider reported the usage that was charged."


def dispute_request(store: Store, *, org: str, request: str, reason: str, at: int, by: str) -> Dispute:
    """Takes the objection, decides it if the record does, and returns where it stands. A repeat changes nothing.

    `reason` is sealed. Raises NotFound for a request that is not the org's, Conflict `request_open` for one that runs.
    """
    dispute = Dispute()

    def decide(read: Reader) -> Decision:
        nonlocal dispute
        asked = read.fold(f"request:{request}", _Request()) if request.isprintable() else _Request()
        if asked.org != org:
            raise NotFound("not_found", f"Your org has no request '{request}'.", param="id")
        dispute = read.fold(f"dispute:{request}", Dispute())
        if dispute.disputed is not None:
            return []
        if asked.end is None:
            raise Conflict("request_open", "The request has not ended yet; dispute it when it has.", param="id")
        charged = asked.end.cost if isinstance(asked.end, RequestSettled) else 0
        disputed = RequestDisputed(at=at, by=by, org=org, request=request, cost=charged, reason=reason)
        facts: list[tuple[str, Event]] = [(f"dispute:{request}", disputed)]
        if (verdict := verdict_of(asked.end)) is not None:
            facts += _decided(read, disputed, *verdict, at=at, by=by)
        dispute = fold(dispute, facts)
        return facts

    if store.look(decide):
        store.locked(decide, at=at, by=by)
    return dispute


def decide_dispute(store: Store, *, request: str, give_back: bool, why: str, at: int, by: str) -> Dispute:
    """An operator's decision, with a sentence for the org; returns where the dispute stands. What was decided before
    stays as it was. Raises NotFound for a request that nobody disputes."""
    dispute = Dispute()

    def decide(read: Reader) -> Decision:
        nonlocal dispute
        dispute = read.fold(f"dispute:{request}", Dispute())
        if dispute.disputed is None:
            raise NotFound("not_found", f"Nobody disputes '{request}'; see `dispute list`.", param="request")
        if dispute.decided is not None:
            return []
        facts = _decided(read, dispute.disputed, "given_back" if give_back else "stands", why, at=at, by=by)
        dispute = fold(dispute, facts)
        return facts

    store.locked(decide, at=at, by=by)
    return dispute


def _decided(
    read: Reader, disputed: RequestDisputed, outcome: Outcome, why: str, *, at: int, by: str
) -> list[tuple[str, Event]]:
    """The decision, and the credit that follows from it."""
    org, request, amount = disputed.org, disputed.request, disputed.cost if outcome == "given_back" else 0
    decided = RequestDisputeDecided(at=at, by=by, org=org, request=request, outcome=outcome, amount=amount, why=why)
    facts: list[tuple[str, Event]] = [(f"dispute:{request}", decided)]
    if amount:
        granted = CreditGranted(
            org=org,
            grant=f"dispute:{request}",
            amount=amount,
            reason=f"₹{format_inr(amount)} of {request} given back",
            spent=account_of(read, org).spent,
        )
        facts += [(f"account:{org}", granted), *end_trial(read, org)]
    return facts
