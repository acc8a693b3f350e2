"""Money that was set aside goes back: an operator has it sent, and never more than the payment gateway still has of it.

The gateway is asked first, under a key that belongs to the payment; what it says is then put on record. What others
sent back in its dashboard counts as well, and so does what a bank took.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, NotFound, Unavailable
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.payments.events import PaymentReturned, PaymentSetAside, ReturnAccepted, ReturnFailed
from domain.payments.payment import payment_stream, plain
from domain.payments.ports import GatewayRefund, PaymentGateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A payment that was set aside, in the smallest unit of its currency. `refunded` and `taken` are what has gone back
    since, by the gateway's id of the refund or of the chargeback; `under_way` is the refund that it works on, "" for
    none; `failed` are those that came back. What went back before `since` (in seconds) was no part of what was left."""

    org: str
    payment: str
    amount_paise: int
    currency: str
    since: int
    refunded: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)
    under_way: str = ""
    failed: frozenset[str] = frozenset()

    @property
    def left_paise(self) -> int:
        return max(self.amount_paise - sum(self.refunded.values()) - sum(self.taken.values()), 0)


@dataclass(frozen=True, slots=True)
class Asides:
    """The fold of `payment:<order>` as far as money goes that was set aside, by payment."""

    payments: Mapping[str, Aside] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Asides":
        match event:
            case PaymentSetAside():
                return self._with(
                    Aside(
                        org=event.org,
                        payment=event.payment,
                        amount_paise=event.amount_paise,
                        currency=event.currency,
                        since=event.at // SECOND if event.reason in ("sent_back", "unknown_order") else 0,
                    )
                )
            case ReturnAccepted():
                return self._with(replace(self.payments[event.payment], under_way=event.gateway_refund))
            case PaymentReturned(chargeback=""):
                known = self.payments[event.payment]
                refunded = {**known.refunded, event.gateway_refund: event.amount_paise}
                return self._with(_ended(replace(known, refunded=refunded), event.gateway_refund))
            case PaymentReturned():
                known = self.payments[event.payment]
                return self._with(replace(known, taken={**known.taken, event.chargeback: event.amount_paise}))
            case ReturnFailed():
                known = self.payments[event.payment]
                return self._with(
                    _ended(replace(known, failed=known.failed | {event.gateway_refund}), event.gateway_refund)
                )
            case _:
                return self

    def _with(self, aside: Aside) -> "Asides":
        return Asides({**self.payments, aside.payment: aside})


def _ended(aside: Aside, refund: str) -> Aside:
    return replace(aside, under_way="") if aside.under_way == refund else aside


@dataclass(frozen=True, kw_only=True)
class ReturnDesk:
    """What sending back needs. Its methods raise Unavailable where the gateway or the ledger cannot be reached;
    whatever was not recorded then can be asked for again without harm."""

    store: Store
    gateway: PaymentGateway

    def send(self, payment: str, *, at: int, by: str) -> Aside:
        """Has all that is left of a payment that was set aside sent back, unless that is under way; how it stands then.

        Raises NotFound for a payment that was not set aside, Conflict `nothing_to_refund` or `payment_refused`."""
        paid = self.gateway.payment(payment)
        stream = payment_stream(paid.order, payment)
        if self._find(stream, payment) is None:
            raise NotFound("not_found", f"{payment} was not set aside; what was credited goes back by a refund.")
        self.pursue(paid.order or payment, at=at, by=by)
        for listed in self.gateway.refunds_of(payment):
            self._record(stream, listed, at=at, by=by)
        known = self._known(stream, payment)
        if known.under_way:
            return known
        if known.left_paise == 0:
            raise Conflict("nothing_to_refund", f"All of {payment} has gone back.")
        amount = min(known.left_paise, paid.amount_paise - paid.refunded_paise)
        if amount <= 0:
            raise Unavailable("payments_unavailable", "The payment gateway does not list all refunds yet; try later.")
        key = f"return_{payment}_{len(known.failed)}"
        told = self.gateway.refund(payment, amount_paise=amount, key=key, notes={"return": payment})
        self._record(stream, told, at=at, by=by)
        return self._known(stream, payment)

    def pursue(self, order: str, *, at: int, by: str) -> None:
        """Hears what became of the returns under way in the stream of this order, or of a payment without one."""
        stream = payment_stream(order)
        for known in self._all(stream).payments.values():
            if known.under_way:
                self._record(stream, self._what_became(known), at=at, by=by)

    def note(self, order: str, payment: str, gateway_refund: str, *, at: int, by: str) -> None:
        """A webhook about a refund says where to look; one of a payment that was not set aside adds nothing."""
        stream = payment_stream(plain(order), plain(payment))
        if self._find(stream, payment) is not None:
            told = self.gateway.refund_status(gateway_refund)
            if told.payment == payment:
                self._record(stream, told, at=at, by=by)

    def _what_became(self, known: Aside) -> GatewayRefund:
        """Of the refund that is under way. One that the gateway has lost has failed, unless its money is gone: then it
        raises NotFound."""
        try:
            return self.gateway.refund_status(known.under_way)
        except NotFound:
            paid = self.gateway.payment(known.payment)
            if paid.amount_paise - paid.refunded_paise < known.left_paise:
                raise
            return GatewayRefund(
                id=known.under_way,
                payment=known.payment,
                amount_paise=known.left_paise,
                currency=known.currency,
                status="failed",
            )

    def _known(self, stream: str, payment: str) -> Aside:
        known = self._find(stream, payment)
        assert known is not None
        return known

    def _find(self, stream: str, payment: str) -> Aside | None:
        return self._all(stream).payments.get(payment)

    def _all(self, stream: str) -> Asides:
        return self.store.look(lambda read: read.fold(stream, Asides()))

    def _record(self, stream: str, told: GatewayRefund, *, at: int, by: str) -> None:
        def decide(known: Asides) -> Decision:
            fact = _news(known.payments[told.payment], told)
            return [] if fact is None else [(stream, fact)]

        self.store.change(Change(stream, Asides(), decide), at=at, by=by)


def _news(aside: Aside, told: GatewayRefund) -> Event | None:
    """The fact that the gateway's word on a refund adds."""
    if told.id in aside.refunded or told.id in aside.failed:
        return None
    if told.created_seconds < aside.since and told.id != aside.under_way:
        return None
    match told.status:
        case "failed":
            return ReturnFailed(org=aside.org, payment=aside.payment, gateway_refund=told.id)
        case "pending" if not aside.under_way:
            return ReturnAccepted(org=aside.org, payment=aside.payment, gateway_refund=told.id)
        case "processed":
            return PaymentReturned(
                org=aside.org,
                payment=aside.payment,
                gateway_refund=told.id,
                amount_paise=min(told.amount_paise, aside.left_paise),
                lost_paise=max(told.amount_paise - aside.left_paise, 0),
                currency=aside.currency,
                reference=plain(told.reference),
            )
        case _:
            return None


def taken_back(aside: Aside, *, chargeback: str, amount_paise: int) -> PaymentReturned | None:
    """The fact that a bank took a payment back that was set aside; None where it is on record."""
    if chargeback in aside.taken:
        return None
    taken = min(amount_paise, aside.left_paise)
    return PaymentReturned(
        org=aside.org,
        payment=aside.payment,
        chargeback=chargeback,
        amount_paise=taken,
        lost_paise=amount_paise - taken,
        currency=aside.currency,
    )
