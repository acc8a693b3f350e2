"""Money that goes back: a customer asks for it, an operator does, or the customer's bank demands it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, until
from tests.product import Product
from tests.simulated_razorpay import Simulated

ADDRESS = {"name": "Asha Sharma", "address": ["1 MG Road"], "city": "Kochi", "pin": "682001", "state": "32"}
DAYS = 86_400


@pytest.fixture
def razorpay(product: Product) -> Iterator[Simulated]:
    """The simulated Razorpay of the product; refunds stay pending until they are moved."""
    simulated = Simulated(str(product.running["payments_url"]))
    simulated.switch(refund_seconds=30 * DAYS)
    yield simulated
    simulated.switch()
    simulated.close()


@pytest.fixture
def payer(new_customer: NewCustomer) -> Customer:
    """A customer without credit, whose billing address is known."""
    customer = new_customer(inr="0")
    with customer.http() as http:
        assert http.put("/me/billing/address", json=ADDRESS).status_code == 200
    return customer


def pay(razorpay: Simulated, payer: Customer, inr: int) -> str:
    """A payment that its webhook has made credit; its id."""
    before = float(payer.get("/me/billing")["available_inr"])
    with payer.http() as http:
        ordered = http.post("/me/billing/topup", json={"amount_inr": inr})
        assert ordered.status_code == 201, ordered.text
    payment = razorpay.pay(ordered.json()["order_id"])["id"]
    until(lambda: float(payer.get("/me/billing")["available_inr"]) == before + inr)
    return str(payment)


def ask(payer: Customer, payment: str, **more: Any) -> Any:
    with payer.http() as http:
        return http.post("/me/billing/refunds", json={"payment_id": payment} | more)


def has_come_to(payer: Customer, refund: str, status: str) -> Any:
    """The refund, once it has this status."""
    with payer.http() as http:

        def there() -> Any:
            reply = http.get(f"/me/billing/refunds/{refund}")
            return reply.status_code == 200 and reply.json()["status"] == status and reply.json()

        return until(there)


def has_available(payer: Customer, inr: str) -> None:
    until(lambda: payer.get("/me/billing")["available_inr"] == inr)


def test_unspent_credit_goes_back_to_its_source(product: Product, razorpay: Simulated, payer: Customer) -> None:
    payment = pay(razorpay, payer, 200)
    asked = ask(payer, payment, amount_inr=50)
    assert asked.status_code == 201, asked.text
    refund = asked.json()
    assert (refund["status"], refund["refunded_inr"], refund["tax_inr"]) == ("pending", "59", "9")
    has_available(payer, "150")
    razorpay.tell(f"refunds/{refund['gateway_refund_id']}", {"status": "failed"})
    assert has_come_to(payer, refund["id"], "failed")["failure"]
    has_available(payer, "200")
    product.verify()

    refund = ask(payer, payment, amount_inr=50).json()
    razorpay.tell(f"refunds/{refund['gateway_refund_id']}", {"status": "processed"})
    assert has_come_to(payer, refund["id"], "processed")["document"].startswith("RF/")
    has_available(payer, "150")

    made = product.cli_json("refund", "--payment", payment, "--reason", "goodbye")
    assert (made["status"], made["credit_inr"]) == ("pending", "150")
    razorpay.tell(f"refunds/{made['gateway_refund_id']}", {"status": "processed"})
    has_come_to(payer, made["id"], "processed")
    has_available(payer, "0")
    gone = ask(payer, payment)
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "nothing_to_refund")
    rows = payer.get("/me/billing/refunds")["data"]
    assert [(row["status"], row["credit_inr"]) for row in rows] == [
        ("processed", "150"),
        ("processed", "50"),
        ("failed", "50"),
    ]
    assert razorpay.ask("GET", f"payments/{payment}", auth=auth(product)).json()["amount_refunded"] == 23_600
    product.verify()


def auth(product: Product) -> tuple[str, str]:
    return str(product.running["razorpay_key_id"]), str(product.running["razorpay_key_secret"])


def test_what_was_spent_is_not_refunded(product: Product, razorpay: Simulated, payer: Customer) -> None:
    payment = pay(razorpay, payer, 100)
    with payer.http() as http:
        chat = {"model": "steady", "messages": [{"role": "user", "content": "Namaste"}]}
        assert http.post("/v1/chat/completions", json=chat).status_code == 200
    whole = ask(payer, payment, amount_inr=100)
    assert (whole.status_code, whole.json()["error"]["code"]) == (400, "refund_too_large")
    rest = ask(payer, payment).json()
    assert rest["credit_inr"] == "99.99"
    product.verify()


def test_a_chargeback_sets_credit_aside_until_it_is_decided(
    product: Product, razorpay: Simulated, payer: Customer
) -> None:
    payment = pay(razorpay, payer, 100)
    first = razorpay.tell("disputes", {"payment": payment})["id"]
    has_available(payer, "0")
    refused = ask(payer, payment)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "nothing_to_refund")
    product.verify()
    razorpay.tell(f"disputes/{first}", {"status": "won"})
    has_available(payer, "100")
    second = razorpay.tell("disputes", {"payment": payment, "deducted": True})["id"]
    has_available(payer, "0")
    razorpay.tell(f"disputes/{second}", {"status": "lost"})
    until(lambda: payer.get("/me/billing")["balance_inr"] == "0")
    papers = until(lambda: len(rows := payer.get("/me/billing/receipts")["data"]) == 2 and rows)
    assert [(paper["number"][:2], paper["total_inr"]) for paper in papers] == [("RF", "118"), ("RV", "118")]
    razorpay.tell("replay")
    product.verify()
