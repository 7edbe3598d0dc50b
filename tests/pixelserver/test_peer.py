"""The reader's address is never guessed."""

from __future__ import annotations

import ipaddress

import pytest

from postwake_pixelserver.peer import client_address, source

CASES = {
    "no proxy configured: the header is ignored": ("203.0.113.9", "198.51.100.1", 0, "203.0.113.9"),
    "loopback peer without hops: the header is ignored": ("127.0.0.1", "198.51.100.1", 0, "127.0.0.1"),
    "one hop": ("127.0.0.1", "198.51.100.1", 1, "198.51.100.1"),
    "one hop, spoofed in front": ("127.0.0.1", "6.6.6.6, 198.51.100.1", 1, "198.51.100.1"),
    "one hop, spoofed in several fields": ("127.0.0.1", "6.6.6.6,7.7.7.7,198.51.100.1", 1, "198.51.100.1"),
    "two hops": ("127.0.0.1", "6.6.6.6, 198.51.100.1, 192.0.2.1", 2, "198.51.100.1"),
    "fewer entries than hops: the peer": ("127.0.0.1", "198.51.100.1", 2, "127.0.0.1"),
    "no header: the peer": ("127.0.0.1", "", 1, "127.0.0.1"),
    "peer is not ours: the header is ignored": ("203.0.113.9", "198.51.100.1", 1, "203.0.113.9"),
    "UNIX socket": ("", "198.51.100.1", 1, "198.51.100.1"),
    "UNIX socket without hops": ("", "198.51.100.1", 0, ""),
    "IPv6 loopback": ("::1", "2001:db8::7", 1, "2001:db8::7"),
    "IPv4 in IPv6 loopback": ("::ffff:127.0.0.1", "198.51.100.1", 1, "198.51.100.1"),
    "IPv4 in IPv6 is unwrapped": ("::ffff:198.51.100.1", "", 0, "198.51.100.1"),
    "port": ("127.0.0.1", "198.51.100.1:4711", 1, "198.51.100.1"),
    "bracketed IPv6 and port": ("127.0.0.1", "[2001:DB8::7]:4711", 1, "2001:db8::7"),
    "nonsense": ("127.0.0.1", "unknown", 1, ""),
    "script": ("127.0.0.1", "<script>", 1, ""),
    "very long": ("127.0.0.1", "1" * 10_000, 1, ""),
    "zone": ("127.0.0.1", "fe80::1%eth0", 1, "fe80::1"),
}


@pytest.mark.parametrize(("remote", "forwarded", "hops", "expected"), CASES.values(), ids=CASES)
def test_client_address(remote: str, forwarded: str, hops: int, expected: str) -> None:
    """The entry that the outermost configured proxy wrote, if the peer is one of ours; else the peer."""
    assert client_address(remote, forwarded, hops) == expected


def test_configured_proxy_networks() -> None:
    """A proxy on another machine counts only when its network is configured."""
    networks = (ipaddress.ip_network("203.0.113.0/24"),)
    assert client_address("203.0.113.9", "198.51.100.1", 1, networks) == "198.51.100.1"
    assert client_address("127.0.0.1", "198.51.100.1", 1, networks) == "127.0.0.1"


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("198.51.100.77", "198.51.100.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("~00112233", "~00112233"),
        ("", ""),
    ],
)
def test_source(client: str, expected: str) -> None:
    """One source is a /24 or a /64; what is no address stands for itself."""
    assert source(client) == expected
