"""The simulated Razorpay is what other tests believe about the real one: the official SDK drives it unchanged, and each
switch and each sentence of its error table is held to what the documentation says.
"""

import base64
import hashlib
import hmac
import itertools
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import razorpay
import requests
from hypothesis import given
from hypothesis import strategies as st

from adapters.simulators.razorpay.webhooks import LADDER_SECONDS, encode
from tests.simulated_razorpay import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Hook,
    Json,
    Simulated,
    simulated_razorpay,
)

DAY = 86_400


@pytest.fixture
def sdk(simulated: Simulated) -> Iterator[Any]:
    with requests.Session() as session:
        session.trust_env = False
        yield razorpay.Client(session=session, auth=(KEY_ID, KEY_SECRET), base_url=simulated.url)


def signed(body: bytes, secret: str = WEBHOOK_SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


# The official SDK


def test_the_official_sdk_takes_an_order_to_its_refund(sdk: Any, simulated: Simulated) -> None:
    order = sdk.order.create({"amount": 59_000, "currency": "INR", "receipt": "r-1", "notes": {"org": "org_1"}})
    assert (order["status"], order["amount_due"], order["attempts"]) == ("created", 59_000, 0)
    assert re.fullmatch(r"order_[A-Za-z0-9]{14}", order["id"])
    handed = simulated.pay(order["id"])
    assert sdk.utility.verify_payment_signature(
        {name: handed[name] for name in ("razorpay_order_id", "razorpay_payment_id", "razorpay_signature")}
    )
    assert sdk.order.fetch(order["id"])["status"] == "paid"
    [payment] = sdk.order.payments(order["id"])["items"]
    assert payment["status"] == "captured"
    refund = sdk.payment.refund(payment["id"], {"amount": 9_000})
    assert sdk.refund.fetch(refund["id"])["status"] == "pending"
    simulated.advance(2)
    assert sdk.payment.fetch_refund_id(payment["id"], refund["id"])["status"] == "processed"
    assert sdk.payment.fetch(payment["id"])["refund_status"] == "partial"
    assert sdk.payment.fetch_multiple_refund(payment["id"])["count"] == 1
    assert sdk.order.fetch(order["id"])["status"] == "paid"
    assert sdk.order.edit(order["id"], {"notes": {"a": "b"}})["notes"] == {"a": "b"}


def test_the_official_sdk_verifies_our_webhooks_and_no_altered_one(sdk: Any, simulated: Simulated, hook: Hook) -> None:
    simulated.pay(simulated.order()["id"])
    for heard in hook.until(3):
        assert sdk.utility.verify_webhook_signature(heard.body.decode(), heard.signature, WEBHOOK_SECRET)
        with pytest.raises(razorpay.errors.SignatureVerificationError):
            sdk.utility.verify_webhook_signature(heard.body.decode() + " ", heard.signature, WEBHOOK_SECRET)


def test_the_official_sdk_meets_refusals_as_its_own_errors(sdk: Any, simulated: Simulated) -> None:
    with pytest.raises(razorpay.errors.BadRequestError, match="less than minimum"):
        sdk.order.create({"amount": 99, "currency": "INR"})
    simulated.switch(api_status=500)
    with pytest.raises(razorpay.errors.ServerError):
        sdk.order.fetch("order_x")
    simulated.switch(api_status=504)
    with pytest.raises(razorpay.errors.GatewayError):
        sdk.order.fetch("order_x")


# Refusals


@pytest.mark.parametrize(
    ("change", "description", "reason"),
    [
        ({"amount": 99}, "Order amount less than minimum amount allowed", "amount_less_than_minimum_amount"),
        ({"amount": 100.5}, "The amount must be an integer.", "input_validation_failed"),
        ({"amount": "100"}, "The amount must be an integer.", "input_validation_failed"),
        ({"amount": True}, "The amount must be an integer.", "input_validation_failed"),
        ({"currency": 5}, "expected string but provided `5`", "input_validation_failed"),
        ({"currency": "inr"}, "Currency is not supported", "input_validation_failed"),
        ({"color": "red"}, "color is/are not required and should not be sent", "extra_field_sent"),
        ({"receipt": "x" * 41}, "The receipt may not be greater than 40 characters.", "input_validation_failed"),
        ({"notes": {str(n): "x" for n in range(16)}}, "Number of fields in notes", "input_validation_failed"),
        ({"notes": {"a": "x" * 257}}, "notes.a may not be greater than 256", "input_validation_failed"),
        ({"notes": "x"}, "notes must be an object", "input_validation_failed"),
        ({"unique_receipt": "yes"}, "must be true or false", "input_validation_failed"),
        (
            {"payment": {"capture": "manual", "capture_options": {"manual_expiry_period": 11}}},
            "must be at least 12",
            "input_validation_failed",
        ),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    simulated: Simulated, change: Json, description: str, reason: str
) -> None:
    answer = simulated.ask("POST", "orders", {"amount": 50_000, "currency": "INR"} | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["reason"]) == (400, "BAD_REQUEST_ERROR", reason)
    assert description in error["description"]
    assert simulated.ask("GET", "orders").json()["count"] == 0


@pytest.mark.parametrize("missing", ["amount", "currency"])
def test_what_an_order_needs_is_named(simulated: Simulated, missing: str) -> None:
    body = {"amount": 50_000, "currency": "INR"}
    del body[missing]
    assert simulated.ask("POST", "orders", body).json()["error"]["description"] == f"{missing}: is required."


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(simulated: Simulated, raw: bytes) -> None:
    answer = simulated.ask("POST", "orders", content=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_REQUEST_ERROR")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !",
        "basic {good}",
        "BASIC {good}",
        'Basic "{good}"',
        "Bearer {good}",
        "Basic " + base64.b64encode(f"{KEY_ID}:wrong".encode()).decode(),
        "Basic " + base64.b64encode(f"{KEY_ID}:".encode()).decode(),
    ],
)
def test_only_the_right_key_in_the_right_scheme_is_let_in(simulated: Simulated, header: str | None) -> None:
    good = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
    headers = {} if header is None else {"authorization": header.format(good=good)}
    answer = simulated.ask("GET", "orders", auth=None, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["description"], error["reason"]) == (401, "Authentication failed", "NA")
    simulated.switch(wrong_key_status=400)
    assert simulated.ask("GET", "orders", auth=None, headers=headers).status_code == 400
    assert simulated.ask("GET", "orders").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "orders/order_none"),
        ("GET", "orders/order_none/payments"),
        ("GET", "payments/pay_none"),
        ("GET", "refunds/rfnd_none"),
        ("POST", "payments/pay_none/refund"),
        ("PATCH", "orders/order_none"),
    ],
)
def test_an_unknown_id_does_not_exist(simulated: Simulated, method: str, path: str) -> None:
    answer = simulated.ask(method, path, None if method == "GET" else {"notes": {}})
    error = answer.json()["error"]
    assert (answer.status_code, error["description"]) == (400, "The id provided does not exist")
    assert (error["reason"], error["source"], error["step"]) == (
        "input_validation_failed",
        "business",
        "payment_initiation",
    )


