"""Base64 in lines (RFC 2045 section 6.8), edited in place.

What precedes the first changed quantum is the same bytes; what follows is encoded again in the original's line length
and line endings, as it must be, since every byte after it has moved.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .placing import (
    ENCODED_LINE,
    MAX_LINE,
    TRANSFER_CHECK_FAILED,
    Gaps,
    Placement,
    Span,
    TransferError,
    line_ending,
)

_TEXT = re.compile(rb"[A-Za-z0-9+/ \t\r\n]*+(?:=[ \t\r\n]*+){0,2}\Z")
_SPACE = b" \t\r\n"


class Base64:
    """Base64 in lines."""

    def __init__(self, encoded: bytes, eol: bytes = b"\r\n") -> None:
        if not _TEXT.match(encoded):
            raise TransferError("malformed-base64")
        self._encoded = encoded
        digits = encoded.translate(None, _SPACE)
        bare = digits.rstrip(b"=")
        # Padding may be missing altogether, as some senders leave it out, but never be wrong.
        if len(bare) % 4 == 1 or (len(digits) != len(bare) and len(digits) % 4):
            raise TransferError("malformed-base64")
        self.decoded = binascii.a2b_base64(bare + b"=" * (-len(bare) % 4))
        self._eol = line_ending(encoded, eol)

    def place(self, spans: Sequence[Span]) -> Placement:
        """Return the place of *spans*: the bytes before the first quantum that changes will stay the same."""
        if not spans:
            return Gaps(self._encoded, ())
        first = min(spans[0][0], len(self.decoded)) // 3
        keep = self._place(4 * first)
        if binascii.a2b_base64(self._encoded[:keep]) != self.decoded[: 3 * first]:
            raise TransferError(TRANSFER_CHECK_FAILED)
        column = keep - (self._encoded.rfind(b"\n", 0, keep) + 1)
        trailing = self._encoded[len(self._encoded.rstrip(_SPACE)) :]
        gaps = Gaps(self.decoded[3 * first :], [(start - 3 * first, end - 3 * first) for start, end in spans])
        return _Digits(self._encoded[:keep], gaps, column, min(self._width(), MAX_LINE), self._eol, trailing)

    def _width(self) -> int:
        """Return the digits on a full line: the longest there is, or 76 where there is but one short line."""
        longest = len(max(self._encoded.split(b"\n"), key=len).strip(b" \t\r"))
        width = longest if b"\n" in self._encoded.strip(_SPACE) or longest > ENCODED_LINE else ENCODED_LINE
        return max(4, width)

    def _place(self, count: int) -> int:
        """Return where the digit number *count* stands in the encoded bytes: after *count* digits, before any space."""
        first = self._encoded.find(b"\n") + 1
        digits = len(self._encoded[:first].translate(None, _SPACE))
        if digits and count:  # lines of one length, as nearly everyone writes them
            full = (count - 1) // digits
            at = full * first + count - full * digits
            kept = self._encoded[:at]
            if len(kept.translate(None, _SPACE)) == count and kept[-1:] not in (b" ", b"\t", b"\r", b"\n"):
                return at
        at = 0
        for line in self._encoded.split(b"\n"):
            digits = len(line.translate(None, _SPACE))
            if digits >= count:
                break
            count -= digits
            at += len(line) + 1
        while count:
            if self._encoded[at : at + 1] not in (b" ", b"\t", b"\r", b"\n"):
                count -= 1
            at += 1
        return at


@dataclass(frozen=True, slots=True)
class _Digits:
    """The placement of spans in base64."""

    kept: bytes
    rest: Gaps
    """The content behind what is kept."""
    column: int
    """Where in its line the first new digit stands."""
    width: int
    eol: bytes
    trailing: bytes

    def fill(self, replacements: Sequence[bytes]) -> bytes:
        """Return the encoded bytes with *replacements* in their places."""
        content = self.rest.fill(replacements)
        digits = binascii.b2a_base64(content, newline=False)
        first = max(0, self.width - self.column)
        pieces = [digits[:first]] if first else []
        pieces += (digits[at : at + self.width] for at in range(first, len(digits), self.width))
        text = self.eol.join(pieces)
        if not first and pieces:
            text = self.eol + text
        # What is kept are whole quanta, so that the rest can be decoded by itself.
        if binascii.a2b_base64(text) != content:
            raise TransferError(TRANSFER_CHECK_FAILED)
        return self.kept + text + self.trailing
