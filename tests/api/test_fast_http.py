"""The protocol of the hot paths against clients that are quick, slow, confused or malicious."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from api.exchange import Exchange
from api.fast_http import HEAD_BYTES_MAX, Pace
from domain.inference.outlet import Served as ServedBy
from domain.kernel.errors import Refusal, TooMany, Unavailable
from tests.api.edge import Reply, Served, Wire, nothing_here, request, serving

BODY_BYTES_MAX = 200_000
SERVED_BY = ServedBy("p", "m", 7)
QUICK = Pace(beat=0.06, request=0.3, reading=0.3, linger=0.3)


class Desk:
    """Answers that tests steer: `/hot` tells how much it was sent, `/held` waits, `/stream` sends what it is
    given."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.exchanges: list[Exchange] = []
        self.outcomes: list[str] = []
        self.left = 0
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()

    def answers(self) -> dict[bytes, Any]:
        return {
            b"/hot": self._hot,
            b"/held": self._held,
            b"/stream": self._stream,
            b"/broken": self._broken,
            b"/broken/stream": self._broken_stream,
        }

    async def _read(self, exchange: Exchange) -> bytes:
        self.exchanges.append(exchange)
        exchange.request = f"req_{len(self.exchanges)}"
        try:
            return await exchange.read_body(BODY_BYTES_MAX)
        except Refusal as refusal:
            self.outcomes.append(refusal.code)
            exchange.refuse(refusal)
            raise _Answered from None

    async def _hot(self, exchange: Exchange) -> None:
        try:
            body = await self._read(exchange)
        except _Answered:
            return
        exchange.json(json.dumps({"bytes": len(body), "sum": sum(body)}).encode())

    async def _held(self, exchange: Exchange) -> None:
        await self._read(exchange)
        exchange.when_gone(self._leave)
        await self.go.wait()
        exchange.json(b'{"held": true}')

    async def _stream(self, exchange: Exchange) -> None:
        await self._read(exchange)
        exchange.when_gone(self._leave)
        exchange.open(SERVED_BY)
        while frame := await self.frames.get():
            await exchange.send(b"data: %b\n\n" % frame)
        exchange.finish(b"data: [DONE]\n\n")

    async def _broken(self, exchange: Exchange) -> None:
        await self._read(exchange)
        raise ZeroDivisionError

    async def _broken_stream(self, exchange: Exchange) -> None:
        await self._read(exchange)
        exchange.open(SERVED_BY)
        await exchange.send(b"data: 1\n\n")
        raise ZeroDivisionError

    def _leave(self) -> None:
        self.left += 1
        self.frames.put_nowait(b"")
        self.go.set()


class _Answered(Exception):
    pass


def at_the_desk(
    play: Callable[[Served, Desk], Coroutine[Any, Any, None]], *, pace: Pace | None = None, **given: Any
) -> None:
    async def run() -> None:
        desk = Desk()
        async with serving(desk.answers(), pace=pace, **given) as served:
            await play(served, desk)

    uvloop.run(run())


def hot(body: Any = b"{}", **more: Any) -> bytes:
    return request(body, **{"path": "/hot", "key": None, **more})


# Connections


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        for size in (0, 1, 100, 70_000, 3):
            assert (await wire.send(hot(b"a" * size)).reply()).json["bytes"] == size
        assert served.open_connections == 1

    at_the_desk(play)


@pytest.mark.parametrize("paths", [("/hot", "/hot"), ("/hot", "/app"), ("/app", "/hot"), ("/held", "/app", "/hot")])
def test_pipelined_requests_are_answered_in_order(paths: tuple[str, ...]) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(b"".join([hot(b"x" * (number + 1), path=path) for number, path in enumerate(paths)]))
        if "/held" in paths:
            await asyncio.sleep(0.05)
            assert len(desk.exchanges) == 1  # the next must wait for its turn
            desk.go.set()
        for number, path in enumerate(paths):
            reply = await wire.reply()
            if path == "/app":
                assert (reply.status, reply.json) == (404, {"path": "/app", "bytes": number + 1})
            else:
                assert reply.status == 200
                assert "held" in reply.json or reply.json["bytes"] == number + 1

    at_the_desk(play)


