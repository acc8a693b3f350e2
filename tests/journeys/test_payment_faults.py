"""Whatever Razorpay does, a payment is one credit and one receipt, or neither: each switch of its simulator against the
running product. After each journey the whole log verifies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.simulators.razorpay.switches import Switches
from domain.kernel.money import rupees
from projections.verify import verify
from tests.journeys.customers import Customer, Operator, nanos, until
from tests.journeys.test_top_up import ADDRESS
from tests.product import Product
from tests.simulated_razorpay import KEY_ID, KEY_SECRET, WEBHOOK_SECRET, Simulated, simulated_razorpay

pytestmark = pytest.mark.journeys

OLD_SECRET = "the-secret-before-that"
DAYS = 86_400
NOBODY_TELLS = {"webhook_dropped": ["*"]}


@dataclass
class Shop:
    """The product with an account at Razorpay, and somebody who buys."""

    product: Product
    razorpay: Simulated
    buyer: Customer

    def order(self) -> str:
        with self.buyer.http() as http:
            reply = http.post("/me/billing/topup", json={"amount_inr": 500})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["order_id"])

    def pay(self, order: str | None = None, **more: Any) -> Any:
        return self.razorpay.pay(order or self.order(), **more)

    def hand_over(self, paid: Any) -> str:
        """The browser tells what the checkout gave it; the status that the product answers."""
        handed = {name: paid[name] for name in paid if name.startswith("razorpay_")}
        with self.buyer.http() as http:
            reply = http.post("/me/billing/verify", json=handed)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["status"])

    def reconcile(self, order: str) -> str:
        [row] = self.product.cli_json("payment", "reconcile", "--order", order)["orders"]
        return str(row["status"])

    def attempts(self) -> list[str]:
        return [each["status"] for row in self.buyer.get("/me/billing/payments")["orders"] for each in row["payments"]]

    def told(self) -> list[Any]:
        """Every attempt of Razorpay's to tell something."""
        return [attempt for sent in self.razorpay.deliveries() for attempt in sent["attempts"]]

    def refunds(self) -> list[str]:
        return [row["status"] for row in self.buyer.get("/me/billing/refunds")["data"]]

    def has(self, inr: int, *papers: str) -> None:
        """Waits until this is the balance and these are the documents, newest first; then recomputes everything."""
        until(lambda: nanos(self.buyer.get("/me/billing")["balance_inr"]) == rupees(inr))
        until(lambda: [row["number"][:2] for row in self.buyer.get("/me/billing/receipts")["data"]] == [*papers])
        report = verify(self.product.database_url)
        assert report.findings == []

    def has_nothing(self) -> None:
        self.has(0)


@pytest.fixture(scope="module")
def running(new_home: Callable[[], Path]) -> Iterator[tuple[Product, Simulated, Operator]]:
    product = Product(new_home())
    address = f"{product.url}/webhooks/razorpay"
    with simulated_razorpay(webhook_url=address, webhook_old_secret=OLD_SECRET) as razorpay:
        product.environment |= {
            "BR_RAZORPAY_URL": razorpay.url,
            "BR_RAZORPAY_KEY_ID": KEY_ID,
            "BR_RAZORPAY_KEY_SECRET": KEY_SECRET,
            "BR_RAZORPAY_WEBHOOK_SECRETS": f"{WEBHOOK_SECRET},{OLD_SECRET}",
        }
        with product:
            operator = Operator(product)
            yield product, razorpay, operator
            operator.close()


@pytest.fixture
def shop(running: tuple[Product, Simulated, Operator]) -> Shop:
    product, razorpay, operator = running
    razorpay.tell("reset")
    buyer = operator.customer(inr="0")
    with buyer.http() as http:
        assert http.put("/me/billing/address", json=ADDRESS).status_code == 200
    return Shop(product, razorpay, buyer)


Journey = Callable[[Shop], None]
JOURNEYS: dict[str, tuple[dict[str, Any], Journey]] = {}


def journey(**switches: Any) -> Callable[[Journey], Journey]:
    """What happens with these switches; each of them must have one."""

    def enter(what: Journey) -> Journey:
        JOURNEYS[what.__name__] = switches, what
        return what

    return enter


