"""Receipts as their org gets them, and as anyone checks them: the same bytes each time, and no more than initials."""

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from adapters.settings import Settings
from adapters.wiring import App
from api.cli import main
from domain.keys.service import KeyTerms
from tests.api.client import Client, minted
from tests.documents import BUYER, cancel, given_document, given_refund_voucher
from tests.given import PEPPER, Minted, given_org
from workers.render_documents import run as render

LINE = "apt-get install the-libraries"


class Browser(Client):
    """Also takes pages, whose failures have no envelope."""

    def page(self, path: str) -> httpx.Response:
        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._web)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.get(path, headers={"accept": "text/html"})

        return asyncio.run(get())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, public_url="https://br.example")


@pytest.fixture
def client(services: App) -> Browser:
    """Its PDFs are drawn at once, other bytes each time."""
    drawn: list[bytes] = []

    def draw(document: Any) -> bytes:
        drawn.append(b"%%PDF %d of %s" % (len(drawn), document.number.encode()))
        return drawn[-1]

    services.documents.draw = draw
    services.documents.missing = lambda: None
    return Browser(services)


@pytest.fixture
def stranger(client: Browser) -> Minted:
    given_org(client.services.store, "org_b", at=client.services.clock())
    return minted(client, "org_b", KeyTerms(name="other"))


def given_pdf(client: Browser, **changes: Any) -> str:
    number = given_document(client.services, **changes)
    client.project()
    assert render(client.services) == 1
    client.project()
    return number


