"""What a merchant may ask the simulated Razorpay: `/v1/…` with Basic authentication, each request checked as Razorpay
checks it (razorpay.com/docs/api)."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec

from adapters.simulators.razorpay.book import Book, Json, Kind
from adapters.simulators.razorpay.refusals import Refused
from adapters.simulators.razorpay.switches import Switches

PAISE_MIN = 100
COUNT_MAX = 100

_CURRENCY = re.compile(r"[A-Z]{3}")
_ORDER_FIELDS = {
    "amount", "currency", "receipt", "notes", "partial_payment", "first_payment_min_amount", "payment",
    "payment_capture", "customer_id", "method", "bank_account", "unique_receipt", "offer_id",
}  # fmt: skip
_KINDS: Mapping[str, Kind] = {"orders": "order", "payments": "payment", "refunds": "refund", "disputes": "dispute"}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what its path names, its query and its body, which is empty where there was none."""

    ids: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: Json
    refund_key: str | None

    def first(self, name: str) -> str | None:
        return self.query.get(name, [None])[0]


def is_authorised(header: str | None, *, key_id: str, key_secret: str) -> bool:
    """Whether the header is `Basic`, in this very case, with this key."""
    scheme, _, credentials = (header or "").partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme == "Basic" and hmac.compare_digest(given, f"{key_id}:{key_secret}".encode())


class Api:
    """Answers what is asked, from the book."""

    def __init__(self, book: Book, switches: Callable[[], Switches]) -> None:
        self._book = book
        self._switches = switches
        self._routes: list[tuple[str, re.Pattern[str], Callable[[Ask], Json]]] = [
            (method, re.compile(f"/v1/{path}"), answer)
            for method, path, answer in (
                ("POST", "orders", self._create_order),
                ("POST", "payments/(?P<payments>[^/]+)/capture", self._capture),
                ("POST", "payments/(?P<payments>[^/]+)/refund", self._refund),
                ("GET", "orders/(?P<orders>[^/]+)/payments", self._payments_of),
                ("GET", "payments/(?P<payments>[^/]+)/refunds", self._refunds_of),
                ("GET", "payments/(?P<payments>[^/]+)/refunds/(?P<refunds>[^/]+)", self._refund_of),
                ("GET", "payments/(?P<payments>[^/]+)/card", self._card),
                ("GET", "(?P<kind>orders|payments|refunds|disputes)", self._list),
                ("GET", "(?P<kind>orders|payments|refunds|disputes)/(?P<id>[^/]+)", self._fetch),
                ("PATCH", "(?P<kind>orders|payments|refunds)/(?P<id>[^/]+)", self._edit),
            )
        ]

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Json:
        """The entity or collection; raises Refused."""
        for wanted, pattern, route in self._routes:
            matched = pattern.fullmatch(path)
            if matched and method == wanted:
                named = {name: value for name, value in matched.groupdict().items() if value is not None}
                return route(
                    Ask(
                        ids=named,
                        query=parse_qs(query),
                        body=_body(body) if method != "GET" else {},
                        refund_key=headers.get("x-refund-idempotency"),
                    )
                )
        raise Refused("unknown_url", status=404)

    def _create_order(self, ask: Ask) -> Json:
        body = ask.body
        extra = sorted(set(body) - _ORDER_FIELDS)
        if extra:
            raise Refused("extra", name=", ".join(extra))
        if "amount" not in body or "currency" not in body:
            raise Refused("missing", name="amount" if "amount" not in body else "currency")
        if _whole(body, "amount") < PAISE_MIN:
            raise Refused("amount_small")
        if not _CURRENCY.fullmatch(_text(body, "currency")):
            raise Refused("currency")
        if body.get("receipt") is not None and len(_text(body, "receipt")) > 40:
            raise Refused("receipt_long")
        for name in ("partial_payment", "unique_receipt"):
            if not isinstance(body.get(name, False), bool):
                raise Refused("not_boolean", name=name)
        _check_notes(body.get("notes"))
        _check_terms(body.get("payment"))
        return self._book.create_order(body)

    def _capture(self, ask: Ask) -> Json:
        for name in ("amount", "currency"):
            if name not in ask.body:
                raise Refused("missing", name=name)
        payment = self._book.get("payment", ask.ids["payments"])
        return self._book.capture(payment, amount=_whole(ask.body, "amount"))

    def _refund(self, ask: Ask) -> Json:
        extra = sorted(set(ask.body) - {"amount", "speed", "notes", "receipt"})
        if extra:
            raise Refused("extra", name=", ".join(extra))
        payment = self._book.get("payment", ask.ids["payments"])
        if "amount" in ask.body and _whole(ask.body, "amount") < PAISE_MIN:
            raise Refused("refund_small")
        _check_notes(ask.body.get("notes"))
        return self._book.refund(payment, ask.body, key=ask.refund_key)

    def _payments_of(self, ask: Ask) -> Json:
        order = self._book.get("order", ask.ids["orders"])
        return self._page(ask, (one for one in self._book.listed("payment") if one["order_id"] == order["id"]))

    def _refunds_of(self, ask: Ask) -> Json:
        payment = self._book.get("payment", ask.ids["payments"])
        return self._page(ask, (one for one in self._book.listed("refund") if one["payment_id"] == payment["id"]))

    def _refund_of(self, ask: Ask) -> Json:
        refund = self._book.get("refund", ask.ids["refunds"])
        if refund["payment_id"] != ask.ids["payments"]:
            raise Refused("unknown_id")
        return refund

    def _card(self, ask: Ask) -> Json:
        payment = self._book.get("payment", ask.ids["payments"])
        if "card" not in payment:
            raise Refused("unknown_id")
        card: Json = payment["card"]
        return card

    def _fetch(self, ask: Ask) -> Json:
        entity = self._book.get(_KINDS[ask.ids["kind"]], ask.ids["id"])
        shown = dict(entity)
        if "card" not in ask.query.get("expand[]", []):
            shown.pop("card", None)
        return shown

    def _list(self, ask: Ask) -> Json:
        entities = self._book.listed(_KINDS[ask.ids["kind"]])
        if ask.ids["kind"] == "orders":
            receipt, authorised = ask.first("receipt"), ask.first("authorized")
            if receipt is not None:
                entities = (order for order in entities if order["receipt"] == receipt)
            if authorised is not None:
                entities = (order for order in entities if self._is_authorised(order) == (authorised == "1"))
            if "payments" in ask.query.get("expand[]", []):
                entities = (order | {"payments": self._whole_page(order)} for order in entities)
        return self._page(ask, entities)

    def _is_authorised(self, order: Json) -> bool:
        return any(one["order_id"] == order["id"] and one["acquirer_data"] for one in self._payments_taken())

    def _payments_taken(self) -> Iterable[Json]:
        return (one for one in self._book.listed("payment") if one["status"] in ("authorized", "captured", "refunded"))

    def _whole_page(self, order: Json) -> Json:
        items = [one for one in self._book.listed("payment") if one["order_id"] == order["id"]]
        return {"entity": "collection", "count": len(items), "items": items}

    def _edit(self, ask: Ask) -> Json:
        entity = self._book.get(_KINDS[ask.ids["kind"]], ask.ids["id"])
        if set(ask.body) != {"notes"}:
            extra = sorted(set(ask.body) - {"notes"})
            raise Refused("extra", name=", ".join(extra)) if extra else Refused("missing", name="notes")
        _check_notes(ask.body["notes"])
        return self._book.edit_notes(entity, ask.body["notes"])

    def _page(self, ask: Ask, entities: Iterable[Json]) -> Json:
        count, skip = _number(ask, "count", 10), _number(ask, "skip", 0)
        if count > COUNT_MAX:
            raise Refused("count_large")
        since, until = _number(ask, "from", 0), _number(ask, "to", 1 << 62)
        found = [entity for entity in entities if since <= entity["created_at"] <= until]
        items = found[skip : skip + count]
        return {"entity": "collection", "count": len(items), "items": items}