def test_an_unknown_url_is_not_found(simulated: Simulated) -> None:
    assert simulated.ask("GET", "nothing").status_code == 404
    assert simulated.ask("DELETE", "orders").status_code == 404
    assert simulated.get("nothing").status_code == 404
    assert simulated.get("checkout/order_none").status_code == 400


def test_a_receipt_is_unique_if_the_call_or_the_account_says_so(simulated: Simulated) -> None:
    first = simulated.order(receipt="r", unique_receipt=True)
    assert simulated.order(receipt="r", unique_receipt=True)["id"] == first["id"]
    other = simulated.ask(
        "POST", "orders", {"amount": 1_000, "currency": "INR", "receipt": "r", "unique_receipt": True}
    )
    assert other.json()["error"]["description"] == "Order receipt should be unique."
    assert simulated.order(receipt="r")["id"] != first["id"]
    simulated.switch(receipts_unique=True)
    again = simulated.ask("POST", "orders", {"amount": 50_000, "currency": "INR", "receipt": "r"})
    assert again.json()["error"]["description"] == "Order receipt should be unique."


def test_lists_go_by_page_newest_first(simulated: Simulated) -> None:
    ids = [simulated.order(receipt=f"r{n}")["id"] for n in range(12)][::-1]
    page = simulated.ask("GET", "orders").json()
    assert (page["entity"], page["count"], [one["id"] for one in page["items"]]) == ("collection", 10, ids[:10])
    assert [one["id"] for one in simulated.ask("GET", "orders?count=100&skip=10").json()["items"]] == ids[10:]
    error = simulated.ask("GET", "orders?count=101").json()["error"]
    assert (error["description"], error["field"]) == ("The count may not be greater than 100.", "count")
    assert simulated.ask("GET", "orders?skip=-1").status_code == 400
    assert simulated.ask("GET", "orders?receipt=r3").json()["count"] == 1
    assert simulated.ask("GET", f"orders?to={int(time.time()) - 60}").json()["count"] == 0


