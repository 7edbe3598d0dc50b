"""Quoted-printable (RFC 2045 section 6.7), edited in place and with its own habits kept.

The physical lines that an edit touches are wrapped anew, in the original's line length, line endings and case of
hexadecimal digits; their own spelling (``=41`` for ``A``) stays, and every other line is the same bytes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

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

# What nearly all equals signs begin comes first: a soft break, or an escape in capitals.
_BROKEN = re.compile(rb"=(?!\r\n|[0-9A-F][0-9A-F]|[0-9A-Fa-f]{2}|[ \t]*+(?:\r?\n|\Z))")
_PADDING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
"""White space at the end of a line was put there on the way and is not content (rule 3)."""
_SPECIAL = re.compile(rb"[^\t -<>-~]")
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x3D)
_SHAPE = bytes.maketrans(_PLAIN, b"x" * len(_PLAIN))
_LOWER_ESCAPE = re.compile(rb"=(?:[0-9][a-f]|[a-f][0-9a-f])")
_UPPER_ESCAPE = re.compile(rb"=(?:[0-9][A-F]|[A-F][0-9A-F])")


@dataclass(slots=True)
class _Line:
    """A physical line of quoted-printable: what it says, and what ends it."""

    content: bytes
    tail: bytes
    soft: bool

    @property
    def is_last(self) -> bool:
        """Whether no line follows."""
        return not self.tail.endswith(b"\n")


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
        runs: list[_Run] = []
        contents: list[bytes] = []  # of the runs
        gaps: list[Span] = []  # in the contents, one behind the other
        size = done = number = 0
        at = start = 0  # where the next line begins, in the encoded bytes and in the content
        while number < len(spans):
            at, start = self._go_to(spans[number][0], at, start)
            before = self._encoded[done:at]
            lines: list[_Line] = []
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
            runs.append(_Run(before, items))
            contents.append(self.decoded[starts[0] : start])
            gaps += [(begin - starts[0] + size, end - starts[0] + size) for begin, end in spans[first:number]]
            size += len(contents[-1])
            done = at
        if start + self._said(done, len(self._encoded), start) != len(self.decoded):
            raise TransferError(TRANSFER_CHECK_FAILED)
        style = _Style.of(self._encoded, self._eol)
        return _Lines(runs, self._encoded[done:], style, Gaps(b"".join(contents), gaps), self.decode)

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


def _read_line(text: bytes) -> _Line:
    """Take a line apart."""
    content = text.removesuffix(b"\n")
    if len(content) < len(text):
        content = content.removesuffix(b"\r")
    content = content.rstrip(b" \t")
    tail = text[len(content) :]
    return _Line(content[:-1], b"=" + tail, True) if content.endswith(b"=") else _Line(content, tail, False)


@dataclass(frozen=True, slots=True)
class _Style:
    """How the original's encoder wrote."""

    limit: int
    eol: bytes
    lower: bool

    @classmethod
    def of(cls, encoded: bytes, eol: bytes) -> _Style:
        texts = encoded.split(b"\n")
        longest_text = max(texts, key=len).rstrip(b" \t\r")
        soft = longest = len(longest_text)
        if not longest_text.endswith(b"="):  # rare: the longest line is usually one that was broken
            soft, longest = 0, 0
            # Only a line that could be the longest is worth a closer look.
            for text in texts:
                if len(text) > soft:
                    length = len(text.rstrip(b" \t\r"))
                    longest = max(longest, length)
                    if length > soft and text[length - 1 : length] == b"=":
                        soft = length
        # A soft break shows where the encoder breaks. Without one, the longest line says what it thinks allowed.
        limit = soft if soft >= 20 else max(longest, ENCODED_LINE)
        lower = _UPPER_ESCAPE.search(encoded) is None and _LOWER_ESCAPE.search(encoded) is not None
        return cls(min(max(limit, longest), MAX_LINE), eol, lower)

    def break_lines(self, data: bytes) -> bytes:
        """Return *data* with line breaks as the encoder's."""
        return data.replace(b"\r\n", b"\n").replace(b"\n", self.eol)

    def encode(self, data: bytes) -> bytes:
        """Return *data* as quoted-printable without any line break; a space at its end is encoded (rule 3)."""
        form = b"=%02x" if self.lower else b"=%02X"
        text = _SPECIAL.sub(lambda m: form % m.group()[0], data)
        return text[:-1] + form % text[-1] if text.endswith((b" ", b"\t")) else text

    def wrap(self, content: bytes, tail: bytes, *, soft: bool) -> bytes:
        """Return an encoded *content* in lines no longer than the limit, the last of them ending in *tail*."""
        stops = [0, *self.breaks(content, soft=soft), len(content)]
        return (b"=" + self.eol).join([content[at:stop] for at, stop in pairwise(stops)]) + tail

    def breaks(self, content: bytes, *, soft: bool) -> Iterator[int]:
        """Yield the offsets at which an encoded *content*, whose last line is broken as well if *soft*, is broken."""
        at = 0
        room_at_end = self.limit - 1 if soft else self.limit
        while len(content) - at > room_at_end:
            at = _break_before(content, at, at + self.limit - 1)
            yield at