def test_a_pipelined_request_with_a_large_body_waits_and_is_read_then() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(path="/held") + hot(b"x" * 190_000) + hot(b"y"))
        await asyncio.sleep(0.6)  # it is we who do not read on
        desk.go.set()
        assert (await wire.reply()).json == {"held": True}
        assert (await wire.reply()).json["bytes"] == 190_000
        assert (await wire.reply()).json["bytes"] == 1

    at_the_desk(play, pace=QUICK)


@pytest.mark.parametrize("headers", [{"connection": "close"}, {"connection": "Close, x"}])
def test_a_client_that_wants_to_close_is_told_and_closed(headers: dict[str, str]) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        reply = await wire.send(hot(headers=headers) + hot()).reply()
        assert reply.headers["connection"] == "close"
        assert await wire.is_closed()
        assert len(desk.exchanges) == 1

    at_the_desk(play)


def test_an_old_client_gets_a_stream_that_ends_with_the_connection() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for frame in (b"1", b"2", b""):
            desk.frames.put_nowait(frame)
        wire = await served.connect()
        reply = await wire.send(hot(path="/stream", version="1.0")).reply()
        assert "transfer-encoding" not in reply.headers
        assert reply.headers["connection"] == "close"
        assert reply.frames == [b"1", b"2", b"[DONE]"]
        wire = await served.connect()
        message = hot(version="1.0", headers={"expect": "100-continue"})
        wire.send(message[:-2])
        await served.until(lambda: served.in_flight == 1)
        whole = await wire.send(message[-2:]).reply()  # it was told nothing in between
        assert (whole.status, whole.headers["connection"]) == (200, "close")

    at_the_desk(play)


def test_offers_to_change_the_protocol_are_passed_over() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for upgrade in ("h2c", "websocket"):
            wire = await served.connect()
            offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": upgrade, "http2-settings": "AAMAAABk"}
            assert (await wire.send(hot(b"12345", headers=offer)).reply()).json["bytes"] == 5
            assert (await wire.send(hot(b"123")).reply()).json["bytes"] == 3
            assert (await wire.send(hot(b"12", path="/app", headers=offer)).reply()).json["bytes"] == 2
            in_chunks = {**offer, "transfer-encoding": "chunked"}
            message = hot(b"", headers=in_chunks) + b"3\r\nabc\r\n0\r\n\r\n"
            for byte in message:
                wire.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await wire.reply()).json["bytes"] == 3
            wire.send(message + hot(b"1", headers=offer) * 1_000 + hot(b"1234"))
            assert (await wire.reply()).json["bytes"] == 3
            for _ in range(1_000):
                assert (await wire.reply()).json["bytes"] == 1
            assert (await wire.reply()).json["bytes"] == 4

    at_the_desk(play)


# Bodies


def chunked(*pieces: bytes) -> bytes:
    head = hot(b"", headers={"transfer-encoding": "chunked"})
    return head + b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"


@settings(max_examples=15)
@given(st.binary(max_size=500), st.lists(st.integers(0, 600), max_size=4), st.booleans())
def test_a_body_arrives_however_it_is_cut(body: bytes, cuts: list[int], in_chunks: bool) -> None:
    async def play(served: Served, desk: Desk) -> None:
        pieces = [body[i : i + 100] for i in range(0, len(body), 100)]
        message = chunked(*pieces) if in_chunks else hot(body)
        wire = await served.connect()
        for _ in range(2):
            begin = 0
            for end in [*sorted(cuts), len(message)]:
                wire.send(message[begin:end])
                begin = min(end, len(message))
                await asyncio.sleep(0.001)
            assert (await wire.reply()).json == {"bytes": len(body), "sum": sum(body)}

    at_the_desk(play)


