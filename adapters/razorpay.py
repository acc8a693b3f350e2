"""Razorpay over HTTP: orders, payments and refunds as the port names them, its webhooks, and its two signatures.

Wire: razorpay.com/docs/api and /docs/webhooks. Lists are read by page, amounts are paise, and an empty `notes` is `[]`.
"""

import hashlib
import hmac
import logging
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from domain.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from domain.payments.ports import (
    DisputeStatus,
    GatewayDispute,
    GatewayOrder,
    GatewayPayment,
    GatewayRefund,
    OrderStatus,
    PaymentStatus,
    RefundStatus,
    WebhookNotice,
)

if TYPE_CHECKING:
    import httpx

LIVE_HOST = "api.razorpay.com"
LIVE_CHECKOUT = "https://checkout.razorpay.com/v1/checkout.js"
TRIES_MAX = 3
TIMEOUT_SECONDS = 10.0
RETRY_AFTER_SECONDS = 5

_FIRST_PAUSE_SECONDS = 0.2
_PAGE_SIZE = 100  # the most that Razorpay gives
_ID = re.compile(r"[a-z]+_[A-Za-z0-9]{1,40}")
_WRONG_KEY = ("authentication failed", "the api key provided is invalid")

_log = logging.getLogger(__name__)


# Signatures


def checkout_signature_is_good(*, order: str, payment: str, signature: str | None, secret: str) -> bool:
    """Whether the checkout's triple is Razorpay's own. `order` must be the one that we stored, `secret` the key secret.

    Rule: razorpay.com/docs/payments/payment-gateway/web-integration/standard/integration-steps (verify the signature).
    """
    return _is_signed(f"{order}|{payment}".encode(errors="replace"), signature, [secret])


def webhook_signature_is_good(raw: bytes, signature: str | None, secrets: Sequence[str]) -> bool:
    """Whether a webhook's body, byte for byte as it came, was signed under any of the webhook's secrets.

    Several are accepted because an event that is sent again after a change of the secret still carries the old one's
    signature. Without a secret nothing is good. Rule: razorpay.com/docs/webhooks/validate-test.
    """
    return _is_signed(raw, signature, secrets)


def _is_signed(message: bytes, signature: str | None, secrets: Sequence[str]) -> bool:
    given = (signature or "").encode(errors="replace")
    good = False
    for secret in filter(None, secrets):
        ours = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()
        good |= hmac.compare_digest(ours, given)
    return good


# Entities as they come over the wire; what we do not need of them is not read.

_Paise = Annotated[int, msgspec.Meta(ge=0)]


class _Order(msgspec.Struct):
    id: str
    amount: _Paise
    currency: str
    status: OrderStatus
    amount_paid: _Paise = 0
    receipt: str | None = None
    attempts: int = 0
    created_at: int = 0

    def plain(self) -> GatewayOrder:
        return GatewayOrder(
            id=self.id,
            amount_paise=self.amount,
            amount_paid_paise=self.amount_paid,
            currency=self.currency,
            receipt=self.receipt or "",
            status=self.status,
            attempts=self.attempts,
            created_seconds=self.created_at,
        )


class _Payment(msgspec.Struct):
    id: str
    amount: _Paise
    currency: str
    status: PaymentStatus
    order_id: str | None = None
    method: str | None = None
    fee: _Paise | None = None
    tax: _Paise | None = None
    amount_refunded: _Paise | None = None
    error_code: str | None = None
    error_description: str | None = None
    acquirer_data: Any = None
    created_at: int = 0

    def plain(self) -> GatewayPayment:
        return GatewayPayment(
            id=self.id,
            order=self.order_id or "",
            amount_paise=self.amount,
            currency=self.currency,
            status=self.status,
            method=self.method or "",
            fee_paise=self.fee,
            tax_paise=self.tax,
            refunded_paise=self.amount_refunded or 0,
            created_seconds=self.created_at,
            error_code=self.error_code or "",
            error_description=self.error_description or "",
            reference=_reference(self.acquirer_data),
        )


