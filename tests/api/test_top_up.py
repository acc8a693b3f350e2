"""Topping up through the whole application, on a real PostgreSQL, with Razorpay played by its simulator."""

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import razorpay
from pydantic import SecretStr

from adapters.settings import Settings
from adapters.wiring import App
from api.counter import Counter
from domain.kernel.clock import SECOND
from domain.kernel.errors import Unavailable
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.payments.events import PaymentCaptured, PaymentSetAside, PromoCreated
from domain.payments.payment import Order
from domain.payments.promo import create_promo
from projections.payments import open_orders, open_orders_of
from projections.verify import verify
from tests.api.client import Client, minted, started
from tests.given import Minted, given_org
from tests.simulated_razorpay import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Heard,
    Hook,
    Simulated,
    simulated_razorpay,
    webhook_endpoint,
)
from workers.reconcile_payments import FIRST_ASKED, Sweep

ADDRESS = {"name": "Asha Rao", "address": ["12 MG Road"], "city": "Bengaluru", "pin": "560001", "state": "29"}
OLD_SECRET = "the-secret-before"


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with webhook_endpoint() as hook:
        yield hook


@pytest.fixture(scope="module")
def _simulator(hook: Hook) -> Iterator[Simulated]:
    with simulated_razorpay(webhook_url=hook.url) as simulated:
        yield simulated


@pytest.fixture
def gateway(_simulator: Simulated, hook: Hook) -> Simulated:
    _simulator.tell("reset")
    hook.heard.clear()
    return _simulator


@pytest.fixture
def new_app(database_url: str, tmp_path: Path, gateway: Simulated) -> Iterator[Callable[..., App]]:
    def make(**settings: Any) -> App:
        given: dict[str, Any] = {
            "razorpay_url": gateway.url,
            "razorpay_key_id": KEY_ID,
            "razorpay_key_secret": SecretStr(KEY_SECRET),
            "razorpay_webhook_secrets": (SecretStr(WEBHOOK_SECRET), SecretStr(OLD_SECRET)),
        }
        return made.enter_context(started(Settings(home=tmp_path, **given | settings), database_url))

    with ExitStack() as made:
        yield make


@pytest.fixture
def client(new_app: Callable[..., App]) -> Client:
    return Client(new_app())


@pytest.fixture
def key(client: Client) -> Minted:
    """A key of an org that has an address but no money."""
    return customer(client, "org_a")


def customer(client: Client, org: str) -> Minted:
    given_org(client.services.store, org, inr=0, at=client.services.clock())
    key = minted(client, org, KeyTerms(name="first"))
    assert client("PUT", "/me/billing/address", key.secret, ADDRESS).status_code == 200
    return key


def ordered(client: Client, key: Minted, inr: Any = 500, **more: Any) -> dict[str, Any]:
    made = client("POST", "/me/billing/topup", key.secret, {"amount_inr": inr, **more})
    assert made.status_code == 201, made.text
    return dict(made.json())


def handed_over(paid: dict[str, Any]) -> dict[str, str]:
    return {name: paid[name] for name in paid if name.startswith("razorpay_")}


def told(client: Client, body: bytes, signature: str | None) -> tuple[int, str]:
    headers = {} if signature is None else {"x-razorpay-signature": signature}
    reply = client("POST", "/webhooks/razorpay", content=body, headers=headers)
    return reply.status_code, "" if reply.status_code == 200 else reply.json()["error"]["code"]


def forwarded(client: Client, heard: Heard) -> int:
    return told(client, heard.body, heard.signature)[0]


def available(client: Client, org: str = "org_a") -> int:
    return client.services.available(org)


def captured(client: Client) -> list[PaymentCaptured]:
    facts = [row for row in client.services.log.after(0, limit=10_000) if row[3] == PaymentCaptured.NAME]
    return [client.services.log.stream(stream)[version - 1].event for _, stream, version, _, _ in facts]


# Ordering