def test_a_client_that_asks_may_send_its_body() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        message = hot(b"12345", headers={"expect": "100-Continue"})
        wire.send(message[:-5])
        assert await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await wire.send(message[-5:]).reply()).json["bytes"] == 5
        assert (await wire.send(message).reply()).json["bytes"] == 5  # all at once: nobody waits for a permission

    at_the_desk(play)


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for headers in ({}, {"expect": "100-continue"}):
            wire = await served.connect()
            head = hot(b"", headers={"content-length": str(BODY_BYTES_MAX + 1), **headers})
            reply = await wire.send(head).reply()
            assert (reply.status, reply.code) == (413, "payload_too_large")
            assert reply.headers["connection"] == "close"
            assert await wire.is_closed()

    at_the_desk(play)


def test_a_body_without_a_length_is_refused_once_it_is_too_large_and_nothing_more_is_kept() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(b"", headers={"transfer-encoding": "chunked"}))
        sent = 0
        try:
            while not desk.outcomes:
                wire.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                sent += 65_536
                await wire.writer.drain()
                await asyncio.sleep(0)
            wire.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")  # it goes on, and can still read why it should not
        except ConnectionError:
            pass
        reply = await wire.reply()
        assert (reply.status, reply.code) == (413, "payload_too_large")
        assert desk.outcomes == ["payload_too_large"]
        assert len(desk.exchanges[0].body) <= BODY_BYTES_MAX + 2 * 262_144
        await wire.close()
        await served.until(lambda: served.open_connections == 0)

    at_the_desk(play)


def test_a_client_that_sends_on_after_a_refusal_can_read_it_but_is_not_listened_to_for_long() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(b"", headers={"content-length": "30000000"}))
        written = 0
        async with asyncio.timeout(5):
            while served.open_connections:
                wire.send(b"x" * 16_384)
                written += 16_384
                await asyncio.sleep(0.02)
        assert written > 5 * 16_384  # it was listened to beyond the answer
        assert wire.reader._buffer.startswith(b"HTTP/1.1 413 ")

    at_the_desk(play, pace=Pace(linger=0.3))


def test_a_body_of_just_the_limit_is_taken() -> None:
    async def play(served: Served, desk: Desk) -> None:
        assert (await served.ask(hot(b"x" * BODY_BYTES_MAX))).json["bytes"] == BODY_BYTES_MAX
        assert (await served.ask(hot(b"x" * (BODY_BYTES_MAX + 1)))).code == "payload_too_large"

    at_the_desk(play)


# What cannot be parsed

MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"CONNECT edge:443 HTTP/1.1\r\nhost: edge\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /hot HTTP/9.9\r\n\r\n",
    b"POST /hot\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /hot HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
    b"POST /hot HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
    b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST http:// HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /hot\xff%ff HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: message[:60].decode("latin-1"))
def test_what_is_no_request_is_refused_in_the_envelope_and_the_connection_closed(message: bytes) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        reply = await wire.send(message).reply()
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"]
        assert reply.headers["x-request-id"].startswith("req_")
        assert await wire.is_closed()
        assert not desk.exchanges

    at_the_desk(play)


def test_a_body_with_broken_framing_is_refused_and_the_connection_closed() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for path in ("/hot", "/app"):
            wire = await served.connect()
            wire.send(hot(b"", path=path, headers={"transfer-encoding": "chunked"}) + b"3\r\nabc\r\n")
            await asyncio.sleep(0.02)
            reply = await wire.send(b"no length\r\n").reply()
            assert (reply.status, reply.code) == (400, "invalid_request")
            assert await wire.is_closed()

    at_the_desk(play)