def test_notes_that_are_empty_come_back_as_a_list(simulated: Simulated) -> None:
    assert simulated.order()["notes"] == []
    assert simulated.order(notes={})["notes"] == []
    order = simulated.order(notes={"org": "org_1"})
    assert order["notes"] == {"org": "org_1"}
    assert simulated.pay(order["id"])["notes"] == {"org": "org_1"}


# Payments


def test_an_order_takes_several_attempts_and_then_no_more(simulated: Simulated, hook: Hook) -> None:
    order = simulated.order()["id"]
    failed = simulated.pay(order, outcome="failed", reason="insufficient_fund")
    assert failed["error"]["metadata"] == {"payment_id": failed["id"], "order_id": order}
    assert failed["error_reason"] == "insufficient_fund"
    seen = simulated.ask("GET", f"orders/{order}").json()
    assert (seen["status"], seen["attempts"], seen["amount_paid"]) == ("attempted", 1, 0)
    paid = simulated.pay(order)
    seen = simulated.ask("GET", f"orders/{order}").json()
    assert (seen["status"], seen["attempts"], seen["amount_paid"], seen["amount_due"]) == ("paid", 2, 50_000, 0)
    simulated.advance()
    assert sorted(hook.events()) == ["order.paid", "payment.authorized", "payment.captured", "payment.failed"]
    again = httpx.post(f"{simulated.url}/_simulator/pay", json={"order": order}, trust_env=False)
    assert again.json()["error"]["description"] == "Payment already done for this order."
    both = simulated.pay(order, even_if_paid=True)
    assert both["status"] == "captured"
    ids = {one["id"] for one in simulated.ask("GET", f"orders/{order}/payments").json()["items"]}
    assert ids == {failed["id"], paid["id"], both["id"]}


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("upi", {"rrn", "upi_transaction_id"}),
        ("card", {"auth_code", "rrn"}),
        ("netbanking", {"bank_transaction_id"}),
        ("wallet", {"transaction_id"}),
    ],
)
def test_each_method_has_its_own_fields(simulated: Simulated, method: str, names: set[str]) -> None:
    payment = simulated.pay(simulated.order(1_000)["id"], method=method)
    assert (payment["method"], set(payment["acquirer_data"])) == (method, names)
    assert (payment["fee"], payment["tax"]) == (24, 4)  # as in Razorpay's own sample of ₹10
    fetched = simulated.ask("GET", f"payments/{payment['id']}").json()
    assert "card" not in fetched
    card = simulated.ask("GET", f"payments/{payment['id']}?expand[]=card").json().get("card")
    assert (card is not None) == (method == "card")


def test_what_is_authorised_must_be_captured_whole_and_once(simulated: Simulated, hook: Hook) -> None:
    order = simulated.order(payment={"capture": "manual"})["id"]
    payment = simulated.pay(order)
    assert (payment["status"], payment["captured"], payment["fee"]) == ("authorized", False, None)
    path = f"payments/{payment['id']}/capture"

    def refusal(body: Json) -> str:
        answer = simulated.ask("POST", path, body)
        assert answer.status_code == 400
        return str(answer.json()["error"]["description"])

    assert refusal({"amount": 49_999, "currency": "INR"}) == "Capture amount must be equal to the amount authorized"
    assert refusal({"amount": 50_000}) == "currency: is required."
    assert simulated.ask("POST", path, {"amount": 50_000, "currency": "INR"}).json()["status"] == "captured"
    assert refusal({"amount": 50_000, "currency": "INR"}) == "This payment has already been captured"
    simulated.advance()
    assert sorted(hook.events()) == ["order.paid", "payment.authorized", "payment.captured"]


def test_the_account_may_capture_by_hand(simulated: Simulated) -> None:
    simulated.switch(auto_capture=False)
    assert simulated.pay(simulated.order()["id"])["status"] == "authorized"
    assert simulated.pay(simulated.order(payment={"capture": "automatic"})["id"])["status"] == "captured"


@pytest.mark.parametrize("minutes", [None, 12])
def test_what_nobody_captures_goes_back(simulated: Simulated, hook: Hook, minutes: int | None) -> None:
    terms = {"capture": "manual", "capture_options": {"manual_expiry_period": minutes}}
    payment = simulated.pay(simulated.order(payment=terms)["id"])
    window = 5 * DAY if minutes is None else minutes * 60
    simulated.advance(window - 10)
    assert simulated.ask("GET", f"payments/{payment['id']}").json()["status"] == "authorized"
    simulated.advance(20)
    after = simulated.ask("GET", f"payments/{payment['id']}").json()
    assert (after["status"], after["captured"], after["amount_refunded"]) == ("refunded", False, 50_000)
    assert hook.events()[-2:] == ["refund.created", "refund.processed"]


