"""Whose request it is: the reader's address, from the peer and, only where configured, from ``X-Forwarded-For``.

Nothing is guessed. A forwarded address counts only when *proxy_hops* says that so many proxies stand before us, and
only when the peer is one of ours: a UNIX socket, a loopback address or a configured proxy network. Then the address
that the outermost of those proxies saw is the one *proxy_hops* from the right; what stands further left was written
by the client and proves nothing. ``Forwarded``, ``X-Real-IP`` and ``CF-Connecting-IP`` are never read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def client_address(remote: str, forwarded_for: str, proxy_hops: int, proxies: Sequence[Network] = LOOPBACK) -> str:
    """Return the reader's address in canonical text, or "" if it cannot be known.

    *remote* is the peer ("" on a UNIX socket), *forwarded_for* the ``X-Forwarded-For`` value, several fields joined
    by commas as RFC 9110 section 5.3 allows.
    """
    if proxy_hops > 0 and _is_proxy(remote, tuple(proxies)):
        hops = forwarded_for.split(",") if forwarded_for else []
        if len(hops) >= proxy_hops:
            return canonical(hops[-proxy_hops])
    return canonical(remote)


@lru_cache(maxsize=1024)
def _is_proxy(remote: str, proxies: tuple[Network, ...]) -> bool:
    if not remote:
        return True  # only what may open the UNIX socket gets here
    address = parse(remote)
    return address is not None and any(address.version == net.version and address in net for net in proxies)


@lru_cache(maxsize=8192)
def canonical(text: str) -> str:
    """Return an address as :mod:`ipaddress` writes it (IPv4 inside IPv6 unwrapped, no port, no zone), or ""."""
    address = parse(text)
    return str(address) if address is not None else ""


@lru_cache(maxsize=8192)
def parse(text: str) -> Address | None:
    """Return the address in *text* (``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]:80``, with zone), or None."""
    text = text.strip()
    if len(text) > 64:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


@lru_cache(maxsize=8192)
def source(client: str) -> str:
    """Return what counts as one source: an IPv4 /24, an IPv6 /64, or *client* itself if it is no address (a hash).

    Scanners come from small pools of neighbouring addresses; a household shares a /64.
    """
    address = parse(client)
    if address is None:
        return client
    prefix = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, prefix), strict=False))
