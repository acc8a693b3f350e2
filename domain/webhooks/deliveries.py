"""A notice on its way to one endpoint: what is sent, how it is signed (Standard Webhooks), and when it is tried again.

A delivery is named by the position of the fact that it tells of and by its endpoint, so it has the same id whoever
sends it, however often.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.kernel.clock import DAY, SECOND, to_iso
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.webhooks.endpoints import TEST_TYPE
from domain.webhooks.events import DeliveryTried, RedeliveryAsked

GAPS_SECONDS = (60, 240, 1_500, 5_400, 21_600)
"""Between one attempt and the next: they come after 0, 1, 5 and 30 minutes, 2 and 8 hours."""

GIVEN_UP_AFTER = 5 * DAY
"""An endpoint that nothing has been delivered to for so long, and that fails once more, is disabled."""

GONE = 410
SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Delivery:
    """Attempts in all, and those since a redelivery was asked for last."""

    attempts: int = 0
    in_turn: int = 0

    def evolve(self, stream: str, event: Event) -> "Delivery":
        match event:
            case DeliveryTried():
                return Delivery(self.attempts + 1, event.attempt)
            case RedeliveryAsked():
                return Delivery(self.attempts)
            case _:
                return self


def delivery_stream(delivery: str) -> str:
    return f"delivery:{delivery}"


def delivery_id(*, position: int, endpoint: str) -> str:
    """The delivery to an endpoint of the fact at this position of the log; its `webhook-id`."""
    return f"msg_{position:x}_{endpoint.partition('_')[2]}"


def make_secret(entropy: bytes) -> str:
    """`whsec_` and the key in base64, from 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(entropy).decode()


def body_of(type: str, *, at: int, data: Mapping[str, Any]) -> bytes:
    """What is sent: the same bytes in every attempt."""
    return msgspec.json.encode({"type": type, "timestamp": to_iso(at), "data": dict(sorted(data.items()))})


def headers_of(delivery: str, body: bytes, *, secrets: Sequence[str], at: int) -> dict[str, str]:
    """The headers by which whoever has one of the secrets knows that the body is ours, and of this moment."""
    seconds = at // SECOND
    signed = b"%b.%d.%b" % (delivery.encode(), seconds, body)
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def problem_of(status: int) -> str:
    """Why an answer does not count as delivered; empty where it does. Redirects are not followed."""
    if 200 <= status < 300:
        return ""
    return "redirected, which is not followed" if 300 <= status < 400 else f"answered {status}"


def record_attempt(store: Store, tried: DeliveryTried, *, attempts_before: int, type: str, at: int, by: str) -> bool:
    """Puts on record what came of an attempt, and when the next one is due; whether it is due never. Nothing is put on
    record if somebody else has tried meanwhile. A test is tried once."""
    last = not tried.problem or tried.status == GONE or type == TEST_TYPE
    over = False

    def decide(delivery: Delivery) -> Decision:
        nonlocal over
        if delivery.attempts != attempts_before:
            return []
        gap = None if last or delivery.in_turn >= len(GAPS_SECONDS) else GAPS_SECONDS[delivery.in_turn]
        over = gap is None
        again = None if gap is None else at + gap * SECOND
        fact = msgspec.structs.replace(tried, attempt=delivery.in_turn + 1, again=again)
        return [(delivery_stream(tried.delivery), fact)]

    store.change(Change(delivery_stream(tried.delivery), Delivery(), decide), at=at, by=by)
    return over


def ask_again(store: Store, *, org: str, endpoint: str, delivery: str, at: int, by: str) -> None:
    """Has it sent once more, under the same id and with as many attempts as at first."""
    asked = RedeliveryAsked(owner=org, endpoint=endpoint, delivery=delivery)
    stream = delivery_stream(delivery)
    store.change(Change(stream, Delivery(), lambda _: [(stream, asked)]), at=at, by=by)