def test_a_payment_without_an_order_cannot_be_captured(simulated: Simulated) -> None:
    payment = simulated.pay(None, amount=1_000)
    assert (payment["status"], payment["order_id"]) == ("authorized", None)
    answer = simulated.ask("POST", f"payments/{payment['id']}/capture", {"amount": 1_000, "currency": "INR"})
    assert answer.status_code == 400
    simulated.advance(6 * DAY)
    assert simulated.ask("GET", f"payments/{payment['id']}").json()["status"] == "refunded"


def test_a_silent_bank_may_say_yes_days_later(simulated: Simulated, hook: Hook) -> None:
    order = simulated.order()["id"]
    payment = simulated.pay(order, outcome="late")
    assert payment["status"] == "created"
    simulated.advance(600)
    failed = simulated.ask("GET", f"payments/{payment['id']}").json()
    assert (failed["status"], failed["error_reason"]) == ("failed", "payment_timed_out")
    simulated.advance(2 * DAY)
    late = simulated.ask("GET", f"payments/{payment['id']}").json()
    assert (late["status"], late["late_authorized"], late["error_code"]) == ("captured", True, None)
    assert hook.events() == ["payment.failed", *hook.events()[1:]]
    assert sorted(hook.events()[1:]) == ["order.paid", "payment.authorized", "payment.captured"]


def test_a_late_payment_of_an_order_that_is_paid_is_not_captured(simulated: Simulated) -> None:
    order = simulated.order()["id"]
    late = simulated.pay(order, outcome="late")
    simulated.advance(600)
    simulated.pay(order)
    simulated.advance(3 * DAY)
    assert simulated.ask("GET", f"payments/{late['id']}").json()["status"] == "authorized"


# Refunds


def refund(simulated: Simulated, payment: str, body: Json | None = None, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"X-Refund-Idempotency": key}
    return simulated.ask("POST", f"payments/{payment}/refund", body, headers=headers)


