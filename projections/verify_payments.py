"""Checks that money in and money back are accounted for: every captured payment is credited once, with the credit and
the document that follow from its order; every refund ends once, with its credit withdrawn and its document issued or
with its credit returned, and no payment goes back more than once; of what was set aside no more goes back than came;
documents are numbered without a gap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from domain.kernel.events import Event
from domain.ledger.events import CreditAdded, CreditGranted, CreditReturned, CreditWithdrawn
from domain.payments.events import (
    ChargebackLost,
    DocumentIssued,
    PaymentCaptured,
    PaymentReturned,
    PaymentSetAside,
    PromoRedeemed,
    RefundFailed,
    RefundProcessed,
    RefundRequested,
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
    receipt: str = ""
    refunded_paise: int = 0


@dataclass(slots=True)
class _Refund:
    """What the log has said of a refund. `end` is the fact that ended it, with its position; `credit` says that what
    was withheld for it has gone or come back."""

    asked: RefundRequested
    stream: str
    position: int = 0
    end: RefundProcessed | RefundFailed | None = None
    credit: bool = False
    document: bool = False


class MoneyIn:
    """Told every event in the order of the log, it yields what is wrong with it; `finish` what is missing."""

    def __init__(self) -> None:
        self._orders: dict[str, TopUpOrdered] = {}
        self._payments: dict[str, _Payment] = {}
        self._refunds: dict[str, _Refund] = {}
        self._aside: dict[str, tuple[str, int]] = {}
        """What is left of payments that were set aside, in which currency."""
        self._returns: set[str] = set()
        self._lost: dict[str, tuple[int, str, ChargebackLost]] = {}
        """Lost chargebacks that have to have a document, and none yet, each with its place in the log."""
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
                if event.payment in self._payments or event.payment in self._aside:
                    yield "payment", f"{event.payment} was set aside, but had been captured for credit, or set aside"
                self._aside[event.payment] = event.currency, event.amount_paise
            case PaymentReturned():
                yield from self._returned(event)
            case CreditAdded():
                yield from self._credited(event)
            case CreditGranted() if event.payment:
                self._promos[event.payment, event.grant] = event.amount
            case PromoRedeemed():
                if self._promos.pop((event.payment, promo_grant(event.code)), None) != event.amount:
                    yield "payment", f"{event.code} was redeemed with {event.payment}, but gave no such credit"
            case RefundRequested():
                if event.payment not in self._payments or event.refund in self._refunds:
                    yield "payment", f"{event.refund} was asked for twice, or of a payment that was never captured"
                self._refunds[event.refund] = _Refund(event, stream)
            case RefundProcessed() | RefundFailed():
                yield from self._refund_ended(position, event)
            case CreditReturned() | CreditWithdrawn() if event.reference in self._refunds:
                yield from self._refund_settled(event)
            case ChargebackLost() if event.tax is not None:
                self._lost[event.chargeback] = position, stream, event
                if event.payment in self._payments:
                    yield from self._went_back(self._payments[event.payment], event)
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

    def _returned(self, event: PaymentReturned) -> Iterator[Problem]:
        currency, left = self._aside.get(event.payment, ("", 0))
        by = event.gateway_refund or event.chargeback
        if event.currency != currency or by in self._returns or not 0 <= event.amount_paise <= left:
            yield "payment", f"{by} sent back {event.amount_paise} of {event.payment}, of which {left} was set aside"
        self._aside[event.payment] = currency, left - event.amount_paise
        self._returns.add(by)

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
        payment = self._payments.get(event.payment)
        if event.refund in self._lost:
            _, _, lost = self._lost.pop(event.refund)
            paper = (event.payment, event.tax, event.number, event.original)
            if paper != (lost.payment, lost.tax, lost.document, payment.receipt if payment else ""):
                yield "document", f"{event.number} is not the one document that {event.refund} has to have"
        elif event.refund:
            refund = self._refunds.get(event.refund)
            if refund is None or payment is None or not _is_paper_of(event, refund, receipt=payment.receipt):
                yield "document", f"{event.number} is not the one document that {event.refund} has to have"
            else:
                refund.document = True
        elif payment is None or payment.receipt or event.tax != payment.order.tax:
            yield "document", f"{event.number} is not the one receipt that {event.payment} has to have"
        else:
            payment.receipt = event.number

    def _refund_ended(self, position: int, event: RefundProcessed | RefundFailed) -> Iterator[Problem]:
        refund = self._refunds.get(event.refund)
        if refund is None or refund.end is not None or refund.asked.payment != event.payment:
            yield "payment", f"{event.refund} of {event.payment} ended twice, or was never asked for"
            return
        refund.end, refund.position = event, position
        payment = self._payments.get(event.payment)
        if isinstance(event, RefundFailed) or payment is None:
            return
        if (event.tax, event.credit) != (refund.asked.tax, refund.asked.credit):
            yield (
                "payment",
                f"{event.refund} sent back {event.tax.total} paise, {refund.asked.tax.total} were asked for",
            )
        yield from self._went_back(payment, event)

    def _went_back(self, payment: _Payment, event: RefundProcessed | ChargebackLost) -> Iterator[Problem]:
        payment.refunded_paise += 0 if event.tax is None else event.tax.total
        if payment.refunded_paise > payment.order.tax.total:
            yield "payment", f"of {event.payment} {payment.refunded_paise} paise went back, more than came"

    def _refund_settled(self, event: CreditReturned | CreditWithdrawn) -> Iterator[Problem]:
        """The credit goes if the money went, comes back if it did not, and does either once."""
        refund = self._refunds[event.reference]
        expected = RefundProcessed if isinstance(event, CreditWithdrawn) else RefundFailed
        if refund.credit or not isinstance(refund.end, expected):
            what = "withdrawn" if isinstance(event, CreditWithdrawn) else "returned"
            yield "payment", f"the credit of {event.reference} was {what} against how the refund ended"
        refund.credit = True

    def finish(self) -> Iterator[tuple[int, str, Problem]]:
        """What is missing, each with the position and stream of the fact that it should have come with."""
        for id, payment in self._payments.items():
            stream = f"payment:{payment.order.order}"
            if not payment.credited:
                yield payment.position, stream, ("payment", f"{id} was captured, but not credited")
            if not payment.receipt:
                yield payment.position, stream, ("document", f"{id} was captured, but has no receipt")
        for id, refund in self._refunds.items():
            if refund.end is not None and not refund.credit:
                yield refund.position, refund.stream, ("payment", f"{id} ended, but its credit is still withheld")
            if isinstance(refund.end, RefundProcessed) and not refund.document:
                yield refund.position, refund.stream, ("document", f"{id} was processed, but has no document")
        for id, (position, stream, _) in self._lost.items():
            yield position, stream, ("document", f"{id} was lost, but has no document")
        for payment_id, grant in self._promos:
            yield 0, "", ("payment", f"{grant} came with {payment_id}, but was not redeemed")


def _is_paper_of(event: DocumentIssued, refund: _Refund, *, receipt: str) -> bool:
    """Whether the document is the first of this refund, of its money, and refers to the payment's receipt."""
    end = refund.end
    return (
        isinstance(end, RefundProcessed)
        and not refund.document
        and (event.payment, event.tax, event.number, event.original) == (end.payment, end.tax, end.document, receipt)
    )
