"""The process of the simulated Razorpay: its clock and agenda, its doors (`/v1`, `/checkout`, `/_simulator`), and what
it keeps over a restart. `GET /` lists what it can be told."""

import asyncio
import heapq
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import msgspec

from adapters.settings import Settings
from adapters.simulators import process, wire
from adapters.simulators.razorpay import checkout
from adapters.simulators.razorpay.api import Api, is_authorised
from adapters.simulators.razorpay.book import Book, Json, Outcome
from adapters.simulators.razorpay.refusals import FAILURES, Refused, fault
from adapters.simulators.razorpay.switches import Switches
from adapters.simulators.razorpay.webhooks import Endpoint, Webhooks

DEVELOPMENT_KEY = ("rzp_test_simulator00000", "simulated-key-secret")

_SAVE_SECONDS = 1.0
_Paise = Annotated[int, msgspec.Meta(ge=100)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the simulator is started with; `state` is the file that it keeps its book in, if any."""

    key_id: str = DEVELOPMENT_KEY[0]
    key_secret: str = DEVELOPMENT_KEY[1]
    webhook_url: str = ""
    webhook_secret: str = ""
    webhook_old_secret: str = ""
    state: Path | None = None


def options(settings: Settings, *, webhook_url: str, state: str | None) -> Options:
    """The options with the keys of the settings, or the development key where they name none."""
    key_id, key_secret = DEVELOPMENT_KEY
    if settings.razorpay_key_id is not None and settings.razorpay_key_secret is not None:
        key_id, key_secret = settings.razorpay_key_id, settings.razorpay_key_secret.get_secret_value()
    secret, old_secret, *_ = [*(one.get_secret_value() for one in settings.razorpay_webhook_secrets), "", ""]
    return Options(
        key_id=key_id,
        key_secret=key_secret,
        webhook_url=webhook_url,
        webhook_secret=secret,
        webhook_old_secret=old_secret,
        state=None if state is None else Path(state),
    )


# What it can be told. A misspelt name is refused.


class Pay(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A payment without a browser. Without an `outcome` it is authorised, and captured if that goes by itself."""

    order: str | None = None
    amount: _Paise | None = None
    method: Literal["upi", "card", "netbanking", "wallet"] = "upi"
    outcome: Outcome | None = None
    reason: str = "payment_failed"
    even_if_paid: bool = False
    vpa: str = "success@razorpay"
    email: str | None = None
    contact: str | None = None


class OpenDispute(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    payment: str
    amount: _Paise | None = None
    phase: Literal["fraud", "retrieval", "chargeback", "pre_arbitration", "arbitration"] = "chargeback"
    reason: str = "goods_or_services_not_received"
    deducted: bool = False


class MoveDispute(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    status: Literal["under_review", "action_required", "won", "lost", "closed"]


class FinishRefund(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    status: Literal["processed", "failed"]


class Advance(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    seconds: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)]


class SendEvent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    event: str
    payload: Json = {}


class Replay(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    event_ids: list[str] = []


class Simulator:
    """Everything between two requests."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._ahead = 0.0
        self._agenda: list[tuple[float, int, str, str]] = []
        self._numbers = itertools.count(1)
        self._awake = asyncio.Event()
        self._unsaved = False
        self._saved_at = 0.0
        self._start_afresh()
        self._control: Mapping[tuple[str, str], Callable[[wire.Request, str], Any]] = {
            ("GET", "switches"): lambda request, id: self.switches,
            ("PUT", "switches"): lambda request, id: self._switch(msgspec.json.decode(request.body, type=Switches)),
            ("PATCH", "switches"): self._change_switches,
            ("GET", "webhook"): lambda request, id: self._endpoint_shown(),
            ("PUT", "webhook"): self._set_endpoint,
            ("POST", "pay"): self._pay,
            ("POST", "disputes"): self._open_dispute,
            ("POST", "disputes/"): self._move_dispute,
            ("POST", "refunds/"): self._finish_refund,
            ("POST", "advance"): self._advance,
            ("POST", "events"): self._send_event,
            ("POST", "replay"): self._replay,
            ("GET", "deliveries"): self._deliveries,
            ("POST", "reset"): self._reset,
        }

    def _start_afresh(self) -> None:
        self._switch(Switches())
        endpoint = Endpoint(
            url=self._options.webhook_url,
            secret=self._options.webhook_secret,
            old_secret=self._options.webhook_old_secret,
        )
        self.webhooks = Webhooks(now=self.now, switches=self._switches, later=self.later, endpoint=endpoint)
        self.book = Book(now=self.now, switches=self._switches, tell=self.webhooks.tell, later=self.later)
        self._api = Api(self.book, self._switches)

    # Time

    def now(self) -> float:
        """Seconds since 1970, as far as they have been moved forward."""
        return time.time() + self._ahead

    def later(self, at: float, action: str, argument: str) -> None:
        """Puts an action of the book or of the webhooks on the agenda."""
        heapq.heappush(self._agenda, (at, next(self._numbers), action, argument))
        self._awake.set()

    async def work(self) -> None:
        """Does what is due, when it is due, for ever."""
        while True:
            self._awake.clear()
            self._do_due()
            if self._unsaved and time.monotonic() >= self._saved_at + _SAVE_SECONDS:
                self.save()
            waits = [self._agenda[0][0] - self.now()] if self._agenda else []
            waits += [self._saved_at + _SAVE_SECONDS - time.monotonic()] if self._unsaved else []
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(waits)) if waits else None):
                    await self._awake.wait()

    def _do_due(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.now():
            _, _, action, argument = heapq.heappop(self._agenda)
            (self.book.actions.get(action) or self.webhooks.actions[action])(argument)
            self._unsaved = True

    async def _advance(self, request: wire.Request, id: str) -> Json:
        """Moves the clock, stopping at each thing that is due; answered when all deliveries on the way have ended."""
        target = self.now() + msgspec.json.decode(request.body, type=Advance).seconds
        await self._settled()
        while self._agenda and self._agenda[0][0] <= target:
            self._move_to(self._agenda[0][0])
            await self._settled()
        self._move_to(target)
        return {"now": self.now()}

    def _move_to(self, moment: float) -> None:
        self._ahead = max(self._ahead, moment - time.time())
        self._awake.set()

    async def _settled(self) -> None:
        self._do_due()
        await self.webhooks.settled()

    # Doors

    async def handle(self, request: wire.Request, reply: wire.Reply) -> None:
        """Answers one request."""
        path, _, query = request.target.partition("?")
        if path.startswith("/v1/"):
            await self._answer_merchant(request, reply, path=path, query=query)
            return
        try:
            if path.startswith("/checkout/"):
                body, kind = self._answer_payer(request, path)
            elif path.startswith("/_simulator/"):
                body, kind = await self._answer_tester(request, path), "application/json"
            elif path == "/health":
                body, kind = b'{"status": "ok"}', "application/json"
            elif path == "/":
                body, kind = self._help().encode(), "text/plain; charset=utf-8"
            else:
                raise Refused("unknown_url", status=404)
            await reply.whole(200, body, content_type=kind, headers={"cache-control": "no-store"})
        except Refused as refused:
            await reply.whole(refused.status, msgspec.json.encode({"error": refused.error}))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as wrong:
            error = {"code": "BAD_REQUEST_ERROR", "description": str(wrong), "metadata": {}}
            await reply.whole(400, msgspec.json.encode({"error": error}))
        self._unsaved |= request.method != "GET"
        self._awake.set()

    async def _answer_merchant(self, request: wire.Request, reply: wire.Reply, *, path: str, query: str) -> None:
        faulty = self._faulty(f"{request.method} {path}")
        switches = self.switches
        fails = faulty and (switches.api_cut or switches.api_status)
        if not fails or switches.api_carried_out:
            status, answer = self._merchant_answer(request, path, query)
            self._unsaved |= request.method != "GET"
            self._awake.set()
        if faulty:
            await asyncio.sleep(switches.api_sleep_seconds)
            if switches.api_cut:
                reply.reset()
                return
            if switches.api_status:
                status, answer = switches.api_status, fault(switches.api_status)
        await reply.whole(status, msgspec.json.encode(answer))

    def _merchant_answer(self, request: wire.Request, path: str, query: str) -> tuple[int, Json]:
        key = {"key_id": self._options.key_id, "key_secret": self._options.key_secret}
        try:
            if not is_authorised(request.headers.get("authorization"), **key):
                raise Refused("wrong_key", status=self.switches.wrong_key_status)
            return 200, self._api.answer(request.method, path, query, request.headers, request.body)
        except Refused as refused:
            return refused.status, {"error": refused.error}

    def _faulty(self, call: str) -> bool:
        """Whether the switches of the API strike this call; each stroke counts."""
        switches = self.switches
        strikes = bool(switches.api_status or switches.api_cut or switches.api_sleep_seconds)
        if not strikes or switches.api_path not in call or self._strokes_left == 0:
            return False
        if self._strokes_left is not None:
            self._strokes_left -= 1
        return True

    def _answer_payer(self, request: wire.Request, path: str) -> tuple[bytes, str]:
        what = path.removeprefix("/checkout/")
        if request.method == "GET" and what == "v1/checkout.js":
            return checkout.SCRIPT.read_bytes(), "text/javascript; charset=utf-8"
        order = self.book.get("order", what.removesuffix("/pay"))
        if request.method == "GET" and not what.endswith("/pay"):
            return checkout.page(order, key_id=self._options.key_id).encode(), "text/html; charset=utf-8"
        if request.method != "POST" or not what.endswith("/pay"):
            raise Refused("unknown_url", status=404)
        payment = checkout.pay(self.book, order, msgspec.json.decode(request.body, type=checkout.Form))
        return msgspec.json.encode(self._handed_over(payment)), "application/json"

    async def _answer_tester(self, request: wire.Request, path: str) -> bytes:
        name, slash, id = path.removeprefix("/_simulator/").partition("/")
        told = self._control.get((request.method, name + slash))
        if told is None:
            raise Refused("unknown_url", status=404)
        answer = told(request, id)
        return msgspec.json.encode(await answer if isinstance(answer, Awaitable) else answer)

    def _help(self) -> str:
        switches = json.dumps(msgspec.to_builtins(Switches()), indent=4)
        calls = "\n".join(f"    {method:5} /_simulator/{path}" for method, path in self._control)
        return (
            f"A simulated Razorpay. Merchants: /v1/…; payers: /checkout/v1/checkout.js, /checkout/{{order_id}}"
            f" (?callback_url=…).\n\nIt can be told (bodies are JSON):\n{calls}\n\n"
            f"Switches and their defaults:\n{switches}\n"
        )

    # Control

    def _switches(self) -> Switches:
        return self.switches

    def _switch(self, switches: Switches) -> Switches:
        self.switches = switches
        self._strokes_left = switches.api_times
        return switches

    def _change_switches(self, request: wire.Request, id: str) -> Switches:
        changes = msgspec.json.decode(request.body, type=dict[str, Any])
        return self._switch(msgspec.convert(msgspec.to_builtins(self.switches) | changes, Switches))

    def _set_endpoint(self, request: wire.Request, id: str) -> Json:
        self.webhooks.endpoint = msgspec.json.decode(request.body, type=Endpoint)
        return self._endpoint_shown()

    def _endpoint_shown(self) -> Json:
        endpoint = self.webhooks.endpoint
        return {"url": endpoint.url, "signed": bool(endpoint.secret), "enabled": endpoint.enabled}

    def _pay(self, request: wire.Request, id: str) -> Json:
        asked = msgspec.json.decode(request.body, type=Pay)
        if asked.reason not in FAILURES:
            raise ValueError(f"reason must be one of {', '.join(FAILURES)}")
        order = None if asked.order is None else self.book.get("order", asked.order)
        amount = asked.amount
        if amount is None:
            if order is None:
                raise ValueError("a payment without an order needs an amount")
            amount = order["amount"]
        payment = self.book.pay(
            order,
            amount=amount,
            outcome=asked.outcome or ("captured" if self.book.captures_by_itself(order) else "authorized"),
            reason=asked.reason,
            even_if_paid=asked.even_if_paid,
            method=asked.method,
            vpa=asked.vpa,
            email=asked.email,
            contact=asked.contact,
        )
        return {"payment": payment} | self._handed_over(payment)

    def _handed_over(self, payment: Json) -> Json:
        """What the payer's browser is given: the signed triple, or the error; nothing while the bank is silent."""
        match payment["status"]:
            case "created":
                return {}
            case "failed":
                return checkout.failure(payment)
        return self.book.signed(payment, key_secret=self._options.key_secret)

    def _open_dispute(self, request: wire.Request, id: str) -> Json:
        asked = msgspec.json.decode(request.body, type=OpenDispute)
        payment = self.book.get("payment", asked.payment)
        return self.book.open_dispute(
            payment,
            amount=asked.amount or payment["amount"],
            phase=asked.phase,
            reason=asked.reason,
            deducted=asked.deducted,
        )

    def _move_dispute(self, request: wire.Request, id: str) -> Json:
        asked = msgspec.json.decode(request.body, type=MoveDispute)
        return self.book.move_dispute(self.book.get("dispute", id), asked.status)

    def _finish_refund(self, request: wire.Request, id: str) -> Json:
        asked = msgspec.json.decode(request.body, type=FinishRefund)
        refund = self.book.get("refund", id)
        self.book.finish(refund, failed=asked.status == "failed")
        return refund

    def _send_event(self, request: wire.Request, id: str) -> Json:
        asked = msgspec.json.decode(request.body, type=SendEvent)
        return self.webhooks.send(asked.event, asked.payload).shown()

    def _replay(self, request: wire.Request, id: str) -> Json:
        return {"replayed": self.webhooks.replay(msgspec.json.decode(request.body, type=Replay).event_ids)}

    def _deliveries(self, request: wire.Request, id: str) -> Json:
        """What was told, oldest first, as far as it is of `?event=`."""
        event = parse_qs(request.target.partition("?")[2]).get("event", [None])[0]
        shown = [delivery.shown() for delivery in self.webhooks.sent if event in (None, delivery.event)]
        return {"deliveries": shown, "under_way": len(self.webhooks.under_way)}

    async def _reset(self, request: wire.Request, id: str) -> Json:
        """Forgets everything but the time."""
        await self.webhooks.close()
        self._agenda.clear()
        self._start_afresh()
        return {"status": "ok"}

    # What is kept

    def load(self) -> None:
        """The book of the run before, with what was to happen; deliveries that were under way are lost."""
        path = self._options.state
        if path is None or not path.exists():
            return
        kept = json.loads(path.read_bytes())
        self._ahead = kept["ahead"]
        self.book.load(kept["book"])
        for at, action, argument in kept["agenda"]:
            self.later(at, action, argument)

    def save(self) -> None:
        path = self._options.state
        self._unsaved, self._saved_at = False, time.monotonic()
        if path is None:
            return
        agenda = [(at, action, argument) for at, _, action, argument in self._agenda if action in self.book.actions]
        draft = path.with_name(path.name + ".part")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"ahead": self._ahead, "agenda": agenda, "book": self.book.dump()}, file)
        draft.replace(path)


@asynccontextmanager
async def running(
    options: Options, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[int, Awaitable[None]]]:
    """A simulator in this event loop: its port, and the work of its agenda, which the caller has to run."""
    simulator = Simulator(options)
    simulator.load()
    server = await wire.serve(simulator.handle, host=host, port=port)
    work = asyncio.get_running_loop().create_task(simulator.work())
    try:
        yield server.port, work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await server.close()
        await simulator.webhooks.close()
        simulator.save()


def main(options: Options, *, host: str = "127.0.0.1", port: int = 0, announce: str | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Once listening, writes the base URL and a newline to the file `announce`."""
    process.run(lambda: running(options, host=host, port=port), host=host, announce=announce)
