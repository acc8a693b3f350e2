"""Money back over HTTP, on a real PostgreSQL, with the simulated Razorpay behind it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.ledger import LedgerWriter
from adapters.settings import Settings
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.ledger.events import CreditHeld
from projections.verify import verify
from tests.api.client import Client, minted
from tests.given import Minted, given_org
from tests.simulated_razorpay import KEY_ID, KEY_SECRET, WEBHOOK_SECRET, Simulated, simulated_razorpay

ADDRESS = {"name": "Asha Sharma", "address": ["12 MG Road"], "state": "29", "pin": "560025"}


@pytest.fixture(scope="module")
def running_simulator() -> Iterator[Simulated]:
    with simulated_razorpay() as simulated:
        yield simulated


@pytest.fixture
def razorpay(running_simulator: Simulated) -> Simulated:
    running_simulator.tell("reset")
    running_simulator.switch(refund_seconds=3_600)
    return running_simulator


@pytest.fixture
def settings(razorpay: Simulated, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        razorpay_url=razorpay.url,
        razorpay_key_id=KEY_ID,
        razorpay_key_secret=KEY_SECRET,
        razorpay_webhook_secrets=(WEBHOOK_SECRET,),
    )


@pytest.fixture
def key(client: Client) -> Minted:
    """The key of an org without credit that is billed in Karnataka."""
    key = org_with_key(client, "org_a")
    assert client("PUT", "/me/billing/address", key.secret, ADDRESS).status_code == 200
    return key


def org_with_key(client: Client, org: str) -> Minted:
    given_org(client.services.store, org, inr=0, at=client.services.clock())
    return minted(client, org, KeyTerms(name="first"))


def pay(client: Client, razorpay: Simulated, key: Minted, inr: int = 100) -> str:
    """A payment that has been credited; its id."""
    ordered = client("POST", "/me/billing/topup", key.secret, {"amount_inr": inr})
    assert ordered.status_code == 201, ordered.text
    payment = str(razorpay.pay(ordered.json()["order_id"])["id"])
    app = client.services
    app.till.look(payment, learned="sweep", at=app.clock(), by="test")
    client.project()
    return payment


def ask(client: Client, key: Minted, payment: str, *, idempotency_key: str = "", **more: Any) -> Any:
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    return client("POST", "/me/billing/refunds", key.secret, {"payment_id": payment} | more, headers=headers)


def available(client: Client) -> int:
    return client.services.available("org_a")


# Refunds


def test_a_refund_is_pending_then_processed(client: Client, razorpay: Simulated, key: Minted) -> None:
    payment = pay(client, razorpay, key)
    reply = ask(client, key, payment, amount_inr=25, reason="too much")
    assert reply.status_code == 201, reply.text
    refund = reply.json()
    assert refund["gateway_refund_id"].startswith("rfnd_")
    assert refund["reason"] == "too much"
    assert not any(b"too much" in bytes(fact[4]) for fact in client.services.log.after(0, limit=10_000))
    assert {name: refund[name] for name in ("payment_id", "status", "credit_inr", "tax_inr", "refunded_inr")} == {
        "payment_id": payment,
        "status": "pending",
        "credit_inr": "25",
        "tax_inr": "4.5",
        "refunded_inr": "29.5",
    }
    assert available(client) == rupees(75)
    client.project()
    assert client("GET", f"/me/billing/refunds/{refund['id']}", key.secret).json() == refund
    razorpay.tell(f"refunds/{refund['gateway_refund_id']}", {"status": "processed"})
    webhook_about(client, payment)
    client.project()
    ended = client("GET", f"/me/billing/refunds/{refund['id']}", key.secret).json()
    assert (ended["status"], ended["failure"]) == ("processed", None)
    assert ended["document"].startswith("RF/")
    assert ended["bank_reference"]
    assert verify(client.services.database_url).ok


def webhook_about(client: Client, payment: str) -> None:
    """What the webhook's route does once it has believed a notice about a refund of this payment."""
    app = client.services
    app.refunds.pursue(app.payment_gateway.payment(payment).order, at=app.clock(), by="webhook")


def test_all_that_is_unspent_goes_back_unless_said_otherwise(client: Client, razorpay: Simulated, key: Minted) -> None:
    razorpay.switch(refund_seconds=0)
    refund = ask(client, key, pay(client, razorpay, key)).json()
    assert (refund["status"], refund["credit_inr"], refund["refunded_inr"]) == ("processed", "100", "118")
    assert available(client) == 0


def test_a_repeat_with_the_same_key_is_the_same_refund(client: Client, razorpay: Simulated, key: Minted) -> None:
    payment = pay(client, razorpay, key)
    first = ask(client, key, payment, amount_inr=10, idempotency_key="once").json()
    again = ask(client, key, payment, amount_inr=10, idempotency_key="once")
    assert (again.status_code, again.json()) == (201, first)
    other = ask(client, key, payment, amount_inr=20, idempotency_key="once")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    client.project()
    assert len(client("GET", "/me/billing/refunds", key.secret).json()["data"]) == 1


