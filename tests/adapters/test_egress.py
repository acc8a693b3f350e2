"""What users may have called: judged in words, at the name server, and at the socket."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from dnslib import AAAA, QTYPE, RR, A, DNSRecord
from dnslib.server import DNSLogger, DNSServer
from hypothesis import given
from hypothesis import strategies as st

from adapters.egress import Egress, is_open, parse_allowed
from adapters.http import HttpPool, Target
from domain.inference.ports import UpstreamFault
from domain.kernel.errors import Invalid
from tests.sockets import connections

TLS = Path(__file__).parent / "tls"

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",  # metadata of Alibaba Cloud
    "100.127.255.255",
    "127.0.0.1",
    "127.0.0.53",
    "127.255.255.254",
    "168.63.129.16",  # inside every machine of Azure
    "169.254.0.1",
    "169.254.169.254",  # metadata of most clouds
    "169.254.170.2",  # credentials of containers at Amazon
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",  # metadata of Oracle Cloud
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",  # Teredo
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",  # metadata of Amazon
    "fd12:3456:789a::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]

SPELLED = [  # all of them lead to this machine, or into its network, where a reader is lenient
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.01",
    "127.0.0.256",
    "1.1.1.1.1",
    "0",
    "0x0",
    "0x",
    "2852039166",
    "0xa9fea9fe",
    "169.16689662",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "a.localhost",
    "metadata",
    "metadata.google.internal",
    "METADATA.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "postgres",
    "printer.local",
    "router.home.arpa",
    "fe80::1%eth0",
    "fe80::1%25lo",
    "::1%lo",
]


class Names:
    """A name server of a stranger: for each question the next answer, and the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]
        self.asked = 0

    def resolve(self, request: Any, handler: Any) -> Any:
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        for address in map(ip_address, answer):
            kind = QTYPE.A if address.version == 4 else QTYPE.AAAA
            if kind == request.q.qtype:
                data = A(str(address)) if address.version == 4 else AAAA(str(address))
                reply.add_answer(RR(request.q.qname, kind, rdata=data, ttl=0))
        return reply


@contextlib.contextmanager
def name_server(names: Names) -> Iterator[Callable[[str, int], list[str]]]:
    """Runs the name server on this machine; what asks it, as the system's own resolver asks its."""
    server = DNSServer(names, address="127.0.0.1", port=0, logger=DNSLogger("", False))
    port = server.server.server_address[1]

    def ask(host: str, _: int) -> list[str]:
        found = []
        for kind in ("A", "AAAA"):
            reply = DNSRecord.parse(DNSRecord.question(host, kind).send("127.0.0.1", port, timeout=5))
            found += [str(record.rdata) for record in reply.rr]
        return found

    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ask
    finally:
        server.server.shutdown()
        thread.join()
        server.server.server_close()


