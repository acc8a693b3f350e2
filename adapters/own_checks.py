"""Tries what orgs bring before it is saved: a key at its provider, an endpoint by the compliance test. Each try has its
own connections, and is made in the calling thread, which waits for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from adapters.http import HttpPool, Resolve, Target
from adapters.upstream import base_url_of, headers_of, path_of
from domain.byo.compliance import (
    BAD_MODEL,
    SECONDS_MAX,
    UNSURE,
    Check,
    CheckName,
    Compliance,
    KeyCheck,
    chat_body,
    judge_bad_model,
    judge_chat,
    judge_key_by_chat,
    judge_list,
    judge_stream,
    judge_time,
)
from domain.byo.own import host_of
from domain.catalog.catalog import Catalog
from domain.catalog.model import Provider, Route
from domain.inference.messages import parse
from domain.inference.ports import UpstreamFault
from domain.inference.wires.registry import WIRES
from domain.kernel.errors import Invalid, Unavailable

AT_ONCE_MAX = 8
"""In one process: they wait for strangers, and must not take the threads that everything else needs."""
CONNECT_SECONDS = 5.0
KEY_SECONDS_MAX = 15
REPLY_BYTES_MAX = 4 << 20

_Told = tuple[int, str, bytes]
"""Status, content type and body of a reply."""


class OwnChecks:
    """`resolve` is the guard of addresses that orgs give; `environment` and `simulator_url` say where providers are."""

    def __init__(
        self, *, catalog: Catalog, resolve: Resolve, environment: Mapping[str, str], simulator_url: str | None
    ) -> None:
        self._catalog = catalog
        self._resolve = resolve
        self._environment = environment
        self._simulator_url = simulator_url
        self._places = threading.BoundedSemaphore(AT_ONCE_MAX)

    def host(self, provider: Provider) -> str:
        """The host that a key for this provider is for. Raises Unavailable `provider_not_configured` where its address
        is not whole without the operator."""
        return host_of(self._base_url(provider))

    def check_key(self, provider: Provider, key: str) -> KeyCheck:
        """What the provider makes of the key now, in its own form: by its list of models, else by a chat of one token.
        Raises Unavailable `overloaded` or `provider_not_configured`."""
        base_url = self._base_url(provider)
        with self._place():
            return asyncio.run(self._try_key(provider, base_url, headers_of(provider, key)))

    def check_endpoint(self, base_url: str, upstream: str, key: str) -> Compliance:
        """The compliance test; it takes as long as the endpoint does, `SECONDS_MAX` at most. Raises Invalid
        `address_refused` for one that is not called, and Unavailable `overloaded`."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        target = _target(base_url + "/chat/completions", headers, resolve=self._resolve)
        with self._place():
            return asyncio.run(_comply(target, upstream, self._resolve))

    async def _try_key(self, provider: Provider, base_url: str, headers: Mapping[str, str]) -> KeyCheck:
        wire = WIRES[provider.wire]
        path = provider.paths.get("models") or (wire.paths.get("models") if not provider.paths else None)

        async def by_list(pool: HttpPool) -> KeyCheck | None:
            if path is None:
                return None
            target = _target(base_url + path, headers, method="GET")
            status, _, body = await _ask(pool, target, b"")
            return judge_list(wire.status(status, body), body)

        async def by_chat(pool: HttpPool) -> KeyCheck:
            route = self._chat_route(provider)
            if route is None:
                return UNSURE
            body = wire.body(parse("chat", chat_body(route.model)), route, provider, 1)
            target = _target(base_url + path_of(provider, route.upstream, "chat", streamed=False), headers)
            status, _, reply = await _ask(pool, target, body)
            return judge_key_by_chat(wire.status(status, reply))

        try:
            async with _pool() as pool, asyncio.timeout(KEY_SECONDS_MAX):
                return await by_list(pool) or await by_chat(pool)
        except (TimeoutError, UpstreamFault):
            return UNSURE

    def _chat_route(self, provider: Provider) -> Route | None:
        chats = (id for id, model in self._catalog.models.items() if model.modality == "chat")
        routes = (self._catalog.route(provider=provider.id, model=id) for id in chats)
        return next((route for route in routes if route is not None), None)

    def _base_url(self, provider: Provider) -> str:
        base_url = base_url_of(provider, environment=self._environment, simulator_url=self._simulator_url)
        if base_url is None:
            raise Unavailable(
                "provider_not_configured",
                f"The operator has not set the address of {provider.name} here; add it as an endpoint of your own.",
            )
        return base_url

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unavailable("overloaded", "Too many checks run at the moment. Try again shortly.", retry_after=5)
        try:
            yield
        finally:
            self._places.release()


async def _comply(target: Target, upstream: str, resolve: Resolve) -> Compliance:
    loop = asyncio.get_running_loop()
    await resolve(target.host, target.port)  # refused as such, and not as an endpoint that fails
    begun = loop.time()
    checks: list[Check] = []
    latency = 0

    async def chat(pool: HttpPool) -> None:
        nonlocal latency
        status, _, body = await _ask(pool, target, chat_body(upstream))
        latency = round((loop.time() - begun) * 1000)
        checks.append(judge_chat(status, body))

    async def stream(pool: HttpPool) -> None:
        told = await _ask(pool, target, chat_body(upstream, tokens=8, streamed=True))
        checks.append(judge_stream(*told))

    async def bad_model(pool: HttpPool) -> None:
        status, _, body = await _ask(pool, target, chat_body(BAD_MODEL))
        checks.append(judge_bad_model(status, body))

    demands: dict[CheckName, Callable[[HttpPool], Awaitable[None]]] = {
        "chat": chat,
        "stream": stream,
        "bad_model": bad_model,
    }
    async with _pool() as pool:
        for name, demand in demands.items():
            try:
                async with asyncio.timeout(max(SECONDS_MAX - (loop.time() - begun), 0)):
                    await demand(pool)
            except UpstreamFault as fault:
                checks.append(Check(name, False, fault.message))
            except TimeoutError:
                checks.append(Check(name, False, f"There was no whole answer within {SECONDS_MAX} s."))
    checks.append(judge_time(round((loop.time() - begun) * 1000)))
    return Compliance(checks=tuple(checks), latency_ms=latency)


@asynccontextmanager
async def _pool() -> AsyncIterator[HttpPool]:
    pool = HttpPool(connect_seconds=CONNECT_SECONDS, idle_seconds=SECONDS_MAX)
    try:
        yield pool
    finally:
        await pool.close()


async def _ask(pool: HttpPool, target: Target, body: bytes) -> _Told:
    reply = await pool.post(target, body, first_byte_seconds=SECONDS_MAX)
    try:
        kind = next((value for name, value in reply.headers if name == b"content-type"), b"")
        return reply.status, kind.decode("latin-1"), await reply.read(REPLY_BYTES_MAX)
    finally:
        reply.close()


def _target(url: str, headers: Mapping[str, str], *, resolve: Resolve | None = None, method: str = "POST") -> Target:
    try:
        return Target.of(url, headers, resolve=resolve, method=method)
    except ValueError as error:
        raise Invalid("invalid_request", f"This cannot be called: {error}.") from None
