"""A gateway in this process, and clients that speak to it byte by byte. The server is the real one on a real socket,
the provider behind it is the simulator, over HTTP; the ledger is the pure model.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import uvicorn
import uvloop

from adapters.http import HttpPool
from adapters.simulators import provider
from adapters.upstream import ProviderCalls
from api.attempts import Attempts
from api.caller import caller_of
from api.client_address import Network
from api.exchange import Answer
from api.fast_http import FastProtocol, Pace, beat_for_ever, protocol_for
from api.inference import Inference
from domain.accounts.events import OrgCreated, WorkspaceCreated
from domain.catalog.catalog import assemble
from domain.catalog.model import Model, Provider, Route
from domain.catalog.price import make_rates
from domain.inference.outlet import Patience, Services
from domain.inference.rates import SECOND_MICROS, Limit, RollingWindows, Window, window_of
from domain.inference.sizes import OutputSizes
from domain.kernel.events import Event
from domain.kernel.money import rupees
from domain.keys.directory import Caller
from domain.keys.events import KeyMinted
from domain.keys.key import key_digest
from domain.ledger.events import CreditGranted
from domain.ledger.guards import Denied
from tests.fakes import FakeClock, FakeLedger, FakeTokenizer
from tests.given import PEPPER

KEY = "br-of-the-edge"
CHAT = "/v1/chat/completions"


# Clients


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose envelope is checked to be exact."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return str(self.json["error"]["code"])

    @property
    def frames(self) -> list[bytes]:
        """The data of a stream's frames; raises where there is anything but data and comments."""
        frames = [frame for frame in self.body.split(b"\n\n") if frame and not frame.startswith(b":")]
        assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames), self.body
        return [frame.removeprefix(b"data: ") for frame in frames]