def test_refunds_never_exceed_what_was_captured(simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"])["id"]
    assert refund(simulated, payment, {"amount": 20_000}).status_code == 200
    over = refund(simulated, payment, {"amount": 30_001})
    assert over.json()["error"]["description"] == "The refund amount provided is greater than amount captured"
    assert refund(simulated, payment).json()["amount"] == 30_000
    again = refund(simulated, payment, {"amount": 100})
    assert again.json()["error"]["description"] == "The payment has been fully refunded already"
    small = refund(simulated, payment, {"amount": 99})
    assert small.json()["error"]["description"] == "The amount must be at least INR 1.00."
    seen = simulated.ask("GET", f"payments/{payment}").json()
    assert (seen["status"], seen["refund_status"], seen["amount_refunded"]) == ("refunded", "full", 50_000)


def test_only_captured_payments_of_the_last_six_months_are_refunded(simulated: Simulated) -> None:
    authorised = simulated.pay(simulated.order()["id"], outcome="authorized")["id"]
    assert "should be captured" in refund(simulated, authorised).json()["error"]["description"]
    old = simulated.pay(simulated.order()["id"])["id"]
    simulated.advance(200 * DAY)
    assert "6 months" in refund(simulated, old).json()["error"]["description"]


def test_the_same_refund_key_is_the_same_refund(simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"])["id"]
    first = refund(simulated, payment, {"amount": 100}, "refund-key-1").json()
    assert refund(simulated, payment, {"amount": 100}, "refund-key-1").json()["id"] == first["id"]
    other = refund(simulated, payment, {"amount": 200}, "refund-key-1")
    assert other.json()["error"]["description"].startswith("Different request with the same idempotency key")
    assert refund(simulated, payment, {"amount": 100}, "short").status_code == 400
    assert refund(simulated, payment, {"amount": 100}, "refund-key-2").json()["id"] != first["id"]
    assert simulated.ask("GET", f"payments/{payment}").json()["amount_refunded"] == 200


@pytest.mark.parametrize("fails", [False, True])
def test_a_refund_ends_processed_or_failed(simulated: Simulated, hook: Hook, fails: bool) -> None:
    simulated.switch(refund_fails=fails, refund_seconds=3_600)
    payment = simulated.pay(simulated.order()["id"])["id"]
    simulated.advance()
    made = refund(simulated, payment).json()
    simulated.advance(3_590)
    assert simulated.ask("GET", f"refunds/{made['id']}").json()["status"] == "pending"
    simulated.advance(20)
    ended = "failed" if fails else "processed"
    assert simulated.ask("GET", f"refunds/{made['id']}").json()["status"] == ended
    assert hook.events()[-2:] == ["refund.created", f"refund.{ended}"]
    assert simulated.ask("GET", f"payments/{payment}").json()["status"] == ("captured" if fails else "refunded")


def test_a_refund_can_be_ended_by_hand_or_at_once(simulated: Simulated) -> None:
    simulated.switch(refund_seconds=3_600)
    payment = simulated.pay(simulated.order()["id"])["id"]
    made = refund(simulated, payment, {"amount": 100}).json()
    assert simulated.tell(f"refunds/{made['id']}", {"status": "failed"})["status"] == "failed"
    assert simulated.tell(f"refunds/{made['id']}", {"status": "processed"})["status"] == "failed"
    simulated.switch(refund_seconds=0)
    assert refund(simulated, payment, {"amount": 100}).json()["status"] == "processed"


# Disputes


@pytest.mark.parametrize(("ending", "deducted"), [("won", 0), ("lost", 30_000), ("closed", 30_000)])
def test_a_dispute_runs_its_course(simulated: Simulated, hook: Hook, ending: str, deducted: int) -> None:
    payment = simulated.pay(simulated.order()["id"])["id"]
    simulated.advance()
    hook.heard.clear()
    dispute = simulated.tell("disputes", {"payment": payment, "amount": 30_000, "deducted": True})
    assert (dispute["status"], dispute["phase"], dispute["amount_deducted"]) == ("open", "chargeback", 30_000)
    simulated.advance()  # the deliveries of one act and the next would overtake each other
    for step in ("action_required", "under_review", ending):
        simulated.tell(f"disputes/{dispute['id']}", {"status": step})
        simulated.advance()
    seen = simulated.ask("GET", f"disputes/{dispute['id']}").json()
    assert (seen["status"], seen["amount_deducted"]) == (ending, deducted)
    assert hook.events() == [
        f"payment.dispute.{step}" for step in ("created", "action_required", "under_review", ending)
    ]
    assert json.loads(hook.heard[-1].body)["payload"]["dispute"]["entity"] == seen


# Webhooks


def test_a_webhook_comes_with_razorpays_headers_and_envelope(simulated: Simulated, hook: Hook) -> None:
    order = simulated.order()["id"]
    payment = simulated.pay(order)["id"]
    for heard in hook.until(3):
        assert heard.headers["content-type"] == "application/json"
        assert heard.headers["user-agent"] == "Razorpay-Webhook/v1"
        assert re.fullmatch(r"[A-Za-z0-9]{14}", heard.id)
        assert heard.headers["request-id"] == heard.id
        assert heard.signature == signed(heard.body)
        body = json.loads(heard.body)
        assert (body["entity"], set(body["contains"])) == ("event", set(body["payload"]))
        assert body["payload"]["payment"]["entity"]["id"] == payment
    assert len({heard.id for heard in hook.heard}) == 3
    snapshots = {heard.event: json.loads(heard.body)["payload"]["payment"]["entity"]["status"] for heard in hook.heard}
    assert snapshots["payment.authorized"] == "authorized"
    assert snapshots["payment.captured"] == "captured"


@given(seed=st.integers(0, 1_000))
def test_no_two_spellings_of_a_body_need_be_the_same(seed: int) -> None:
    body = {"a": {"text": "₹5 / India", "numbers": [1, 2]}, "b": [], "c": None}
    spelt = encode(body, random.Random(seed))
    assert json.loads(spelt) == body
    assert spelt == encode(body, random.Random(seed))


def test_spellings_trap_whoever_serialises_anew() -> None:
    body = {"a": {"text": "₹5 / India", "numbers": [1, 2]}, "b": [], "c": None}
    spelt = [encode(body, random.Random(seed)) for seed in range(200)]
    assert len(set(spelt)) > 50
    for trap in (b"\\/", b"\\u20b9", "₹".encode(), b"\n", b'":{', b'" : {'):
        assert any(trap in one for one in spelt), trap
    anew = [json.dumps(json.loads(one), separators=(",", ":")).encode() for one in spelt]
    assert sum(one == two for one, two in zip(anew, spelt, strict=True)) < 20


def test_an_event_may_come_more_than_once_with_the_same_id(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_duplicates=2)
    simulated.pay(simulated.order()["id"], outcome="failed")
    simulated.advance()
    assert hook.events() == ["payment.failed"] * 3
    assert len({(heard.id, heard.body, heard.signature) for heard in hook.heard}) == 1


def test_events_may_come_last_first(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_reordered=True)
    payment = simulated.pay(simulated.order()["id"])["id"]
    simulated.advance(10)
    assert hook.events() == ["order.paid", "payment.captured", "payment.authorized"]
    refund(simulated, payment)
    simulated.advance(10)
    assert hook.events()[3:] == ["refund.processed", "refund.created"]


def test_events_may_be_late_or_never_come(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_delay_seconds=300, webhook_dropped=["payment.captured"])
    simulated.pay(simulated.order()["id"])
    simulated.advance(290)
    assert hook.events() == []
    simulated.advance(20)
    assert sorted(hook.events()) == ["order.paid", "payment.authorized"]
    assert {one["event"]: one["state"] for one in simulated.deliveries()}["payment.captured"] == "dropped"
    simulated.switch(webhook_dropped=["*"])
    simulated.pay(simulated.order()["id"])
    simulated.advance(10)
    assert len(hook.heard) == 2
    assert simulated.tell("replay") == {"replayed": 6}
    simulated.advance()
    assert len(hook.heard) == 8


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("good", lambda body: signed(body)),
        ("old_secret", lambda body: signed(body, "the-one-before")),
        ("missing", lambda body: None),
    ],
)
def test_a_signature_may_be_old_or_missing(simulated: Simulated, hook: Hook, how: str, expected: Any) -> None:
    simulated.switch(webhook_signature=how)
    simulated.pay(simulated.order()["id"])
    assert all(heard.signature == expected(heard.body) for heard in hook.until(3))


