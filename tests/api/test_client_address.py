"""The client's address is the nearest that no trusted proxy has; what strangers write into a header changes nothing."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client_address import HOPS_MAX, client_address, household

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")]
PROXY = "10.0.0.1"


def told(*lines: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"1.1.1.1"), *[(b"x-forwarded-for", line.encode("latin-1")) for line in lines]]


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),  # no proxy of ours: it may say what it likes
        (PROXY, [], PROXY),
        (PROXY, ["203.0.113.9"], "203.0.113.9"),
        (PROXY, ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),  # the client wrote the first itself
        (PROXY, ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        (PROXY, ["6.6.6.6, 203.0.113.9, 10.2.3.4,10.9.9.9"], "203.0.113.9"),
        (PROXY, ["203.0.113.9, 2001:db8:ffff::7"], "203.0.113.9"),
        (PROXY, ["10.2.3.4"], "10.2.3.4"),  # all are ours: the first of them asks
        (PROXY, ["203.0.113.9:51234"], "203.0.113.9"),
        (PROXY, ["[2001:db8::1]:51234"], "2001:db8::1"),
        (PROXY, ["2001:db8::1"], "2001:db8::1"),
        (PROXY, ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fe80::1%eth0", [], "fe80::1"),
        (PROXY, ["203.0.113.9, unknown"], PROXY),  # beyond what is no address, nothing is believed
        (PROXY, ["203.0.113.9, "], PROXY),
        (PROXY, ["999.1.1.1"], PROXY),
        ("", ["203.0.113.9"], None),
        (None, ["203.0.113.9"], None),
    ],
)
def test_the_header_is_believed_as_far_as_trusted_proxies_wrote_it(
    peer: str | None, lines: list[str], expected: str | None
) -> None:
    found = client_address(peer, told(*lines), TRUSTED)
    assert found == (None if expected is None else ip_address(expected))


def test_without_trusted_proxies_the_header_is_not_looked_at() -> None:
    assert client_address("127.0.0.1", told("203.0.113.9"), ()) == ip_address("127.0.0.1")


@given(st.text(st.characters(max_codepoint=255)), st.ip_addresses())
def test_whatever_a_stranger_writes_before_it_a_trusted_proxy_is_believed(junk: str, client: object) -> None:
    expected = getattr(client, "ipv4_mapped", None) or client
    if not any(expected in network for network in TRUSTED):
        assert client_address(PROXY, told(f"{junk}, {client}"), TRUSTED) == expected


def test_a_chain_without_end_is_followed_for_some_hops_only() -> None:
    chain = ", ".join(["203.0.113.9", *[f"10.1.0.{hop}" for hop in range(HOPS_MAX)]])
    assert client_address(PROXY, told(chain), TRUSTED) == ip_address("10.1.0.0")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_addresses_of_one_household_are_one_client(address: str, expected: str) -> None:
    assert household(ip_address(address)) == expected
    assert household(None) == ""