class Wire:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> "Wire":
        self.writer.write(data)
        return self

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """The next reply, which must carry what every reply carries."""
        status, headers = await self.head()
        if bodiless or status == 204:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Reply(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        assert first.startswith("HTTP/1.1 ")
        pairs = [line.split(": ", 1) for line in lines]
        names = [name for name, _ in pairs]
        assert sorted(names) == sorted(set(names)), f"a header twice in {names}"
        return int(first.split()[1]), dict(pairs)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"

    async def is_closed(self, *, within: float = 5) -> bool:
        """Whether the gateway ends the connection; nothing may come before."""
        try:
            return await asyncio.wait_for(self.reader.read(1), within) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        self.writer.transport.abort()


def request(
    body: Any = None,
    *,
    path: str = CHAT,
    method: str = "POST",
    key: str | None = KEY,
    version: str = "1.1",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of one request; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = {"host": "edge"} | ({"authorization": f"Bearer {key}"} if key else {}) | dict(headers or {})
    if "transfer-encoding" not in fields and "content-length" not in fields and (data or method == "POST"):
        fields["content-length"] = str(len(data))
    lines = [f"{method} {path} HTTP/{version}", *[f"{name}: {value}" for name, value in fields.items()]]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def chat(model: str = "sim-2c", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Namaste"}]} | more


# The server


@dataclass
class Served:
    """A server that runs. Everything it still has when it ought to have ended is an error."""

    port: int
    protocol: type[FastProtocol]
    server: uvicorn.Server
    wires: list[Wire] = field(default_factory=list)

    async def connect(self) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)
        self.wires.append(Wire(reader, writer))
        return self.wires[-1]

    async def ask(self, data: bytes, *, bodiless: bool = False) -> Reply:
        """One request on a connection of its own."""
        wire = await self.connect()
        try:
            return await wire.send(data).reply(bodiless=bodiless)
        finally:
            await wire.close()

    async def until(self, condition: Callable[[], bool], *, within: float = 10) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110  # it may be anything
                await asyncio.sleep(0.01)

    @property
    def open_connections(self) -> int:
        return len(self.protocol.open_connections)

    @property
    def in_flight(self) -> int:
        return len(self.server.server_state.tasks)


@asynccontextmanager
async def serving(
    answers: Mapping[bytes, Answer], *, app: Any = None, pace: Pace | None = None, stop_seconds: int = 5
) -> AsyncIterator[Served]:
    """These answers under a real server, which is stopped in the end and must leave nothing behind."""
    before = asyncio.all_tasks()
    protocol = protocol_for(answers, pace=pace)
    config = uvicorn.Config(
        app or nothing_here,
        host="127.0.0.1",
        port=0,
        http=protocol,
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_graceful_shutdown=stop_seconds,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    heartbeat = asyncio.create_task(beat_for_ever(protocol))
    while not server.started:  # noqa: ASYNC110  # uvicorn says it in no other way
        await asyncio.sleep(0.001)
    served = Served(server.servers[0].sockets[0].getsockname()[1], protocol, server)
    try:
        yield served
    finally:
        for wire in served.wires:
            await wire.close()
        server.should_exit = True
        await running
        heartbeat.cancel()
        await asyncio.gather(heartbeat, return_exceptions=True)
    await served.until(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})
    assert not protocol.open_connections
    assert not server.server_state.connections


async def nothing_here(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers 404 and tells the path it saw and the bytes of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = json.dumps({"path": scope["path"], "bytes": size}).encode()
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


# The gateway


class OneEachLedger(FakeLedger):
    """As the real ledger: a note on a stream that exists already is not recorded."""

    def note(self, request: str, event: Event) -> Awaitable[Denied | None]:
        if self.of(request):
            return asyncio.sleep(0, None)
        return super().note(request, event)


class Minutes:
    """Rolling minutes of this process alone."""

    degraded = False

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._windows = RollingWindows(60 * SECOND_MICROS)

    async def take(self, *limits: Limit) -> Window:
        return window_of(self._windows.take(limits, wanted=1, now=self._clock()), place=0)


class Keys:
    """The directory of keys, as far as a caller is found in it."""

    def __init__(self) -> None:
        self.is_fresh = True
        self.callers: dict[bytes, Caller] = {}

    def add(self, key: str, **fields: Any) -> None:
        digest = key_digest(PEPPER, key.encode())
        caller = {
            "org": "org_a",
            "key_id": "key_a",
            "workspace": "ws_a",
            "scope": "full",
            "name": key,
            "prefix": key[:12],
            "digest": digest,
            "rpm_limit": None,
            "daily_limit": None,
            "expires": None,
            "models": None,
        }
        self.callers[digest] = Caller(**(caller | fields))

    def fresh(self) -> bool:
        return self.is_fresh

    def find(self, digest: bytes) -> Caller | None:
        return self.callers.get(digest)


@dataclass
class Edge(Served):
    """A gateway that runs: its clock, its ledger, its keys, and the provider behind it."""

    clock: FakeClock = field(default_factory=FakeClock)
    ledger: OneEachLedger = field(default_factory=OneEachLedger)
    keys: Keys = field(default_factory=Keys)
    services: Any = None
    provider_port: int = 0

    async def stats(self) -> dict[str, Any]:
        """What the provider counted of its calls."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.provider_port)
        reply = await Wire(reader, writer).send(b"GET /stats HTTP/1.1\r\nhost: p\r\n\r\n").reply()
        writer.close()
        await writer.wait_closed()
        total: dict[str, Any] = reply.json["total"]
        return total

    def events(self, kind: type[Event]) -> list[Any]:
        return [event for _, event in self.ledger.log if isinstance(event, kind)]


@asynccontextmanager
async def gateway(
    *,
    models: tuple[str, ...] = ("sim-2c",),
    inr: int = 1_000,
    gateway_rpm: int = 0,
    wrong_keys_rpm: int = 0,
    trusted_proxies: tuple[Network, ...] = (),
    body_bytes_max: int = 100_000,
    in_flight_max: int = 4_000,
    patience: Patience | None = None,
    app: Any = None,
    pace: Pace | None = None,
    stop_seconds: int = 5,
    clock: FakeClock | None = None,
    **replaced: Any,
) -> AsyncIterator[Edge]:
    """The inference routes, with `KEY` of an org that has so many rupees. The name of a model says how the provider
    behaves; `embed` makes embeddings. What it held must have been ended when it stops."""
    clock, ledger, keys = clock or FakeClock(), OneEachLedger(), Keys()
    ledger.record("org:org_a", OrgCreated(at=1, name="A"))
    ledger.record("workspace:ws_a", WorkspaceCreated(at=1, org="org_a", name="Default", default=True))
    minted = KeyMinted(at=1, org="org_a", workspace="ws_a", name="edge", prefix=KEY[:12], digest="00")
    ledger.record("key:key_a", minted)
    if inr:
        granted = CreditGranted(at=1, org="org_a", grant="g", amount=rupees(inr), reason="test")
        ledger.record("account:org_a", granted)
    keys.add(KEY)
    simulator = await provider.start()
    catalog = assemble(
        providers=[Provider(id="sim", name="Sim", base_url=f"http://127.0.0.1:{simulator.port}/v1")],
        models=[_model(name) for name in (*models, "embed")],
        routes=[_route(name) for name in (*models, "embed")],
    )
    pool = HttpPool(connect_seconds=5, idle_seconds=20)
    calls = ProviderCalls(pool, catalog=lambda: catalog, environment={})
    services = Services(
        catalog=lambda: catalog,
        configured=calls.configured,
        ledger=ledger,
        upstream=calls,
        tokenizer=FakeTokenizer(),
        sizes=OutputSizes(),
        patience=patience or Patience(disconnect_grace=1),
        clock=clock,
    )
    settings = SimpleNamespace(trusted_proxies=trusted_proxies)
    finding: Any = SimpleNamespace(directory=keys, pepper=PEPPER, clock=clock, settings=settings)
    rates: Any = replaced.get("rates") or Minutes(clock)
    wrong_keys = Attempts(rates, purpose="wrong_key", limit=wrong_keys_rpm, secret=PEPPER, clock=clock)

    async def read_stream(stream: str) -> list[Event]:
        found = ledger.of(stream.removeprefix("request:"))
        await asyncio.sleep(0.001)  # by the time the answer is here, it may be true no more
        return found

    parts: dict[str, Any] = {
        "services": services,
        "rates": rates,
        "identify": partial(caller_of, finding, wrong_keys),
        "read_stream": read_stream,
        "gateway_rpm": gateway_rpm,
        "body_bytes_max": body_bytes_max,
        "in_flight_max": in_flight_max,
    }
    inference = Inference(**(parts | replaced))
    try:
        async with serving(inference.answers(), app=app, pace=pace, stop_seconds=stop_seconds) as served:
            edge = Edge(
                served.port,
                served.protocol,
                served.server,
                served.wires,
                clock=clock,
                ledger=ledger,
                keys=keys,
                services=services,
                provider_port=simulator.port,
            )
            yield edge
        assert not ledger.guards.holds, "credit is still held"
    finally:
        await pool.close()
        await simulator.close()


def at_the_edge(play: Callable[[Edge], Coroutine[Any, Any, None]], **given: Any) -> None:
    """Plays at a gateway of its own."""

    async def run() -> None:
        async with gateway(**given) as edge:
            await play(edge)

    uvloop.run(run())


def _model(name: str) -> Model:
    return Model(
        id=name,
        name=name,
        created=0,
        owned_by="sim",
        modality="embedding" if name == "embed" else "chat",
        context_length=100_000,
        max_output_tokens=4_096,
        openness="open",
    )


def _route(name: str) -> Route:
    output = 0 if name == "embed" else 4_000
    rates = make_rates(provider="sim", model=name, priced_on="2026-01-01", input=1_000, output=output)
    return Route(
        provider="sim",
        model=name,
        upstream=name,
        residency="IN",
        rates=rates,
        context_length=100_000,
        max_output_tokens=4_096,
    )