def _break_before(content: bytes, at: int, stop: int) -> int:
    """Return where, at or before *stop*, *content* can be broken: not in an escape, nor in a UTF-8 character."""
    best = stop
    if content[stop - 1 : stop] == b"=":
        best = stop - 1
    elif content[stop - 2 : stop - 1] == b"=":
        best = stop - 2
    # Some readers decode line by line; they deserve whole characters. Continuation bytes are 80 to BF.
    whole = best
    for _ in range(3):
        if content[whole : whole + 1] != b"=" or content[whole + 1 : whole + 2] not in b"89ABab":
            break
        if content[whole - 3 : whole - 2] != b"=":
            return best
        whole -= 3
    return whole if whole > at else best


_Item = bytes | int | _Line


@dataclass(slots=True)
class _Run:
    """Neighbouring physical lines that are wrapped anew, and the encoded bytes before them, which stay."""

    before: bytes
    items: list[_Item]
    """What the lines say, encoded but not wrapped: bytes, the number of a replacement, or the end of a logical line."""


def _take_apart(lines: Sequence[_Line], starts: Sequence[int], spans: Sequence[Span], first: int) -> list[_Item]:
    """Return what the physical *lines* say, whose decoded content starts at *starts*, *spans* cut out.

    The spans are numbered from *first*.
    """
    places = _Places(lines, starts)
    items: list[_Item] = []
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


class _Lines:
    """The placement of spans in quoted-printable.

    What the lines between the runs say has been proved; :meth:`fill` proves the runs. No line depends on another,
    whatever its break, so that whole lines can be decoded apart.
    """

    def __init__(
        self, runs: Sequence[_Run], rest: bytes, style: _Style, contents: Gaps, decode: Callable[[bytes], bytes]
    ) -> None:
        """*contents*: what the runs say, one behind the other."""
        self._runs = runs
        self._rest = rest
        self._style = style
        self._contents = contents
        self._decode = decode
        self._layouts: dict[bytes, _Layout] = {}

    def fill(self, replacements: Sequence[bytes]) -> bytes:
        """Return the encoded bytes with *replacements* in their places, wrapped as the original is."""
        style = self._style
        # Where a line is broken depends on what is escaped, and on nothing else that is in it.
        shape = b"\n".join(replacements).translate(_SHAPE)
        layout = self._layouts.get(shape)
        if layout is None:
            layout = _lay_out(style, self._runs, self._rest, replacements)
            if len(self._layouts) < _MAX_LAYOUTS and not layout.breaks:
                self._layouts[shape] = layout
        filled, anew = layout.fill(replacements, style)
        meant = [style.break_lines(new) for new in replacements] if layout.breaks else replacements
        if self._decode(anew) != self._contents.fill(meant):
            raise TransferError(TRANSFER_CHECK_FAILED)
        return filled


_MAX_LAYOUTS = 2
"""Of one placement: a link's URL has the same length in every message, or one of two."""


class _Layout:
    """How the lines of all runs are wrapped, for whatever is escaped where these replacements are.

    Of a newsletter's thousands that is the same for all: what is left to be done for one is done without a loop.
    """

    __slots__ = ("_anew", "_cut", "_escaped", "_whole", "breaks")

    def __init__(self, whole: _Pieces, anew: _Pieces, escaped: Sequence[int], breaks: Collection[int]) -> None:
        """*escaped*: the numbers of the replacements that are spelt otherwise than they are; *breaks*: of those with
        line breaks, whose very bytes are in the layout."""
        self._cut = Struct("".join([f"{length}s" for length in whole.lengths])).unpack
        self._whole = whole.between
        self._anew = anew.between
        self._escaped = escaped
        self.breaks = breaks

    def fill(self, replacements: Sequence[bytes], style: _Style) -> tuple[bytes, bytes]:
        """Return all lines with *replacements* in their places, and those of the runs alone."""
        encoded = [*replacements]
        for number in self._escaped:
            encoded[number] = b"" if number in self.breaks else style.encode(encoded[number])
        cut = self._cut(b"".join(encoded))
        whole, anew = self._whole.copy(), self._anew.copy()
        whole[1::2] = anew[1::2] = cut
        return b"".join(whole), b"".join(anew)