class Listener:
    """A server that counts who comes, and answers all of them with `reply`."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.accepted = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.reply)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(
    host: str = "127.0.0.1", *, port: int = 0, reply: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    listener = Listener(reply or b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    server = await asyncio.start_server(listener.serve, host, port, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


async def post(egress: Egress, url: str, *, tls: ssl.SSLContext | None = None) -> int:
    """Calls it as the product does; the status. Raises UpstreamFault."""
    pool = HttpPool(connect_seconds=5, idle_seconds=5, tls=tls)
    try:
        reply = await pool.post(Target.of(url, {}, resolve=egress.resolve), b"{}", first_byte_seconds=5)
        reply.close()
        return reply.status
    finally:
        await pool.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


async def refused(egress: Egress, url: str) -> str:
    """The sentence by which the call is refused, without that any socket was opened."""
    with connections() as seen, pytest.raises(UpstreamFault) as fault:
        await post(egress, url)
    assert fault.value.kind == "connect"
    assert not [address for address in seen if address[0] != "127.0.0.1" or address[1] == _port_of(url)]
    return fault.value.message


def _port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_forbidden_address_is_not_connected_to_whether_it_is_written_or_looked_up(address: str) -> None:
    host = f"[{address}]" if ":" in address else address

    async def main() -> None:
        async with listening() as listener:
            with name_server(Names([address])) as ask:
                egress = Egress(http=True, lookup=ask)
                assert "never called" in await refused(egress, f"http://{host}:{listener.port}/")
                assert "never called" in await refused(egress, f"http://hooks.example.com:{listener.port}/")
            assert listener.accepted == 0

    run(main())
    with pytest.raises(Invalid) as refusal:
        Egress().check_url(f"https://{host}/")
    assert refusal.value.code == "address_refused"


@pytest.mark.parametrize("host", SPELLED)
def test_no_other_spelling_of_such_an_address_is_connected_to(host: str) -> None:
    bracketed = f"[{host}]" if ":" in host else host

    async def main() -> None:
        async with listening() as listener:
            await refused(Egress(http=True), f"http://{bracketed}:{listener.port}/")
            assert listener.accepted == 0

    run(main())
    with pytest.raises(Invalid):
        Egress().check_url(f"https://{bracketed}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "HTTP://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "https://?",
        "https://#@example.com/",
        "https://example.com#@127.0.0.1/",
        "https://example.com/#x",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1\\.example.com/",
        "https://example.com\\",
        "https://127.0.0.1%2f.example.com/",
        "https://%31%32%37.0.0.1/",
        "https://example.com:443:80/",
        "https://example.com:/x",
        "https://example.com:+443/",
        "https://example.com:0/",
        "https://example.com:22/",
        "https://example.com:25/",
        "https://example.com:65536/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://::1/",
        "https://[::1].example.com/",
        "https://[v1.x]/",
        "https://[127.0.0.1]/",
        "https://exa mple.com/",
        "https://example.com/a b",
        " https://example.com/",
        "https://example.com/\n",
        "https://example.com/\r\nhost: x",
        "https://example.com\t/",
        "https://exam\x00ple.com/",
        "https://example.com./",
        "https://example..com/",
        "https://.example.com/",
        "https://-example.com/",
        "https://example-.com/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://１２７.0.0.1/",
        "https://ⓔxample.com/",
        "https://भारत.example/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 130}com/",
        f"https://example.com/{'a' * 2000}",
    ],
)
def test_a_url_with_more_than_one_reading_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        Egress().check_url(url, param="webhook_url")
    assert (refusal.value.code, refusal.value.param) == ("address_refused", "webhook_url")
    assert refusal.value.message.endswith(".")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM:443/Hook?A=b&c=%20#"[:-1], "https://example.com/Hook?A=b&c=%20"),
        ("https://hooks.example.com:8443/x/@y", "https://hooks.example.com:8443/x/@y"),
        ("https://xn--h2brj9c.example/", "https://xn--h2brj9c.example/"),
        ("https://1.1.1.1/", "https://1.1.1.1/"),
        ("https://[2606:4700:0000::1111]/", "https://[2606:4700::1111]/"),
        ("https://1.example.com?x", "https://1.example.com?x"),
        ("https://my_service.example.com/", "https://my_service.example.com/"),
    ],
)
def test_a_plain_url_is_kept_in_one_form(url: str, kept: str) -> None:
    assert Egress().check_url(url) == kept
    assert Egress().check_url(kept) == kept


def test_http_is_called_only_where_the_operator_says_so() -> None:
    assert Egress(http=True).check_url("http://example.com:80/x") == "http://example.com/x"
    assert Egress(http=True).check_url("http://example.com:443/x") == "http://example.com:443/x"


def test_one_forbidden_address_among_several_refuses_the_name() -> None:
    async def main() -> None:
        for answer in (["93.184.216.34", "127.0.0.1"], ["93.184.216.34", "fd00::1"], ["10.0.0.1", "93.184.216.34"]):
            with name_server(Names(answer)) as ask:
                await refused(Egress(http=True, lookup=ask), "http://hooks.example.com:8080/")

    run(main())


def test_a_name_that_leads_elsewhere_the_next_time_gains_nothing() -> None:
    """127.0.0.2 stands for the open internet here, 127.0.0.1 for what is behind the wall."""

    async def main() -> None:
        async with listening("127.0.0.2") as open_one, listening("127.0.0.1", port=open_one.port) as closed_one:
            names = Names(["127.0.0.2"], ["127.0.0.1"])
            url = f"http://hooks.example.com:{open_one.port}/"
            with name_server(names) as ask:
                egress = Egress(http=True, allowed=["127.0.0.2"], lookup=ask)
                assert await post(egress, url) == 200
                assert names.asked == 1, "the address that was judged is the one that is connected to"
                assert "never called" in await refused(egress, url)
            assert (open_one.accepted, closed_one.accepted) == (1, 0)

    run(main())


def test_what_was_judged_when_it_was_saved_is_judged_again_when_it_is_called() -> None:
    async def main() -> None:
        async with listening() as listener:
            with name_server(Names(["93.184.216.34"], ["127.0.0.1"])) as ask:
                egress = Egress(http=True, lookup=ask)
                assert egress.addresses_of("hooks.example.com", listener.port) == ("93.184.216.34",)
                await refused(egress, f"http://hooks.example.com:{listener.port}/")
            assert listener.accepted == 0

    run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    async def main() -> None:
        async with listening("127.0.0.1") as inside:
            reply = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{inside.port}/\r\ncontent-length: 0\r\n\r\n"
            async with listening("127.0.0.2", reply=reply.encode()) as outside:
                egress = Egress(http=True, allowed=["127.0.0.2"])
                assert await post(egress, f"http://127.0.0.2:{outside.port}/") == status
            assert inside.accepted == 0

    run(main())


def test_a_connection_that_was_made_without_the_guard_is_not_taken_over() -> None:
    keeping = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def main() -> None:
        async with listening(reply=keeping) as listener:
            pool = HttpPool(connect_seconds=5, idle_seconds=5)
            url = f"http://127.0.0.1:{listener.port}/"
            reply = await pool.post(Target.of(url, {}), b"{}", first_byte_seconds=5)
            await reply.read(10)
            with pytest.raises(UpstreamFault):
                await pool.post(Target.of(url, {}, resolve=Egress().resolve), b"{}", first_byte_seconds=5)
            await pool.close()

    run(main())


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost", "LocalHost"])
def test_the_operator_opens_an_address_a_network_or_a_name(allowed: str) -> None:
    host = "localhost" if allowed.lower() == "localhost" else "127.0.0.1"

    async def main() -> None:
        async with listening() as listener:
            egress = Egress(http=True, allowed=[allowed], lookup=lambda *_: ["127.0.0.1"])
            url = egress.check_url(f"http://{host}:{listener.port}/")
            assert await post(egress, url) == 200
            assert listener.accepted == 1
            await refused(egress, f"http://10.0.0.1:{listener.port}/")

    run(main())


def test_what_is_opened_is_a_host_or_a_network() -> None:
    for wrong in ("http://x/", "10.0.0.1/8", "*.example.com", "127.1", ""):
        with pytest.raises(ValueError, match=r"."):
            parse_allowed([wrong])


def test_our_own_names_are_not_called() -> None:
    egress = Egress(own_hosts=["api.bharatrouter.example"], lookup=lambda *_: ["93.184.216.34"])
    with pytest.raises(Invalid):
        egress.check_url("https://API.bharatrouter.example/v1")
    assert egress.addresses_of("other.example", 443) == ("93.184.216.34",)


def test_an_address_of_this_machine_is_not_open() -> None:
    assert is_open(IPv4Address("93.184.216.34"))
    assert is_open(IPv6Address("2606:4700::1111"))
    assert not is_open(IPv4Address("127.0.0.1"))


def test_tls_still_checks_the_name() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    trusting = ssl.create_default_context(cafile=str(TLS / "authority.pem"))

    async def main() -> None:
        async with listening(tls=server) as listener:
            egress = Egress(allowed=["localhost", "127.0.0.1"], lookup=lambda *_: ["127.0.0.1"])
            assert await post(egress, f"https://localhost:{listener.port}/", tls=trusting) == 200
            for host in ("hooks.example.com", "127.0.0.1"):
                with pytest.raises(UpstreamFault, match="certificate"):
                    await post(egress, f"https://{host}:{listener.port}/", tls=trusting)

    run(main())


def test_a_name_without_an_address_is_told_as_such() -> None:
    def nothing(host: str, port: int) -> list[str]:
        raise OSError

    with pytest.raises(Invalid, match="has no address"):
        Egress(lookup=nothing).addresses_of("nowhere.example", 443)


# Every spelling of every forbidden address.

NETWORKS = ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"]
NETWORKS += ["192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"]


def _in(network: str) -> st.SearchStrategy[IPv4Address]:
    block = IPv4Network(network)
    return st.integers(int(block[0]), int(block[-1])).map(IPv4Address)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A forbidden address as some reader of URLs would take it."""
    address = draw(st.one_of(*map(_in, NETWORKS)))
    number, octets = int(address), address.packed
    digits = st.sampled_from([lambda n: str(n), lambda n: f"0{n:o}", lambda n: f"0x{n:x}", lambda n: f"00{n}"])
    parts = draw(st.integers(1, 4))
    heads = [*octets[: parts - 1], number & (1 << 8 * (5 - parts)) - 1]
    dotted = ".".join(draw(digits)(head) for head in heads)
    as_v6 = draw(
        st.sampled_from(
            [
                f"[::ffff:{address}]",
                f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
                f"[0:0:0:0:0:FFFF:{number >> 16:04X}:{number & 0xFFFF:04x}]",
                f"[::{address}]",
                f"[64:ff9b::{address}]",
                f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]",
                f"[2001:0:{number >> 16:x}:{number & 0xFFFF:x}::1]",
                f"[::ffff:{address}%25lo]",
            ]
        )
    )
    escaped = "".join(f"%{ord(sign):02x}" for sign in str(address))
    wide = "".join(chr(ord(sign) + 0xFEE0) for sign in str(address))
    host = draw(st.sampled_from([dotted, dotted.upper(), str(address), as_v6, escaped, wide]))
    before = draw(st.sampled_from(["", "", "example.com@", "example.com:80@", "example.com#@", "example.com\\@"]))
    after = draw(st.sampled_from(["", "", ".", "/", "\\.example.com", "#.example.com", "?.example.com", "%00.com"]))
    return f"{before}{host}{after}"


@given(spellings())
def test_no_spelling_of_a_forbidden_address_passes(spelling: str) -> None:
    """Not as a URL, and not as the host of one that somebody has let through, with the system's own name server."""
    egress = Egress(http=True)
    for scheme in ("http", "https"):
        with pytest.raises(Invalid):
            egress.check_url(f"{scheme}://{spelling}")
    host = spelling.rpartition("@")[2].rstrip("/").strip("[]")
    with pytest.raises(Invalid):
        egress.addresses_of(host, 80)