def test_a_signature_may_be_wrong(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_signature="wrong")
    simulated.pay(simulated.order()["id"])
    for heard in hook.until(3):
        assert heard.signature not in (None, signed(heard.body), signed(heard.body, "the-one-before"))


def test_a_webhook_without_a_secret_is_not_signed(simulated: Simulated, hook: Hook) -> None:
    simulated.tell("webhook", {"url": hook.url}, "PUT")
    simulated.pay(simulated.order()["id"])
    assert all(heard.signature is None for heard in hook.until(3))


def test_what_is_retried_after_a_change_of_the_secret_carries_the_old_signature(
    simulated: Simulated, hook: Hook
) -> None:
    hook.answer = lambda heard: 500
    simulated.pay(simulated.order()["id"], outcome="failed")
    simulated.advance()
    simulated.tell("webhook", {"url": hook.url, "secret": "the-new-one"}, "PUT")
    hook.answer = lambda heard: 200
    simulated.advance(10)
    first, second = hook.heard
    assert first.signature == second.signature == signed(second.body)


def test_a_deaf_endpoint_hears_sixteen_times_in_a_day_and_is_then_disabled(simulated: Simulated, hook: Hook) -> None:
    hook.answer = lambda heard: 400
    simulated.pay(simulated.order()["id"], outcome="failed")
    simulated.advance(DAY)
    assert len(hook.heard) == 16
    [delivery] = simulated.deliveries()
    times = [attempt["at"] for attempt in delivery["attempts"]]
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert all(abs(gap - wanted) <= 2 for gap, wanted in zip(gaps, (7, *LADDER_SECONDS), strict=True))
    assert delivery["state"] == "given_up"
    assert simulated.tell("webhook", method="GET")["enabled"] is False
    simulated.pay(simulated.order()["id"])
    simulated.advance(60)
    assert len(hook.heard) == 16
    simulated.tell("webhook", {"url": hook.url, "secret": WEBHOOK_SECRET}, "PUT")
    hook.answer = lambda heard: 200
    simulated.pay(simulated.order()["id"])
    assert len(hook.until(19)) == 19


def test_retries_can_be_sped_up_and_end_with_the_first_success(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_retry_speed=10_000)
    hook.answer = lambda heard: 500 if len(hook.heard) < 4 else 204
    simulated.pay(simulated.order()["id"], outcome="failed")
    hook.until(4)
    simulated.advance()
    [delivery] = simulated.deliveries()
    assert (delivery["state"], [attempt["status"] for attempt in delivery["attempts"]]) == (
        "delivered",
        [500, 500, 500, 204],
    )


def test_an_endpoint_that_sleeps_or_is_not_there_counts_as_failed(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_patience_seconds=0.1)

    def sleeps(heard: Any) -> int:
        time.sleep(0.3 if len(hook.heard) == 1 else 0)
        return 200

    hook.answer = sleeps
    simulated.pay(simulated.order()["id"], outcome="failed")
    simulated.advance(30)
    [delivery] = simulated.deliveries()
    assert [attempt["error"] for attempt in delivery["attempts"]] == ["no answer in time", None]
    simulated.tell("webhook", {"url": "http://127.0.0.1:9/"}, "PUT")
    simulated.pay(simulated.order()["id"], outcome="failed")
    simulated.advance()
    assert simulated.deliveries()[-1]["attempts"][0]["error"] == "broken: connect"