def test_garbage_behind_a_request_does_not_spoil_its_answer() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for together in (True, False):
            wire = await served.connect()
            message = hot(path="/stream")
            wire.send(message + b"GARBAGE\r\n\r\n" if together else message)
            status, _ = await wire.head()
            assert status == 200
            if not together:
                wire.send(b"GARBAGE\r\n\r\n")
                wire.send(b"GARBAGE\r\n\r\n")
            await asyncio.sleep(0.02)
            for frame in (b"1", b"2", b""):
                desk.frames.put_nowait(frame)
            assert [chunk async for chunk in wire.chunks()][-1] == b"data: [DONE]\n\n"
            assert await wire.is_closed()

    at_the_desk(play)


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(b"POST /hot HTTP/1.1\r\nhost: a\r\n")
        await asyncio.sleep(0.02)
        sent = 0
        while sent < HEAD_BYTES_MAX + 10_000 and not wire.reader._buffer:
            wire.send(b"x: %b\r\n" % (b"y" * 1_000))
            sent += 1_005
            await asyncio.sleep(0.001)
        reply = await wire.reply()
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert sent <= HEAD_BYTES_MAX + 5_000
        assert not desk.exchanges

    at_the_desk(play)


def test_large_requests_in_a_row_are_no_large_head() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        await served.until(lambda: served.open_connections == 1)
        [connection] = served.protocol.open_connections
        one = hot(b"x" * 40_000)
        stream = one * 12
        for begin in range(10 - 3 * len(one), len(stream), 3 * len(one)):  # every piece breaks off within a head
            connection.data_received(stream[max(begin, 0) : begin + 3 * len(one)])
            await asyncio.sleep(0.01)
        for _ in range(12):
            assert (await wire.reply()).json["bytes"] == 40_000

    at_the_desk(play)


# Targets and methods


@pytest.mark.parametrize(
    "target",
    [
        "/hot?x=1",
        "/hot?",
        "/h%6ft",
        "/%68%6F%74?api-version=2",
        "http://edge/hot",
        "http://edge:80/hot?a=/b#c",
        "/hot#f",
    ],
)
def test_the_path_counts_however_it_is_written(target: str) -> None:
    async def play(served: Served, desk: Desk) -> None:
        assert (await served.ask(hot(b"123", path=target))).json["bytes"] == 3

    at_the_desk(play)


@pytest.mark.parametrize("target", ["/hot/", "//hot", "/hot/x", "/HOT", "/hot%2f", "/hot%3Fx", "/hot;x", "/"])
def test_other_paths_go_to_the_app(target: str) -> None:
    async def play(served: Served, desk: Desk) -> None:
        assert (await served.ask(hot(b"123", path=target))).status == 404
        assert not desk.exchanges

    at_the_desk(play)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(method: str) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        for target in ("/hot", "/hot?x=1"):
            reply = await wire.send(hot(None, path=target, method=method)).reply(bodiless=method == "HEAD")
            assert reply.status == 405
            assert reply.headers["allow"] == "POST, OPTIONS"
            assert reply.headers["access-control-allow-origin"] == "*"
            if method != "HEAD":
                assert reply.code == "method_not_allowed"
        assert (await wire.send(hot()).reply()).status == 200  # the connection is in order

    at_the_desk(play)


def test_questions_about_a_path_go_to_the_app() -> None:
    async def play(served: Served, desk: Desk) -> None:
        assert (await served.ask(hot(None, method="OPTIONS"))).json["path"] == "/hot"

    at_the_desk(play)


# Clients that leave


def test_a_client_that_leaves_before_its_body_has_come_is_forgotten() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for leave in (Wire.close, Wire.reset):
            wire = await served.connect()
            wire.send(hot(b"", headers={"content-length": "100"}) + b"some")
            await served.until(lambda: served.in_flight == 1)
            if (left := leave(wire)) is not None:
                await left
            await served.until(lambda: served.in_flight == 0 and served.open_connections == 0)
        assert desk.outcomes == ["invalid_request"] * 2

    at_the_desk(play)


@pytest.mark.parametrize("path", ["/held", "/stream"])
def test_whoever_waits_for_the_client_is_told_once_that_it_left(path: str) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(path=path))
        await served.until(lambda: bool(desk.exchanges))
        wire.reset()
        await served.until(lambda: served.in_flight == 0 and served.open_connections == 0)
        assert desk.left == 1
        assert desk.exchanges[0].gone
        desk.exchanges[0].when_gone(desk._leave)
        assert desk.left == 2  # at once, where the client is gone already

    at_the_desk(play)


