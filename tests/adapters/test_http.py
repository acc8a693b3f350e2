"""The client that calls providers, against sockets that answer well, badly, slowly, partly or not at all."""

import asyncio
import contextlib
import itertools
import os
import re
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http import HttpPool, Target
from adapters.http_connection import BUFFERED_BYTES_MAX
from domain.inference.ports import Reply, UpstreamFault

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
TLS = Path(__file__).parent / "tls"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """A server on a free port of this machine, whose every connection is given to `handler`."""

    def __init__(self, handler: Handler) -> None:
        self.connections = 0
        self.open_now = 0
        self.open_max = 0
        self.port = 0
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.open_max = max(self.open_max, self.open_now)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.open_now -= 1
            writer.close()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def provider(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Provider]:
    it = Provider(handler)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await it.stop()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    return head, await reader.readexactly(int(found[1]))


def answering(*replies: bytes, then_close: bool = False) -> Handler:
    """Answers the requests of a connection with `replies` in turn, and with the last one from then on."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        while True:
            await read_request(reader)
            writer.write(replies[min(turn, len(replies) - 1)])
            turn += 1
            if then_close:
                return

    return handler


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@contextlib.asynccontextmanager
async def pool_of(
    *,
    connect_seconds: float = 5.0,
    idle_seconds: float = 5.0,
    places: int = 2048,
    keepalive_seconds: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpPool]:
    pool = HttpPool(
        connect_seconds=connect_seconds,
        idle_seconds=idle_seconds,
        connections_per_host_max=places,
        keepalive_seconds=keepalive_seconds,
        tls=tls,
    )
    try:
        yield pool
    finally:
        await pool.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test on the production loop, with a time limit; what goes wrong out of sight fails it too."""
    unseen: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        await asyncio.wait_for(main, 60)

    uvloop.run(limited())
    assert unseen == []


async def call(pool: HttpPool, url: str, body: bytes = b"{}", *, first_byte_seconds: float = 5.0) -> tuple[int, bytes]:
    reply = await pool.post(Target.of(url, {}), body, first_byte_seconds=first_byte_seconds)
    try:
        return reply.status, await reply.read(1 << 30)
    finally:
        reply.close()


async def fault_of(working: Awaitable[object]) -> UpstreamFault:
    with pytest.raises(UpstreamFault) as caught:
        await working
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("what the test waits for did not come")


# The request.


def test_the_head_of_a_request_says_what_an_api_needs_and_nothing_else() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(HELLO)

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            target = Target.of(f"http://127.0.0.1:{it.port}/v1/x?y=1", {"Authorization": "Bearer k"})
            reply = await pool.post(target, b'{"a":1}', first_byte_seconds=5)
            assert await reply.read(100) == b"hello"
            head, body = seen[0]
            assert body == b'{"a":1}'
            lines = head.decode().split("\r\n")
            assert lines[:4] == [
                "POST /v1/x?y=1 HTTP/1.1",
                f"host: 127.0.0.1:{it.port}",
                "content-type: application/json",
                "accept: application/json, text/event-stream",
            ]
            assert re.fullmatch(r"user-agent: bharatrouter/[0-9.]+", lines[4])
            assert lines[5:] == ["authorization: Bearer k", "content-length: 7", "", ""]

    run(main())


@pytest.mark.parametrize(
    ("url", "first_lines", "origin"),
    [
        (
            "https://api.example.in",
            b"POST / HTTP/1.1\r\nhost: api.example.in\r\n",
            ("api.example.in", 443, True),
        ),
        (
            "http://API.example.in:80/a",
            b"POST /a HTTP/1.1\r\nhost: api.example.in\r\n",
            ("api.example.in", 80, False),
        ),
        ("https://[::1]:8443/a?b", b"POST /a?b HTTP/1.1\r\nhost: [::1]:8443\r\n", ("::1", 8443, True)),
    ],
)
def test_a_target_names_its_host_as_servers_expect(url: str, first_lines: bytes, origin: tuple[str, int, bool]) -> None:
    target = Target.of(url, {})
    assert target.head.startswith(first_lines)
    assert (target.host, target.port, target.tls) == target.origin == origin