class _Refund(msgspec.Struct):
    id: str
    payment_id: str
    amount: _Paise
    currency: str
    status: RefundStatus | Literal["created"]
    acquirer_data: Any = None
    created_at: int = 0

    def plain(self) -> GatewayRefund:
        return GatewayRefund(
            id=self.id,
            payment=self.payment_id,
            amount_paise=self.amount,
            currency=self.currency,
            status="pending" if self.status == "created" else self.status,
            created_seconds=self.created_at,
            reference=_reference(self.acquirer_data),
        )


class _Dispute(msgspec.Struct):
    id: str
    payment_id: str
    amount: _Paise
    currency: str
    status: DisputeStatus | Literal["action_required"]
    amount_deducted: _Paise | None = None
    phase: str | None = None
    reason_code: str | None = None
    created_at: int = 0

    def plain(self) -> GatewayDispute:
        return GatewayDispute(
            id=self.id,
            payment=self.payment_id,
            amount_paise=self.amount,
            deducted_paise=self.amount_deducted or 0,
            currency=self.currency,
            status="open" if self.status == "action_required" else self.status,
            phase=self.phase or "",
            reason=self.reason_code or "",
            created_seconds=self.created_at,
        )


_REFERENCES = ("rrn", "utr", "arn", "auth_code", "bank_transaction_id", "transaction_id", "upi_transaction_id")


def _reference(acquirer_data: Any) -> str:
    """The first number that the payer's bank would know; the object differs by method, and is `[]` when empty."""
    known = acquirer_data if isinstance(acquirer_data, dict) else {}
    return next((str(known[name]) for name in _REFERENCES if known.get(name)), "")


# Webhooks

_DISPUTES = ("created", "under_review", "action_required", "won", "lost", "closed")
_REFUNDS = ("created", "processed", "failed", "speed_changed")
CONTAINS: Mapping[str, tuple[str, ...]] = {
    "payment.authorized": ("payment",),
    "payment.captured": ("payment",),
    "payment.failed": ("payment",),
    "order.paid": ("payment",),
    **{f"refund.{step}": ("payment", "refund") for step in _REFUNDS},
    **{f"payment.dispute.{step}": ("payment", "dispute") for step in _DISPUTES},
}
"""Which entities are read of which event. Others have entities of the same names in other shapes."""

_SHAPES: Mapping[str, type[_Payment] | type[_Refund] | type[_Dispute]] = {
    "payment": _Payment,
    "refund": _Refund,
    "dispute": _Dispute,
}


class _Wrapped(msgspec.Struct):
    entity: Any


class _Webhook(msgspec.Struct):
    event: str
    payload: Any = None
    created_at: int | None = None


def parse_webhook(raw: bytes) -> WebhookNotice:
    """What a webhook says; the entities of events that we do not know are left out.

    Raises Invalid("invalid_request") for what is no webhook of Razorpay's.
    """
    try:
        webhook = msgspec.json.decode(raw, type=_Webhook)
        payload = webhook.payload if isinstance(webhook.payload, dict) else {}
        at = payload.get("created_at") if webhook.created_at is None else webhook.created_at
        entities = {
            name: msgspec.convert(msgspec.convert(payload[name], _Wrapped).entity, _SHAPES[name]).plain()
            for name in CONTAINS.get(webhook.event, ())
        }
        return WebhookNotice(event=webhook.event, created_seconds=at if isinstance(at, int) else 0, **entities)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise Invalid("invalid_request", "This is no webhook of Razorpay's: its body cannot be read.") from error


# The API

_Entity = TypeVar("_Entity", _Order, _Payment, _Refund, _Dispute)