def test_a_client_that_leaves_with_another_request_in_line_is_noticed_by_the_first() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(path="/stream") + hot(path="/held"))
        await served.until(lambda: bool(desk.exchanges))
        wire.reset()
        for _ in range(100):  # reading is paused: only what is written shows that nobody is there
            if not served.open_connections:
                break
            desk.frames.put_nowait(b"1")
            await asyncio.sleep(0.01)
        await served.until(lambda: served.in_flight == 0)
        assert desk.left == 1
        assert len(desk.exchanges) == 1

    at_the_desk(play)


def test_a_client_that_leaves_after_its_answer_is_nobodys_concern() -> None:
    async def play(served: Served, desk: Desk) -> None:
        desk.go.set()
        assert (await served.ask(hot(path="/held"))).status == 200
        await served.until(lambda: served.open_connections == 0)
        assert desk.left == 0

    at_the_desk(play)


# Clients that are slow


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"POST /hot HT",
        b"POST /hot HTTP/1.1\r\nx: 1\r\n",
        hot(b"", headers={"content-length": "10"}) + b"abc",
        hot(b"", path="/app", headers={"content-length": "10"}) + b"abc",
        hot() + b"POST /hot HT",
    ],
    ids=["nothing", "a blank line", "half a line", "half a head", "half a body", "half a body for the app", "the next"],
)
def test_a_request_that_does_not_come_to_its_end_is_given_up(begun: bytes) -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(begun)
        if begun.startswith(hot()):
            await wire.reply()
        assert not await wire.is_closed(within=0.2)
        assert await wire.is_closed(within=1)
        await served.until(lambda: served.in_flight == 0 and served.open_connections == 0)

    at_the_desk(play, pace=QUICK)


def test_a_head_that_drips_is_given_up_though_bytes_keep_coming() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        closed = asyncio.create_task(wire.is_closed(within=2))
        for byte in b"POST /hot HTTP/1.1\r\nx: " + b"a" * 200:
            if closed.done():
                break
            wire.send(bytes([byte]))
            await asyncio.sleep(0.02)
        assert await closed

    at_the_desk(play, pace=QUICK)


def test_a_body_may_take_its_time_while_it_keeps_coming_and_so_may_an_answer() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(b"", headers={"content-length": "8"}))
        for _ in range(8):
            await asyncio.sleep(0.1)
            wire.send(b"x")
        assert (await wire.reply()).json["bytes"] == 8
        wire.send(hot(path="/held"))
        await asyncio.sleep(0.8)
        desk.go.set()
        assert (await wire.reply()).status == 200
        await asyncio.sleep(0.6)  # kept alive for longer than a request may take
        wire.send(hot()[:10])
        await asyncio.sleep(0.15)
        assert (await wire.send(hot()[10:]).reply()).status == 200

    at_the_desk(play, pace=QUICK)


def test_a_stream_waits_for_a_slow_reader_and_goes_on_with_it() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await slow_reader(served)
        for _ in range(400):
            desk.frames.put_nowait(b"x" * 50_000)
        desk.frames.put_nowait(b"")
        await asyncio.sleep(0.3)
        waiting = desk.frames.qsize()
        assert waiting > 250  # 20 MB do not pile up
        await asyncio.sleep(0.2)
        assert desk.frames.qsize() == waiting
        received = sum([len(chunk) async for chunk in wire.chunks()])
        assert received == 400 * 50_008 + len(b"data: [DONE]\n\n")

    at_the_desk(play)


def test_a_client_that_does_not_read_at_all_is_cut_off() -> None:
    async def play(served: Served, desk: Desk) -> None:
        await slow_reader(served)
        for _ in range(400):
            desk.frames.put_nowait(b"x" * 50_000)
        await served.until(lambda: served.open_connections == 0, within=3)
        assert desk.left == 1
        desk.frames = asyncio.Queue()

    at_the_desk(play, pace=QUICK)


