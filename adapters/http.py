"""The client that calls providers: a `Target` is prepared once per route, `HttpPool.post` sends to it.

It is on the path of every call, so it makes no task, queue or timer per call, and hands bytes on as they
arrive. Redirects, cookies, proxies and compression are left out on purpose: no provider's API needs them, and
each is a way to be led astray.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from adapters.http_connection import Connection, Exchange, Host
from domain.inference.ports import Reply, UpstreamFault
from domain.kernel.errors import Refusal

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host that may be connected to. Raises a Refusal where there are none."""

SWEEP_SECONDS = 0.25

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_URL = re.compile(r"[\x21-\x7e]+")
_FRAMING = {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
_SET_BY_THE_CLIENT = _FRAMING | {"accept-encoding", "host", "keep-alive", "proxy-connection"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route's calls go, with all of the request's head that stays the same from call to call."""

    host: str
    port: int
    tls: bool
    head: bytes = field(repr=False)  # up to "content-length: "; holds the provider's key
    origin: tuple[str, int, bool]  # whose connections it shares
    resolve: Resolve | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, url: str, headers: Mapping[str, str], *, resolve: Resolve | None = None, method: str = "POST"
    ) -> "Target":
        """A target for calls of `url` (http or https) with `headers`, which replace ours of the same name.

        Where users have a say in the URL, `resolve` is that of `adapters.egress.Egress`: only the addresses that it
        answers are connected to, and no connection is shared with targets that have none.

        Raises ValueError, which quotes no value, for all that could bend the request: control characters,
        headers that frame the message, credentials in the URL.
        """
        if not _URL.fullmatch(url):
            raise ValueError("the URL has a character that may not stand in one; percent-encode it")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL must start with http:// or https:// and name a host")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("the URL must hold neither credentials nor a fragment")
        host, tls = parts.hostname, parts.scheme == "https"
        default_port = 443 if tls else 80
        port = default_port if parts.port is None else parts.port
        if port == 0:
            raise ValueError("port 0 cannot be called")
        fields = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "user-agent": f"bharatrouter/{_version()}",
        }
        fields.update(_checked(headers))
        authority = (f"[{host}]" if ":" in host else host) + (f":{port}" if port != default_port else "")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.1", f"host: {authority}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join([*lines, "content-length: "]).encode("ascii")
        shared_as = host if resolve is None else f"guarded {host}"
        return cls(host=host, port=port, tls=tls, head=head, origin=(shared_as, port, tls), resolve=resolve)


def _checked(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for name, value in headers.items():
        lowered = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError("the name of a header has a character that may not stand in one")
        if lowered in _SET_BY_THE_CLIENT:
            raise ValueError(f"the header {lowered} is set by the client itself")
        if lowered in seen:
            raise ValueError(f"the header {lowered} is given twice")
        if value and not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {lowered} must be printable ASCII on one line")
        seen.add(lowered)
        yield lowered, value


@cache
def _version() -> str:
    try:
        return version("bharatrouter")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


class HttpPool:
    """Keep-alive connections to any number of hosts, for one event loop.

    All times are in seconds. `connect_seconds` bounds making a connection (name, TCP and TLS together) and,
    apart from that, waiting for a free place; `idle_seconds` bounds every silence within a body. There is no
    limit on the whole. One sweep looks at all deadlines, so a timeout comes up to a quarter of a second late.

    A host is given at most `connections_per_host_max` calls at a time; the others wait in order of coming.
    """

    def __init__(
        self,
        *,
        connect_seconds: float,
        idle_seconds: float,
        connections_per_host_max: int = 2048,
        keepalive_seconds: float = 30,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._connections_per_host_max = connections_per_host_max
        self._keepalive_seconds = keepalive_seconds
        self._tls = tls or ssl.create_default_context()
        self._hosts: dict[tuple[str, int, bool], Host] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, target: Target, body: bytes, *, first_byte_seconds: float) -> Reply:
        """Sends `body` and returns the reply as soon as its head is there, at most `first_byte_seconds` after
        the request went out. The caller must close it. Raises UpstreamFault.

        A provider may close an idle connection just as a request goes out on it. The request is then sent
        once more, on a new connection, if it surely was not processed: the connection was ended in order (not
        reset), without one byte of reply, and the acknowledgement that TCP sends along with that end covers
        nothing of the request. In every other case the provider may have begun to work, and RFC 9110 (9.2.2)
        forbids to repeat a POST: the call fails as "cut", and whether to try elsewhere is for the caller, who
        knows what that may cost.
        """
        host = self._hosts.get(target.origin) or self._open_host(target)
        if host.free_places:
            host.free_places -= 1
        else:
            await self._wait_for_place(host)
        exchange = Exchange(host, idle_seconds=self._idle_seconds)
        request = (b"%b%d\r\n\r\n" % (target.head, len(body)), body)
        try:
            connection = host.take_idle() or await self._connect(target, host)
            connection.send(request, exchange)
            if not await exchange.head_arrived(first_byte_seconds):
                connection = await self._connect(target, host)
                connection.send(request, exchange)
                await exchange.head_arrived(first_byte_seconds)
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def close(self) -> None:
        """Ends all connections. Calls under way fail as "cut", later ones as "connect"."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for host in self._hosts.values():
            for _, waiter in host.waiters:
                if not waiter.done():
                    waiter.set_result(False)
            for exchange in list(host.exchanges):
                exchange.fail("cut", "The gateway is shutting down.")
            for connection in list(host.idle):
                connection.drop()
        self._hosts.clear()
        await asyncio.sleep(0)  # lets the loop close the sockets

    def _open_host(self, target: Target) -> Host:
        if self._closed:
            raise UpstreamFault("connect", "The gateway is shutting down.", started=False)
        host = self._hosts[target.origin] = Host(places=self._connections_per_host_max)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return host

    async def _wait_for_place(self, host: Host) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        host.waiters.append((loop.time() + self._connect_seconds, waiter))
        try:
            place_came = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                host.give_back_place()  # it came in the same moment as the cancellation
            raise
        if not place_came:
            raise UpstreamFault("connect", "The pool of connections to this provider is full.", started=False)

    async def _connect(self, target: Target, host: Host) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                sock = await _open_socket(target)
                connection = Connection(host, sock)
                await loop.create_connection(  # from here on the transport owns the socket
                    lambda: connection,
                    sock=sock,
                    ssl=self._tls if target.tls else None,
                    server_hostname=target.host if target.tls else None,
                )
        except Refusal as refusal:
            raise UpstreamFault("connect", refusal.message, started=False) from refusal
        except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors too
            raise UpstreamFault("connect", _why_not_connected(error), started=False) from error
        if self._closed:
            connection.drop()
            raise UpstreamFault("connect", "The gateway is shutting down.", started=False)
        return connection

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for origin, host in list(self._hosts.items()):
            host.expire(now=now, idle_since_max=now - self._keepalive_seconds)
            if not host.idle and host.free_places == self._connections_per_host_max:
                del self._hosts[origin]
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep) if self._hosts else None


async def _open_socket(target: Target) -> socket.socket:
    """The one place where an address is chosen and connected to. Raises OSError, and what the target's guard raises."""
    loop = asyncio.get_running_loop()
    failure = OSError("the name has no address")
    for family, address in await _addresses(target):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


async def _addresses(target: Target) -> list[tuple[int, tuple[Any, ...]]]:
    """Families and addresses in the order in which they are tried. What a guard answers is not looked up again."""
    if target.resolve is not None:
        judged = await target.resolve(target.host, target.port)
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, (one, target.port)) for one in judged]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _why_not_connected(error: OSError) -> str:
    match error:
        case TimeoutError():
            return "The provider could not be connected to in time."
        case socket.gaierror():
            return "The provider's host name does not resolve."
        case ssl.SSLCertVerificationError():
            return "The provider's TLS certificate is not valid for its host."
        case ssl.SSLError():
            return "The provider's TLS handshake failed."
    return "The provider could not be connected to."
