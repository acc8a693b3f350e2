"""How the simulated Razorpay tells what happened: signed over exact bytes, again and again until it is heard, and with
every way of being told wrongly.

Rules: razorpay.com/docs/webhooks (2xx within 5 s, 24 hours of retries, then the webhook is disabled, no order promised,
an event keeps the signature of the secret that it was made under).
"""

import asyncio
import copy
import hashlib
import hmac
import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from adapters.http import HttpPool, Target
from adapters.simulators.razorpay.book import Json, new_word
from adapters.simulators.razorpay.switches import Switches
from domain.inference.ports import UpstreamFault

ACCOUNT = "acc_BharatRouter00"
LADDER_SECONDS = (6, 13, 20, 43, 82, 162, 324, 643, 1_283, 2_563, 5_127, 10_241, 20_481, 40_964)
"""Gaps between deliveries after the first retry, as measured of Razorpay; with that one it is 16 deliveries."""

LIFE_SECONDS = 24 * 3_600
KEPT_MAX = 20_000

_QUICK_RETRY_SECONDS = 0.23
_SLOW_RETRY_SECONDS = 7.0
_SLOW_EVENTS = ("refund.created", "payment.failed")
_AT_ONCE_MAX = 100
_PATIENCE_SECONDS_MAX = 3_600  # the switch decides
_QUIET_SECONDS = 0.5
_REFUND_WAIT_SECONDS_MAX = 60
_SEPARATORS = ((",", ":"), (", ", ": "), (" ,", " : "), (",\n\t", ":  "))