def test_a_header_of_the_route_replaces_ours_and_never_shows_in_a_repr() -> None:
    target = Target.of("http://h/", {"ACCEPT": "text/event-stream", "x-api-key": "sk-secret"})
    assert target.head.count(b"accept:") == 1
    assert b"accept: text/event-stream\r\n" in target.head
    assert "sk-secret" not in repr(target)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nhost: evil"},
        {"x": "a\nb"},
        {"x": "a\rb"},
        {"x": "a\x00b"},
        {"x": " a"},
        {"x": "é"},
        {"x\r\ny": "a"},
        {"x:": "a"},
        {"": "a"},
        {"Content-Length": "0"},
        {"transfer-encoding": "chunked"},
        {"Host": "evil"},
        {"accept-encoding": "gzip"},
        {"X": "1", "x": "2"},
    ],
)
def test_a_header_that_could_bend_the_request_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        Target.of("http://h/", headers)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "h/",
        "http://",
        "http://u:p@h/",
        "http://h/\r\nx: y",
        "http://h/a b",
        "http://h/#f",
        "http://h:0/",
        "http://h:99999/",
        "http://भारत.in/",
        "http://h/\t",
    ],
)
def test_a_url_that_could_bend_the_request_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        Target.of(url, {})


@given(name=st.text(max_size=12), value=st.text(max_size=30), path=st.text(max_size=30))
def test_no_text_adds_a_line_to_the_head(name: str, value: str, path: str) -> None:
    plain = Target.of("http://h/", {}).head.count(b"\n")
    try:
        target = Target.of(f"http://h/{path}", {name: value})
    except ValueError:
        return
    replaced = name.lower() in ("accept", "content-type", "user-agent")
    assert target.head.count(b"\n") == target.head.count(b"\r") == plain + (not replaced)


# Keeping connections.


def test_calls_one_after_the_other_share_one_connection() -> None:
    async def main() -> None:
        async with provider(answering(HELLO)) as it, pool_of() as pool:
            for _ in range(5):
                assert await call(pool, it.url) == (200, b"hello")
            assert it.connections == 1

    run(main())


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello\r\nand something behind it",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_a_connection_that_the_provider_wants_closed_is_not_used_again(reply: bytes) -> None:
    async def main() -> None:
        async with provider(answering(reply)) as it, pool_of() as pool:
            assert await call(pool, it.url) == (200, b"hello")
            assert await call(pool, it.url) == (200, b"hello")
            assert it.connections == 2

    run(main())


def test_an_idle_connection_that_the_provider_closes_is_forgotten_at_once() -> None:
    async def main() -> None:
        async with provider(answering(HELLO, then_close=True)) as it, pool_of() as pool:
            for _ in range(3):
                assert await call(pool, it.url) == (200, b"hello")
                await until(lambda: it.open_now == 0)
                await asyncio.sleep(0.02)
            assert it.connections == 3

    run(main())


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def main() -> None:
        async with provider(answering(HELLO)) as it, pool_of(keepalive_seconds=0.3) as pool:
            await call(pool, it.url)
            await asyncio.sleep(0.1)
            assert it.open_now == 1
            started = time.monotonic()
            await until(lambda: it.open_now == 0)
            assert time.monotonic() - started < 2

    run(main())


def test_connections_of_a_burst_are_let_go_while_calls_go_on() -> None:
    async def main() -> None:
        async with provider(echo(0.02)) as it, pool_of(keepalive_seconds=0.6) as pool:
            await asyncio.gather(*(call(pool, it.url) for _ in range(5)))
            assert it.open_now == 5
            for _ in range(15):
                await call(pool, it.url)
                await asyncio.sleep(0.1)
            assert it.open_now == 1
            assert it.connections == 5

    run(main())


