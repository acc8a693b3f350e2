"""Checks that money in is accounted for: every captured payment is credited once, with the credit and the document that
follow from its order, and documents are numbered without a gap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from domain.kernel.events import Event
from domain.ledger.events import CreditAdded, CreditGranted
from domain.payments.events import (
    DocumentIssued,
    PaymentCaptured,
    PaymentSetAside,
    PromoRedeemed,
    TopUpOrdered,
)
from domain.payments.numbering import document_number, series_of
from domain.payments.promo import promo_grant
from domain.payments.tax import credit_nanos

Problem = tuple[Literal["payment", "document"], str]


@dataclass(slots=True)
class _Payment:
    """What the log has said of a captured payment."""

    order: TopUpOrdered
    position: int
    credited: bool = False
    receipted: bool = False


class MoneyIn:
    """Told every event in the order of the log, it yields what is wrong with it; `finish` what is missing."""

    def __init__(self) -> None:
        self._orders: dict[str, TopUpOrdered] = {}
        self._payments: dict[str, _Payment] = {}
        self._aside: set[str] = set()
        self._promos: dict[tuple[str, str], int] = {}
        """Promo credit that was granted and has no redemption yet, by payment and grant."""

    def enter(self, position: int, stream: str, version: int, event: Event) -> Iterator[Problem]:
        match event:
            case TopUpOrdered():
                self._orders[event.order] = event
                if event.credit != credit_nanos(event.tax):
                    yield "payment", f"the order is for {event.credit} of credit, but {event.tax.taxable} paise"
            case PaymentCaptured():
                yield from self._captured(position, stream, event)
            case PaymentSetAside():
                self._aside.add(event.payment)
                if event.payment in self._payments:
                    yield "payment", f"{event.payment} was set aside, but had been captured for credit"
            case CreditAdded():
                yield from self._credited(event)
            case CreditGranted() if event.payment:
                self._promos[event.payment, event.grant] = event.amount
            case PromoRedeemed():
                if self._promos.pop((event.payment, promo_grant(event.code)), None) != event.amount:
                    yield "payment", f"{event.code} was redeemed with {event.payment}, but gave no such credit"
            case DocumentIssued():
                yield from self._issued(stream, version, event)
            case _:
                pass

    def _captured(self, position: int, stream: str, event: PaymentCaptured) -> Iterator[Problem]:
        order = self._orders.get(event.order)
        if order is None or stream != f"payment:{event.order}" or order.org != event.org:
            yield "payment", f"{event.payment} was captured for an order that is not its own"
            return
        if event.amount_paise != order.tax.total:
            yield "payment", f"{event.payment} brought {event.amount_paise} paise for an order of {order.tax.total}"
        if event.payment in self._payments or event.payment in self._aside:
            yield "payment", f"{event.payment} was captured twice, or set aside before"
            return
        self._payments[event.payment] = _Payment(order, position)

    def _credited(self, event: CreditAdded) -> Iterator[Problem]:
        payment = self._payments.get(event.payment)
        if payment is None or payment.credited:
            yield "payment", f"{event.payment} was credited {'twice' if payment else 'without having been captured'}"
            return
        payment.credited = True
        if (event.org, event.order, event.amount) != (payment.order.org, payment.order.order, payment.order.credit):
            yield "payment", f"{event.payment} was credited {event.amount}, its order was for {payment.order.credit}"

    def _issued(self, stream: str, version: int, event: DocumentIssued) -> Iterator[Problem]:
        series = stream.removeprefix("document:")
        if event.number != document_number(series, version):
            yield "document", f"{event.number} is in the place of {document_number(series, version)}"
        if series != series_of(event.kind, event.at):  # type: ignore[arg-type]
            yield "document", f"{event.number} was issued in another financial year, or is of another kind"
        if event.refund:
            return
        payment = self._payments.get(event.payment)
        if payment is None or payment.receipted or event.tax != payment.order.tax:
            yield "document", f"{event.number} is not the one receipt that {event.payment} has to have"
        else:
            payment.receipted = True

    def finish(self) -> Iterator[tuple[int, str, Problem]]:
        """What is missing, each with the position and stream of the fact that it should have come with."""
        for id, payment in self._payments.items():
            stream = f"payment:{payment.order.order}"
            if not payment.credited:
                yield payment.position, stream, ("payment", f"{id} was captured, but not credited")
            if not payment.receipted:
                yield payment.position, stream, ("document", f"{id} was captured, but has no receipt")
        for payment_id, grant in self._promos:
            yield 0, "", ("payment", f"{grant} came with {payment_id}, but was not redeemed")