def test_what_cannot_be_refunded_is_refused(client: Client, razorpay: Simulated, key: Minted) -> None:
    payment = pay(client, razorpay, key)
    stranger = org_with_key(client, "org_b")

    def refused(key: Minted, **asked: Any) -> tuple[int, str]:
        return client.code("POST", "/me/billing/refunds", key.secret, asked)

    assert refused(stranger, payment_id=payment) == (404, "not_found")
    assert refused(key, payment_id="pay_unknown") == (404, "not_found")
    assert refused(key, payment_id=payment, amount_inr="100.01") == (400, "refund_too_large")
    assert refused(key, payment_id=payment, amount_inr="1.001") == (400, "invalid_amount")
    assert refused(key, payment_id=payment, amount_inr=-1) == (400, "invalid_amount")
    assert refused(key, payment_id=payment, amount="1") == (400, "invalid_request")
    assert refused(key, payment_id=payment, reason="a\nb") == (400, "invalid_request")
    assert ask(client, key, payment, amount_inr=40).status_code == 201
    assert refused(key, payment_id=payment) == (409, "refund_under_way")
    for unknown in ("refund_x", "refund%00x"):
        assert client.code("GET", f"/me/billing/refunds/{unknown}", key.secret) == (404, "not_found")


def test_a_refund_is_shown_to_its_org_alone(client: Client, razorpay: Simulated, key: Minted) -> None:
    refund = ask(client, key, pay(client, razorpay, key)).json()
    stranger = org_with_key(client, "org_b")
    client.project()
    assert client.code("GET", f"/me/billing/refunds/{refund['id']}", stranger.secret) == (404, "not_found")
    assert client("GET", "/me/billing/refunds", stranger.secret).json()["data"] == []


def test_refunds_come_in_pages(client: Client, razorpay: Simulated, key: Minted) -> None:
    razorpay.switch(refund_seconds=0)
    payment = pay(client, razorpay, key)
    made = [ask(client, key, payment, amount_inr=inr).json()["id"] for inr in (1, 2, 3)]
    client.project()
    first = client("GET", "/me/billing/refunds?limit=2", key.secret).json()
    rest = client("GET", f"/me/billing/refunds?limit=2&before={first['next_before']}", key.secret).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == made[::-1]
    assert rest["next_before"] is None
    assert client.code("GET", "/me/billing/refunds?before=x", key.secret) == (400, "invalid_request")


def test_a_silent_gateway_leaves_the_refund_pending(client: Client, razorpay: Simulated, key: Minted) -> None:
    payment = pay(client, razorpay, key)
    razorpay.switch(api_status=503, api_path="/refund")
    refund = ask(client, key, payment).json()
    assert (refund["status"], refund["gateway_refund_id"]) == ("pending", None)
    assert available(client) == 0


def test_what_razorpay_refuses_has_failed_and_the_credit_is_back(
    client: Client, razorpay: Simulated, key: Minted
) -> None:
    payment = pay(client, razorpay, key)
    assert razorpay.ask("POST", f"payments/{payment}/refund", {"amount": 100}).status_code == 200  # past us
    refund = ask(client, key, payment).json()
    assert refund["status"] == "failed"
    assert "greater than" in refund["failure"]
    assert available(client) == rupees(100)


# At the same time


def test_of_refunds_of_one_payment_at_once_one_is_made(client: Client, razorpay: Simulated, key: Minted) -> None:
    payment = pay(client, razorpay, key)
    app = client.services

    def request(number: int) -> str:
        try:
            app.refunds.request(
                org="org_a",
                refund=f"refund_{number}",
                payment=payment,
                credit=rupees(70),
                reason="",
                at=app.clock(),
                by="test",
            )
        except Conflict as refused:
            return refused.code
        return "made"

    with ThreadPoolExecutor(8) as threads:
        told = sorted(threads.map(request, range(8)))
    assert told == ["made"] + ["refund_under_way"] * 7
    assert available(client) == rupees(30)
    client.project()
    assert verify(app.database_url).ok


def test_whoever_finishes_a_refund_at_once_it_is_finished_once(
    client: Client, razorpay: Simulated, key: Minted
) -> None:
    payment = pay(client, razorpay, key)
    refund = ask(client, key, payment).json()
    razorpay.tell(f"refunds/{refund['gateway_refund_id']}", {"status": "processed"})
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: webhook_about(client, payment), range(8)))
    client.project()
    names = [fact.event.NAME for fact in client.services.log.stream("account:org_a")]
    assert names.count("ledger.credit_withdrawn.v1") == 1
    assert verify(client.services.database_url).ok