def test_a_reply_that_was_read_is_not_kept_in_memory() -> None:
    async def main() -> None:
        async with provider(answering(HELLO)) as it, pool_of() as pool:
            reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
            await reply.read(5)
            kept = weakref.ref(reply)
            del reply
            assert kept() is None

    run(main())


def receive_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, body = received.split(b"\r\n\r\n")
    size = int(head.rpartition(b" ")[2])
    while len(body) < size:
        body += connection.recv(65536)
    return body


def test_a_request_that_crosses_the_providers_closing_is_sent_once_more() -> None:
    connections: list[socket.socket] = []
    bodies: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connections.append(connection)
            bodies.append(receive_request(connection))
            connection.sendall(HELLO)

    async def main() -> None:
        url, large = f"http://127.0.0.1:{listener.getsockname()[1]}/", b'{"call":2}' * 100_000
        async with pool_of(places=1) as pool:
            assert await call(pool, url, b'{"call":1}') == (200, b"hello")
            connections[0].close()  # from here to the next write the client's loop does not look at its sockets
            assert await call(pool, url, large) == (200, b"hello")
        assert bodies == [b'{"call":1}', large]

    # Blocking sockets in a thread, so that the moment of closing can be chosen exactly.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        run(main())
        thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("with_reset", [False, True])
def test_a_request_that_the_provider_may_have_processed_is_never_sent_twice(with_reset: bool) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(HELLO)
        requests.append(await read_request(reader))
        if with_reset:
            sock = writer.get_extra_info("socket")
            os_socket = socket.socket(fileno=os.dup(sock.fileno()))
            os_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os_socket.close()
            writer.transport.abort()

    requests: list[tuple[bytes, bytes]] = []

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            await call(pool, it.url)
            fault = await fault_of(call(pool, it.url))
            assert (fault.kind, fault.started) == ("cut", False)
            assert (len(requests), it.connections) == (2, 1)

    run(main())


def test_a_new_connection_that_closes_without_an_answer_is_a_cut() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            fault = await fault_of(call(pool, it.url))
            assert (fault.kind, fault.started, it.connections) == ("cut", False, 1)

    run(main())


def test_a_connection_with_unsent_request_left_is_not_used_again() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(10)

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            assert await call(pool, it.url, bytes(50_000_000)) == (413, b"no")
            assert await call(pool, it.url) == (413, b"no")
            assert it.connections == 2

    run(main())


def test_closing_an_unread_reply_ends_its_connection_and_frees_its_place() -> None:
    async def main() -> None:
        async with (
            provider(answering(OK + b"content-length: 9\r\n\r\nhalf")) as it,
            pool_of(places=1) as pool,
        ):
            for turn in (1, 2):
                reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
                assert await reply.next_block() == b"half"
                reply.close()
                reply.close()
                await until(lambda: it.open_now == 0)
                assert it.connections == turn
                assert (await fault_of(reply.next_block())).kind == "cut"

    run(main())


# The reply.


def test_every_framing_gives_the_body_and_its_headers() -> None:
    replies = {
        OK + b"Content-Length:  5 \r\nX-A: 1\r\nx-empty:\r\nx-a: 2\r\n\r\nhello": 1,
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n": 1,
        OK + b"content-encoding: identity\r\n\r\nhello": 2,
    }

    async def main() -> None:
        for raw, connections in replies.items():
            closing = connections == 2
            async with provider(answering(raw, then_close=closing)) as it, pool_of() as pool:
                for _ in range(2):
                    reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
                    assert await reply.read(5) == b"hello"
                    if b"X-A" in raw:
                        assert reply.headers == [
                            (b"content-length", b"5"),
                            (b"x-a", b"1"),
                            (b"x-empty", b""),
                            (b"x-a", b"2"),
                        ]
                    assert b"x-trailer" not in dict(reply.headers)
                    reply.close()
                assert it.connections == connections

    run(main())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_ends_with_its_head(status: bytes) -> None:
    async def main() -> None:
        raw = b"HTTP/1.1 " + status + b"\r\nx: 1\r\n\r\n"
        async with provider(answering(raw)) as it, pool_of() as pool:
            for _ in range(2):
                assert await call(pool, it.url) == (int(status[:3]), b"")
            assert it.connections == 1

    run(main())