class Endpoint(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where webhooks go. Without a secret they are not signed."""

    url: str = ""
    secret: str = ""
    old_secret: str = ""
    enabled: bool = True


@dataclass(slots=True)
class Delivery:
    """One event on its way. `state` is waiting, delivered, dropped (by a switch), disabled or given_up."""

    event_id: str
    event: str
    body: bytes
    signature: str | None
    created_at: float
    about: str = ""
    state: str = "waiting"
    attempts: list[Json] = field(default_factory=list)

    def shown(self) -> Json:
        return asdict(self) | {"body": self.body.decode()}


class Webhooks:
    """Everything that was told. `later(at, action, argument)` puts one of `actions` on the agenda; the delivery itself
    is a task in `under_way`."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        switches: Callable[[], Switches],
        later: Callable[[float, str, str], None],
        endpoint: Endpoint,
    ) -> None:
        self.endpoint = endpoint
        self.sent: deque[Delivery] = deque(maxlen=KEPT_MAX)
        self.under_way: set[asyncio.Task[None]] = set()
        self._now = now
        self._switches = switches
        self._later = later
        self._waiting: dict[str, Delivery] = {}
        self._held: dict[str, tuple[float, list[Delivery]]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE_MAX)
        self._pool = HttpPool(connect_seconds=_PATIENCE_SECONDS_MAX, idle_seconds=_PATIENCE_SECONDS_MAX)
        self.actions: Mapping[str, Callable[[str], None]] = {"deliver": self._deliver, "release": self._release}

    def tell(self, event: str, entities: Mapping[str, Json]) -> None:
        """Sends what is true of these entities now."""
        about = next((entity["id"] for name, entity in entities.items() if name == "payment"), "")
        payload = {name: {"entity": copy.deepcopy(entity)} for name, entity in entities.items()}
        self.send(event, payload, about=about)

    def send(self, event: str, payload: Json, *, about: str = "") -> Delivery:
        """Sends any event with any payload."""
        body: Json = {
            "entity": "event",
            "account_id": ACCOUNT,
            "event": event,
            "contains": list(payload),
            "payload": payload,
            "created_at": int(self._now()),
        }
        if event == "refund.speed_changed":
            body["payload"] = payload | {"created_at": body.pop("created_at")}
        delivery = Delivery(
            event_id=new_word(), event=event, body=b"", signature=None, created_at=self._now(), about=about
        )
        delivery.body = encode(body, random.Random(delivery.event_id))
        delivery.signature = self._signature(delivery.body)
        self.sent.append(delivery)
        dropped = self._switches().webhook_dropped
        if not self.endpoint.url or not self.endpoint.enabled:
            delivery.state = "disabled"
        elif event in dropped or "*" in dropped:
            delivery.state = "dropped"
        elif self._switches().webhook_reordered and about:
            self._hold(delivery)
        else:
            self._plan(delivery, self._now() + self._switches().webhook_delay_seconds)
        return delivery

    def replay(self, event_ids: list[str]) -> int:
        """Sends events again with the ids and bytes they had, all of them if none is named; how many."""
        again = [delivery for delivery in self.sent if not event_ids or delivery.event_id in event_ids]
        for delivery in again:
            self._plan(delivery, self._now())
        return len(again)

    async def settled(self) -> None:
        """Returns once nothing is under way."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    async def close(self) -> None:
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)
        await self._pool.close()

    def _signature(self, body: bytes) -> str | None:
        kind = self._switches().webhook_signature
        secret = self.endpoint.old_secret if kind == "old_secret" else self.endpoint.secret
        if kind == "missing" or not secret:
            return None
        return hmac.new(secret.encode() + b"!" * (kind == "wrong"), body, hashlib.sha256).hexdigest()

    def _plan(self, delivery: Delivery, at: float) -> None:
        self._waiting[delivery.event_id] = delivery
        self._later(at, "deliver", delivery.event_id)

    def _deliver(self, event_id: str) -> None:
        delivery = self._waiting.pop(event_id, None)
        if delivery is None:
            return
        self._start(self._attempt(delivery))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    def _hold(self, delivery: Delivery) -> None:
        """Puts the event before those of the same payment that wait, until there has been quiet for a while."""
        refund_wait = self._switches().refund_seconds
        quiet = _QUIET_SECONDS + (refund_wait if refund_wait <= _REFUND_WAIT_SECONDS_MAX else 0)
        due = self._now() + quiet
        self._held[delivery.about] = (due, [delivery, *self._held.get(delivery.about, (0, []))[1]])
        self._later(due, "release", delivery.about)

    def _release(self, about: str) -> None:
        due, deliveries = self._held.get(about, (0.0, []))
        if deliveries and due <= self._now():
            del self._held[about]
            self._start(self._one_by_one(deliveries))

    async def _one_by_one(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            await self._attempt(delivery)

    async def _attempt(self, delivery: Delivery) -> None:
        """One delivery, and the next one on the agenda if it fails."""
        if not self.endpoint.enabled:
            delivery.state = "disabled"
            return
        if not delivery.attempts:
            for _ in range(self._switches().webhook_duplicates):
                self._start(self._post(delivery, duplicate=True))
        if await self._post(delivery):
            delivery.state = "delivered"
            return
        gap = self._gap(delivery)
        if gap is None or self._now() + gap > delivery.created_at + LIFE_SECONDS:
            delivery.state = "given_up"
            self.endpoint.enabled = False
        else:
            delivery.state = "waiting"
            self._plan(delivery, self._now() + gap)

    def _gap(self, delivery: Delivery) -> float | None:
        """Seconds to the next delivery; None when there is to be none."""
        first = _SLOW_RETRY_SECONDS if delivery.event in _SLOW_EVENTS else _QUICK_RETRY_SECONDS
        gaps = (first, *LADDER_SECONDS)
        past = sum(not attempt["duplicate"] for attempt in delivery.attempts)
        return gaps[past - 1] / self._switches().webhook_retry_speed if past <= len(gaps) else None

    async def _post(self, delivery: Delivery, *, duplicate: bool = False) -> bool:
        headers = {
            "content-type": "application/json",
            "user-agent": "Razorpay-Webhook/v1",
            "request-id": delivery.event_id,
            "x-razorpay-event-id": delivery.event_id,
        }
        if delivery.signature is not None:
            headers["x-razorpay-signature"] = delivery.signature
        attempt: Json = {"at": self._now(), "status": None, "seconds": 0.0, "error": None, "duplicate": duplicate}
        async with self._places:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._switches().webhook_patience_seconds):
                    attempt["status"] = await self._status(delivery.body, headers)
            except TimeoutError:
                attempt["error"] = "no answer in time"
            except UpstreamFault as broken:
                attempt["error"] = f"broken: {broken.kind}"
            except ValueError as no_url:
                attempt["error"] = str(no_url)
            attempt["seconds"] = round(time.monotonic() - began, 4)
        delivery.attempts.append(attempt)
        return attempt["status"] is not None and 200 <= attempt["status"] < 300

    async def _status(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of a whole answer. Raises UpstreamFault, and ValueError where the URL is none."""
        target = Target.of(self.endpoint.url, headers)
        answer = await self._pool.post(target, body, first_byte_seconds=_PATIENCE_SECONDS_MAX)
        try:
            while await answer.next_block():
                pass
            return answer.status
        finally:
            answer.close()


def encode(body: Json, chance: random.Random) -> bytes:
    """The body as JSON in any of many spellings: order of keys, spacing, `\\/` or `/`, `\\u20b9` or `₹`.

    Whoever parses it and writes it again gets other bytes, and another signature.
    """
    text = json.dumps(
        _shuffled(body, chance), ensure_ascii=chance.random() < 0.7, separators=chance.choice(_SEPARATORS)
    )
    return (text.replace("/", "\\/") if chance.random() < 0.7 else text).encode()


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: _shuffled(value[name], chance) for name in names}
    return [_shuffled(item, chance) for item in value] if isinstance(value, list) else value
