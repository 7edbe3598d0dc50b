"""A set of IP networks that addresses are looked up in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache


class Networks:
    """The networks that ``mta.internal_networks`` names, or a list of scanners'."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Take networks in CIDR notation; ValueError if one is none."""
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self._remembered = lru_cache(maxsize=4096)(self._look_up)

    def __contains__(self, address: str) -> bool:
        """Return whether *address* (text, an IPv4-mapped one too) lies in one of the networks."""
        return self._remembered(address)

    def _look_up(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        candidate = mapped if mapped is not None else ip
        return any(candidate.version == network.version and candidate in network for network in self._networks)