def test_interim_replies_are_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HELLO

    async def main() -> None:
        async with provider(answering(raw)) as it, pool_of() as pool:
            for _ in range(2):
                reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
                assert (reply.status, reply.headers) == (200, [(b"content-length", b"5")])
                assert await reply.read(5) == b"hello"
            assert it.connections == 1

    run(main())


def chunked(body: bytes, sizes: list[int]) -> bytes:
    frames, rest = [], body
    for size in sizes:
        if rest[:size]:
            frames.append(b"%x\r\n%b\r\n" % (len(rest[:size]), rest[:size]))
            rest = rest[size:]
    if rest:
        frames.append(b"%x\r\n%b\r\n" % (len(rest), rest))
    return OK + b"transfer-encoding: chunked\r\n\r\n" + b"".join(frames) + b"0\r\n\r\n"


@settings(max_examples=40)
@given(
    body=st.binary(max_size=300),
    framing=st.sampled_from(["length", "chunked", "close"]),
    sizes=st.lists(st.integers(1, 100), max_size=6),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_a_reply_is_the_same_however_it_is_cut_into_packets(
    body: bytes, framing: str, sizes: list[int], cuts: list[int]
) -> None:
    raw = {
        "length": OK + b"content-length: %d\r\n\r\n" % len(body) + body,
        "chunked": chunked(body, sizes),
        "close": OK + b"\r\n" + body,
    }[framing]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
        for start, end in itertools.pairwise(edges):
            writer.write(raw[start:end])
            await asyncio.sleep(0)

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            assert await call(pool, it.url) == (200, body)

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_reply_may_come_byte_by_byte(framing: str) -> None:
    raw = {
        "length": HELLO,
        "chunked": chunked(b"hello", [2, 1]),
        "close": OK + b"x: y\r\n\r\nhello",
    }[framing]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for i in range(len(raw)):
            writer.write(raw[i : i + 1])
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            assert await call(pool, it.url) == (200, b"hello")

    run(main())


def test_blocks_are_handed_on_as_they_arrive() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
        for block in (b"one", b"two"):
            await asks.get()
            writer.write(b"3\r\n" + block + b"\r\n")
        await asks.get()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    asks: asyncio.Queue[None] = asyncio.Queue()

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
            for expected in (b"one", b"two", b"", b""):
                asks.put_nowait(None)
                assert await reply.next_block() == expected

    run(main())


# Replies that are cut, or wrong.


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"content-length: 9\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n9\r\nhello",
    ],
)
def test_a_body_cut_short_is_a_fault_behind_what_arrived(raw: bytes) -> None:
    async def main() -> None:
        async with provider(answering(raw, then_close=True)) as it, pool_of(places=1) as pool:
            for _ in range(2):
                reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
                assert await reply.next_block() == b"hello"
                fault = await fault_of(reply.next_block())
                assert (fault.kind, fault.started) == ("cut", True)

    run(main())


def test_a_body_that_ends_with_the_connection_is_cut_by_a_reset() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        async def serve() -> None:
            connection, _ = await loop.sock_accept(listener)
            await loop.sock_recv(connection, 65536)
            await loop.sock_sendall(connection, OK + b"\r\nhello")
            await asyncio.sleep(0.05)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        async with pool_of() as pool:
            serving = asyncio.create_task(serve())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            fault = await fault_of(call(pool, url))
            assert (fault.kind, fault.started) == ("cut", True)
            await serving
        listener.close()

    run(main())


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 2", OK + b"content-le", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_cut_short_is_a_fault_before_the_start(raw: bytes) -> None:
    async def main() -> None:
        async with provider(answering(raw, then_close=True)) as it, pool_of() as pool:
            fault = await fault_of(call(pool, it.url))
            assert (fault.kind, fault.started) == ("cut", False)

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 0x2\r\n\r\nhi",
        OK + b"x: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        OK + b"x : a\r\ncontent-length: 0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nZZ\r\n",
        OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + HELLO,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nbody",
        OK + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"x: y\r\n" * 20_000 + b"content-length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
    ],
)
def test_a_reply_that_is_not_understood_is_a_fault_and_its_connection_is_dropped(raw: bytes) -> None:
    async def main() -> None:
        async with provider(answering(raw)) as it, pool_of(places=1) as pool:
            for turn in (1, 2):
                fault = await fault_of(call(pool, it.url))
                assert fault.kind == "protocol"
                assert fault.message.startswith("The provider")
                await until(lambda: it.open_now == 0)
                assert it.connections == turn

    run(main())