def test_calls_and_a_refund_at_once_never_use_the_same_credit(client: Client, razorpay: Simulated, key: Minted) -> None:
    """150 calls of ₹1 come for ₹100, and amid them all that is unspent is asked back: each rupee goes one way."""
    payment = pay(client, razorpay, key)
    app = client.services

    async def race() -> int:
        writer = LedgerWriter(app.database_url, clock=app.clock)
        await writer.start()
        at = app.clock()
        held = CreditHeld(
            at=at,
            by=f"key:{key.key}",
            org=key.org,
            key=key.key,
            workspace=key.workspace,
            amount=rupees(1),
            expires=at + 900 * SECOND,
            endpoint="chat",
            model="m",
            candidates=("p/m",),
        )

        begun = asyncio.Event()

        async def call(number: int) -> bool:
            await asyncio.sleep(number / 200)
            made = await writer.hold(f"req_{number}", held) is None
            begun.set()
            return made

        async def ask_back() -> None:
            await begun.wait()
            await asyncio.to_thread(refund)

        told, _ = await asyncio.gather(asyncio.gather(*(call(number) for number in range(150))), ask_back())
        await writer.close()
        return sum(told)

    def refund() -> None:
        app.refunds.request(
            org="org_a", refund="refund_race", payment=payment, credit=None, reason="", at=app.clock(), by="test"
        )

    held = asyncio.run(race())
    order = app.payment_gateway.payment(payment).order
    refunded = app.refunds.find(order).refunds["refund_race"].credit
    assert min(held, refunded) > 0
    assert rupees(held) + refunded + available(client) == rupees(100)
    client.project()
    assert verify(app.database_url).ok


# Where an org is billed


def test_an_address_is_set_and_shown(client: Client) -> None:
    key = org_with_key(client, "org_a")
    assert client.code("GET", "/me/billing/address", key.secret) == (404, "not_found")
    wanted = {
        "name": "Acme Software Private Limited",
        "address": ["4th Floor", "Residency Road"],
        "city": "Bengaluru",
        "pin": "560 025",
        "state": "29",
        "gstin": "29aagcb7383j1z4",
        "email": "accounts@acme.example",
        "special_zone": True,
    }
    shown = client("PUT", "/me/billing/address", key.secret, wanted).json()
    assert shown == wanted | {"pin": "560025", "gstin": "29AAGCB7383J1Z4", "state_name": "Karnataka", "hint": None}
    assert client("GET", "/me/billing/address", key.secret).json() == shown
    assert client("PUT", "/me/billing/address", key.secret, wanted).json() == shown
    ordered = client("POST", "/me/billing/topup", key.secret, {"amount_inr": 500}).json()
    found = client.services.till.find(ordered["order_id"]).ordered
    assert found is not None
    assert (found.tax.igst, found.place_of_supply, found.special_zone) == (9_000, "29", True)
    facts = client.services.log.stream("billing:org_a")
    assert len(facts) == 1, "the same address again is no news"
    assert b"Acme" not in b"".join(row[4] for row in client.services.log.after(facts[0].position - 1, limit=1))


def test_a_pin_of_another_state_is_taken_with_a_hint(client: Client) -> None:
    key = org_with_key(client, "org_a")
    reply = client("PUT", "/me/billing/address", key.secret, ADDRESS | {"state": "32"})
    assert reply.status_code == 200
    assert "Karnataka" in reply.json()["hint"]


def test_slips_in_an_address_are_named(client: Client) -> None:
    key = org_with_key(client, "org_a")

    def refused(**changed: Any) -> tuple[int, str, str]:
        reply = client("PUT", "/me/billing/address", key.secret, ADDRESS | changed)
        return reply.status_code, reply.json()["error"]["code"], reply.json()["error"]["param"]

    assert refused(state="99") == (400, "invalid_request", "state")
    assert refused(gstin="29AAGCB7383J1Z5") == (400, "invalid_gstin", "gstin")
    assert refused(gstin="27AAPFU0939F1ZV") == (400, "invalid_gstin", "gstin")
    assert refused(special_zone=True) == (400, "invalid_gstin", "gstin")
    assert refused(address=[]) == (400, "invalid_request", "address")
    assert refused(country="France") == (400, "invalid_request", "country")
    without = client("PUT", "/me/billing/address", key.secret, {"name": "Asha", "address": ["x"]})
    assert (without.status_code, without.json()["error"]["param"]) == (400, "state")


def test_a_pin_suggests_state_and_city(client: Client) -> None:
    key = org_with_key(client, "org_a")
    assert client("GET", "/me/billing/pin/560025", key.secret).json() == {
        "pin": "560025",
        "states": [{"code": "29", "name": "Karnataka"}],
        "city": "Bengaluru",
    }
    assert client("GET", "/me/billing/pin/999999", key.secret).json()["states"] == []
    assert client.code("GET", "/me/billing/pin/56002", key.secret) == (400, "invalid_request")
    assert client.code("GET", "/me/billing/pin/560025") == (401, "no_session")


def test_a_low_balance_threshold_is_set_and_lifted(client: Client) -> None:
    key = org_with_key(client, "org_a")
    for threshold, shown in ((50, "50"), ("12.5", "12.5"), (None, None)):
        reply = client("PUT", "/me/billing/low-balance", key.secret, {"threshold_inr": threshold})
        assert (reply.status_code, reply.json()) == (200, {"threshold_inr": shown})
    assert client.code("PUT", "/me/billing/low-balance", key.secret, {"threshold_inr": 0}) == (400, "invalid_amount")
    assert client.code("PUT", "/me/billing/low-balance", key.secret, {}) == (400, "invalid_request")
