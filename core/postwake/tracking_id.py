"""Tracking IDs: 128 bits, ordered by time, the name of a message for as long as anyone has its mail.

The layout is RFC 9562's UUID version 7: 48 bits of Unix milliseconds, then random bits, so that IDs made later
sort later and an index on them grows at its end. Written as 32 lower-case hexadecimal digits, which is what
SQLite's ``lower(hex(x))`` prints.
"""

from __future__ import annotations

import re

_TEXT = re.compile(r"[0-9a-f]{32}\Z")
_VERSION_7 = 0x7 << 76 | 0b10 << 62
"""Version and variant, among the lower 80 bits."""
_RANDOM = (1 << 80) - 1 & ~(0xF << 76 | 0b11 << 62)


def make_tracking_id(at_us: int, entropy: bytes) -> bytes:
    """Return the 16 bytes of a new ID made at *at_us* (microseconds UTC) from at least 10 bytes of *entropy*."""
    if len(entropy) < 10:
        raise ValueError(f"{len(entropy)} bytes of entropy: expected at least 10")
    random = int.from_bytes(entropy[:10], "big") & _RANDOM | _VERSION_7
    return ((at_us // 1000 & 0xFFFF_FFFF_FFFF) << 80 | random).to_bytes(16, "big")


def made_at_us(tracking_id: bytes) -> int:
    """Return when *tracking_id* was made, in microseconds UTC (to the millisecond)."""
    return int.from_bytes(tracking_id[:6], "big") * 1000


def format_tracking_id(tracking_id: bytes) -> str:
    """Return the ID as people see it, in ``X-Postwake-ID`` and everywhere else."""
    return tracking_id.hex()


def parse_tracking_id(text: str) -> bytes | None:
    """Return the 16 bytes that *text* names, or None if it is not a tracking ID."""
    text = text.strip().lower()
    return bytes.fromhex(text) if _TEXT.match(text) else None