def test_a_compressed_reply_is_refused_by_name() -> None:
    async def main() -> None:
        raw = OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx"
        async with provider(answering(raw)) as it, pool_of() as pool:
            fault = await fault_of(call(pool, it.url))
            assert (fault.started, fault.message) == (
                True,
                "The provider's reply is compressed, which was not asked for.",
            )

    run(main())


@pytest.mark.parametrize("endless", [b"x: y\r\n", b"x: " + b"y" * 100])
@pytest.mark.parametrize("start", [OK, OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"])
def test_headers_and_trailers_without_end_are_stopped(start: bytes, endless: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(start)
        while True:
            writer.write(endless if endless.endswith(b"\n") else endless[-1:] * 500 if sent else endless)
            sent.append(1)
            await writer.drain()
            await asyncio.sleep(0)

    sent: list[int] = []

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            fault = await fault_of(call(pool, it.url))
            assert fault.kind == "protocol"
            assert "64 KB" in fault.message

    run(main())


@pytest.mark.parametrize("behind", [HELLO, b"x", b"HTTP/1.1 2"])
def test_data_behind_a_reply_is_never_taken_for_another_reply(behind: bytes) -> None:
    async def main() -> None:
        async with provider(answering(HELLO + behind)) as it, pool_of() as pool:
            for turn in (1, 2):
                fault = await fault_of(call(pool, it.url))
                assert (fault.kind, fault.started) == ("protocol", True)
                await until(lambda: it.open_now == 0)
                assert it.connections == turn

    run(main())


def test_data_on_an_idle_connection_ends_it() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await asyncio.sleep(0.05)
        writer.write(HELLO.replace(b"hello", b"EVIL!"))
        await reader.read()

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            assert await call(pool, it.url) == (200, b"hello")
            await until(lambda: it.open_now == 0)
            assert await call(pool, it.url) == (200, b"hello")
            assert it.connections == 2

    run(main())


def test_a_reply_larger_than_the_readers_limit_is_refused_and_its_connection_dropped() -> None:
    async def main() -> None:
        async with (
            provider(answering(OK + b"content-length: 100\r\n\r\n" + b"x" * 60)) as it,
            pool_of() as pool,
        ):
            reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
            fault = await fault_of(reply.read(50))
            assert (fault.kind, fault.started) == ("too_large", True)
            await until(lambda: it.open_now == 0)

    run(main())


# Time.


def test_a_provider_that_does_not_answer_times_out_before_the_start() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        while not reader.at_eof():  # signs of life that are no head do not count
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.05)

    async def main() -> None:
        async with provider(handler) as it, pool_of(places=1) as pool:
            for _ in range(2):
                started = time.monotonic()
                fault = await fault_of(call(pool, it.url, first_byte_seconds=0.3))
                assert (fault.kind, fault.started) == ("timeout", False)
                assert 0.25 < time.monotonic() - started < 2
            await until(lambda: it.open_now == 0)

    run(main())


def test_silence_within_a_body_times_out_behind_what_arrived() -> None:
    async def main() -> None:
        raw = OK + b"content-length: 9\r\n\r\nhello"
        async with provider(answering(raw)) as it, pool_of(places=1, idle_seconds=0.3) as pool:
            for _ in range(2):
                reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
                assert await reply.next_block() == b"hello"
                started = time.monotonic()
                fault = await fault_of(reply.next_block())
                assert (fault.kind, fault.started) == ("timeout", True)
                assert 0.25 < time.monotonic() - started < 2

    run(main())


def test_a_stream_that_goes_on_has_no_limit_on_the_whole() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"\r\n")
        for _ in range(12):
            await asyncio.sleep(0.1)
            writer.write(b"x")

    async def main() -> None:
        async with provider(handler) as it, pool_of(idle_seconds=0.5, connect_seconds=0.5) as pool:
            assert await call(pool, it.url, first_byte_seconds=0.5) == (200, b"x" * 12)

    run(main())


def test_a_reader_who_takes_his_time_is_not_timed_out() -> None:
    async def main() -> None:
        raw = OK + b"content-length: 9\r\n\r\nhello"

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(raw)
            await asyncio.sleep(1.0)
            writer.write(b"more")
            await reader.read()

        async with provider(handler) as it, pool_of(idle_seconds=0.6) as pool:
            reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=0.3)
            assert await reply.next_block() == b"hello"
            await asyncio.sleep(0.8)
            assert await reply.read(10) == b"more"

    run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://nowhere.invalid/"])