def told_by_webhook(shop: Shop) -> None:
    shop.pay()
    shop.has(500, "RV")


def told_by_the_browser_alone(shop: Shop) -> None:
    paid = shop.pay()
    until(lambda: all(sent["state"] != "waiting" or sent["attempts"] for sent in shop.razorpay.deliveries()))
    shop.has_nothing()
    assert shop.hand_over(paid) == "captured"
    shop.has(500, "RV")


@journey(api_path="GET /v1/payments", api_status=502, api_times=12, webhook_retry_speed=50)
def razorpay_is_down_while_its_webhooks_come(shop: Shop) -> None:
    told_by_webhook(shop)
    until(lambda: {attempt["status"] for attempt in shop.told()} == {200, 503})


@journey(api_path="POST /v1/orders", api_cut=True, api_carried_out=True, api_times=2)
def the_answer_to_an_order_is_lost(shop: Shop) -> None:
    told_by_webhook(shop)
    listed = shop.razorpay.ask("GET", "orders").json()
    assert listed["count"] == 1


@journey(
    api_path="GET /v1/payments",
    api_sleep_seconds=1,
    api_times=1,
    webhook_patience_seconds=0.5,
    webhook_retry_speed=10,
)
def razorpay_is_slow_and_does_not_wait_for_us(shop: Shop) -> None:
    told_by_webhook(shop)
    until(lambda: any(attempt["error"] for attempt in shop.told()))


@journey(wrong_key_status=400, **NOBODY_TELLS)
def an_operator_asks_with_a_wrong_key(shop: Shop) -> None:
    order = shop.order()
    shop.pay(order)
    right, wrong = shop.product.environment, {"BR_RAZORPAY_KEY_SECRET": "wrong"}
    for status in (400, 401):
        shop.razorpay.tell("switches", {"wrong_key_status": status}, "PATCH")
        shop.product.environment = right | wrong
        refused = shop.product.cli("payment", "reconcile", "--order", order, check=False)
        shop.product.environment = right
        assert refused.returncode != 0
        assert "cannot be reached" in refused.stderr
    shop.has_nothing()
    assert shop.reconcile(order) == "captured"
    shop.has(500, "RV")


@journey(receipts_unique=True)
def receipts_have_to_be_unique(shop: Shop) -> None:
    for _ in range(2):
        shop.pay()
    shop.has(1_000, "RV", "RV")


@journey(list_lag_seconds=3_600, **NOBODY_TELLS)
def lists_lag_behind(shop: Shop) -> None:
    order = shop.order()
    shop.pay(order)
    assert shop.reconcile(order) == "created"
    shop.has_nothing()
    shop.razorpay.advance(3_600)
    assert shop.reconcile(order) == "captured"
    shop.has(500, "RV")


@journey(auto_capture=False)
def nobody_captures_but_we(shop: Shop) -> None:
    told_by_webhook(shop)


@journey(auto_capture=False, auto_refund_seconds=DAYS, refund_seconds=0, **NOBODY_TELLS)
def what_nobody_captured_goes_back(shop: Shop) -> None:
    order = shop.order()
    shop.pay(order)
    shop.razorpay.advance(DAYS)
    shop.reconcile(order)
    until(lambda: shop.attempts() == ["set_aside"])
    shop.has_nothing()
    assert shop.product.cli_json("payment", "reconcile", "--order", order)["set_aside"] == []


@journey(unanswered_seconds=60)
def the_bank_says_nothing(shop: Shop) -> None:
    shop.pay(outcome="created")
    shop.razorpay.advance(61)
    until(lambda: shop.attempts() == ["failed"])
    shop.has_nothing()


@journey(unanswered_seconds=60, late_seconds=3 * DAYS)
def the_bank_says_yes_days_after_it_failed(shop: Shop) -> None:
    shop.pay(outcome="late")
    shop.razorpay.advance(61)
    until(lambda: shop.attempts() == ["failed"])
    shop.razorpay.advance(3 * DAYS)
    shop.has(500, "RV")