def test_an_order_tells_credit_tax_and_all_that_the_checkout_needs(
    client: Client, key: Minted, gateway: Simulated
) -> None:
    order = ordered(client, key)
    assert (order["credit_inr"], order["amount_paise"], order["currency"]) == ("500", 59_000, "INR")
    assert order["tax"] == {
        "percent": 18,
        "taxable_inr": "500",
        "cgst_inr": "45",
        "sgst_inr": "45",
        "utgst_inr": "0",
        "igst_inr": "0",
        "total_inr": "590",
    }
    assert (order["key_id"], order["promo_code"], order["promo_credit_inr"]) == (KEY_ID, None, "0")
    assert gateway.get(order["checkout_url"].removeprefix(f"{gateway.url}/")).status_code == 200
    known = gateway.ask("GET", f"orders/{order['order_id']}").json()
    assert (known["amount"], known["status"]) == (59_000, "created")


@pytest.mark.parametrize("amount", [99, "99", 100.5, "100.000000001", 1_001, 0, -100])
def test_only_whole_rupees_within_the_limits_are_taken(client: Client, key: Minted, amount: Any) -> None:
    body = {"amount_inr": amount}
    assert client.code("POST", "/me/billing/topup", key.secret, body) == (400, "invalid_amount")


def test_an_org_orders_only_so_much_without_paying(
    new_app: Callable[..., App], key: Minted, gateway: Simulated
) -> None:
    client = Client(new_app(open_orders_max=2))
    other = customer(client, "org_b")
    paid, left = ordered(client, key)["order_id"], ordered(client, key)["order_id"]
    client.project()
    assert client.code("POST", "/me/billing/topup", key.secret, {"amount_inr": 500}) == (409, "too_many_orders")
    ordered(client, other)
    client.services.till.look(gateway.pay(paid)["id"], learned="operator", at=client.services.clock(), by="test")
    client.project()
    newest = ordered(client, key)["order_id"]
    client.project()
    assert client.code("POST", "/me/billing/topup", key.secret, {"amount_inr": 500}) == (409, "too_many_orders")
    with client.services.reading() as connection:
        rows = open_orders(connection, created_after=0, created_before=2**62)
        assert open_orders_of(connection, "org_a", created_after=client.services.clock()) == 0
    assert (len(rows), rows[0][0], rows[2][0]) == (3, newest, left), "each org has its turn first"


def test_an_org_without_an_address_is_asked_for_it(client: Client) -> None:
    given_org(client.services.store, "org_new", at=client.services.clock())
    key = minted(client, "org_new", KeyTerms(name="first"))
    answer = client.code("POST", "/me/billing/topup", key.secret, {"amount_inr": 100})
    assert answer == (400, "billing_address_required")


def test_inference_keys_and_strangers_move_no_money(client: Client, key: Minted) -> None:
    inference = minted(client, "org_a", KeyTerms(name="calls", scope="inference"))
    for path in ("/me/billing/topup", "/me/billing/verify", "/me/billing/promo/check"):
        assert client.code("POST", path, inference.secret, {}) == (403, "forbidden_scope")
        assert client.code("POST", path, json={}) == (401, "no_session")


def test_without_a_razorpay_key_payments_are_told_to_be_missing(
    client: Client, key: Minted, new_app: Callable[..., App]
) -> None:
    without = Client(new_app(razorpay_key_id=None, razorpay_key_secret=None))
    body = {"amount_inr": 100}
    assert without.code("POST", "/me/billing/topup", key.secret, body) == (503, "provider_not_configured")
    assert told(without, b"{}", None) == (503, "provider_not_configured")