def test_any_event_can_be_sent(simulated: Simulated, hook: Hook) -> None:
    simulated.tell("events", {"event": "invoice.paid", "payload": {"invoice": {"entity": {"id": "inv_1"}}}})
    [heard] = hook.until(1)
    assert (heard.event, heard.signature) == ("invoice.paid", signed(heard.body))
    simulated.tell("events", {"event": "refund.speed_changed", "payload": {}})
    assert "created_at" in json.loads(hook.until(2)[1].body)["payload"]


def test_a_thousand_deliveries_at_once_reach_an_endpoint(simulated: Simulated, hook: Hook) -> None:
    simulated.switch(webhook_delay_seconds=3_600, webhook_duplicates=9)
    for number in range(100):
        simulated.tell("events", {"event": f"test.{number}"})
    assert hook.heard == []
    simulated.advance(3_700)
    assert len(hook.heard) == 1_000
    attempts = [attempt for one in simulated.deliveries() for attempt in one["attempts"]]
    assert {(attempt["status"], attempt["error"]) for attempt in attempts} == {(200, None)}


# Faults of the API


def test_calls_can_fail_before_or_after_they_are_carried_out(simulated: Simulated) -> None:
    simulated.switch(api_path="POST /v1/orders", api_status=500, api_times=1)
    body = {"amount": 50_000, "currency": "INR"}
    answer = simulated.ask("POST", "orders", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "SERVER_ERROR")
    assert simulated.ask("GET", "orders").json()["count"] == 0
    simulated.switch(api_path="POST /v1/orders", api_status=504, api_carried_out=True, api_times=1)
    assert simulated.ask("POST", "orders", body).json()["error"]["code"] == "GATEWAY_ERROR"
    assert simulated.ask("GET", "orders").json()["count"] == 1
    simulated.switch(api_path="POST /v1/orders", api_cut=True, api_carried_out=True)
    with pytest.raises(httpx.TransportError):
        simulated.ask("POST", "orders", body)
    assert simulated.ask("GET", "orders").json()["count"] == 2
    simulated.switch(api_status=429, api_times=1)
    assert [simulated.ask("GET", "orders").status_code for _ in range(2)] == [429, 200]


def test_calls_can_be_slow(simulated: Simulated) -> None:
    simulated.switch(api_sleep_seconds=0.3)
    began = time.monotonic()
    assert simulated.ask("GET", "orders").status_code == 200
    assert time.monotonic() - began >= 0.3


def test_lists_may_lag_while_single_answers_do_not(simulated: Simulated) -> None:
    simulated.switch(list_lag_seconds=120)
    order = simulated.order()["id"]
    payment = simulated.pay(order, outcome="authorized")
    assert simulated.ask("GET", f"orders/{order}/payments").json()["items"] == []
    simulated.advance(100)
    simulated.ask("POST", f"payments/{payment['id']}/capture", {"amount": 50_000, "currency": "INR"})
    simulated.advance(30)
    [listed] = simulated.ask("GET", f"orders/{order}/payments").json()["items"]
    assert listed["status"] == "authorized"
    assert simulated.ask("GET", f"orders/{order}").json()["status"] == "paid"
    simulated.advance(120)
    [listed] = simulated.ask("GET", f"orders/{order}/payments").json()["items"]
    assert listed["status"] == "captured"


def test_switches_are_strict(simulated: Simulated) -> None:
    for method, path, body in (
        ("PUT", "switches", {"webhook_duplicate": 1}),
        ("PUT", "switches", {"webhook_duplicates": -1}),
        ("PUT", "switches", {"webhook_signature": "none"}),
        ("PATCH", "switches", {"nothing": 1}),
        ("PUT", "webhook", {"uri": "x"}),
        ("POST", "pay", {"oder": "x"}),
        ("POST", "pay", {}),
        ("POST", "pay", {"amount": 100, "reason": "none"}),
        ("POST", "advance", {"seconds": -1}),
    ):
        answer = httpx.request(method, f"{simulated.url}/_simulator/{path}", json=body, trust_env=False)
        assert answer.status_code == 400, (method, path, body)
    simulated.switch(webhook_duplicates=3, auto_capture=False)
    assert simulated.tell("switches", {"webhook_duplicates": 1}, "PATCH")["auto_capture"] is False
    simulated.switch()
    assert simulated.tell("switches", method="GET")["auto_capture"] is True
    assert all(name in simulated.get("").text for name in ("webhook_duplicates", "/_simulator/pay"))


# The checkout


def paid_in_browser(simulated: Simulated, order: str, **form: object) -> httpx.Response:
    return httpx.post(f"{simulated.url}/checkout/{order}/pay", json=form, trust_env=False)