def asked_back(shop: Shop) -> None:
    payment = shop.pay()["id"]
    shop.has(500, "RV")
    with shop.buyer.http() as http:
        assert http.post("/me/billing/refunds", json={"payment_id": payment}).status_code == 201


@journey(refund_seconds=3 * DAYS)
def a_refund_takes_days(shop: Shop) -> None:
    asked_back(shop)
    until(lambda: shop.refunds() == ["pending"])
    until(lambda: nanos(shop.buyer.get("/me/billing")["available_inr"]) == 0)
    shop.has(500, "RV")
    shop.razorpay.advance(3 * DAYS)
    shop.has(0, "RF", "RV")


@journey(refund_fails=True, refund_seconds=0)
def a_refund_fails(shop: Shop) -> None:
    asked_back(shop)
    until(lambda: shop.refunds() == ["failed"])
    until(lambda: nanos(shop.buyer.get("/me/billing")["available_inr"]) == rupees(500))
    shop.has(500, "RV")


@journey(webhook_duplicates=4)
def webhooks_come_five_times(shop: Shop) -> None:
    told_by_webhook(shop)


@journey(webhook_reordered=True)
def webhooks_come_last_first(shop: Shop) -> None:
    asked_back(shop)
    shop.has(0, "RF", "RV")


@journey(webhook_delay_seconds=7_200)
def webhooks_come_after_hours(shop: Shop) -> None:
    shop.pay()
    shop.has_nothing()
    shop.razorpay.advance(7_200)
    shop.has(500, "RV")


@journey(webhook_dropped=["payment.authorized", "payment.captured"])
def of_all_webhooks_one_comes(shop: Shop) -> None:
    told_by_webhook(shop)


@journey(webhook_signature="old_secret")
def webhooks_are_signed_with_the_secret_before(shop: Shop) -> None:
    told_by_webhook(shop)


@journey(webhook_signature="missing")
def webhooks_are_not_signed(shop: Shop) -> None:
    told_by_the_browser_alone(shop)


@journey(webhook_signature="wrong")
def webhooks_are_signed_by_somebody_else(shop: Shop) -> None:
    told_by_the_browser_alone(shop)


@pytest.mark.parametrize("name", JOURNEYS)
def test_credit_and_papers_are_right_though(shop: Shop, name: str) -> None:
    switches, travel = JOURNEYS[name]
    shop.razorpay.switch(**switches)
    travel(shop)


def test_each_switch_has_its_journey() -> None:
    switched = {name for switches, _ in JOURNEYS.values() for name in switches}
    assert switched == set(Switches.__struct_fields__)


# What is no switch, but can be told to happen


def test_money_that_was_paid_twice_goes_back(shop: Shop) -> None:
    shop.razorpay.switch(refund_seconds=3_600)
    order = shop.order()
    shop.pay(order)
    shop.has(500, "RV")
    second = shop.pay(order, even_if_paid=True, outcome="authorized")["id"]
    captured = shop.razorpay.ask("POST", f"payments/{second}/capture", {"amount": 59_000, "currency": "INR"})
    assert captured.status_code == 200
    until(lambda: sorted(shop.attempts()) == ["captured", "set_aside"])
    command = ("payment", "return", second)
    assert shop.product.cli_json(*command)["status"] == "pending"
    assert "is on its way back" in shop.product.cli(*command).stdout
    [aside] = shop.product.cli_json("payment", "reconcile", "--order", order)["set_aside"]
    assert aside["gateway_refund_id"] is not None
    shop.razorpay.advance(3_600)
    until(lambda: sorted(shop.attempts()) == ["captured", "returned"])
    assert shop.razorpay.ask("GET", f"payments/{second}").json()["amount_refunded"] == 59_000
    refused = shop.product.cli(*command, check=False)
    assert (refused.returncode, "All of" in refused.stderr) == (1, True)
    shop.has(500, "RV")
    closing = {row["account"]: row["closing_inr"] for row in shop.product.cli_json("books")["accounts"]}
    assert closing["payments_set_aside"] == "0"