def test_a_provider_that_cannot_be_reached_is_a_connect_fault(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    async def main() -> None:
        async with pool_of(connect_seconds=2, places=1) as pool:
            for _ in range(2):
                fault = await fault_of(call(pool, url.format(port=port)))
                assert (fault.kind, fault.started) == ("connect", False)

    run(main())


def test_a_handshake_that_does_not_end_is_a_connect_fault_in_time() -> None:
    async def main() -> None:
        async with provider(silent) as it, pool_of(connect_seconds=0.3, places=1) as pool:
            for _ in range(2):
                started = time.monotonic()
                fault = await fault_of(call(pool, f"https://127.0.0.1:{it.port}/"))
                assert (fault.kind, fault.started) == ("connect", False)
                assert "in time" in fault.message
                assert time.monotonic() - started < 2
            await until(lambda: it.open_now == 0)

    run(main())


# Many calls, and slow readers.


def echo(delay_seconds: float) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            await asyncio.sleep(delay_seconds)
            writer.write(OK + b"content-length: %d\r\n\r\n" % len(body) + body)

    return handler


def test_five_hundred_calls_share_fifty_places_and_each_gets_its_own_reply() -> None:
    async def main() -> None:
        async with provider(echo(0.005)) as it, pool_of(places=50) as pool:
            bodies = [b'{"call":%d}' % i for i in range(500)]
            replies = await asyncio.gather(*(call(pool, it.url, body) for body in bodies))
            assert [body for _, body in replies] == bodies
            assert 1 < it.open_max <= 50
            assert it.connections == 50

    run(main())


def test_calls_that_wait_for_a_place_are_served_in_the_order_of_coming() -> None:
    async def main() -> None:
        order: list[int] = []

        async def numbered(number: int) -> None:
            await call(pool, it.url, b"%d" % number)
            order.append(number)

        async with provider(echo(0.001)) as it, pool_of(places=1) as pool:
            await asyncio.gather(*(numbered(number) for number in range(30)))
            assert order == list(range(30))

    run(main())


def test_a_full_pool_is_a_connect_fault_that_says_so() -> None:
    async def main() -> None:
        async with provider(silent) as it, pool_of(places=1, connect_seconds=0.3) as pool:
            first = asyncio.create_task(call(pool, it.url, first_byte_seconds=20))
            await until(lambda: it.open_now == 1)
            started = time.monotonic()
            fault = await fault_of(call(pool, it.url))
            assert (fault.kind, fault.started) == ("connect", False)
            assert "full" in fault.message
            assert 0.25 < time.monotonic() - started < 2
            first.cancel()

    run(main())


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_slow_reader_slows_the_provider_down(with_tls: bool) -> None:
    size, piece = 50_000_000, bytes(65_536)
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(2):
            await read_request(reader)
            sent = 0
            writer.write(OK + b"content-length: %d\r\n\r\n" % size)
            while sent < size:
                block = piece[: size - sent]
                writer.write(block)
                sent += len(block)
                await writer.drain()

    async def main() -> None:
        async with (
            provider(handler, tls=server_tls() if with_tls else None) as it,
            pool_of(tls=trusting_tls()) as pool,
        ):
            url = f"https://localhost:{it.port}/" if with_tls else it.url
            for _ in range(2):
                reply = await pool.post(Target.of(url, {}), b"{}", first_byte_seconds=5)
                received = len(await reply.next_block())
                before = -1
                while before != sent:
                    before = sent
                    await asyncio.sleep(0.2)
                assert sent < 25_000_000  # what the kernel's buffers take
                largest = 0
                while block := await reply.next_block():
                    received += len(block)
                    largest = max(largest, len(block))
                assert received == size
                assert largest <= 3 * BUFFERED_BYTES_MAX
            assert it.connections == 1

    run(main())


# Cancellation: after each, the one place is free again and the next call is served.


async def cancelled_then_served(pool: HttpPool, url: str, working: asyncio.Task[Any]) -> None:
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await call(pool, url) == (200, b"hello")


def first_silent() -> Handler:
    """Never answers its first connection, and well all others."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await (silent if connections == 1 else answering(HELLO))(reader, writer)

    return handler


def test_a_call_cancelled_before_the_head_leaks_nothing() -> None:
    async def main() -> None:
        async with provider(first_silent()) as it, pool_of(places=1, connect_seconds=1) as pool:
            working = asyncio.create_task(call(pool, it.url))
            await until(lambda: it.open_now == 1)
            await cancelled_then_served(pool, it.url, working)
            await until(lambda: it.open_now == 1)

    run(main())


def test_a_call_cancelled_within_the_body_leaks_nothing() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        first = not asked.is_set()
        asked.set()
        writer.write(HELLO[:-3] if first else HELLO)
        await reader.read()

    asked = asyncio.Event()

    async def main() -> None:
        async with provider(handler) as it, pool_of(places=1, connect_seconds=1) as pool:
            working = asyncio.create_task(call(pool, it.url))
            await asked.wait()
            await asyncio.sleep(0.05)
            await cancelled_then_served(pool, it.url, working)
            await until(lambda: it.open_now == 1)

    run(main())


def test_a_reader_cancelled_once_may_read_on() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"content-length: 5\r\n\r\n")
        await go_on.wait()
        writer.write(b"hello")
        await reader.read()

    go_on = asyncio.Event()

    async def main() -> None:
        async with provider(handler) as it, pool_of() as pool:
            reply: Reply = await pool.post(Target.of(it.url, {}), b"{}", first_byte_seconds=5)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reply.next_block()
            go_on.set()
            assert await reply.read(5) == b"hello"

    run(main())


def test_a_call_cancelled_while_it_waits_for_a_place_leaks_nothing() -> None:
    async def main() -> None:
        async with provider(echo(0.1)) as it, pool_of(places=1) as pool:
            first = asyncio.create_task(call(pool, it.url, b"1"))
            second = asyncio.create_task(call(pool, it.url, b"2"))
            third = asyncio.create_task(call(pool, it.url, b"3"))
            await asyncio.sleep(0.05)
            second.cancel()
            assert await first == (200, b"1")
            assert await third == (200, b"3")
            assert second.cancelled()

    run(main())


def test_a_place_that_comes_in_the_moment_of_cancellation_passes_on() -> None:
    async def main() -> None:
        async with provider(silent) as it, pool_of(places=1) as pool:
            reply_task = asyncio.create_task(call(pool, it.url, first_byte_seconds=20))
            await until(lambda: it.open_now == 1)
            second = asyncio.create_task(call(pool, it.url))
            third = asyncio.create_task(call(pool, it.url))
            await asyncio.sleep(0.01)
            reply_task.cancel()
            await asyncio.sleep(0)  # its place has gone to the second, which has not run since
            second.cancel()
            await until(lambda: it.connections == 2)
            assert second.cancelled()
            assert not third.done()
            third.cancel()

    run(main())


def test_a_call_cancelled_while_it_connects_leaks_no_socket() -> None:
    async def main() -> None:
        async with provider(silent) as it, pool_of(places=1) as pool:
            before = len(os.listdir("/proc/self/fd"))
            for turn in range(30):
                working = asyncio.create_task(call(pool, f"https://127.0.0.1:{it.port}/"))
                for _ in range(turn):  # cancelled at another step of the way each time
                    await asyncio.sleep(0)
                await asyncio.sleep(turn * 0.0003)
                working.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await working
            await until(lambda: it.open_now == 0)
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=5, max_size=40))
def test_calls_cancelled_at_any_step_never_cost_the_pool_a_place(plan: list[tuple[int, bool]]) -> None:
    async def main() -> None:
        async with provider(echo(0)) as it, pool_of(places=2) as pool:

            async def one(number: int, steps: int, cancel: bool) -> None:
                body = b'{"call":%d}' % number
                working = asyncio.create_task(call(pool, it.url, body))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if cancel:
                    working.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    assert await working == (200, body)

            await asyncio.gather(*(one(n, steps, cancel) for n, (steps, cancel) in enumerate(plan)))
            await asyncio.gather(*(call(pool, it.url) for _ in range(4)))
            assert it.open_now <= 2

    run(main())


# TLS.


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


def trusting_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "authority.pem"))


def test_a_provider_is_called_over_tls_and_its_connection_kept() -> None:
    async def main() -> None:
        async with provider(answering(HELLO), tls=server_tls()) as it, pool_of(tls=trusting_tls()) as pool:
            for _ in range(3):
                assert await call(pool, f"https://localhost:{it.port}/", bytes(100_000)) == (200, b"hello")
            assert it.connections == 1

    run(main())


def test_a_body_cut_short_over_tls_is_a_cut() -> None:
    async def main() -> None:
        half = answering(OK + b"content-length: 9\r\n\r\nhello", then_close=True)
        async with provider(half, tls=server_tls()) as it, pool_of(tls=trusting_tls()) as pool:
            fault = await fault_of(call(pool, f"https://localhost:{it.port}/"))
            assert (fault.kind, fault.started) == ("cut", True)

    run(main())


@pytest.mark.parametrize("case", ["unknown authority", "other host", "no tls"])
def test_a_provider_that_cannot_prove_itself_is_not_called(case: str) -> None:
    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HELLO)

        host = "127.0.0.1" if case == "other host" else "localhost"
        context = None if case == "unknown authority" else trusting_tls()
        served = None if case == "no tls" else server_tls()
        async with provider(handler, tls=served) as it, pool_of(tls=context, connect_seconds=2) as pool:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side complains
            fault = await fault_of(call(pool, f"https://{host}:{it.port}/"))
            assert (fault.kind, fault.started) == ("connect", False)
            assert ("handshake" if case == "no tls" else "certificate") in fault.message

    run(main())


# The end.


def test_closing_the_pool_ends_calls_under_way_those_that_wait_and_those_to_come() -> None:
    async def main() -> None:
        async with provider(silent) as it, pool_of(places=1) as pool:
            under_way = asyncio.create_task(call(pool, it.url))
            waiting = asyncio.create_task(call(pool, it.url))
            await until(lambda: it.open_now == 1)
            await pool.close()
            assert (await fault_of(under_way)).kind == "cut"
            assert (await fault_of(waiting)).kind == "connect"
            assert (await fault_of(call(pool, it.url))).kind == "connect"
            await pool.close()
            await until(lambda: it.open_now == 0)

    run(main())


def test_closing_the_pool_ends_a_call_that_connects() -> None:
    async def main() -> None:
        async with provider(answering(HELLO)) as it, pool_of() as pool:
            connecting = asyncio.create_task(call(pool, it.url))
            await asyncio.sleep(0)
            await pool.close()
            assert (await fault_of(connecting)).kind == "connect"
            await until(lambda: it.open_now == 0)

    run(main())