def test_the_script_stands_in_for_razorpays(simulated: Simulated) -> None:
    script = simulated.get("checkout/v1/checkout.js")
    assert script.headers["content-type"].startswith("text/javascript")
    for name in ("window.Razorpay", "payment.failed", "ondismiss", "handler", "callback_url", "prefill"):
        assert name in script.text


def test_the_page_shows_the_order_and_cannot_be_broken_out_of(simulated: Simulated) -> None:
    order = simulated.order(receipt="</script><b>")
    page = simulated.get(f"checkout/{order['id']}")
    assert page.headers["content-type"].startswith("text/html")
    assert "</script><b>" not in page.text
    assert "success@razorpay" in page.text
    [facts] = re.findall(r'<script type="application/json" id="order">(.*?)</script>', page.text)
    assert json.loads(facts) == {
        "id": order["id"],
        "amount": 50_000,
        "currency": "INR",
        "receipt": "</script><b>",
        "status": "created",
        "key_id": KEY_ID,
    }


def test_failed_then_paid_in_one_checkout(simulated: Simulated, sdk: Any) -> None:
    order = simulated.order()["id"]
    failed = paid_in_browser(simulated, order, method="upi", vpa="failure@razorpay").json()["error"]
    assert failed["metadata"]["order_id"] == order
    handed = paid_in_browser(simulated, order, method="upi", vpa="success@razorpay").json()
    assert sdk.utility.verify_payment_signature(handed)
    assert simulated.ask("GET", f"orders/{order}").json()["attempts"] == 2
    again = paid_in_browser(simulated, order, method="upi", vpa="success@razorpay")
    assert (again.status_code, again.json()["error"]["metadata"]) == (400, {})


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"method": "card", "number": "4100 2800 0000 1007", "otp": "1234"}, None),
        ({"method": "card", "number": "5500 6700 0000 1002", "otp": "1234567890"}, None),
        ({"method": "card", "number": "6527 6589 0000 1005", "otp": "123"}, "authentication_failed"),
        ({"method": "card", "number": "4100 2800 0009 0000", "otp": "1234"}, "payment_timed_out"),
        ({"method": "card", "number": "4100 2800 0008 0001", "otp": "1234"}, "insufficient_fund"),
        ({"method": "card", "number": "4100 2800 0007 0002", "otp": "1234"}, "payment_cancelled"),
        ({"method": "card", "number": "4100 2800 0006 0003", "otp": "1234"}, "card_declined"),
        ({"method": "card", "number": "4100 2800 0002 0007", "otp": "1234"}, "gateway_technical_error"),
        ({"method": "card", "number": "4100 2800 0000 0009", "otp": "1234"}, "authentication_failed"),
        ({"method": "netbanking", "bank": "SBIN"}, None),
        ({"method": "netbanking", "succeeds": False}, "payment_failed"),
        ({"method": "wallet"}, None),
    ],
)
def test_test_data_decide_how_a_payment_ends(simulated: Simulated, form: Json, reason: str | None) -> None:
    order = simulated.order()["id"]
    answer = paid_in_browser(simulated, order, **form).json()
    [payment] = simulated.ask("GET", f"orders/{order}/payments").json()["items"]
    assert payment["error_reason"] == reason or (payment["error_reason"] == "" and reason is None)
    assert ("razorpay_signature" in answer) == (reason is None)


@pytest.mark.parametrize(
    "form", [{"method": "upi", "vpa": "me@bank"}, {"method": "card", "number": "4111 1111 1111 1111"}, {"method": "x"}]
)
def test_real_looking_data_are_not_taken(simulated: Simulated, form: Json) -> None:
    order = simulated.order()["id"]
    assert paid_in_browser(simulated, order, **form).status_code == 400
    assert simulated.ask("GET", f"orders/{order}").json()["attempts"] == 0


# The process


def test_the_book_survives_a_restart_with_all_that_was_to_happen(tmp_path: Path) -> None:
    state = tmp_path / "payments.json"
    with simulated_razorpay(state=state) as first:
        order = first.order()["id"]
        late = first.pay(order, outcome="late")["id"]
        first.advance(1_000)
    with simulated_razorpay(state=state) as second:
        assert second.ask("GET", f"payments/{late}").json()["status"] == "failed"
        second.advance(2 * DAY)
        assert second.ask("GET", f"orders/{order}").json()["status"] == "paid"


def test_importing_the_command_line_does_not_bring_the_simulator() -> None:
    code = "import sys, api.cli; sys.exit(any(name.startswith('adapters.simulators') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)
