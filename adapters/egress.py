"""The one guard of addresses that users give: endpoints, webhooks and whatever else is called because a user said so.

It judges the address that is then connected to, so it does not matter how a URL spells it or what a name server answers
the next time. What must never be called is all that is not the open internet: this machine, its networks, and the
services by which clouds hand out credentials.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from domain.kernel.errors import Invalid

Lookup = Callable[[str, int], Sequence[str]]
"""The addresses of a name, as text. Raises OSError where there are none."""

URL_LENGTH_MAX = 2_000
LOOKUPS_MAX = 8
"""At once: name servers of users may be slow, and must not hold up other look-ups."""

# The registries of special-purpose addresses of IANA (RFC 6890), of IPv4 all that is not globally reachable, with the
# multicast and reserved blocks and one address inside every machine of Azure. 6to4 relays (192.88.99.0/24) are gone.
_CLOSED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
# Of IPv6 only global unicast is open, without what stands for IPv4 in it (Teredo, 6to4) and documentation. That leaves
# out loopback, link-local, unique local, multicast, IPv4-mapped and NAT64.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = [IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]

_CLOSED_NAMES = (".internal", ".local", ".localhost", ".localdomain", ".home.arpa", ".metadata.goog")
"""Ends of names that mean something else on each network, by RFC 6761, 6762, 8375 and 9476, and one of a cloud."""

# A URL that has exactly one reading: no user, no fragment, no escape or backslash before the path.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~:/@!$&'()*+,;=%\[\]-]*)?(?:\?[a-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)?)",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"https": 443, "http": 80}
_WELL_KNOWN_PORT_MAX = 1023

_ALLOWED = "the operator can allow it in BR_EGRESS_ALLOWED"


class Egress:
    """Judges hosts and URLs of users. `allowed` are host names, addresses and networks that the operator opens all the
    same, a name wherever it leads; `http` opens calls without TLS; `own_hosts` are the names that we ourselves are
    reached by. `lookup` asks the name servers."""

    def __init__(
        self,
        *,
        allowed: Iterable[str] = (),
        http: bool = False,
        own_hosts: Iterable[str] = (),
        lookup: Lookup | None = None,
    ) -> None:
        self._networks, self._names = parse_allowed(allowed)
        self._schemes = ("https", "http") if http else ("https",)
        self._own_hosts = frozenset(own_hosts)
        self._lookup = lookup or _ask_system
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="egress")

    def check_url(self, url: str, *, param: str = "url") -> str:
        """The URL in the one form in which it is to be kept and called. Raises Invalid `address_refused` for what has
        more than one reading, is not https, or names a host or port that is never called; asks no name server."""
        found = _URL.fullmatch(url) if len(url) <= URL_LENGTH_MAX else None
        if found is None:
            raise _refused(
                f"'{param}' must be one plain URL, https://host/path, of at most {URL_LENGTH_MAX} characters: without"
                " user, fragment, spaces or backslashes, other signs percent-encoded, a host of other letters as xn--…",
                param,
            )
        scheme, host = found["scheme"].lower(), found["host"].strip("[]").lower()
        if scheme not in self._schemes:
            raise _refused(f"'{param}' must begin with https://; the operator can allow http by BR_EGRESS_HTTP", param)
        port = int(found["port"] or _PORTS[scheme])
        literal = self._judge_name(host, port, param)
        if literal is not None:
            self._judge(host, [literal], param)
            host = f"[{literal}]" if literal.version == 6 else str(literal)
        return f"{scheme}://{host}{'' if port == _PORTS[scheme] else f':{port}'}{found['path']}"

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses that may be connected to, in the order of the name server, for a call to this host now.

        Raises Invalid `address_refused` if the host has none, or if any of its addresses must not be called: a name
        that leads to one of these is not to be trusted with the others.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.addresses_of, host, port)

    def addresses_of(self, host: str, port: int, *, param: str = "url") -> tuple[str, ...]:
        """As `resolve`, for callers that may block."""
        host = host.lower()
        literal = self._judge_name(host, port, param)
        if literal is not None:
            addresses = [literal]
        else:
            try:
                addresses = [ip_address(address) for address in dict.fromkeys(self._lookup(host, port))]
            except (OSError, ValueError):  # UnicodeError, of names that cannot be asked for, is a ValueError
                addresses = []
            if not addresses:
                raise _refused(f"the host '{host}' has no address; check its spelling, or try again later", param)
        self._judge(host, addresses, param)
        return tuple(map(str, addresses))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _judge_name(self, host: str, port: int, param: str) -> IPv4Address | IPv6Address | None:
        """What the host says by itself: the address, if it is one. Raises Invalid `address_refused`."""
        if port not in _PORTS.values() and not _WELL_KNOWN_PORT_MAX < port <= 65_535:
            raise _refused(f"the port {port} belongs to another service than HTTP; use 443 or one over 1023", param)
        if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
            try:
                return ip_address(host)
            except ValueError:
                raise _refused(f"'{host}' is no address as it is commonly written, such as 1.1.1.1", param) from None
        if not _NAME.fullmatch(host):
            raise _refused(f"'{host}' is no name of a host", param)
        if host in self._names:
            return None
        if "." not in host or f".{host}".endswith(_CLOSED_NAMES) or host in self._own_hosts:
            raise _refused(
                f"'{host}' names a host that is not called from here; give a public one, or {_ALLOWED}", param
            )
        return None

    def _judge(self, host: str, addresses: Sequence[IPv4Address | IPv6Address], param: str) -> None:
        if host not in self._names and not all(self._is_allowed(address) or is_open(address) for address in addresses):
            # Which address a name has in the operator's own network is not for users to know.
            raise _refused(
                f"'{host}' leads to an address that is never called, such as one of a private network;"
                f" give a public one, or {_ALLOWED}",
                param,
            )

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def parse_allowed(items: Iterable[str]) -> tuple[tuple[IPv4Network | IPv6Network, ...], frozenset[str]]:
    """Networks and names of BR_EGRESS_ALLOWED. Raises ValueError for what is neither."""
    networks, names = [], set()
    for item in items:
        if _NAME.fullmatch(item.lower()) and not _NUMBER.fullmatch(item.rpartition(".")[2]):
            names.add(item.lower())
        else:
            networks.append(ip_network(item))
    return tuple(networks), frozenset(names)


def is_open(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is an address of the open internet, and not this machine's own."""
    if isinstance(address, IPv4Address):
        closed = any(address in network for network in _CLOSED_V4)
    else:
        closed = address not in _OPEN_V6 or any(address in network for network in _CLOSED_V6)
    return not closed and getattr(address, "scope_id", None) is None and not _is_own(address)


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    """Only what is an address of this machine can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _ask_system(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _refused(sentence: str, param: str) -> Invalid:
    return Invalid("address_refused", f"{sentence[0].upper()}{sentence[1:]}.", param=param)
