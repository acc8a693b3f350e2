"""Histories of money with payments, refunds and chargebacks as the product records them: what belongs together is one
append, and after each append all money has been divided."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import strategies as st

from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA
from domain.ledger.events import CreditAdded, CreditGranted, CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.events import (
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    DocumentIssued,
    PaymentCaptured,
    PaymentReturned,
    PaymentSetAside,
    PromoRedeemed,
    RefundFailed,
    RefundProcessed,
    RefundRequested,
    Tax,
    TopUpOrdered,
)
from domain.payments.issue import document_stream
from domain.payments.numbering import DocumentKind, document_number, series_of
from domain.payments.promo import promo_grant, redemption_stream
from domain.payments.tax import credit_nanos, refund_share, split
from tests.projections.history import Line, Step, _Play

PLACES = ("29", "04", "27")
"""Karnataka, where the supplier is, Chandigarh and Maharashtra: within a State, and across."""

MONEY_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["hold"] * 4
            + ["settle"] * 4
            + ["capture", "capture", "refund", "refund", "refund_end", "dispute", "dispute_end", "set_aside"]
            + ["release", "expire", "extend", "refuse", "grant", "promo", "lapse", "goodwill", "wait"]
        ),
        st.integers(0, 1_000),
        st.integers(0, 1_000),
    ),
    max_size=60,
)


def play_money(steps: Sequence[Step]) -> list[list[Line]]:
    """The appends that the steps make, each of one fact or several."""
    return _Money().appends_of(steps)


class _Money(_Play):
    def __init__(self) -> None:
        super().__init__("")
        self.appends: list[list[Line]] = []
        self.taxes: dict[str, Tax] = {}
        self.streams: dict[str, str] = {}
        self.issued: Counter[str] = Counter()
        self.receipts: dict[str, str] = {}
        self.refunded: dict[str, int] = {}
        self.open: list[tuple[str, str, str, int]] = []

    def appends_of(self, steps: Sequence[Step]) -> list[list[Line]]:
        self.run(steps)
        return self.appends

    def note(self, stream: str, event: Event) -> None:
        self.note_all([(stream, event)])

    def note_all(self, facts: list[Line]) -> None:
        for stream, event in facts:
            super().note(stream, event)
        self.appends.append(facts)

    def capture(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        number = next(self.numbers)
        payment, order = f"pay_{number}", f"order_{number}"
        mode = "included" if two % 2 else "on_top"
        tax = split(100 * two + 100, mode=mode, percent=18, supplier_state="29", place=PLACES[number % 3])
        self.taxes[payment] = tax
        common = {"at": at, "org": org, "payment": payment}
        stream = self.streams[payment] = f"payment:{order}"
        ordered = TopUpOrdered(
            at=at,
            org=org,
            order=order,
            credit=credit_nanos(tax),
            tax=tax,
            place_of_supply=PLACES[number % 3],
            buyer="",
        )
        self.note(stream, ordered)
        captured = PaymentCaptured(
            **common,
            order=order,
            amount_paise=tax.total,
            method="upi",
            learned="webhook",
            paid=at,
            fee_paise=two // 10,
            fee_tax_paise=two // 60,
        )
        facts: list[Line] = [
            (stream, captured),
            (f"account:{org}", CreditAdded(**common, order=order, amount=credit_nanos(tax), spent=spent)),
        ]
        if one % 3 == 0:
            code, amount = f"DIWALI{number}", 7 * two + 1
            gift = CreditGranted(**common, grant=promo_grant(code), amount=amount, reason="Diwali", spent=spent)
            redeemed = PromoRedeemed(**common, code=code, amount=amount)
            facts += [(f"account:{org}", gift), (redemption_stream(code), redeemed)]
        receipt = self.document(org, "receipt_voucher", payment, tax, at)
        self.receipts[payment] = receipt[1].number
        self.note_all([*facts, receipt])

    def document(
        self, org: str, kind: DocumentKind, payment: str, tax: Tax, at: int, *, refund: str = ""
    ) -> tuple[str, DocumentIssued]:
        series = series_of(kind, at)
        self.issued[series] += 1
        issued = DocumentIssued(
            at=at,
            org=org,
            kind=kind,
            number=document_number(series, self.issued[series]),
            payment=payment,
            tax=tax,
            place_of_supply="29",
            facts="",
            refund=refund,
            original=self.receipts[payment] if refund else "",
        )
        return document_stream(series), issued

    def goodwill(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        grant = f"dispute:{next(self.numbers)}"
        self.note(f"account:{org}", CreditGranted(at=at, org=org, grant=grant, amount=two + 1, reason="", spent=spent))

    def set_aside(self, one: int, two: int, at: int) -> None:
        org = ["org0", "org1", ""][one % 3]
        currency = "INR" if two % 4 else "USD"
        number = next(self.numbers)
        aside = PaymentSetAside(
            at=at,
            org=org,
            order="",
            payment=f"pay_{number}",
            amount_paise=two,
            reason="wrong_amount",
            currency=currency,
            fee_paise=two // 10,
            fee_tax_paise=two // 60,
        )
        self.note(f"payment:pay_{number}", aside)
        if two % 3:
            back = PaymentReturned(
                at=at,
                org=org,
                payment=f"pay_{number}",
                gateway_refund=f"rfnd_{number}",
                amount_paise=two * (two % 3) // 2,
                currency=currency,
                lost_paise=one % 2,
            )
            self.note(f"payment:pay_{number}", back)

    def refund(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        account = self.accounts[org].when_spent(spent)
        busy = {payment for _, _, payment, _ in self.open}
        for lot in account.lots.values():
            gifts = [each for each in account.lots.values() if each.payment == lot.id and not each.paid and each.left]
            most = min(lot.left, self.guards.balances[org].available - sum(gift.left for gift in gifts))
            paise = max(most // NANOS_PER_PAISA * (two + 1) // 1_001, 0)
            if not lot.paid or lot.id in busy or paise == 0:
                continue
            reference, credit = f"refund_{next(self.numbers)}", paise * NANOS_PER_PAISA
            tax = refund_share(self.taxes[lot.id], taxable=paise, refunded_before=self.refunded.get(lot.id, 0))
            requested = RefundRequested(
                at=at, org=org, refund=reference, payment=lot.id, credit=credit, tax=tax, reason=""
            )
            parts = {lot.id: credit} | {gift.id: gift.left for gift in gifts}
            withheld = self.withheld_of(org, reference, parts, spent, at)
            self.note_all([(self.streams[lot.id], requested), withheld])
            self.open.append((org, reference, lot.id, paise))
            return

    def refund_end(self, one: int, two: int, at: int) -> None:
        if not (refunds := [each for each in self.open if each[1].startswith("refund_")]):
            return
        org, reference, payment, paise = ended = refunds[one % len(refunds)]
        self.open.remove(ended)
        stream = self.streams[payment]
        if two % 3 == 0:
            failed = RefundFailed(at=at, org=org, refund=reference, payment=payment)
            self.note_all([(stream, failed), self.concluded(CreditReturned, org, reference, at)])
            return
        before = self.refunded.get(payment, 0)
        self.refunded[payment] = before + paise
        tax = refund_share(self.taxes[payment], taxable=paise, refunded_before=before)
        voucher = self.document(org, "refund_voucher", payment, tax, at, refund=reference)
        processed = RefundProcessed(
            at=at,
            org=org,
            refund=reference,
            payment=payment,
            tax=tax,
            credit=paise * NANOS_PER_PAISA,
            document=voucher[1].number,
        )
        withdrawn = self.concluded(CreditWithdrawn, org, reference, at)
        self.note_all([(stream, processed), withdrawn, voucher])

    def dispute(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        rest, parts = min(two * NANOS_PER_PAISA, self.guards.balances[org].available), {}
        for lot in self.accounts[org].when_spent(spent).lots.values():
            if lot.paid and (part := min(rest, lot.left)):
                parts[lot.id] = part
                rest -= part
        if not parts:
            return
        payment, reference, amount = next(iter(parts)), f"disp_{next(self.numbers)}", sum(parts.values())
        opened = ChargebackOpened(
            at=at, org=org, chargeback=reference, payment=payment, amount_paise=two + 100, withheld=amount
        )
        self.note_all([(self.streams[payment], opened), self.withheld_of(org, reference, parts, spent, at)])
        self.open.append((org, reference, payment, two + 100))

    def dispute_end(self, one: int, two: int, at: int) -> None:
        if not (disputes := [each for each in self.open if each[1].startswith("disp_")]):
            return
        org, reference, payment, paise = ended = disputes[one % len(disputes)]
        self.open.remove(ended)
        common = {"at": at, "org": org, "chargeback": reference, "payment": payment}
        if two % 2:
            back = self.concluded(CreditReturned, org, reference, at)
            self.note_all([(self.streams[payment], ChargebackWon(**common)), back])
        else:
            gone = self.concluded(CreditWithdrawn, org, reference, at)
            lost = ChargebackLost(**common, amount_paise=paise, withheld=gone[1].amount)
            self.note_all([(self.streams[payment], lost), gone])

    def withheld_of(self, org: str, reference: str, parts: dict[str, int], spent: int, at: int) -> Line:
        amount = sum(parts.values())
        withheld = CreditWithheld(at=at, org=org, reference=reference, amount=amount, parts=parts, spent=spent)
        return f"account:{org}", withheld

    def concluded(self, fact: type[CreditReturned | CreditWithdrawn], org: str, reference: str, at: int) -> Line:
        amount = sum(self.accounts[org].withheld[reference].values())
        spent = self.guards.balances[org].spent
        return f"account:{org}", fact(at=at, org=org, reference=reference, amount=amount, spent=spent)
