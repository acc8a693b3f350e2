"""A customer takes the ledger home and checks it with the script that we serve; the operator reads the books."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, nanos, until
from tests.product import Product

pytestmark = pytest.mark.journeys


def verify(folder: Path, ledger: bytes) -> subprocess.CompletedProcess[str]:
    (folder / "ledger.jsonl").write_bytes(ledger)
    command = [sys.executable, "-I", str(folder / "verify_ledger.py"), str(folder / "ledger.jsonl")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def export(customer: Customer, calls: int) -> bytes:
    """The whole ledger, once the read model has every call."""
    with customer.http() as http:

        def whole() -> bytes | None:
            reply = http.get("/me/billing/ledger.jsonl")
            assert reply.status_code == 200, reply.text
            assert reply.headers["content-type"] == "application/jsonl"
            return reply.content if reply.content.count(b"ledger.request_settled.v1") == calls else None

        found: bytes = until(whole)
        return found


def test_an_exported_ledger_is_checked_offline(
    product: Product, customer: Customer, new_customer: NewCustomer, tmp_path: Path
) -> None:
    other = new_customer()
    for caller in (customer, other, customer):
        assert product.chat(caller.key, "sim-3c-crlf").status_code == 200
    product.cli("seal")
    assert product.chat(customer.key, "sim-3c-crlf").status_code == 200
    ledger = export(customer, calls=3)
    assert other.org.encode() not in ledger
    assert other.key_id.encode() not in ledger
    with customer.http() as http:
        assert "verify_ledger.py" in http.get("/docs/verify-ledger").text
        (tmp_path / "verify_ledger.py").write_bytes(http.get("/docs/verify_ledger.py").content)
        backwards = http.get("/me/billing/ledger.jsonl", params={"from": "2026-11-02", "to": "2026-11-01"})
        assert backwards.json()["error"]["code"] == "invalid_range"

    done = verify(tmp_path, ledger)
    assert done.returncode == 0, done.stderr
    balance = nanos(customer.get("/me/billing")["balance_inr"])
    assert f"balance {balance} nano-rupees, 0 of it held" in done.stdout
    assert json.loads(ledger.splitlines()[-1])["end"]["closing"] == balance

    sealed = [n for n, line in enumerate(ledger.splitlines()) if b'"path":[' in line]
    assert len(sealed) >= 5
    for place in range(0, len(ledger), len(ledger) // 20):
        altered = bytearray(ledger)
        altered[place] ^= 1
        refused = verify(tmp_path, bytes(altered))
        assert (refused.returncode, refused.stderr[:8]) == (1, "NOT OK. "), place


def test_the_books_are_open_to_the_operator(product: Product, customer: Customer) -> None:
    assert product.chat(customer.key, "sim-3c-crlf").status_code == 200
    export(customer, calls=1)
    books = product.cli_json("books")
    assert books["balanced"] is True
    accounts = {row["account"]: row for row in books["accounts"]}
    assert sum(nanos(row["closing_inr"]) for row in accounts.values()) == 0
    assert nanos(accounts["usage_revenue"]["credit_inr"]) > 0
    origins = books["credit_by_origin"].values()
    assert sum(nanos(origin["left_inr"]) for origin in origins) == -nanos(accounts["customer_credit"]["closing_inr"])
    assert "The books balance." in product.cli("books", "--as-of", "2999-01-01").stdout
    assert product.cli("books", "--month", "2020-01", "--csv").stdout.startswith("account,kind,opening_inr")
    assert product.cli("books", "--month", "2020-13", check=False).returncode == 1