class Razorpay:
    """The PaymentGateway. One object serves all threads of a process; it connects when it is first asked.

    What can be repeated without harm (reading, an order by its receipt, a refund by its key) is tried up to three
    times, with growing pauses, when Razorpay cannot be connected to, breaks off, is busy or fails. A silence of
    `timeout_seconds` is not waited for twice.
    """

    def __init__(
        self,
        *,
        url: str,
        key_id: str,
        key_secret: str,
        webhook_secrets: Sequence[str],
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._url = url.rstrip("/")
        self._key_id = key_id
        self._key_secret = key_secret
        self._webhook_secrets = tuple(webhook_secrets)
        self._timeout_seconds = timeout_seconds
        self._client: httpx.Client | None = None
        self._connecting = threading.Lock()

    @property
    def key_id(self) -> str:
        return self._key_id

    @property
    def checkout_script(self) -> str:
        return LIVE_CHECKOUT if urlsplit(self._url).hostname == LIVE_HOST else f"{self._url}/checkout/v1/checkout.js"

    def create_order(self, *, amount_paise: int, receipt: str, notes: Mapping[str, str]) -> GatewayOrder:
        body = {
            "amount": amount_paise,
            "currency": "INR",
            "receipt": receipt,
            "unique_receipt": True,
            "notes": dict(notes),
        }
        return self._one(_Order, "POST", "/v1/orders", body=body).plain()

    def order(self, id: str) -> GatewayOrder:
        return self._fetch(_Order, "orders", _known_id(id, "order")).plain()

    def payments_of(self, order: str) -> Sequence[GatewayPayment]:
        return [payment.plain() for payment in self._all(_Payment, f"/v1/orders/{_known_id(order, 'order')}/payments")]

    def payment(self, id: str) -> GatewayPayment:
        return self._fetch(_Payment, "payments", _known_id(id, "pay")).plain()

    def capture(self, payment: str, *, amount_paise: int) -> GatewayPayment:
        path = f"/v1/payments/{_known_id(payment, 'pay')}/capture"
        body = {"amount": amount_paise, "currency": "INR"}
        return self._one(_Payment, "POST", path, body=body, tries=1).plain()

    def refund(self, payment: str, *, amount_paise: int, key: str, notes: Mapping[str, str]) -> GatewayRefund:
        path = f"/v1/payments/{_known_id(payment, 'pay')}/refund"
        body = {"amount": amount_paise, "speed": "normal", "notes": dict(notes)}
        return self._one(_Refund, "POST", path, body=body, headers={"X-Refund-Idempotency": key}).plain()

    def refunds_of(self, payment: str) -> Sequence[GatewayRefund]:
        return [refund.plain() for refund in self._all(_Refund, f"/v1/payments/{_known_id(payment, 'pay')}/refunds")]

    def refund_status(self, id: str) -> GatewayRefund:
        return self._fetch(_Refund, "refunds", _known_id(id, "rfnd")).plain()

    def refunds(self, *, since_seconds: int) -> Sequence[GatewayRefund]:
        return [refund.plain() for refund in self._all(_Refund, "/v1/refunds", since=since_seconds)]

    def dispute(self, id: str) -> GatewayDispute:
        return self._fetch(_Dispute, "disputes", _known_id(id, "disp")).plain()

    def disputes(self, *, since_seconds: int) -> Sequence[GatewayDispute]:
        return [dispute.plain() for dispute in self._all(_Dispute, "/v1/disputes", since=since_seconds)]

    def checkout_is_signed(self, *, order: str, payment: str, signature: str) -> bool:
        return checkout_signature_is_good(order=order, payment=payment, signature=signature, secret=self._key_secret)

    def webhook_is_signed(self, raw: bytes, signature: str | None) -> bool:
        return webhook_signature_is_good(raw, signature, self._webhook_secrets)

    def parse_webhook(self, raw: bytes) -> WebhookNotice:
        return parse_webhook(raw)

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _fetch(self, shape: type[_Entity], kind: str, id: str) -> _Entity:
        """What has this id. An answer about something else is none: credit hangs on it."""
        found = self._one(shape, "GET", f"/v1/{kind}/{id}")
        if found.id != id:
            raise _not_understood(ValueError(f"asked for {id}, it told of {found.id}"))
        return found

    def _one(
        self,
        shape: type[_Entity],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = TRIES_MAX,
    ) -> _Entity:
        return _read(self._ask(method, path, body=body, headers=headers, tries=tries), shape)

    def _all(self, shape: type[_Entity], path: str, *, since: int | None = None) -> list[_Entity]:
        """Every page of a list. One that ignores where a page is to begin is read once."""
        found: dict[str, _Entity] = {}
        first = {} if since is None else {"from": since}
        while True:
            params = first | {"count": _PAGE_SIZE, "skip": len(found)}
            answer = self._ask("GET", path, params=params, tries=TRIES_MAX)
            page = _read(answer, _Items).items
            fresh = {entity.id: entity for entity in (_convert(item, shape) for item in page)}
            known = len(found)
            found |= fresh
            if len(page) < _PAGE_SIZE or len(found) == known:
                return list(found.values())

    def _ask(
        self,
        method: str,
        path: str,
        *,
        tries: int,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, int] | None = None,
    ) -> bytes:
        """The body of a successful answer; every other ending is one of the port's refusals."""
        import httpx

        content = None if body is None else msgspec.json.encode(body)
        for past in range(tries):
            if past:
                time.sleep(_FIRST_PAUSE_SECONDS * 2**past * random.uniform(0.5, 1))
            try:
                answer = self._connected().request(method, path, content=content, headers=headers, params=params)
            except httpx.TimeoutException as silence:
                _log.warning("Razorpay did not answer %s %s in time", method, path)
                raise _unavailable() from silence
            except httpx.TransportError as broken:
                _log.warning("Razorpay could not be asked %s %s: %s", method, path, type(broken).__name__)
                continue
            if answer.status_code == 429 or answer.status_code >= 500:
                _log.warning("Razorpay answered %d to %s %s", answer.status_code, method, path)
                continue
            if answer.is_success:
                return answer.content
            _refuse(answer.status_code, answer.content, asked=f"{method} {path}")
        raise _unavailable()

    def _connected(self) -> "httpx.Client":
        import httpx

        with self._connecting:
            if self._client is None:
                self._client = httpx.Client(
                    base_url=self._url,
                    auth=(self._key_id, self._key_secret),
                    headers={"content-type": "application/json"},
                    timeout=self._timeout_seconds,
                    trust_env=False,
                )
            return self._client