def _body(raw: bytes) -> Json:
    """A request without a body asks for nothing in particular."""
    if not raw.strip():
        return {}
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused("not_json") from None
    if not isinstance(body, dict):
        raise Refused("not_json")
    return body


def _whole(body: Json, name: str) -> int:
    value = body[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("not_integer", name=name)
    return value


def _text(body: Json, name: str) -> str:
    value: Any = body[name]
    if not isinstance(value, str):
        raise Refused("not_text", value=value)
    return value


def _number(ask: Ask, name: str, default: int) -> int:
    text = ask.first(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise Refused("number_wrong", name=name)
    return int(text)


def _check_notes(notes: Any) -> None:
    if notes is None or notes == []:
        return
    if not isinstance(notes, dict):
        raise Refused("notes_shape")
    if len(notes) > 15:
        raise Refused("notes_many")
    for name, value in notes.items():
        if not isinstance(value, str | int):
            raise Refused("notes_shape")
        if len(str(value)) > 256:
            raise Refused("notes_long", name=name)


def _check_terms(terms: Any) -> None:
    """How the order is to be captured; windows are in minutes, 12 at least."""
    if terms is None:
        return
    if not isinstance(terms, dict) or terms.get("capture") not in ("automatic", "manual"):
        raise Refused("missing", name="payment.capture")
    options = terms.get("capture_options", {})
    for name in ("automatic_expiry_period", "manual_expiry_period"):
        if options.get(name) is not None and _whole(options, name) < 12:
            raise Refused("expiry_short", name=f"payment.capture_options.{name}")
