"""A simulated Razorpay for tests, in a thread of this process, and a merchant's webhook that remembers what came."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from adapters.simulators.razorpay.server import Options, running
from tests.beside import beside

Json = dict[str, Any]
KEY_ID, KEY_SECRET = "rzp_test_ofthetest00000", "key-secret-of-the-test"
WEBHOOK_SECRET = "webhook-secret-of-the-test"


@dataclass
class Simulated:
    """`ask` speaks to its API as a merchant, `tell` to its switches."""

    url: str
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
        more = {"auth": (KEY_ID, KEY_SECRET)} | more
        return self._client.request(method, f"{self.url}/v1/{path}", json=body, **more)

    def tell(self, path: str, body: object = None, method: str = "POST") -> Json:
        answer = self._client.request(method, f"{self.url}/_simulator/{path}", json={} if body is None else body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get(self, path: str) -> httpx.Response:
        return self._client.get(f"{self.url}/{path}")

    def switch(self, **switches: object) -> None:
        self.tell("switches", switches, "PUT")

    def order(self, amount: int = 50_000, **more: object) -> Json:
        answer = self.ask("POST", "orders", {"amount": amount, "currency": "INR"} | more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def pay(self, order: str | None = None, **more: object) -> Json:
        """The payment's entity, with what the browser is handed beside it."""
        told = self.tell("pay", {"order": order} | more)
        return dict(told.pop("payment")) | told

    def advance(self, seconds: float = 0) -> None:
        self.tell("advance", {"seconds": seconds})

    def deliveries(self) -> list[Json]:
        return list(self.tell("deliveries", method="GET")["deliveries"])

    def close(self) -> None:
        self._client.close()


@contextmanager
def simulated_razorpay(**options: Any) -> Iterator[Simulated]:
    """A simulator that runs until the end of the block."""
    given = {"key_id": KEY_ID, "key_secret": KEY_SECRET, "webhook_secret": WEBHOOK_SECRET} | options
    server = beside(running(Options(**given)))
    with server as (port, _), closing(Simulated(f"http://127.0.0.1:{port}")) as simulated:
        yield simulated


@dataclass(frozen=True)
class Heard:
    """One webhook as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return str(json.loads(self.body)["event"])

    @property
    def id(self) -> str:
        return self.headers["x-razorpay-event-id"]

    @property
    def signature(self) -> str | None:
        return self.headers.get("x-razorpay-signature")


@dataclass
class Hook:
    """A merchant's endpoint: what came, and what it answers. `answer` gives the status, after as long as it takes."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    answer: Callable[[Heard], int] = lambda heard: 200

    def events(self) -> list[str]:
        return [one.event for one in self.heard]

    def until(self, count: int) -> list[Heard]:
        deadline = time.monotonic() + 20
        while len(self.heard) < count:
            assert time.monotonic() < deadline, f"only {self.events()} came"
            time.sleep(0.01)
        return self.heard


@contextmanager
def webhook_endpoint() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard = Heard({name.lower(): value for name, value in self.headers.items()}, body)
            hook.heard.append(heard)
            status = hook.answer(heard)
            try:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
            except (BrokenPipeError, ConnectionResetError):
                pass  # the caller has lost patience

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/webhooks/razorpay"
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
