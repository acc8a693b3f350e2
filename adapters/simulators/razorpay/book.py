"""What is true in the simulated Razorpay: orders, payments, refunds, disputes, and how each moves on.

Entities are kept as the JSON that the API answers. Nothing here waits: what is to happen later is put on the agenda by
name, and whoever keeps the time calls it when it is due.
"""

import copy
import hashlib
import hmac
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from adapters.simulators.razorpay.refusals import FAILURES, Refused
from adapters.simulators.razorpay.switches import Switches

Json = dict[str, Any]
Kind = Literal["order", "payment", "refund", "dispute"]
Outcome = Literal["captured", "authorized", "failed", "late", "created"]

PREFIXES: Mapping[Kind, str] = {"order": "order", "payment": "pay", "refund": "rfnd", "dispute": "disp"}
REFUNDABLE_SECONDS = 182 * 86_400

_ALPHABET = string.ascii_letters + string.digits
_REFUND_KEY = re.compile(r"[A-Za-z0-9_-]{10,}")


def new_word() -> str:
    """What follows the prefix of an id: 14 letters and digits."""
    return "".join(random.choices(_ALPHABET, k=14))


class Book:
    """All entities, by id, oldest first.

    `now` tells seconds since 1970; `tell(event, entities)` hears of everything that Razorpay would send a webhook for;
    `later(at, action, id)` puts one of `actions` on the agenda.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        switches: Callable[[], Switches],
        tell: Callable[[str, Mapping[str, Json]], None],
        later: Callable[[float, str, str], None],
    ) -> None:
        self._now = now
        self._switches = switches
        self._tell = tell
        self._later = later
        self.entities: dict[Kind, dict[str, Json]] = {kind: {} for kind in PREFIXES}
        self.refund_keys: dict[str, Json] = {}
        self.order_terms: dict[str, Json] = {}
        """By order: how it is to be captured, which its entity does not show."""
        self._versions: dict[str, list[tuple[float, Json]]] = {}
        self.actions: Mapping[str, Callable[[str], None]] = {
            "unanswered": self._give_up,
            "late": self._authorise_late,
            "uncaptured": self._send_back,
            "refund": self._finish_refund,
        }

    def get(self, kind: Kind, id: object) -> Json:
        """Raises Refused for an id that is not known."""
        found = self.entities[kind].get(str(id))
        if found is None:
            raise Refused("unknown_id")
        return found

    def signed(self, payment: Json, *, key_secret: str) -> Json:
        """What the checkout hands to the merchant's page: both ids, and the signature over them."""
        message = f"{payment['order_id']}|{payment['id']}".encode()
        return {
            "razorpay_payment_id": payment["id"],
            "razorpay_order_id": payment["order_id"],
            "razorpay_signature": hmac.new(key_secret.encode(), message, hashlib.sha256).hexdigest(),
        }

    def listed(self, kind: Kind) -> Iterator[Json]:
        """Newest first, as far as lists know of it."""
        lag = self._switches().list_lag_seconds
        for id, entity in reversed(self.entities[kind].items()):
            if not lag:
                yield entity
                continue
            seen = [version for at, version in self._versions.get(id, []) if at <= self._now() - lag]
            if seen:
                yield seen[-1]

    # Orders

    def create_order(self, asked: Json) -> Json:
        """An order as asked; `asked` has been checked."""
        receipt = asked.get("receipt")
        if receipt is not None and (asked.get("unique_receipt") or self._switches().receipts_unique):
            for order in self.entities["order"].values():
                if order["receipt"] == receipt:
                    same = (order["amount"], order["currency"]) == (asked["amount"], asked["currency"])
                    if asked.get("unique_receipt") and same:
                        return order
                    raise Refused("receipt_taken")
        order = self._added(
            "order",
            amount=asked["amount"],
            amount_paid=0,
            amount_due=asked["amount"],
            currency=asked["currency"],
            receipt=receipt,
            offer_id=None,
            status="created",
            attempts=0,
            notes=asked.get("notes") or [],
        )
        capture = asked.get("payment_capture")
        self.order_terms[order["id"]] = asked.get("payment") or (
            {} if capture is None else {"capture": "automatic" if capture in (1, "1") else "manual"}
        )
        return order

    # Payments

    def pay(
        self,
        order: Json | None,
        *,
        amount: int,
        outcome: Outcome,
        reason: str = "payment_failed",
        even_if_paid: bool = False,
        **of_method: Any,
    ) -> Json:
        """One attempt of a payer, of which the bank says `outcome`. Raises Refused for an order that is paid."""
        if order is not None:
            if order["status"] == "paid" and not even_if_paid:
                raise Refused("order_paid")
            order["attempts"] += 1
            order["status"] = "attempted" if order["status"] == "created" else order["status"]
            self._changed(order)
        payment = self._added("payment", **_payment(order, amount=amount, **of_method))
        match outcome:
            case "captured" | "authorized":
                self._authorise(payment, capture=outcome == "captured")
            case "failed":
                self._fail(payment, reason)
            case "late" | "created":
                patience = self._switches().unanswered_seconds
                self._later(self._now() + patience, "unanswered", payment["id"])
                if outcome == "late":
                    self._later(self._now() + patience + self._switches().late_seconds, "late", payment["id"])
        return payment

    def captures_by_itself(self, order: Json | None) -> bool:
        """Whether an authorised payment of this order is captured without being asked for."""
        terms = {} if order is None else self.order_terms.get(order["id"], {})
        named = terms.get("capture")
        return order is not None and (self._switches().auto_capture if named is None else named == "automatic")

    def capture(self, payment: Json, *, amount: int) -> Json:
        """Raises Refused unless it is authorised and this is its amount."""
        if payment["captured"]:
            raise Refused("captured_already")
        if payment["status"] != "authorized":
            raise Refused("capture_state")
        if payment["order_id"] is None:
            raise Refused("capture_orderless")
        if amount != payment["amount"]:
            raise Refused("capture_amount")
        # 2 % and 18 % GST on it, each rounded to the nearest paisa, as in Razorpay's samples.
        payment["fee"] = (amount * 236 + 5_000) // 10_000
        payment["tax"] = (amount * 36 + 5_000) // 10_000
        payment["status"], payment["captured"] = "captured", True
        self._changed(payment)
        self._tell("payment.captured", {"payment": payment})
        order = self.get("order", payment["order_id"])
        if order["status"] != "paid":
            order["status"], order["amount_paid"], order["amount_due"] = "paid", order["amount"], 0
            self._changed(order)
            self._tell("order.paid", {"payment": payment, "order": order})
        return payment

    def _authorise(self, payment: Json, *, capture: bool) -> None:
        payment["status"] = "authorized"
        payment |= dict.fromkeys(("error_code", "error_description", "error_source", "error_step", "error_reason"))
        payment["acquirer_data"] = _acquirer_data(payment["method"])
        self._changed(payment)
        self._tell("payment.authorized", {"payment": payment})
        if capture and payment["order_id"] is not None:
            self.capture(payment, amount=payment["amount"])
            return
        terms = self.order_terms.get(payment["order_id"] or "", {})
        minutes = terms.get("capture_options", {}).get("manual_expiry_period")
        patience = self._switches().auto_refund_seconds if minutes is None else minutes * 60
        self._later(self._now() + patience, "uncaptured", payment["id"])

    def _fail(self, payment: Json, reason: str) -> None:
        failure = FAILURES[reason]
        payment |= {
            "status": "failed",
            "error_code": failure.code,
            "error_description": failure.description,
            "error_source": failure.source,
            "error_step": failure.step,
            "error_reason": failure.reason,
        }
        self._changed(payment)
        self._tell("payment.failed", {"payment": payment})

    def _give_up(self, id: str) -> None:
        payment = self.get("payment", id)
        if payment["status"] == "created":
            self._fail(payment, "payment_timed_out")

    def _authorise_late(self, id: str) -> None:
        """The bank says yes after all; on an order that has been paid meanwhile, nothing is captured."""
        payment = self.get("payment", id)
        if payment["status"] == "failed":
            order = payment["order_id"] and self.get("order", payment["order_id"])
            payment["late_authorized"] = True
            self._authorise(payment, capture=self.captures_by_itself(order) and order["status"] != "paid")

    def _send_back(self, id: str) -> None:
        payment = self.get("payment", id)
        if payment["status"] == "authorized":
            self._refund(payment, amount=payment["amount"], asked={})

    # Refunds

    def refund(self, payment: Json, asked: Json, *, key: str | None) -> Json:
        """A refund as asked, all that is left where no amount is; the same key and request is the same refund.

        Raises Refused for what Razorpay would not send back.
        """
        if key is not None:
            if not _REFUND_KEY.fullmatch(key):
                raise Refused("refund_key")
            before = self.refund_keys.get(key)
            if before is not None:
                if before["payment"] != payment["id"] or before["asked"] != asked:
                    raise Refused("refund_key_reused")
                return self.get("refund", before["refund"])
        if payment["status"] == "refunded":
            raise Refused("refunded_already")
        if not payment["captured"]:
            raise Refused("refund_state")
        if payment["created_at"] + REFUNDABLE_SECONDS < self._now():
            raise Refused("refund_late")
        left = payment["amount"] - payment["amount_refunded"]
        amount = asked.get("amount", left)
        if amount > left:
            raise Refused("refund_large")
        refund = self._refund(payment, amount=amount, asked=asked)
        if key is not None:
            self.refund_keys[key] = {"payment": payment["id"], "asked": asked, "refund": refund["id"]}
        return refund

    def finish(self, refund: Json, *, failed: bool) -> None:
        """The bank has taken the refund, or will not; only what is pending moves."""
        if refund["status"] != "pending":
            return
        payment = self.get("payment", refund["payment_id"])
        if failed:
            refund["status"], refund["speed_processed"] = "failed", None
            payment["amount_refunded"] -= refund["amount"]
            payment["refund_status"] = "partial" if payment["amount_refunded"] else None
            payment["status"] = "captured" if payment["captured"] else "authorized"
            self._changed(payment)
        else:
            refund["status"], refund["speed_processed"] = "processed", "normal"
            refund["acquirer_data"] = _refund_data(payment["method"])
        self._changed(refund)
        self._tell(f"refund.{refund['status']}", {"refund": refund, "payment": payment})

    def _refund(self, payment: Json, *, amount: int, asked: Json) -> Json:
        refund = self._added(
            "refund",
            amount=amount,
            currency=payment["currency"],
            payment_id=payment["id"],
            notes=asked.get("notes") or [],
            receipt=asked.get("receipt"),
            acquirer_data={"arn": None},
            batch_id=None,
            status="pending",
            speed_requested=asked.get("speed", "normal"),
            speed_processed=None,
        )
        payment["amount_refunded"] += amount
        whole = payment["amount_refunded"] == payment["amount"]
        payment["refund_status"] = "full" if whole else "partial"
        payment["status"] = "refunded" if whole else payment["status"]
        self._changed(payment)
        self._tell("refund.created", {"refund": refund, "payment": payment})
        wait = self._switches().refund_seconds
        if wait:
            self._later(self._now() + wait, "refund", refund["id"])
        else:
            self._finish_refund(refund["id"])
        return refund

    def _finish_refund(self, id: str) -> None:
        self.finish(self.get("refund", id), failed=self._switches().refund_fails)

    # Disputes

    def open_dispute(self, payment: Json, *, amount: int, phase: str, reason: str, deducted: bool) -> Json:
        """A payer objects; with `deducted`, his bank takes the money at once."""
        dispute = self._added(
            "dispute",
            payment_id=payment["id"],
            amount=amount,
            currency=payment["currency"],
            amount_deducted=amount if deducted else 0,
            reason_code=reason,
            respond_by=int(self._now()) + 7 * 86_400,
            status="open",
            phase=phase,
            evidence={"amount": amount, "summary": None, "submitted_at": None},
        )
        self._tell("payment.dispute.created", {"payment": payment, "dispute": dispute})
        return dispute

    def move_dispute(self, dispute: Json, step: str) -> Json:
        """`action_required` changes no status; `lost` takes the money, `won` gives it back."""
        if step != "action_required":
            dispute["status"] = step
            if step in ("lost", "won"):
                dispute["amount_deducted"] = dispute["amount"] if step == "lost" else 0
            self._changed(dispute)
        payment = self.get("payment", dispute["payment_id"])
        self._tell(f"payment.dispute.{step}", {"payment": payment, "dispute": dispute})
        return dispute

    # All of them

    def edit_notes(self, entity: Json, notes: Json) -> Json:
        entity["notes"] = notes or []
        self._changed(entity)
        return entity

    def dump(self) -> Json:
        """All that must survive the process, as JSON."""
        return {"entities": self.entities, "refund_keys": self.refund_keys, "order_terms": self.order_terms}

    def load(self, dumped: Json) -> None:
        self.entities |= dumped["entities"]
        self.refund_keys |= dumped["refund_keys"]
        self.order_terms |= dumped["order_terms"]
        for entities in self.entities.values():
            for id, entity in entities.items():
                self._versions[id] = [(entity["created_at"], copy.deepcopy(entity))]

    def _added(self, kind: Kind, **fields: Any) -> Json:
        id = f"{PREFIXES[kind]}_{new_word()}"
        entity = {"id": id, "entity": kind} | fields | {"created_at": int(self._now())}
        self.entities[kind][id] = entity
        self._changed(entity)
        return entity

    def _changed(self, entity: Json) -> None:
        self._versions.setdefault(entity["id"], []).append((self._now(), copy.deepcopy(entity)))


