"""The client of Razorpay against the simulated one over sockets, every fault included, and the two signatures."""

import hashlib
import hmac
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.razorpay import (
    CONTAINS,
    LIVE_CHECKOUT,
    Razorpay,
    checkout_signature_is_good,
    parse_webhook,
    webhook_signature_is_good,
)
from adapters.simulators.razorpay.webhooks import encode
from domain.kernel.errors import Conflict, Invalid, NotFound, Refusal, Unavailable
from domain.payments.ports import GatewayDispute, GatewayRefund
from tests.at_once import at_once
from tests.simulated_razorpay import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Hook,
    Simulated,
)

NOTES = {"org": "org_1"}


def client(url: str, *, key_secret: str = KEY_SECRET, timeout_seconds: float = 5) -> Razorpay:
    return Razorpay(
        url=url,
        key_id=KEY_ID,
        key_secret=key_secret,
        webhook_secrets=[WEBHOOK_SECRET, "the-one-before"],
        timeout_seconds=timeout_seconds,
    )


@pytest.fixture
def gateway(simulated: Simulated) -> Iterator[Razorpay]:
    made = client(simulated.url)
    yield made
    made.close()


def refusal(call: Callable[[], object], family: type[Refusal]) -> Refusal:
    with pytest.raises(family) as caught:
        call()
    assert type(caught.value) is family
    return caught.value


# Money in and out


def test_an_order_its_payment_and_its_refund(gateway: Razorpay, simulated: Simulated) -> None:
    order = gateway.create_order(amount_paise=59_000, receipt="top-1", notes=NOTES)
    assert (order.amount_paise, order.currency, order.receipt, order.status) == (59_000, "INR", "top-1", "created")
    assert gateway.payments_of(order.id) == []
    handed = simulated.pay(order.id)
    payment = gateway.payment(handed["id"])
    assert gateway.payments_of(order.id) == [payment]
    assert (payment.order, payment.amount_paise, payment.status, payment.method) == (
        order.id,
        59_000,
        "captured",
        "upi",
    )
    assert (payment.fee_paise, payment.tax_paise, payment.refunded_paise) == (1_392, 212, 0)
    assert payment.reference == handed["acquirer_data"]["rrn"]
    assert abs(payment.created_seconds - time.time()) < 60
    paid = gateway.order(order.id)
    assert (paid.status, paid.amount_paid_paise, paid.attempts) == ("paid", 59_000, 1)
    refund = gateway.refund(payment.id, amount_paise=10_000, key="refund-key-1", notes={})
    assert (refund.payment, refund.amount_paise, refund.status, refund.reference) == (
        payment.id,
        10_000,
        "pending",
        "",
    )
    simulated.advance(2)
    ended = gateway.refund_status(refund.id)
    assert (ended.status, len(ended.reference)) == ("processed", 12)
    assert gateway.refunds_of(payment.id) == [ended]
    assert gateway.payment(payment.id).refunded_paise == 10_000
    assert gateway.order(order.id).status == "paid"


@pytest.mark.parametrize("method", ["upi", "card", "netbanking", "wallet"])
def test_every_method_has_a_reference(gateway: Razorpay, simulated: Simulated, method: str) -> None:
    paid = simulated.pay(simulated.order()["id"], method=method)
    payment = gateway.payment(paid["id"])
    assert payment.method == method
    assert payment.reference in paid["acquirer_data"].values()


def test_a_failed_payment_says_why(gateway: Razorpay, simulated: Simulated) -> None:
    failed = simulated.pay(simulated.order()["id"], outcome="failed", reason="card_declined", method="card")
    payment = gateway.payment(failed["id"])
    assert (payment.status, payment.error_code, payment.fee_paise) == ("failed", "BAD_REQUEST_ERROR", None)
    assert "declined" in payment.error_description
    assert payment.reference == ""


def test_the_same_receipt_is_the_same_order(gateway: Razorpay) -> None:
    first = gateway.create_order(amount_paise=100, receipt="r", notes={})
    assert gateway.create_order(amount_paise=100, receipt="r", notes={}) == first
    refused = refusal(lambda: gateway.create_order(amount_paise=200, receipt="r", notes={}), Conflict)
    assert (refused.code, "Order receipt should be unique" in refused.message) == ("payment_refused", True)


def test_all_pages_of_a_list_are_read(gateway: Razorpay, simulated: Simulated) -> None:
    order = simulated.order()["id"]
    ids = {simulated.pay(order, outcome="failed")["id"] for _ in range(205)}
    found = gateway.payments_of(order)
    assert len(found) == 205
    assert {payment.id for payment in found} == ids


