"""What every transfer encoding shares: a body that is opened, and the place of spans of its content.

An opened body holds its decoded bytes; :meth:`Opened.place` finds where spans of them stand in the encoded ones; the
placement that it returns is filled as often as there is something to put there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MAX_LINE = 998
"""Octets on a line without its line break (RFC 5322 section 2.1.1)."""
ENCODED_LINE = 76
"""Octets on a quoted-printable line, its soft break included (RFC 2045 section 6.7, rule 5)."""


TRANSFER_CHECK_FAILED = "transfer-check-failed"


class TransferError(Exception):
    """The encoded bytes do not mean one thing; *reason* is the name of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Span = tuple[int, int]
"""Start and end of decoded bytes that are to be replaced."""


class Placement(Protocol):
    """Where some spans stand in an encoded body: found once, filled as often as there is something to put there."""

    def fill(self, replacements: Sequence[bytes]) -> bytes:
        """Return the encoded bytes with *replacements*, one a span, in their places.

        TransferError (:data:`TRANSFER_CHECK_FAILED`) if they did not decode to what is meant.
        """
        ...


class Opened(Protocol):
    """An encoded body, opened for edits."""

    @property
    def decoded(self) -> bytes:
        """The content."""
        ...

    def place(self, spans: Sequence[Span]) -> Placement:
        """Return the place of *spans* of the decoded bytes, which are in order and do not overlap.

        TransferError if nothing can be put there.
        """
        ...


def line_ending(data: bytes, default: bytes) -> bytes:
    """Return the line ending of the first line of *data*."""
    newline = data.find(b"\n")
    if newline < 0:
        return default
    return b"\r\n" if data[newline - 1 : newline] == b"\r" else b"\n"


class Gaps:
    """Bytes with gaps in them: plain bytes, or the content of an encoded body."""

    def __init__(self, data: bytes, spans: Sequence[Span]) -> None:
        """Cut *spans* out of *data*; ValueError for one out of order or out of bounds."""
        self._pieces: list[bytes] = []  # at every second place room for a replacement
        at = 0
        for start, end in spans:
            if not at <= start <= end <= len(data):
                raise ValueError(f"span of bytes {start} to {end}: expected {at} <= start <= end <= {len(data)}")
            self._pieces += (data[at:start], b"")
            at = end
        self._pieces.append(data[at:])

    def fill(self, replacements: Sequence[bytes]) -> bytes:
        """Return the bytes with *replacements* in the gaps."""
        pieces = self._pieces.copy()
        pieces[1::2] = replacements
        return b"".join(pieces)