def test_an_outage_of_razorpay_is_told_and_orders_nothing(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.switch(api_path="/v1/orders", api_status=503)
    body = {"amount_inr": 100}
    assert client.code("POST", "/me/billing/topup", key.secret, body) == (503, "payments_unavailable")
    client.project()
    assert client("GET", "/me/billing/payments", key.secret).json() == {"orders": [], "next_before": None}


# The browser's word


def test_the_handler_credits_once_and_may_be_called_again(client: Client, key: Minted, gateway: Simulated) -> None:
    order = ordered(client, key)
    paid = gateway.pay(order["order_id"])
    official = razorpay.Client(auth=(KEY_ID, KEY_SECRET), base_url=gateway.url)
    assert official.utility.verify_payment_signature(handed_over(paid))
    for _ in range(2):
        outcome = client("POST", "/me/billing/verify", key.secret, handed_over(paid)).json()
        assert (outcome["status"], outcome["credited"], outcome["credit_inr"]) == ("captured", True, "500")
    assert available(client) == rupees(500)
    (fact,) = captured(client)
    assert (fact.learned, fact.method, fact.amount_paise) == ("handler", "upi", 59_000)
    assert fact.fee_paise > fact.fee_tax_paise > 0
    client.project()
    (row,) = client("GET", "/me/billing/payments", key.secret).json()["orders"]
    assert (row["order_id"], row["status"], row["payment_id"]) == (order["order_id"], "captured", paid["id"])
    assert [(each["status"], each["amount_inr"]) for each in row["payments"]] == [("captured", "590")]


def test_an_authorised_payment_is_taken_by_the_handler(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.switch(auto_capture=False)
    paid = gateway.pay(ordered(client, key)["order_id"])
    assert paid["status"] == "authorized"
    assert client("POST", "/me/billing/verify", key.secret, handed_over(paid)).json()["credited"] is True
    assert gateway.ask("GET", f"payments/{paid['id']}").json()["status"] == "captured"


def test_what_was_not_signed_by_razorpay_is_refused(client: Client, key: Minted, gateway: Simulated) -> None:
    order = ordered(client, key)
    paid = handed_over(gateway.pay(order["order_id"]))
    other = handed_over(gateway.pay(ordered(client, key)["order_id"]))
    for forged in (
        paid | {"razorpay_signature": "0" * 64},
        paid | {"razorpay_signature": ""},
        paid | {"razorpay_signature": paid["razorpay_signature"].upper()},
        paid | {"razorpay_payment_id": other["razorpay_payment_id"]},
        paid | {"razorpay_order_id": other["razorpay_order_id"]},
    ):
        assert client.code("POST", "/me/billing/verify", key.secret, forged) == (400, "invalid_signature")
    assert available(client) == 0


def test_the_order_of_another_org_does_not_exist(client: Client, key: Minted, gateway: Simulated) -> None:
    stranger = customer(client, "org_b")
    paid = handed_over(gateway.pay(ordered(client, key)["order_id"]))
    unknown = paid | {"razorpay_order_id": "order_00000000000000"}
    assert client.code("POST", "/me/billing/verify", stranger.secret, paid) == (404, "not_found")
    assert client.code("POST", "/me/billing/verify", stranger.secret, unknown) == (404, "not_found")
    for wrong in ("order_\0", "../payments", "x" * 200):
        body = paid | {"razorpay_order_id": wrong}
        assert client.code("POST", "/me/billing/verify", stranger.secret, body) == (400, "invalid_request")
    assert (available(client), available(client, "org_b")) == (0, 0)
    client.project()
    assert client("GET", "/me/billing/payments", stranger.secret).json()["orders"] == []


# Webhooks


def test_webhooks_alone_credit_once_in_any_order_and_number(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    paid = gateway.pay(ordered(client, key)["order_id"])
    heard = hook.until(3)
    assert {one.event for one in heard} == {"payment.authorized", "payment.captured", "order.paid"}
    official = razorpay.Client(auth=(KEY_ID, KEY_SECRET))
    for one in [*heard[::-1], *heard]:
        assert official.utility.verify_webhook_signature(one.body.decode(), one.signature, WEBHOOK_SECRET)
        assert forwarded(client, one) == 200
    assert available(client) == rupees(500)
    assert [(fact.payment, fact.learned) for fact in captured(client)] == [(paid["id"], "webhook")]


def test_a_failed_payment_that_is_captured_days_later_is_credited(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    order = ordered(client, key)["order_id"]
    gateway.pay(order, outcome="late")
    gateway.advance(700)
    assert [forwarded(client, one) for one in hook.until(1)] == [200]
    client.project()
    (row,) = client("GET", "/me/billing/payments", key.secret).json()["orders"]
    assert (row["status"], row["payments"][0]["status"]) == ("failed", "failed")
    gateway.advance(3 * 86_400)
    for one in hook.until(4):
        assert forwarded(client, one) == 200
    assert available(client) == rupees(500)


def test_the_secret_before_is_still_good_and_others_never_are(
    client: Client, key: Minted, gateway: Simulated, hook: Hook, new_app: Callable[..., App]
) -> None:
    gateway.tell("webhook", {"url": hook.url, "secret": WEBHOOK_SECRET, "old_secret": OLD_SECRET}, "PUT")
    gateway.switch(webhook_signature="old_secret")
    gateway.pay(ordered(client, key)["order_id"])
    one = hook.until(3)[1]
    signature = one.signature
    for secrets in ((), (SecretStr(""),), (SecretStr(WEBHOOK_SECRET),)):
        refusing = Client(new_app(razorpay_webhook_secrets=secrets))
        for given in (signature, None, "", "0" * 64, _hmac("", one.body)):
            assert told(refusing, one.body, given) == (400, "invalid_signature")
    altered = one.body.replace(b"59000", b"59001")
    assert altered != one.body
    for body, given in (
        (altered, signature),
        (one.body + b" ", signature),
        (json.dumps(json.loads(one.body)).encode(), signature),
        (one.body, None),
        (one.body, _hmac("", one.body)),
    ):
        assert told(client, body, given) == (400, "invalid_signature")
    assert available(client) == 0
    assert told(client, one.body, signature) == (200, "")
    assert available(client) == rupees(500)


def _hmac(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_lie_that_is_well_signed_credits_nothing(client: Client, key: Minted, gateway: Simulated, hook: Hook) -> None:
    """The secret of the webhook alone is not worth money: the payment is asked for at Razorpay itself."""
    order = ordered(client, key)["order_id"]
    gateway.pay(order, outcome="failed")
    lie = hook.until(1)[0].body.replace(b"payment.failed", b"payment.captured").replace(b'"failed"', b'"captured"')
    assert told(client, lie, _hmac(WEBHOOK_SECRET, lie)) == (200, "")
    unknown = lie.replace(b"pay_", b"pay_0")
    assert told(client, unknown, _hmac(WEBHOOK_SECRET, unknown)) == (200, "")
    assert available(client) == 0


def test_what_is_signed_and_no_repeat_would_mend_is_taken(
    client: Client, key: Minted, caplog: pytest.LogCaptureFixture
) -> None:
    for body, lines in (
        (b'{"event":"invoice.paid","payload":{}}', 0),
        (b'{"event":"payment.captured","payload":{}}', 1),
        (b"not json", 2),
    ):
        assert told(client, body, _hmac(WEBHOOK_SECRET, body)) == (200, "")
        assert sum("cannot read" in record.message for record in caplog.records) == lines
    assert told(client, b"not json", None) == (400, "invalid_signature")
    assert told(client, b"x" * 300_000, None) == (413, "payload_too_large")


def test_a_payment_that_razorpay_will_not_show_is_not_told_for_ever(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    gateway.pay(ordered(client, key)["order_id"])
    one = hook.until(3)[1]
    gateway.switch(api_path="GET /v1/payments", api_status=400)
    assert forwarded(client, one) == 200
    assert available(client) == 0


def test_an_outage_is_answered_so_that_razorpay_tells_again(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    gateway.pay(ordered(client, key)["order_id"])
    one = hook.until(3)[1]
    gateway.switch(api_path="GET /v1/payments", api_status=502)
    assert told(client, one.body, one.signature) == (503, "payments_unavailable")
    gateway.switch()
    assert forwarded(client, one) == 200
    assert available(client) == rupees(500)


def test_money_that_does_not_fit_is_set_aside_and_shown(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    order = ordered(client, key)["order_id"]
    gateway.pay(order)
    second = gateway.pay(order, even_if_paid=True, outcome="authorized")
    by_hand = gateway.ask("POST", f"payments/{second['id']}/capture", {"amount": 59_000, "currency": "INR"})
    assert by_hand.status_code == 200
    gateway.pay(gateway.order(4_200)["id"])
    for one in hook.until(8):
        assert forwarded(client, one) == 200
    assert available(client) == rupees(500)
    client.project()
    (row,) = client("GET", "/me/billing/payments", key.secret).json()["orders"]
    assert [(each["status"], each["reason"]) for each in row["payments"]] == [
        ("captured", None),
        ("set_aside", "order_paid_already"),
    ]
    asides = [fact for fact in client.services.log.after(0, limit=999) if fact[3] == PaymentSetAside.NAME]
    assert len(asides) == 2
    assert verify(client.services.database_url).findings == []


def test_whoever_has_the_webhooks_secret_can_make_up_no_dispute_and_decide_none(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    payment = gateway.pay(ordered(client, key)["order_id"])["id"]
    hook.until(3)
    true = gateway.tell("disputes", {"payment": payment})
    for one in hook.until(4):
        assert forwarded(client, one) == 200
    assert available(client) == 0
    entity = gateway.ask("GET", f"payments/{payment}").json()
    lies = [(true | {"status": "won"}, "won"), (true | {"status": "lost"}, "lost")]
    lies += [(true | {"id": "disp_madeUp", "payment_id": payment}, "created")]
    for lie, step in lies:
        payload = {"payment": {"entity": entity}, "dispute": {"entity": lie}}
        body = json.dumps({"event": f"payment.dispute.{step}", "payload": payload, "created_at": 0}).encode()
        assert told(client, body, _hmac(WEBHOOK_SECRET, body)) == (200, "")
    assert available(client) == 0
    gateway.tell(f"disputes/{true['id']}", {"status": "won"})
    assert forwarded(client, hook.until(5)[4]) == 200
    assert available(client) == rupees(500)
    client.project()
    assert verify(client.services.database_url).findings == []


def test_many_webhooks_at_once_are_few_transactions_and_exact(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    orders = [ordered(client, key, 100)["order_id"] for _ in range(30)]
    for order in orders:
        gateway.pay(order)
    payments = {}
    app = client.services
    for one in hook.until(90):
        notice = app.payment_gateway.parse_webhook(one.body)
        payments[one.id] = notice.payment
    counter = Counter(app)
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(counter._look, [payment for payment in payments.values() if payment]))
    assert available(client) == rupees(3_000)
    assert sorted(fact.order for fact in captured(client)) == sorted(orders)
    assert verify(app.database_url).findings == []


def test_a_payment_that_cannot_be_recorded_stops_no_other(
    client: Client, key: Minted, gateway: Simulated, hook: Hook
) -> None:
    app = client.services
    paid = [gateway.pay(ordered(client, key, 100)["order_id"])["id"] for _ in range(3)]
    till, waiting = app.till, []
    for payment in paid:
        found = till.gateway.payment(payment)
        said = till.hear(found, till.find(found.order), learned="webhook")
        waiting.append((said if payment != paid[1] else replace(said, draft=None), Future()))
    Counter(app)._write(waiting)
    assert [isinstance(done.exception(), AssertionError) for _, done in waiting] == [False, True, False]
    assert available(client) == rupees(200)


def test_a_payment_that_postgresql_refuses_stops_no_other(client: Client, key: Minted, gateway: Simulated) -> None:
    app = client.services
    paid = [gateway.pay(ordered(client, key, 100)["order_id"])["id"] for _ in range(3)]
    till, waiting = app.till, []
    for payment in paid:
        found = till.gateway.payment(payment)
        said = till.hear(found, till.find(found.order), learned="webhook")
        if payment == paid[0]:
            said = replace(said, payment=replace(found, order="order_\0"))
        waiting.append((said, Future[Order]()))
    Counter(app)._write(waiting)
    assert [isinstance(done.exception(), Unavailable) for _, done in waiting] == [True, False, False]
    assert available(client) == rupees(200)


# The sweep


def test_the_sweep_finds_what_nobody_told(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.switch(auto_capture=False, list_lag_seconds=0)
    paid, abandoned = (ordered(client, key)["order_id"] for _ in range(2))
    payment = gateway.pay(paid)
    gateway.pay(abandoned, outcome="failed")
    client.project()
    early, sweep = client.services, Sweep()
    assert sweep.run(early) == 0
    assert available(client) == 0
    later = replace(early, clock=lambda: early.clock() + FIRST_ASKED + SECOND)
    assert sweep.run(later) == 1
    assert [(fact.payment, fact.learned) for fact in captured(client)] == [(payment["id"], "sweep")]
    assert available(client) == rupees(500)
    client.project()
    rows = client("GET", "/me/billing/payments", key.secret).json()["orders"]
    assert {row["order_id"]: row["status"] for row in rows} == {paid: "captured", abandoned: "failed"}
    assert verify(early.database_url).findings == []


def test_the_sweep_asks_again_with_growing_pauses_and_gives_up_after_days(
    client: Client, key: Minted, gateway: Simulated
) -> None:
    order = ordered(client, key)["order_id"]
    client.project()
    app, sweep = client.services, Sweep()
    asked = []

    class Counting:
        """The gateway, but it counts how often it is asked about the order."""

        def __getattr__(self, name: str) -> Any:
            return getattr(app.payments, name)

        def order(self, id: str) -> Any:
            asked.append(now)
            return app.payment_gateway.order(id)

    start = app.clock()
    now = 0
    swept = replace(app, clock=lambda: start + now, payments=Counting())
    for minutes in range(0, 8 * 24 * 60, 5):
        now = minutes * 60 * SECOND
        sweep.run(swept)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert asked[0] <= 20 * 60 * SECOND
    assert pauses == sorted(pauses)
    assert 10 < len(asked) < 25
    assert asked[-1] < 5 * 24 * 3600 * SECOND
    assert client.services.till.find(order).status == "created"


def test_the_sweep_asks_soon_again_while_lists_lag_behind(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.pay(ordered(client, key)["order_id"])
    client.project()
    app, sweep = client.services, Sweep()
    later = replace(app, clock=lambda: app.clock() + FIRST_ASKED + SECOND)
    gateway.switch(list_lag_seconds=300)
    assert sweep.run(later) == 0
    gateway.switch()
    assert sweep.run(later) == 1
    assert available(client) == rupees(500)


def test_the_sweep_waits_for_razorpay(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.pay(ordered(client, key)["order_id"])
    client.project()
    app, sweep = client.services, Sweep()
    later = replace(app, clock=lambda: app.clock() + FIRST_ASKED + SECOND)
    gateway.switch(api_path="/v1/orders", api_status=500)
    began = time.monotonic()
    assert sweep.run(later) == 0
    assert time.monotonic() - began < 10
    gateway.switch()
    assert sweep.run(later) == 1


@pytest.mark.parametrize("fault", [Unavailable("payments_unavailable", "not understood"), ValueError("a fault")])
def test_an_order_that_is_at_fault_keeps_the_sweep_from_no_other(
    client: Client, key: Minted, gateway: Simulated, fault: Exception
) -> None:
    paid = [ordered(client, key)["order_id"] for _ in range(3)]
    gateway.switch(list_lag_seconds=0)
    for order in paid:
        gateway.pay(order)
    client.project()
    app, sweep = client.services, Sweep()

    class Faulty:
        def __getattr__(self, name: str) -> Any:
            return getattr(app.payments, name)

        def order(self, id: str) -> Any:
            if id == paid[1]:
                raise fault
            return app.payment_gateway.order(id)

    later = replace(app, clock=lambda: app.clock() + FIRST_ASKED + SECOND, payments=Faulty())
    assert sweep.run(later) == 2
    assert available(client) == rupees(1_000)


def test_the_sweep_takes_three_silences_for_an_outage_and_the_others_first_the_next_time(
    client: Client, key: Minted, gateway: Simulated
) -> None:
    for _ in range(5):
        ordered(client, key)
    client.project()
    app, sweep, asked = client.services, Sweep(), []

    class Silent:
        def __getattr__(self, name: str) -> Any:
            return getattr(app.payments, name)

        def order(self, id: str) -> Any:
            asked.append(id)
            raise Unavailable("payments_unavailable", "no answer")

    later = replace(app, clock=lambda: app.clock() + FIRST_ASKED + SECOND, payments=Silent())
    sweep.run(later)
    assert len(asked) == 3
    sweep.run(later)
    assert len(set(asked)) == 5


def test_one_sweep_is_under_way_at_a_time_of_all_processes(client: Client, key: Minted, gateway: Simulated) -> None:
    gateway.switch(list_lag_seconds=0)
    gateway.pay(ordered(client, key)["order_id"])
    client.project()
    app, sweep, elsewhere, answers = client.services, Sweep(), Sweep(), []

    class Again:
        def __getattr__(self, name: str) -> Any:
            return getattr(app.payments, name)

        def order(self, id: str) -> Any:
            answers.extend([sweep.run(later), elsewhere.run(later)])
            return app.payment_gateway.order(id)

    later = replace(app, clock=lambda: app.clock() + FIRST_ASKED + SECOND)
    assert sweep.run(replace(later, payments=Again())) == 1
    assert answers == [0, 0]
    assert len(captured(client)) == 1


# Promo codes


def test_a_promo_code_is_checked_ordered_and_redeemed(client: Client, key: Minted, gateway: Simulated) -> None:
    app = client.services
    promo = PromoCreated(code="DIWALI26", percent=10, cap=rupees(60), credit_days=30)
    create_promo(app.store, promo, at=app.clock(), by="operator")
    asked = {"promo_code": " diwali26 ", "amount_inr": 500}
    answer = client("POST", "/me/billing/promo/check", key.secret, asked).json()
    assert (answer["promo_code"], answer["promo_credit_inr"], answer["cap_inr"]) == ("DIWALI26", "50", "60")
    without_amount = client("POST", "/me/billing/promo/check", key.secret, {"promo_code": "DIWALI26"}).json()
    assert (without_amount["promo_credit_inr"], without_amount["percent"]) == (None, 10)
    for code in ("NOSUCH", "x", "दिवाली"):
        answer = client.code("POST", "/me/billing/promo/check", key.secret, {"promo_code": code})
        assert answer == (400, "promo_invalid")
    order = ordered(client, key, 500, promo_code="diwali26")
    assert (order["promo_code"], order["promo_credit_inr"], order["amount_paise"]) == ("DIWALI26", "50", 59_000)
    rival = ordered(client, key, 500, promo_code="DIWALI26")
    for each in (order, rival):
        client("POST", "/me/billing/verify", key.secret, handed_over(gateway.pay(each["order_id"])))
    assert available(client) == rupees(1_050)
    body = {"promo_code": "DIWALI26"}
    assert client.code("POST", "/me/billing/promo/check", key.secret, body) == (409, "promo_redeemed")
    answer = client.code("POST", "/me/billing/topup", key.secret, body | {"amount_inr": 100})
    assert answer == (409, "promo_redeemed")
    client.project()
    rows = client("GET", "/me/billing/payments", key.secret).json()["orders"]
    assert [(row["promo_credit_inr"], row["promo_missed"]) for row in rows] == [("0", "redeemed"), ("50", None)]


# Lists


def test_orders_come_in_pages(client: Client, key: Minted) -> None:
    made = [ordered(client, key)["order_id"] for _ in range(5)]
    client.project()
    seen: list[str] = []
    before = ""
    while before is not None:
        query = {"limit": 2} | ({"before": before} if before else {})
        page = client("GET", "/me/billing/payments", key.secret, params=query).json()
        seen += [row["order_id"] for row in page["orders"]]
        before = page["next_before"]
    assert seen == made[::-1]
    for wrong in ("x", "-", "1\0", "9" * 30 + "-a"):
        reply = client("GET", "/me/billing/payments", key.secret, params={"before": wrong})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
