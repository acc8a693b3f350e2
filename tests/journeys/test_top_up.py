"""A customer tops up: by the browser, by webhooks alone, by nobody but the operator's sweep; with a promo code; and the
books are right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from domain.kernel.money import rupees
from tests.journeys.customers import Customer, Operator, nanos, until
from tests.product import Product

pytestmark = pytest.mark.journeys

ADDRESS = {"name": "Asha Rao", "address": ["12 MG Road"], "city": "Bengaluru", "pin": "560001", "state": "29"}


@pytest.fixture(scope="module")
def shop(new_home: Callable[[], Path]) -> Iterator[Product]:
    """A product of its own, since switches of the payment simulator are everybody's."""
    with Product(new_home()) as running:
        yield running


@pytest.fixture(scope="module")
def seller(shop: Product) -> Iterator[Operator]:
    made = Operator(shop)
    yield made
    made.close()


class Razorpay:
    """The simulator that the product has started."""

    def __init__(self, product: Product) -> None:
        self._http = httpx.Client(base_url=product.running["payments_url"], trust_env=False, timeout=30)

    def tell(self, path: str, body: Any, method: str = "POST") -> Any:
        reply = self._http.request(method, f"/_simulator/{path}", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def pay(self, order: str) -> dict[str, str]:
        """What the payer's browser is handed."""
        told = self.tell("pay", {"order": order})
        return {name: told[name] for name in told if name.startswith("razorpay_")}

    def get(self, url: str) -> httpx.Response:
        return self._http.get(url)

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def razorpay(shop: Product) -> Iterator[Razorpay]:
    simulator = Razorpay(shop)
    simulator.tell("switches", {}, "PUT")
    yield simulator
    simulator.close()


@pytest.fixture
def buyer(seller: Operator) -> Customer:
    customer = seller.customer(inr="0")
    with customer.http() as http:
        assert http.put("/me/billing/address", json=ADDRESS).status_code == 200
    return customer


def ordered(buyer: Customer, inr: int = 500, **more: Any) -> Any:
    with buyer.http() as http:
        reply = http.post("/me/billing/topup", json={"amount_inr": inr, **more})
    assert reply.status_code == 201, reply.text
    return reply.json()


def balance(buyer: Customer) -> int:
    return nanos(buyer.get("/me/billing")["available_inr"])


def payments(buyer: Customer) -> list[Any]:
    rows: list[Any] = buyer.get("/me/billing/payments")["orders"]
    return rows


def test_paid_in_the_browser_told_by_the_browser_and_spent_at_once(
    shop: Product, buyer: Customer, razorpay: Razorpay
) -> None:
    razorpay.tell("switches", {"webhook_dropped": ["*"]}, "PUT")
    order = ordered(buyer)
    assert razorpay.get(order["checkout_url"]).status_code == 200
    handed = razorpay.pay(order["order_id"])
    with buyer.http() as http:
        for _ in range(2):
            outcome = http.post("/me/billing/verify", json=handed)
            assert (outcome.status_code, outcome.json()["status"]) == (200, "captured"), outcome.text
    assert shop.chat(buyer.key).status_code == 200
    until(lambda: [row["status"] for row in payments(buyer)] == ["captured"])
    until(lambda: 0 < balance(buyer) < rupees(500))


def test_told_by_webhooks_alone_though_each_comes_twice_and_out_of_order(buyer: Customer, razorpay: Razorpay) -> None:
    razorpay.tell("switches", {"webhook_duplicates": 1, "webhook_reordered": True}, "PUT")
    razorpay.pay(ordered(buyer)["order_id"])
    until(lambda: balance(buyer) == rupees(500))
    until(lambda: razorpay.tell("deliveries", {}, "GET")["under_way"] == 0)
    assert balance(buyer) == rupees(500)


def test_told_by_nobody_and_found_by_the_operator(shop: Product, buyer: Customer, razorpay: Razorpay) -> None:
    razorpay.tell("switches", {"webhook_dropped": ["*"], "auto_capture": False}, "PUT")
    order = ordered(buyer)["order_id"]
    razorpay.pay(order)
    found = shop.cli_json("payment", "reconcile", "--order", order)
    assert [(row["order_id"], row["status"]) for row in found["orders"]] == [(order, "captured")]
    until(lambda: balance(buyer) == rupees(500))
    assert "captured" in shop.cli("payment", "reconcile", "--order", order).stdout
    assert shop.cli_json("payment", "reconcile")["set_aside"] == []


def test_a_promo_code_from_its_offer_to_its_end(shop: Product, buyer: Customer, razorpay: Razorpay) -> None:
    terms = ("--percent", "10", "--cap-inr", "40", "--uses", "1", "--credit-days", "30")
    assert shop.cli_json("promo", "create", "diwali26", *terms)["created"] is True
    assert shop.cli_json("promo", "create", "DIWALI26", *terms)["created"] is False
    with buyer.http() as http:
        checked = http.post("/me/billing/promo/check", json={"promo_code": "DIWALI26", "amount_inr": 500}).json()
    assert checked["promo_credit_inr"] == "40"
    razorpay.pay(ordered(buyer, promo_code="DIWALI26")["order_id"])
    until(lambda: balance(buyer) == rupees(540))
    (row,) = until(lambda: [row for row in shop.cli_json("promo", "list")["promos"] if row["uses"]])
    assert (row["code"], row["uses"], row["credit_inr"], row["disabled_at"]) == ("DIWALI26", 1, "40", None)
    assert shop.cli_json("promo", "disable", "DIWALI26")["disabled"] is True
    until(lambda: "DIWALI26  disabled" in shop.cli("promo", "list").stdout)
    assert shop.cli("promo", "create", "X", "--fixed-inr", "1", check=False).returncode == 1


def test_all_of_it_verifies(shop: Product) -> None:
    """Last in this file: what the tests before it left behind."""
    report = shop.verify()
    assert report["ok"] is True
    with psycopg.connect(shop.database_url) as connection:
        rows = connection.execute(
            "select originator_version from events where originator_id like 'document:RV/%%' order by 1"
        ).fetchall()
    assert [version for (version,) in rows] == [*range(1, len(rows) + 1)]
    assert len(rows) == 4