def test_a_client_that_reads_a_little_at_a_time_is_not_cut_off() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await slow_reader(served)
        for _ in range(100):
            desk.frames.put_nowait(b"x" * 50_000)
        desk.frames.put_nowait(b"")
        for _ in range(12):
            await asyncio.sleep(0.1)
            await wire.reader.readexactly(50_000)
        assert served.open_connections == 1
        rest = 0
        while not rest or not desk.exchanges[0].response_complete:
            rest += len(await wire.reader.read(100_000))
        assert desk.left == 0

    at_the_desk(play, pace=QUICK)


async def slow_reader(served: Served) -> Wire:
    """A client that has asked for the stream and read its head. All buffers between it and us are small."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", served.port))
    wire = Wire(*await asyncio.open_connection(sock=plug, limit=4_096))
    served.wires.append(wire)
    await served.until(lambda: served.open_connections == 1)
    [connection] = served.protocol.open_connections
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    wire.send(hot(path="/stream"))
    await wire.head()
    return wire


# Streams


def test_a_silent_stream_is_kept_alive_by_comments_alone() -> None:
    async def play(served: Served, desk: Desk) -> None:
        for version in ("1.1", "1.0"):
            wire = await served.connect()
            asyncio.get_running_loop().call_later(0.4, desk.frames.put_nowait, b"late")
            asyncio.get_running_loop().call_later(0.41, desk.frames.put_nowait, b"")
            reply = await wire.send(hot(path="/stream", version=version)).reply()
            assert 3 <= reply.body.count(b": keep-alive\n\n") <= 7
            assert reply.frames == [b"late", b"[DONE]"]

    at_the_desk(play, pace=QUICK)


def test_a_busy_stream_and_a_whole_answer_get_no_comments() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        wire.send(hot(path="/stream"))
        for _ in range(20):
            desk.frames.put_nowait(b"1")
            await asyncio.sleep(0.02)
        desk.frames.put_nowait(b"")
        assert b": keep" not in (await wire.reply()).body
        wire.send(hot(path="/held"))
        await asyncio.sleep(0.3)
        desk.go.set()
        assert (await wire.reply()).json == {"held": True}

    at_the_desk(play, pace=QUICK)


# Faults of ours, and the end


def test_a_fault_before_the_answer_is_an_error_in_the_envelope() -> None:
    async def play(served: Served, desk: Desk) -> None:
        reply = await served.ask(hot(path="/broken"))
        assert (reply.status, reply.code) == (500, "internal_error")
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["x-request-id"] in reply.json["error"]["message"]
        assert "ZeroDivision" not in reply.body.decode()

    at_the_desk(play)


def test_a_fault_in_a_stream_is_its_last_frame() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        reply = await wire.send(hot(path="/broken/stream")).reply()
        assert [reply.frames[0], reply.frames[2]] == [b"1", b"[DONE]"]
        error = json.loads(reply.frames[1])["error"]
        assert (error["type"], error["code"], error["param"]) == ("api_error", "internal_error", None)
        assert (await wire.send(hot()).reply()).status == 200

    at_the_desk(play)


def test_a_refusal_in_a_stream_is_its_last_frame() -> None:
    async def late(exchange: Exchange) -> None:
        await exchange.read_body(100)
        exchange.open(SERVED_BY)
        exchange.refuse(Unavailable("ledger_unavailable", "Not now.", retry_after=1))
        exchange.refuse(TooMany("rate_limit_exceeded", "Said too late.", retry_after=1))  # there is nothing left to say

    async def run() -> None:
        async with serving({b"/late": late}) as served:
            wire = await served.connect()
            for _ in range(2):
                reply = await wire.send(hot(path="/late")).reply()
                assert reply.status == 200
                assert json.loads(reply.frames[0])["error"]["code"] == "ledger_unavailable"
                assert reply.frames[1:] == [b"[DONE]"]

    uvloop.run(run())


def test_a_refusal_before_the_body_has_come_closes_the_connection() -> None:
    asked = []

    async def busy(exchange: Exchange) -> None:
        asked.append(exchange)
        exchange.request = "req_x"
        exchange.refuse(Unavailable("overloaded", "Busy.", retry_after=1))

    async def run() -> None:
        async with serving({b"/busy": busy}) as served:
            wire = await served.connect()
            reply = await wire.send(hot(path="/busy")).reply()
            assert "connection" not in reply.headers  # all of it was here already
            wire.send(hot(b"", path="/busy", headers={"content-length": "100000"}))
            reply = await wire.reply()
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "overloaded", "1")
            wire.send(b"x" * 100_000 + hot(path="/busy"))
            assert await wire.is_closed()
            await asyncio.sleep(0.05)
            assert len(asked) == 2

    uvloop.run(run())


def test_a_stop_waits_for_calls_and_closes_idle_connections() -> None:
    async def play(served: Served, desk: Desk) -> None:
        idle, whole, stream, half = [await served.connect() for _ in range(4)]
        assert (await idle.send(hot()).reply()).status == 200
        whole.send(hot(path="/held"))
        stream.send(hot(path="/stream"))
        half.send(b"POST /hot HT")
        await stream.head()
        await served.until(lambda: served.in_flight == 2)
        served.server.should_exit = True
        assert await idle.is_closed()
        assert await half.is_closed()
        with pytest.raises(ConnectionError):
            await served.connect()
        desk.go.set()
        desk.frames.put_nowait(b"last")
        desk.frames.put_nowait(b"")
        reply = await whole.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert b"".join([chunk async for chunk in stream.chunks()]) == b"data: last\n\ndata: [DONE]\n\n"
        assert await whole.is_closed()
        assert await stream.is_closed()

    at_the_desk(play)


def test_a_stop_that_lasts_too_long_ends_calls_with_an_error() -> None:
    async def play(served: Served, desk: Desk) -> None:
        whole, stream, body = [await served.connect() for _ in range(3)]
        whole.send(hot(path="/held"))
        stream.send(hot(path="/stream"))
        body.send(hot(b"", headers={"content-length": "10"}))
        await stream.head()
        await served.until(lambda: served.in_flight == 3)
        served.server.should_exit = True
        reply = await whole.reply()
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "overloaded", "1")
        error, done = b"".join([chunk async for chunk in stream.chunks()]).strip().split(b"\n\n")
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "overloaded"
        assert done == b"data: [DONE]"
        assert (await body.reply()).status == 503
        for wire in (whole, stream, body):
            assert await wire.is_closed()

    at_the_desk(play, stop_seconds=1)


# Headers


def test_every_reply_has_its_id_its_date_and_what_a_browser_may_read() -> None:
    async def play(served: Served, desk: Desk) -> None:
        desk.frames.put_nowait(b"")
        replies: list[Reply] = [
            await served.ask(hot()),
            await served.ask(hot(path="/stream")),
            await served.ask(hot(path="/broken")),
            await served.ask(hot(None, method="GET")),
            await served.ask(hot(b"x" * (BODY_BYTES_MAX + 1))),
            await served.ask(b"GARBAGE\r\n\r\n"),
        ]
        for reply in replies:
            assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"] != ""
            assert reply.headers["access-control-allow-origin"] == "*"
            exposed = reply.headers["access-control-expose-headers"].split(", ")
            assert {"x-request-id", "retry-after", "x-should-retry", "x-br-cost-inr"} <= set(exposed)
            assert reply.headers["date"].endswith("GMT")
            assert "server" not in reply.headers

    at_the_desk(play)


def test_the_app_is_served_beside_the_hot_paths() -> None:
    async def play(served: Served, desk: Desk) -> None:
        wire = await served.connect()
        assert (await wire.send(request(None, path="/v1/models", method="GET", key=None)).reply()).status == 404
        assert (await wire.send(hot(b"1")).reply()).json["bytes"] == 1
        assert (await wire.send(hot(b"12", path="/other")).reply()).json == {"path": "/other", "bytes": 2}

    at_the_desk(play, app=nothing_here)
