"""Quoted-printable (RFC 2045 section 6.7), edited in place and with its own habits kept.

The physical lines that an edit touches are wrapped anew, in the original's line length, line endings and case of
hexadecimal digits; their own spelling (``=41`` for ``A``) stays, and every other line is the same bytes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence

from .placing import TRANSFER_CHECK_FAILED, Gaps, Placement, Span, TransferError, line_ending
from .quoted_layout import Item, Lines, Run
from .quoted_style import Line, Style

# What nearly all equals signs begin comes first: a soft break, or an escape in capitals.
_BROKEN = re.compile(rb"=(?!\r\n|[0-9A-F][0-9A-F]|[0-9A-Fa-f]{2}|[ \t]*+(?:\r?\n|\Z))")
_PADDING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
"""White space at the end of a line was put there on the way and is not content (rule 3)."""


class QuotedPrintable:
    """Quoted-printable, with its own habits kept."""

    def __init__(self, encoded: bytes, eol: bytes = b"\r\n") -> None:
        if _BROKEN.search(encoded):
            raise TransferError("malformed-quoted-printable")
        self._encoded = encoded
        self._eol = line_ending(encoded, eol)
        # Most of what holds no tab has no padding, either, and the pattern looks at every space.
        padded = encoded.endswith((b" ", b"\t")) or any(
            space + ending in encoded for space in (b" ", b"\t") if space in encoded for ending in (b"\n", b"\r\n")
        )
        self.decode: Callable[[bytes], bytes] = _decode_padded if padded else binascii.a2b_qp
        """Returns the content of lines of such a body."""
        self.decoded = self.decode(encoded)

    def place(self, spans: Sequence[Span]) -> Placement:
        """Return the place of *spans*: only the physical lines that they touch will be wrapped anew."""
        runs: list[Run] = []
        contents: list[bytes] = []  # of the runs
        gaps: list[Span] = []  # in the contents, one behind the other
        size = done = number = 0
        at = start = 0  # where the next line begins, in the encoded bytes and in the content
        while number < len(spans):
            at, start = self._go_to(spans[number][0], at, start)
            before = self._encoded[done:at]
            lines: list[Line] = []
            starts: list[int] = []
            first = number
            while number < len(spans) and (not lines or spans[number][0] < start or lines[-1].is_last):
                end = spans[number][1]
                # What is replaced may end in a line break, and so join the next line.
                while not lines or (not lines[-1].is_last and (start < end or (start == end and not lines[-1].soft))):
                    stop = self._encoded.find(b"\n", at) + 1 or len(self._encoded)
                    lines.append(_read_line(self._encoded[at:stop]))
                    starts.append(start)
                    at, start = stop, start + self._said(at, stop, start)
                number += 1
            items = _take_apart(lines, starts, spans[first:number], first)
            runs.append(Run(before, items))
            contents.append(self.decoded[starts[0] : start])
            gaps += [(begin - starts[0] + size, end - starts[0] + size) for begin, end in spans[first:number]]
            size += len(contents[-1])
            done = at
        if start + self._said(done, len(self._encoded), start) != len(self.decoded):
            raise TransferError(TRANSFER_CHECK_FAILED)
        style = Style.of(self._encoded, self._eol)
        return Lines(runs, self._encoded[done:], style, Gaps(b"".join(contents), gaps), self.decode)

    def _go_to(self, offset: int, at: int, start: int) -> Span:
        """Return where the line begins that holds decoded *offset*, in the encoded bytes and in the content.

        *at* and *start* are the same of a line that is not behind it; what the lines between say is proved.
        """
        while True:
            # No line says more than it is long: whole ones can be passed at once for as long as what is missing.
            stop = self._encoded.rfind(b"\n", at, at + offset - start) + 1 or self._encoded.find(b"\n", at) + 1
            length = self._said(at, stop, start) if stop else 0
            if not stop or start + length > offset:
                return at, start
            at, start = stop, start + length

    def _said(self, at: int, stop: int, start: int) -> int:
        """Return how much the lines from *at* to *stop* say, and prove that it is what stands at decoded *start*."""
        said = self.decode(self._encoded[at:stop])
        if not self.decoded.startswith(said, start):
            raise TransferError(TRANSFER_CHECK_FAILED)
        return len(said)


def _decode_padded(encoded: bytes) -> bytes:
    return binascii.a2b_qp(_PADDING.sub(b"", encoded))


def _read_line(text: bytes) -> Line:
    """Take a line apart."""
    content = text.removesuffix(b"\n")
    if len(content) < len(text):
        content = content.removesuffix(b"\r")
    content = content.rstrip(b" \t")
    tail = text[len(content) :]
    return Line(content[:-1], b"=" + tail, True) if content.endswith(b"=") else Line(content, tail, False)


def _take_apart(lines: Sequence[Line], starts: Sequence[int], spans: Sequence[Span], first: int) -> list[Item]:
    """Return what the physical *lines* say, whose decoded content starts at *starts*, *spans* cut out.

    The spans are numbered from *first*.
    """
    places = _Places(lines, starts)
    items: list[Item] = []
    where = 0  # the physical line, and the place in it, up to which everything is taken
    column = 0

    def take_to(line: int, stop: int) -> None:
        nonlocal where, column
        while where < line:
            add(lines[where].content[column:])
            if not lines[where].soft:
                items.append(lines[where])
            where, column = where + 1, 0
        add(lines[where].content[column:stop])
        column = stop

    def add(content: bytes) -> None:
        if items and isinstance(items[-1], bytes):
            items[-1] += content
        else:
            items.append(content)

    for number, (start, end) in enumerate(spans, first):
        take_to(*places.find(start))
        items.append(number)
        where, column = places.find(end)
    take_to(len(lines) - 1, len(lines[-1].content))
    items.append(lines[-1])
    return items


class _Places:
    """Finds decoded offsets, none before the last, in neighbouring lines; each byte is looked at once, or twice."""

    def __init__(self, lines: Sequence[Line], starts: Sequence[int]) -> None:
        self._lines = lines
        self._starts = starts
        self._number = 0
        self._place = 0
        self._offset = starts[0]

    def find(self, offset: int) -> tuple[int, int]:
        """Return the line of decoded *offset*, and its place in the line's content.

        TransferError if the offset is between the CR and the LF of a line break, which no edit has business with.
        """
        starts, number = self._starts, self._number
        while number + 1 < len(starts) and starts[number + 1] <= offset:
            number += 1
        if number > self._number:
            self._number, self._place, self._offset = number, 0, starts[number]
        content = self._lines[number].content
        seen, place = self._place, self._place + offset - self._offset
        while escapes := content.count(b"=", seen, place):  # each is two bytes longer than what it says
            seen, place = place, place + 2 * escapes
        if place > len(content):
            raise TransferError("edit-inside-line-break")
        self._place, self._offset = place, offset
        return number, place