def _payment(order: Json | None, *, amount: int, method: str = "upi", **details: Any) -> Json:
    """The fields of a new payment. Failure fields that do not apply are null, with some methods an empty text."""
    nothing = "" if method in ("netbanking", "wallet") else None
    fields: Json = {
        "amount": amount,
        "currency": "INR" if order is None else order["currency"],
        "base_amount": amount,
        "status": "created",
        "order_id": order and order["id"],
        "invoice_id": None,
        "international": False,
        "method": method,
        "amount_refunded": 0,
        "amount_transferred": 0,
        "refund_status": None,
        "captured": False,
        "description": f"Payment of ₹{amount // 100}.{amount % 100:02} / India",
        "card_id": None,
        "bank": details.get("bank", "HDFC") if method == "netbanking" else None,
        "wallet": details.get("wallet", "payzapp") if method == "wallet" else None,
        "vpa": details.get("vpa", "success@razorpay") if method == "upi" else None,
        "email": details.get("email") or "customer@example.com",
        "contact": details.get("contact") or "+919000090000",
        "token_id": None,
        "customer_id": None,
        "notes": (order and order["notes"]) or [],
        "fee": None,
        "tax": None,
        "error_code": nothing,
        "error_description": nothing,
        "error_source": nothing,
        "error_step": nothing,
        "error_reason": nothing,
        "acquirer_data": _acquirer_data(method, known=False),
    }
    if method == "upi":
        fields["upi"] = {"payer_account_type": "bank_account", "vpa": fields["vpa"], "flow": "intent"}
    if method == "card":
        fields["card_id"] = f"card_{new_word()}"
        fields["card"] = {
            "id": fields["card_id"],
            "entity": "card",
            "name": "",
            "last4": str(details.get("number", "4100280000001007"))[-4:],
            "network": details.get("network", "Visa"),
            "type": "credit",
            "issuer": "HDFC",
            "international": False,
            "emi": False,
            "sub_type": "consumer",
            "token_iin": None,
        }
    return fields


_DATA_OF_METHOD: Mapping[str, tuple[str, ...]] = {
    "upi": ("rrn", "upi_transaction_id"),
    "card": ("auth_code", "rrn"),
    "netbanking": ("bank_transaction_id",),
    "wallet": ("transaction_id",),
}


def _acquirer_data(method: str, *, known: bool = True) -> Json:
    return {name: _digits(12) if known else None for name in _DATA_OF_METHOD[method]}


def _refund_data(method: str) -> Json:
    return {{"card": "arn", "upi": "rrn"}.get(method, "utr"): _digits(12)}


def _digits(count: int) -> str:
    return "".join(random.choices(string.digits, k=count))