def test_a_download_is_the_same_bytes_each_time(client: Browser, key: Minted) -> None:
    number = given_pdf(client)
    first = client("GET", "/me/billing/receipts/pay_A", key.secret)
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/pdf"
    assert first.headers["content-disposition"] == 'attachment; filename="BharatRouter-RV-26-27-000001.pdf"'.replace(
        "RV-26-27-000001", number.replace("/", "-")
    )
    assert first.headers["etag"] == f'"{hashlib.sha256(first.content).hexdigest()}"'
    for path in (
        "/me/billing/receipts/pay_A",
        f"/me/billing/receipts/pay_A?document={number}",
        f"/me/billing/documents/{number}",
    ):
        render(client.services)
        assert client("GET", path, key.secret).content == first.content
    again = client("GET", "/me/billing/receipts/pay_A", key.secret, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_another_org_has_no_such_document(client: Browser, key: Minted, stranger: Minted) -> None:
    number = given_pdf(client)
    for path in ("/me/billing/receipts/pay_A", f"/me/billing/documents/{number}", "/me/billing/receipts/pay_Z"):
        for suffix in ("", ".html"):
            assert client.code("GET", path + suffix, stranger.secret) == (404, "not_found")
    assert client("GET", "/me/billing/receipts", stranger.secret).json()["data"] == []
    assert client.code("GET", "/me/billing/receipts/pay_A") == (401, "no_session")


def test_a_document_of_another_payment_is_not_found_under_this_one(client: Browser, key: Minted) -> None:
    given_pdf(client)
    other = given_pdf(client, payment_id="pay_B", order_id="order_B")
    assert client.code("GET", f"/me/billing/receipts/pay_A?document={other}", key.secret) == (404, "not_found")


def test_until_the_pdf_is_made_the_reply_says_what_it_waits_for(client: Browser, key: Minted) -> None:
    given_document(client.services)
    client.project()
    waiting = client("GET", "/me/billing/receipts/pay_A", key.secret)
    assert (waiting.status_code, waiting.json()["error"]["code"]) == (503, "receipt_not_ready")
    assert waiting.headers["retry-after"] == "5"
    client.services.documents.missing = lambda: LINE
    assert LINE in client("GET", "/me/billing/receipts/pay_A", key.secret).json()["error"]["message"]
    assert client("GET", "/me/billing/receipts/pay_A.html", key.secret).status_code == 200
    assert client("GET", "/me/billing/receipts", key.secret).json()["data"][0]["ready"] is False


def test_an_altered_pdf_is_not_handed_out(client: Browser, key: Minted) -> None:
    given_pdf(client)
    with psycopg.connect(client.services.database_url, autocommit=True) as connection:
        connection.execute("alter table document_pdf disable trigger documents_are_immutable")
        connection.execute("update document_pdf set pdf = 'forged', sha256 = encode(sha256('forged'), 'hex')")
    assert client.code("GET", "/me/billing/receipts/pay_A", key.secret) == (500, "internal_error")


def test_a_page_runs_nothing_and_loads_nothing(client: Browser, key: Minted) -> None:
    number = given_pdf(client, buyer=msgspec.structs.replace(BUYER, name="<script>alert(1)</script>"))
    for path in ("/me/billing/receipts/pay_A.html", f"/me/billing/documents/{number}.html"):
        page = client("GET", path, key.secret)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        nonce = re.search(r"style-src 'nonce-([0-9a-f]{32})'", policy)
        assert nonce is not None
        assert policy.startswith("default-src 'none'; ")
        assert f'<style nonce="{nonce[1]}">' in page.text
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "style=" not in page.text
    assert client("GET", path, key.secret).headers["content-security-policy"] != policy


def test_documents_are_listed_newest_first_in_pages(client: Browser, key: Minted) -> None:
    receipt = given_pdf(client)
    voucher = given_refund_voucher(client.services, receipt)
    cancel(client.services, voucher)
    client.project()
    page = client("GET", "/me/billing/receipts?limit=1", key.secret).json()
    assert page["data"] == [
        {
            "number": voucher,
            "kind": "refund_voucher",
            "issued_at": page["data"][0]["issued_at"],
            "payment_id": "pay_A",
            "refund_id": "rfnd_A",
            "original": receipt,
            "taxable_inr": "200",
            "tax_inr": "36",
            "total_inr": "236",
            "place_of_supply": "27",
            "cancelled": True,
            "ready": False,
            "sha256": None,
            "mailed_at": None,
            "pdf": f"/me/billing/documents/{voucher}",
            "html": f"/me/billing/documents/{voucher}.html",
        }
    ]
    rest = client("GET", f"/me/billing/receipts?limit=1&before={page['next_before']}", key.secret).json()
    assert [(row["number"], row["ready"], row["total_inr"]) for row in rest["data"]] == [(receipt, True, "590")]
    assert rest["next_before"] is None
    assert client.code("GET", "/me/billing/receipts?before=x", key.secret) == (400, "invalid_request")
    assert (
        client("GET", "/me/billing/receipts/pay_A", key.secret)
        .headers["content-disposition"]
        .endswith(f'{receipt.replace("/", "-")}.pdf"')
    )
    assert "Cancelled" in client("GET", f"/me/billing/documents/{voucher}.html", key.secret).text


# The public check


def test_anyone_can_check_a_document(client: Browser) -> None:
    number = given_pdf(client)
    kept = client.services.documents.kept(number)
    assert kept is not None
    reply = client("GET", f"/verify/{number}")
    assert reply.status_code == 200
    told = reply.json()
    assert told == {
        "genuine": True,
        "number": number,
        "kind": "receipt_voucher",
        "title": "Receipt Voucher",
        "issued_at": told["issued_at"],
        "total_inr": "590",
        "buyer": {"name": "अ••• T•••", "state": "Maharashtra (27)"},
        "supplier": told["supplier"],
        "sha256": kept.sha256,
        "cancelled": False,
        "cancelled_at": None,
    }


def test_the_check_shows_a_person_the_same(client: Browser) -> None:
    number = given_pdf(client)
    page = client("GET", f"/verify/{number}", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for shown in ("This document is genuine", number, "₹590.00", "अ••• T•••", "Maharashtra (27)"):
        assert shown in page.text
    for hidden in (BUYER.name, "Traders", "MG Road", "411001", BUYER.email, "pay_A", "order_A"):
        assert hidden not in page.text
        assert hidden not in client("GET", f"/verify/{number}").text


def test_a_cancelled_document_says_so(client: Browser) -> None:
    number = given_pdf(client)
    cancel(client.services, number)
    client.project()
    assert client("GET", f"/verify/{number}").json()["cancelled"] is True
    page = client("GET", f"/verify/{number}", headers={"accept": "text/html"}).text
    assert "This document was cancelled" in page
    assert "is genuine</h1>" not in page


@pytest.mark.parametrize("number", ["RV/26-27/999999", "x", "%3Cscript%3E", "RV/26-27/000001/", "a%00b"])
def test_an_unknown_number_is_told_as_such(client: Browser, number: str) -> None:
    given_pdf(client)
    assert client.code("GET", f"/verify/{number}") == (404, "not_found")
    page = client.page(f"/verify/{number}")
    assert page.status_code == 404
    assert "We issued no such document" in page.text
    assert "<script" not in page.text


# The command


def test_an_operator_makes_what_is_missing(
    client: Browser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = given_pdf(client)
    waiting = given_document(client.services, payment_id="pay_B", order_id="order_B")
    client.project()
    client.services.documents.keep(waiting, b"%PDF of a worker that died")
    monkeypatch.setenv("DATABASE_URL", client.services.database_url)
    monkeypatch.setenv("BHARATROUTER_HOME", str(client.services.settings.home))
    monkeypatch.setenv("BR_KEY_PEPPER", PEPPER.decode())

    def render_by_hand(*words: str) -> list[dict[str, Any]]:
        assert main(["document", "render", *words, "--json"]) == 0
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["documents"]
        return rows

    assert [(row["number"], row["made"]) for row in render_by_hand("--number", made)] == [(made, False)]
    assert [(row["number"], row["made"]) for row in render_by_hand("--all")] == [(waiting, True)]
    client.project()
    assert render_by_hand() == []
    assert main(["document", "render", "--number", "RV/00-01/000001"]) == 1
