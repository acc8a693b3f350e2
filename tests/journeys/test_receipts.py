"""A customer pays, and gets papers: a signed PDF with all that the law asks for, by mail and by download, which anyone
can check and nobody can alter."""

import email
import hashlib
import io
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx
import pikepdf
import pypdfium2
import pytest

from domain.payments.document import read_facts
from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, until
from tests.journeys.test_top_up import ADDRESS, Razorpay
from tests.product import Product

pytestmark = pytest.mark.journeys

NAME = "अनन्या Traders"


@pytest.fixture
def razorpay(product: Product) -> Iterator[Razorpay]:
    simulator = Razorpay(product)
    yield simulator
    simulator.close()


@pytest.fixture
def buyer(new_customer: NewCustomer) -> Customer:
    customer = new_customer(inr="0")
    address = ADDRESS | {"name": NAME, "email": "accounts@ananya.example"}
    with customer.http() as http:
        assert http.put("/me/billing/address", json=address).status_code == 200
    return customer


def receipt_of(buyer: Customer) -> dict[str, Any]:
    """The one document of the buyer, once it is ready and mailed."""

    def ready() -> dict[str, Any] | None:
        rows: list[dict[str, Any]] = buyer.get("/me/billing/receipts")["data"]
        return rows[0] if len(rows) == 1 and rows[0]["ready"] and rows[0]["mailed_at"] else None

    found: dict[str, Any] = until(ready, within=40)
    return found


def mails_of(product: Product, number: str) -> list[EmailMessage]:
    files = sorted((product.home / "mail").glob("*.eml"))
    mails = [email.message_from_bytes(file.read_bytes(), policy=default) for file in files]
    return [mail for mail in mails if number in str(mail["subject"])]


def test_from_the_payment_to_the_paper(product: Product, buyer: Customer, razorpay: Razorpay) -> None:
    with buyer.http() as http:
        order = http.post("/me/billing/topup", json={"amount_inr": 500}).json()
        handed = razorpay.pay(order["order_id"])
        assert http.post("/me/billing/verify", json=handed).json()["status"] == "captured"
        receipt = receipt_of(buyer)
        number, payment = receipt["number"], handed["razorpay_payment_id"]
        downloads = [http.get(path) for path in (f"/me/billing/receipts/{payment}", receipt["pdf"])]
        page = http.get(f"/me/billing/receipts/{payment}.html")
    assert (receipt["payment_id"], receipt["total_inr"], receipt["tax_inr"]) == (payment, "590", "90")

    pdf = downloads[0].content
    assert downloads[1].content == pdf
    assert hashlib.sha256(pdf).hexdigest() == receipt["sha256"]
    with pypdfium2.PdfDocument(pdf) as drawn:
        assert len(drawn) == 1
        text = drawn[0].get_textpage().get_text_range()
    for shown in (
        number, payment, order["order_id"], "Receipt Voucher", "GSTIN", "998315", "₹500.00", "CGST", "SGST", "₹45.00",
        "₹590.00", "Five Hundred Ninety", "Karnataka (29)", NAME, "Traders", "UPI", "IST", f"/verify/{number}",
    ):  # fmt: skip
        assert shown in text, shown
        if shown != "IST":
            assert shown in page.text, shown
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        facts = read_facts(opened.attachments["facts.json"].get_file().read_bytes())
        assert "/Sig" in str(opened.Root.AcroForm.Fields[0].FT)
    assert (facts.number, facts.payment_id, facts.buyer.name, facts.tax.total) == (number, payment, NAME, 59_000)

    [mail] = mails_of(product, number)
    assert mail["to"] == "accounts@ananya.example"
    assert [part.get_content() for part in mail.iter_attachments()] == [pdf]

    checked = httpx.get(f"{product.url}/verify/{number}", trust_env=False).json()
    assert (checked["total_inr"], checked["sha256"], checked["buyer"]["name"]) == (
        "590",
        receipt["sha256"],
        "अ••• T•••",
    )
    shown_to_people = httpx.get(f"{product.url}/verify/{number}", headers={"accept": "text/html"}, trust_env=False).text
    assert "This document is genuine" in shown_to_people
    assert "Traders" not in shown_to_people
    assert product.verify()["documents"] >= 1

    product.cli("document", "cancel", number, "--reason", "issued by mistake")
    until(lambda: httpx.get(f"{product.url}/verify/{number}", trust_env=False).json()["cancelled"])
    with buyer.http() as http:
        assert http.get(receipt["pdf"]).content == pdf
    assert product.cli_json("document", "cancel", number, "--reason", "again")["before"] is True
    product.verify()