class _Pieces:
    """Encoded bytes of which some are to be cut from the replacements, one after the other: of those, the lengths."""

    __slots__ = ("between", "lengths")

    def __init__(self) -> None:
        self.between: list[bytes] = [b""]
        """All else, with room for what is cut at every second place."""
        self.lengths: list[int] = []

    def add(self, data: bytes) -> None:
        """Add bytes."""
        self.between[-1] += data

    def leave(self, length: int) -> None:
        """Leave room for the next *length* bytes of the replacements."""
        self.between += (b"", b"")
        self.lengths.append(length)

    def extend(self, more: _Pieces) -> None:
        """Add *more*."""
        self.between[-1] += more.between[0]
        self.between += more.between[1:]
        self.lengths += more.lengths


def _lay_out(style: _Style, runs: Sequence[_Run], rest: bytes, replacements: Sequence[bytes]) -> _Layout:
    """Return how *runs* are wrapped with *replacements* in their places, or with any others of their shape."""
    whole, anew = _Pieces(), _Pieces()
    escaped = [number for number, new in enumerate(replacements) if not _is_plain(new)]
    breaks = {number for number in escaped if b"\n" in replacements[number]}
    for run in runs:
        pieces = _Pieces()
        content = b""
        gaps = [0]  # where in the content they begin and end
        for item in run.items:
            if isinstance(item, bytes):
                content += item
            elif isinstance(item, _Line):
                _wrap(style, content, gaps, item.tail, pieces, soft=item.soft)
                content, gaps = b"", [0]
            elif item in breaks:
                first, *more = replacements[item].replace(b"\r\n", b"\n").split(b"\n")
                content += style.encode(first)
                for text in more:
                    _wrap(style, content, gaps, style.eol, pieces, soft=False)
                    content, gaps = style.encode(text), [0]
            else:
                gaps.append(len(content))
                content += style.encode(replacements[item]) if item in escaped else replacements[item]
                gaps.append(len(content))
        if not pieces.between[-1].endswith(b"\n") and (rest or run is not runs[-1]):
            raise TransferError(TRANSFER_CHECK_FAILED)
        anew.extend(pieces)
        whole.add(run.before)
        whole.extend(pieces)
    whole.add(rest)
    return _Layout(whole, anew, escaped, breaks)


def _wrap(style: _Style, content: bytes, gaps: Sequence[int], tail: bytes, pieces: _Pieces, *, soft: bool) -> None:
    """Add the logical line *content*, wrapped, and its *tail* to *pieces*, with room for what is in its *gaps*."""
    content = content if soft else _guard_space(content, style)
    stops = [*style.breaks(content, soft=soft), len(content)]
    at_stop = 0
    for number, (at, end) in enumerate(pairwise((*gaps, len(content)))):
        while at < end:
            if at == stops[at_stop]:
                pieces.add(b"=" + style.eol)
                at_stop += 1
            stop = min(end, stops[at_stop])
            if number % 2:
                pieces.leave(stop - at)
            else:
                pieces.add(content[at:stop])
            at = stop
    pieces.add(tail)


def _is_plain(data: bytes) -> bool:
    """Whether quoted-printable spells *data* as it is, as it does our URLs."""
    return not data.translate(None, _PLAIN)


def _guard_space(content: bytes, style: _Style) -> bytes:
    """Encode white space that an edit has left at the end of a line, where it would be taken for padding."""
    if not content.endswith((b" ", b"\t")):
        return content
    return content[:-1] + style.encode(content[-1:])


class _Places:
    """Finds decoded offsets, none before the last, in neighbouring lines; each byte is looked at once, or twice."""

    def __init__(self, lines: Sequence[_Line], starts: Sequence[int]) -> None:
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


def encode_quoted_printable(data: bytes, eol: bytes) -> bytes:
    """Return *data*, whose lines end in CRLF or LF, as quoted-printable; its line breaks stay as they are."""
    style = _Style(ENCODED_LINE, eol, lower=False)
    out: list[bytes] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        tail = b"" if number == len(lines) - 1 else b"\n"
        if tail and line.endswith(b"\r"):
            line, tail = line[:-1], b"\r\n"
        out.append(style.wrap(style.encode(line), tail, soft=False))
    return b"".join(out)