def test_capturing_what_was_authorised(gateway: Razorpay, simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"], outcome="authorized")["id"]
    refused = refusal(lambda: gateway.capture(payment, amount_paise=49_999), Conflict)
    assert refused.message.startswith("Razorpay refused this (BAD_REQUEST_ERROR, input_validation_failed): Capture")
    assert gateway.capture(payment, amount_paise=50_000).status == "captured"
    assert "already" in refusal(lambda: gateway.capture(payment, amount_paise=50_000), Conflict).message


def test_a_refund_is_repeated_by_its_key_and_never_exceeds_the_payment(gateway: Razorpay, simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"])["id"]

    def refund(amount: int, key: str) -> GatewayRefund:
        return gateway.refund(payment, amount_paise=amount, key=key, notes=NOTES)

    first = refund(30_000, "refund-key-1")
    assert refund(30_000, "refund-key-1") == first
    assert "idempotency" in refusal(lambda: refund(20_000, "refund-key-1"), Conflict).message
    assert "greater than" in refusal(lambda: refund(20_001, "refund-key-2"), Conflict).message
    assert refund(20_000, "refund-key-3").id != first.id
    assert "fully refunded" in refusal(lambda: refund(100, "refund-key-4"), Conflict).message


@pytest.mark.parametrize(
    "call",
    [
        lambda gateway: gateway.order("order_none0000000000"),
        lambda gateway: gateway.payments_of("order_none0000000000"),
        lambda gateway: gateway.payment("pay_none0000000000"),
        lambda gateway: gateway.refunds_of("pay_none0000000000"),
        lambda gateway: gateway.refund_status("rfnd_none0000000000"),
        lambda gateway: gateway.capture("pay_none0000000000", amount_paise=100),
        lambda gateway: gateway.refund("pay_none0000000000", amount_paise=100, key="refund-key-1", notes={}),
    ],
)
def test_an_unknown_id_is_not_found(gateway: Razorpay, call: Callable[[Razorpay], object]) -> None:
    assert refusal(lambda: call(gateway), NotFound).code == "not_found"


@pytest.mark.parametrize("id", ["", "pay_", "pay_../../orders", "order_x", "pay_a?count=1", "pay_é", "pay_" + "a" * 41])
def test_an_id_from_a_browser_cannot_bend_the_path(id: str) -> None:
    nobody = client("http://127.0.0.1:1")
    assert refusal(lambda: nobody.payment(id), NotFound).code == "not_found"


# When Razorpay fails


@pytest.mark.parametrize("status", [429, 500, 502, 504])
def test_what_can_be_repeated_outlives_two_failures(gateway: Razorpay, simulated: Simulated, status: int) -> None:
    order = simulated.order()["id"]
    simulated.switch(api_status=status, api_times=2)
    assert gateway.order(order).id == order
    simulated.switch(api_status=status, api_times=3)
    refused = refusal(lambda: gateway.order(order), Unavailable)
    assert (refused.code, refused.retry_after) == ("payments_unavailable", 5)
    assert gateway.order(order).id == order


@pytest.mark.parametrize("fault", [{"api_cut": True}, {"api_status": 500}])
def test_an_order_or_refund_whose_answer_is_lost_is_made_once(
    gateway: Razorpay, simulated: Simulated, fault: dict[str, Any]
) -> None:
    simulated.switch(api_carried_out=True, api_times=2, **fault)
    order = gateway.create_order(amount_paise=50_000, receipt="r", notes=NOTES)
    simulated.switch()
    assert [one["id"] for one in simulated.ask("GET", "orders").json()["items"]] == [order.id]
    payment = simulated.pay(order.id)["id"]
    simulated.switch(api_carried_out=True, api_times=2, **fault)
    refund = gateway.refund(payment, amount_paise=10_000, key="refund-key-1", notes=NOTES)
    assert [one.id for one in gateway.refunds_of(payment)] == [refund.id]


def test_a_capture_is_asked_for_once(gateway: Razorpay, simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"], outcome="authorized")["id"]
    simulated.switch(api_cut=True, api_carried_out=True, api_times=1)
    assert refusal(lambda: gateway.capture(payment, amount_paise=50_000), Unavailable).code == "payments_unavailable"
    assert gateway.payment(payment).status == "captured"


def test_a_refund_that_is_being_worked_on_is_asked_for_later(gateway: Razorpay, simulated: Simulated) -> None:
    payment = simulated.pay(simulated.order()["id"])["id"]
    simulated.switch(api_status=409, api_carried_out=True, api_times=1)
    ask = lambda: gateway.refund(payment, amount_paise=100, key="refund-key-1", notes={})  # noqa: E731
    assert refusal(ask, Unavailable).code == "payments_unavailable"
    assert ask().amount_paise == 100


def test_a_silence_is_waited_for_once(simulated: Simulated) -> None:
    impatient = client(simulated.url, timeout_seconds=0.2)
    simulated.switch(api_sleep_seconds=5)
    began = time.monotonic()
    assert refusal(lambda: impatient.order("order_x"), Unavailable).code == "payments_unavailable"
    assert time.monotonic() - began < 2
    simulated.switch()
    assert refusal(lambda: impatient.order("order_x"), NotFound).code == "not_found"
    impatient.close()


def test_nobody_at_the_address_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = client(f"http://127.0.0.1:{port}")
    assert refusal(lambda: nobody.order("order_x"), Unavailable).code == "payments_unavailable"
    nobody.close()


@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_key_is_said_loudly_and_never_shown(
    simulated: Simulated, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    simulated.switch(wrong_key_status=status)
    stranger = client(simulated.url, key_secret="not-the-secret")
    refused = refusal(lambda: stranger.create_order(amount_paise=100, receipt="r", notes={}), Unavailable)
    stranger.close()
    assert refused.code == "payments_unavailable"
    assert [record.levelno for record in caplog.records if record.name == "adapters.razorpay"] == [logging.CRITICAL]
    assert not any(secret in caplog.text for secret in ("not-the-secret", KEY_ID))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"null"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b"<html>"),
        (200, b'{"id": "order_x", "amount": 1.5, "currency": "INR", "status": "paid"}'),
        (200, b'{"id": "order_x", "amount": -1, "currency": "INR", "status": "paid"}'),
        (200, b'{"id": "order_x", "amount": 1, "currency": "INR", "status": "strange"}'),
        (200, b'{"id": "order_another", "amount": 1, "currency": "INR", "status": "paid"}'),
        (302, b""),
        (400, b"<html>"),
        (403, b'{"error": "no"}'),
        (404, b""),
    ],
)
def test_an_answer_that_is_none_of_razorpays_is_unavailable(status: int, body: bytes) -> None:
    with raw_answers(status, body) as url:
        odd = client(url)
        assert refusal(lambda: odd.order("order_x"), Unavailable).code == "payments_unavailable"
        odd.close()


@contextmanager
def raw_answers(status: int, body: bytes) -> Iterator[str]:
    """A server that says the same to everyone."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_a_list_that_ignores_pages_is_read_once() -> None:
    payment = {"amount": 100, "currency": "INR", "status": "failed"}
    items = [payment | {"id": f"pay_{number}"} for number in range(100)]
    with raw_answers(200, json.dumps({"items": items}).encode()) as url:
        odd = client(url)
        assert len(odd.payments_of("order_x")) == 100
        odd.close()


def test_many_threads_share_one_client(gateway: Razorpay, simulated: Simulated) -> None:
    order = simulated.order()["id"]
    seen = at_once(*[lambda: gateway.order(order).id] * 20)
    assert seen == [order] * 20


def test_the_checkout_comes_from_where_the_api_is(gateway: Razorpay, simulated: Simulated) -> None:
    assert gateway.key_id == KEY_ID
    assert gateway.checkout_script == f"{simulated.url}/checkout/v1/checkout.js"
    assert simulated.get("checkout/v1/checkout.js").status_code == 200
    assert client("https://api.razorpay.com").checkout_script == LIVE_CHECKOUT


# Signatures

VECTOR = "b2335e3b0801106b84a7faff035df56ecffde06918c9ddd1f0fafbb37a51cc89"


def test_the_published_vectors() -> None:
    assert checkout_signature_is_good(
        order="fake_order_id", payment="fake_payment_id", signature=VECTOR, secret="key_secret"
    )
    assert webhook_signature_is_good(
        b"plink_IH3cNucfVEgV68|TSsd1989|paid|pay_IH3d0ara9bSsjQ",
        "07ae18789e35093e51d0a491eb9922646f3f82773547e5b0f67ee3f2d3bf7d5b",
        ["EnLs21M47BllR3X8PSFtjtbd"],
    )
    assert webhook_signature_is_good(
        b"pay_IDZNwZZFtnjyym|sub_ID6MOhgkcoHj9I",
        "601f383334975c714c91a7d97dd723eb56520318355863dcf3821c0d07a17693",
        ["EnLs21M47BllR3X8PSFtjtbd"],
    )


@pytest.mark.parametrize(
    "signature", ["", None, "é", "\ud800", VECTOR.upper(), VECTOR[:-1], VECTOR + "0", " " + VECTOR]
)
def test_a_checkout_signature_that_is_not_exactly_right_is_refused(signature: str | None) -> None:
    assert not checkout_signature_is_good(
        order="fake_order_id", payment="fake_payment_id", signature=signature, secret="key_secret"
    )


def test_the_order_that_we_stored_is_what_is_signed() -> None:
    swapped = {"order": "fake_payment_id", "payment": "fake_order_id"}
    assert not checkout_signature_is_good(**swapped, signature=VECTOR, secret="key_secret")
    assert not checkout_signature_is_good(order="\ud800", payment="x", signature=VECTOR, secret="key_secret")


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_without_a_secret_nothing_is_good(secrets: list[str]) -> None:
    empty_key = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    assert not webhook_signature_is_good(b"{}", empty_key, secrets)
    assert not checkout_signature_is_good(order="a", payment="b", signature=empty_key, secret="")


def test_the_secret_before_is_accepted_during_a_rotation() -> None:
    raw = '{"₹": 1}'.encode()
    for secret in ("new", "old"):
        signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        assert webhook_signature_is_good(raw, signature, ["new", "old"])
        assert not webhook_signature_is_good(raw, signature, ["newer"])


@given(raw=st.binary(min_size=1), position=st.integers(0), flip=st.integers(1, 255), secret=st.text(min_size=1))
def test_any_altered_byte_of_a_body_is_noticed(raw: bytes, position: int, flip: int, secret: str) -> None:
    secret = secret.encode(errors="replace").decode()
    signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    assert webhook_signature_is_good(raw, signature, ["other", secret])
    altered = bytearray(raw)
    altered[position % len(raw)] ^= flip
    assert not webhook_signature_is_good(bytes(altered), signature, ["other", secret])
    assert not webhook_signature_is_good(raw + b"\n", signature, ["other", secret])


@given(raw=st.binary(), position=st.integers(0, 63), character=st.characters())
def test_any_altered_character_of_a_signature_is_noticed(raw: bytes, position: int, character: str) -> None:
    signature = hmac.new(b"secret", raw, hashlib.sha256).hexdigest()
    altered = signature[:position] + character + signature[position + 1 :]
    assert webhook_signature_is_good(raw, altered, ["secret"]) == (altered == signature)


# Webhooks


def test_every_event_of_a_payments_life_is_read(gateway: Razorpay, simulated: Simulated, hook: Hook) -> None:
    order = simulated.order(notes={})["id"]
    simulated.pay(order, outcome="failed", method="netbanking")
    simulated.switch(webhook_signature="old_secret", refund_seconds=0)
    paid = simulated.pay(order, method="card")["id"]
    refund = gateway.refund(paid, amount_paise=20_000, key="refund-key-1", notes={})
    dispute = simulated.tell("disputes", {"payment": paid, "deducted": True})
    simulated.tell(f"disputes/{dispute['id']}", {"status": "lost"})
    simulated.advance()
    notices = {heard.event: parse_webhook(heard.body) for heard in hook.heard}
    assert all(gateway.webhook_is_signed(heard.body, heard.signature) for heard in hook.heard)
    assert set(notices) == {
        "payment.failed", "payment.authorized", "payment.captured", "order.paid",
        "refund.created", "refund.processed", "payment.dispute.created", "payment.dispute.lost",
    }  # fmt: skip
    for event, notice in notices.items():
        assert notice.payment is not None
        assert notice.payment.order == order
        named = {name for name in ("payment", "refund", "dispute") if getattr(notice, name)}
        assert named == set(CONTAINS[event])
        assert abs(notice.created_seconds - time.time()) < 60
    assert notices["payment.failed"].payment.status == "failed"
    assert notices["refund.processed"].refund == gateway.refund_status(refund.id)
    told = notices["payment.dispute.lost"].dispute
    assert told == gateway.dispute(dispute["id"]) == gateway.disputes(since_seconds=dispute["created_at"])[0]
    assert gateway.disputes(since_seconds=dispute["created_at"] + 1) == []
    with pytest.raises(NotFound):
        gateway.dispute("disp_unknown")
    assert gateway.refunds(since_seconds=refund.created_seconds) == [gateway.refund_status(refund.id)]
    assert told == GatewayDispute(
        id=dispute["id"],
        payment=paid,
        amount_paise=50_000,
        deducted_paise=50_000,
        currency="INR",
        status="lost",
        phase="chargeback",
        reason="goods_or_services_not_received",
        created_seconds=dispute["created_at"],
    )


@pytest.mark.parametrize("how", ["missing", "wrong"])
def test_a_webhook_that_is_not_signed_rightly_is_no_webhook(
    gateway: Razorpay, simulated: Simulated, hook: Hook, how: str
) -> None:
    simulated.switch(webhook_signature=how)
    simulated.pay(simulated.order()["id"])
    assert not any(gateway.webhook_is_signed(heard.body, heard.signature) for heard in hook.until(3))


@given(seed=st.integers(0))
def test_spelling_changes_nothing_of_what_a_webhook_says(seed: int) -> None:
    payment = {"id": "pay_1", "amount": 100, "currency": "INR", "status": "captured", "notes": [], "order_id": None}
    payment |= {"description": "₹1 / x", "acquirer_data": [], "fee": 2, "tax": 0, "error_code": ""}
    body = {"event": "payment.captured", "created_at": 5, "payload": {"payment": {"entity": payment}}}
    notice = parse_webhook(encode(body, random.Random(seed)))
    assert notice.payment is not None
    assert (notice.event, notice.created_seconds, notice.payment.order) == ("payment.captured", 5, "")


@pytest.mark.parametrize(
    "body",
    [
        {"event": "payment_link.paid", "payload": {"order": {"entity": {"id": "without prefix", "amount": None}}}},
        {"event": "payment.downtime.started", "payload": {"payment.downtime": {"entity": {"id": "down_1"}}}},
        {"event": "invoice.paid", "payload": []},
        {"event": "settlement.processed"},
    ],
)
def test_an_event_that_we_do_not_know_is_read_without_entities(body: dict[str, Any]) -> None:
    notice = parse_webhook(json.dumps(body).encode())
    assert (notice.event, notice.payment, notice.refund, notice.dispute) == (body["event"], None, None, None)


def test_a_moment_may_stand_within_the_payload() -> None:
    refund = {"id": "rfnd_1", "payment_id": "pay_1", "amount": 1, "currency": "INR", "status": "processed"}
    payment = {"id": "pay_1", "amount": 1, "currency": "INR", "status": "captured"}
    payload = {"refund": {"entity": refund}, "payment": {"entity": payment}, "created_at": 7}
    body = {"event": "refund.speed_changed", "payload": payload}
    assert parse_webhook(json.dumps(body).encode()).created_seconds == 7


PAID = {"entity": {"id": "pay_1", "amount": 1, "currency": "INR", "status": "captured"}}


def test_a_paid_order_needs_no_order() -> None:
    body = {"event": "order.paid", "payload": {"payment": PAID}}
    assert parse_webhook(json.dumps(body).encode()).payment is not None


def test_a_refund_that_was_only_created_is_pending() -> None:
    refund = {"id": "rfnd_1", "payment_id": "pay_1", "amount": 1, "currency": "INR", "status": "created"}
    body = {"event": "refund.created", "payload": {"payment": PAID, "refund": {"entity": refund}}}
    told = parse_webhook(json.dumps(body).encode()).refund
    assert told is not None
    assert told.status == "pending"


def test_a_dispute_that_asks_for_an_answer_is_open_and_has_deducted_nothing() -> None:
    dispute = {"id": "disp_1", "payment_id": "pay_1", "amount": 1, "currency": "INR", "status": "action_required"}
    entity = {"entity": dispute | {"amount_deducted": None}}
    body = {"event": "payment.dispute.action_required", "payload": {"payment": PAID, "dispute": entity}}
    told = parse_webhook(json.dumps(body).encode()).dispute
    assert told is not None
    assert (told.status, told.deducted_paise) == ("open", 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event": "payment.captured"}',
        b'{"event": "payment.captured", "payload": {"payment": {}}}',
        b'{"event": "payment.captured", "payload": {"payment": {"entity": {"id": "pay_1"}}}}',
        b'{"event": "payment.captured", "payload": {"payment": {"entity": {"id": "pay_1", "amount": "5",'
        b' "currency": "INR", "status": "captured"}}}}',
    ],
)
def test_garbage_is_refused(raw: bytes) -> None:
    assert refusal(lambda: parse_webhook(raw), Invalid).code == "invalid_request"


@given(raw=st.binary())
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with suppress(Invalid):
        parse_webhook(raw)
