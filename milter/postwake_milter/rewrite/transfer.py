"""Transfer encodings, edited in place: spans of decoded bytes become changes of the encoded bytes, nothing else moves.

:func:`open_body` returns an object that holds the decoded bytes and finds the place of spans of them in the encoded
ones, to be filled with something else:

- quoted-printable: :mod:`.quoted_printable`
- base64: :mod:`.base64_lines`
- 7bit, 8bit and binary: the bytes themselves

What does not decode the same way everywhere is not opened: :class:`TransferError` names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base64_lines import Base64
from .html_scan import Edit
from .placing import MAX_LINE, Gaps, Opened, Placement, Span, TransferError
from .quoted_printable import QuotedPrintable


def apply_to(opened: Opened, edits: Sequence[Edit]) -> bytes:
    """Return the encoded bytes of *opened* with *edits* made, which are in order and do not overlap."""
    return opened.place([(edit.start, edit.end) for edit in edits]).fill([edit.replacement for edit in edits])


def open_body(encoded: bytes, encoding: str, eol: bytes = b"\r\n") -> Opened:
    """Open *encoded*; *eol* is used for new line breaks where it has none of its own to copy.

    TransferError if *encoding* is none of identity, quoted-printable and base64, or if the bytes are not well formed.
    """
    if encoding == "identity":
        return Identity(encoded)
    if encoding == "quoted-printable":
        return QuotedPrintable(encoded, eol)
    if encoding == "base64":
        return Base64(encoded, eol)
    raise TransferError("unknown-transfer-encoding")


class Identity:
    """7bit, 8bit and binary."""

    def __init__(self, encoded: bytes) -> None:
        self.decoded = encoded

    def place(self, spans: Sequence[Span]) -> Placement:
        """Return the place of *spans*."""
        return Gaps(self.decoded, spans)


def overlong_line(data: bytes, spans: Sequence[Span], replacements: Sequence[bytes]) -> bool:
    """Whether *replacements* in *spans* of *data* leave a line that they touch longer than 998 octets."""
    at_line = 0  # length of the current line so far
    at = 0
    touched = False
    for (start, end), replacement in zip(spans, replacements, strict=True):
        for piece, ours in ((data[at:start], False), (replacement, True)):
            newline = piece.find(b"\n")
            if newline < 0:
                at_line += len(piece)
            else:
                if touched and at_line + len(piece[:newline].rstrip(b"\r")) > MAX_LINE:
                    return True
                if ours and any(len(line.rstrip(b"\r")) > MAX_LINE for line in piece.split(b"\n")[1:-1]):
                    return True
                at_line = len(piece) - piece.rfind(b"\n") - 1
                touched = False
            touched = touched or ours
        at = end
    newline = data.find(b"\n", at)
    rest = data[at : len(data) if newline < 0 else newline].rstrip(b"\r")
    return touched and at_line + len(rest) > MAX_LINE
