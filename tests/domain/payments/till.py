"""A till in memory: the payment gateway as an object that tests can move, beside a store of facts."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.store import Store
from domain.payments.billing import BillingProfile, buyer_text
from domain.payments.document import Buyer, Supplier
from domain.payments.events import TopUpOrdered
from domain.payments.ports import GatewayOrder, GatewayPayment, GatewayRefund, WebhookNotice
from domain.payments.topup import Terms, Till
from tests.fakes import PlainSeals
from tests.given import NOON

KARNATAKA, KERALA = "29", "32"
BUYER = Buyer(name="Asha", state=KARNATAKA)
SUPPLIER = Supplier(
    name="BharatRouter", address=("MG Road",), gstin="29AAGCB7383J1Z4", email="a@example.in", website="example.in"
)
TERMS = Terms(
    rupees_min=100,
    rupees_max=1_000,
    mode="on_top",
    percent=18,
    kind="receipt_voucher",
    sac="998315",
    description="Prepaid credit",
    supplier=SUPPLIER,
)


class FakeGateway:
    """Orders and payments that tests move by hand. Like the real one it takes an authorised payment once only."""

    def __init__(self) -> None:
        self.orders: dict[str, GatewayOrder] = {}
        self.payments: dict[str, GatewayPayment] = {}
        self._numbers = itertools.count(1)

    key_id = "rzp_test_key"
    checkout_script = "https://gateway.example/checkout.js"

    def pays(self, order: str, status: str = "captured", **fields: object) -> GatewayPayment:
        """A new payment of the order, by default of what was ordered."""
        id = f"pay_{next(self._numbers):014d}"
        amount = self.orders[order].amount_paise if order in self.orders else 11_800
        made = GatewayPayment(
            id=id,
            order=order,
            amount_paise=amount,
            currency="INR",
            status=status,
            method="upi",
            fee_paise=236 if status == "captured" else None,
            tax_paise=36 if status == "captured" else None,
            created_seconds=NOON // SECOND,
            reference="rrn1",
        )
        self.payments[id] = replace(made, **fields)
        return self.payments[id]

    def move(self, payment: str, status: str, **fields: object) -> GatewayPayment:
        self.payments[payment] = replace(self.payments[payment], status=status, **fields)
        return self.payments[payment]

    # The port

    def create_order(self, *, amount_paise: int, receipt: str, notes: Mapping[str, str]) -> GatewayOrder:
        id = f"order_{next(self._numbers):014d}"
        self.orders[id] = GatewayOrder(
            id=id,
            amount_paise=amount_paise,
            amount_paid_paise=0,
            currency="INR",
            receipt=receipt,
            status="created",
            attempts=0,
        )
        return self.orders[id]

    def order(self, id: str) -> GatewayOrder:
        order = self.orders.get(id)
        if order is None:
            raise NotFound("not_found", "no such order")
        made = [payment for payment in self.payments.values() if payment.order == id]
        paid = any(payment.status == "captured" for payment in made)
        return replace(order, attempts=len(made), status="paid" if paid else "attempted" if made else "created")

    def payments_of(self, order: str) -> Sequence[GatewayPayment]:
        return [payment for payment in self.payments.values() if payment.order == order]

    def payment(self, id: str) -> GatewayPayment:
        if id not in self.payments:
            raise NotFound("not_found", "no such payment")
        return self.payments[id]

    def capture(self, payment: str, *, amount_paise: int) -> GatewayPayment:
        if self.payments[payment].status != "authorized":
            raise Conflict("payment_refused", "captured already")
        assert self.payments[payment].amount_paise == amount_paise
        return self.move(payment, "captured", fee_paise=236, tax_paise=36)

    def refund(self, payment: str, *, amount_paise: int, key: str, notes: Mapping[str, str]) -> GatewayRefund:
        raise NotImplementedError

    def refunds_of(self, payment: str) -> Sequence[GatewayRefund]:
        raise NotImplementedError

    def refund_status(self, id: str) -> GatewayRefund:
        raise NotImplementedError

    def checkout_is_signed(self, *, order: str, payment: str, signature: str) -> bool:
        return signature == f"{order}|{payment}"

    def webhook_is_signed(self, raw: bytes, signature: str | None) -> bool:
        return signature == "signed"

    def parse_webhook(self, raw: bytes) -> WebhookNotice:
        raise Invalid("invalid_request", "not in this fake")


def make_till(store: Store, gateway: FakeGateway, terms: Terms = TERMS) -> Till:
    return Till(store=store, gateway=gateway, seals=PlainSeals(), terms=terms)


def profile(org: str = "org_a", state: str = KARNATAKA) -> BillingProfile:
    return BillingProfile(buyer=PlainSeals().seal(f"books:{org}", buyer_text(BUYER)), state=state)


def given_order(
    till: Till, org: str = "org_a", *, rupees: int = 100, promo: str = "", state: str = KARNATAKA, at: int = NOON
) -> TopUpOrdered:
    ordered, _ = till.order(
        org=org, profile=profile(org, state), rupees=rupees, promo=promo, receipt="top_1", at=at, by="test"
    )
    return ordered