class _Items(msgspec.Struct):
    items: list[Any]


class _Error(msgspec.Struct):
    code: str | None = None
    description: str | None = None
    reason: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


_Shape = TypeVar("_Shape")


def _read(body: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_understood(error) from error


def _convert(item: Any, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.convert(item, shape)
    except msgspec.ValidationError as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> Unavailable:
    _log.error("Razorpay's answer is not understood: %s", error)
    return _unavailable()


def _refuse(status: int, body: bytes, *, asked: str) -> NoReturn:
    """Raises what a refusal of Razorpay's means. A wrong key comes as 401 or as 400, so the words decide."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        error = _Error()
    description = error.description or ""
    if status == 401 or description.lower().startswith(_WRONG_KEY):
        _log.critical("Razorpay refuses our key: no payment can be taken until BR_RAZORPAY_KEY_* are right")
        raise _unavailable()
    if error.code is None or status == 409:  # 409: the same refund is being worked on
        _log.warning("Razorpay answered %d to %s: %s", status, asked, description)
        raise _unavailable()
    if "does not exist" in description.lower() or status == 404:
        raise _not_found()
    reason = error.reason or "no reason given"
    raise Conflict("payment_refused", f"Razorpay refused this ({error.code}, {reason}): {description}")


def _known_id(id: str, prefix: str) -> str:
    """The id, which may come from a browser, once it can do no harm in a path. Raises NotFound."""
    if not id.startswith(f"{prefix}_") or not _ID.fullmatch(id):
        raise _not_found()
    return id


def _not_found() -> NotFound:
    return NotFound("not_found", "The payment gateway knows no such order, payment, refund or dispute; check the id.")


def _unavailable() -> Unavailable:
    return Unavailable(
        "payments_unavailable",
        "The payment gateway cannot be reached at the moment; try again in a few seconds.",
        retry_after=RETRY_AFTER_SECONDS,
    )
