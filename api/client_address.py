"""The address that a request comes from, for whatever is counted per client: behind proxies that the operator trusts,
the one that they tell in `x-forwarded-for`, which anybody else could make up."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from fastapi import Request

from adapters.wiring import App

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOPS_MAX = 20
HOUSEHOLD_BITS = 64  # what one subscriber has at least: RFC 6177


def address_of(app: App, request: Request) -> Address | None:
    """Where the request comes from, behind the proxies that the operator trusts."""
    peer = None if request.client is None else request.client.host
    return client_address(peer, request.headers.raw, app.settings.trusted_proxies)


def client_address(
    peer: str | None, headers: Sequence[tuple[bytes, bytes]], trusted: Sequence[Network]
) -> Address | None:
    """The nearest address that is no trusted proxy. `peer` is the other end of the connection; header names are in
    lower case.

    Each proxy appends whom it heard from, so the list is read from its end, and only as far as trusted proxies wrote
    it. An entry that is no address ends it, too. None for a peer without an address, such as a socket in a file.
    """
    address = _parsed(peer or "")
    if address is None or not trusted:
        return address
    told = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    for entry in reversed(told.rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
        if not _is_in(address, trusted):
            break
        before = _parsed(entry)
        if before is None:
            break
        address = before
    return address


def household(address: Address | None) -> str:
    """What counts as one client: an IPv4 address, or the /64 that an IPv6 address is in, since whoever has one of its
    addresses has all 2⁶⁴. Clients without an address are one."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), HOUSEHOLD_BITS), strict=False))
    return str(address or "")


def _parsed(text: str) -> Address | None:
    """An address as proxies write it, with a port or without; IPv4 in IPv6's clothes is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
