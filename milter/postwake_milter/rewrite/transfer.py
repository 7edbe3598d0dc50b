"""Transfer encodings, edited in place: spans of decoded bytes become changes of the encoded bytes, nothing else moves.

:func:`open_body` returns an object that holds the decoded bytes and applies edits to the encoded ones:

- quoted-printable (RFC 2045 section 6.7): the physical lines that an edit touches are wrapped anew, in the original's
  line length, line endings and case of hexadecimal digits; their own spelling (``=41`` for ``A``) stays, and every
  other line is the same bytes.
- base64 (section 6.8): what precedes the first changed quantum is the same bytes; what follows is encoded again in
  the original's line length and line endings, as it must be, since every byte after it has moved.
- 7bit, 8bit and binary: the bytes themselves.

What does not decode the same way everywhere is not opened: :class:`TransferError` names the reason.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from .html_scan import Edit, apply_edits

MAX_LINE = 998
"""Octets on a line without its line break (RFC 5322 section 2.1.1)."""
QP_LINE = 76
"""Octets on a quoted-printable line, its soft break included (RFC 2045 section 6.7, rule 5)."""

_QP_BROKEN = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n|[ \t]*\Z)")
_QP_PADDING = (b" ", b"\t", b" \r", b"\t\r")
"""What a line with white space at its end ends in, its LF taken off."""
_QP_ESCAPE = re.compile(rb"=..", re.DOTALL)
_QP_SPECIAL = re.compile(rb"[^\t -<>-~]")
_LOWER_ESCAPE = re.compile(rb"=(?:[0-9][a-f]|[a-f][0-9a-f])")
_UPPER_ESCAPE = re.compile(rb"=(?:[0-9][A-F]|[A-F][0-9A-F])")
_BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/ \t\r\n]*+={0,2}[ \t\r\n]*+\Z")
_SPACE = b" \t\r\n"


class TransferError(Exception):
    """The encoded bytes do not mean one thing; *reason* is the name of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Opened(Protocol):
    """An encoded body, opened for edits."""

    @property
    def decoded(self) -> bytes:
        """The content."""
        ...

    def apply(self, edits: Sequence[Edit]) -> bytes:
        """Return the encoded bytes with *edits* made, which are in order and do not overlap."""
        ...


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


def line_ending(data: bytes, default: bytes) -> bytes:
    """Return the line ending of the first line of *data*."""
    newline = data.find(b"\n")
    if newline < 0:
        return default
    return b"\r\n" if data[newline - 1 : newline] == b"\r" else b"\n"


class Identity:
    """7bit, 8bit and binary."""

    def __init__(self, encoded: bytes) -> None:
        self.decoded = encoded

    def apply(self, edits: Sequence[Edit]) -> bytes:
        """Return the bytes with *edits* made."""
        return apply_edits(self.decoded, edits)


def overlong_line(data: bytes, edits: Sequence[Edit]) -> bool:
    """Whether making *edits* in *data* leaves a line that they touch longer than 998 octets."""
    at_line = 0  # length of the current line so far
    at = 0
    touched = False
    for edit in edits:
        for piece, ours in ((data[at : edit.start], False), (edit.replacement, True)):
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
        at = edit.end
    newline = data.find(b"\n", at)
    rest = data[at : len(data) if newline < 0 else newline].rstrip(b"\r")
    return touched and at_line + len(rest) > MAX_LINE


@dataclass(frozen=True, slots=True)
class _Line:
    """A physical line of quoted-printable: what it says, and what ends it."""

    content: bytes
    tail: bytes
    soft: bool


class QuotedPrintable:
    """Quoted-printable, with its own habits kept."""

    def __init__(self, encoded: bytes, eol: bytes = b"\r\n") -> None:
        if _QP_BROKEN.search(encoded):
            raise TransferError("malformed-quoted-printable")
        self._encoded = encoded
        self._eol = line_ending(encoded, eol)
        texts = encoded.split(b"\n")
        # A line ends in one of few ways: looking at each way once is faster than at each line.
        endings = {text[-2:] for text in texts[:-1]}
        self._padded = encoded.endswith((b" ", b"\t")) or any(ending.endswith(_QP_PADDING) for ending in endings)
        if self._padded:
            # White space at the end of a line was put there on the way and is not content (rule 3).
            self.decoded = b"".join(
                binascii.a2b_qp(line.content) + (b"" if line.soft else line.tail.lstrip(b" \t"))
                for line in _read_lines(encoded)
            )
        else:
            self.decoded = binascii.a2b_qp(encoded)

    def apply(self, edits: Sequence[Edit]) -> bytes:
        """Return the encoded bytes with *edits* made, wrapping only the physical lines that they touch."""
        if not edits:
            return self._encoded
        texts = self._encoded.split(b"\n")
        lengths = self._lengths(texts)
        starts = list(accumulate(lengths, initial=0))
        if starts.pop() != len(self.decoded):
            raise TransferError("malformed-quoted-printable")
        style = _Style.of(self._encoded, texts, self._eol)
        out: list[bytes] = []
        done = 0
        for first, last, group in _group(edits, texts, starts):
            if first > done:
                out.append(b"\n".join(texts[done:first]) + b"\n")
            final = last == len(texts) - 1
            lines = [_read_line(text, last=False) for text in texts[first:last]]
            lines.append(_read_line(texts[last], last=final))
            out.append(_rewrap(lines, starts[first : last + 1], group, style))
            done = last + 1
        if done < len(texts):
            out.append(b"\n".join(texts[done:]))
        return b"".join(out)

    def _lengths(self, texts: Sequence[bytes]) -> list[int]:
        """Return the decoded length of each physical line, its line break included."""
        if self._padded:
            return [_decoded_length(line) for line in _read_lines(self._encoded)]
        # An escape is two bytes longer than what it says; a soft break takes its equals sign and line break with it.
        lengths = [len(text) - 2 * text.count(b"=") + (not text.endswith(b"=\r")) for text in texts]
        if not texts[-1].endswith(b"="):
            lengths[-1] -= 1
        return lengths


def _read_lines(encoded: bytes) -> list[_Line]:
    texts = encoded.split(b"\n")
    last = texts.pop()
    return [*(_read_line(text, last=False) for text in texts), _read_line(last, last=True)]


def _read_line(text: bytes, *, last: bool) -> _Line:
    """Take a line apart, *text* being without its LF; the last one has none."""
    eol = b"" if last else b"\n"
    if not last and text.endswith(b"\r"):
        eol = b"\r\n"
        text = text[:-1]
    content = text.rstrip(b" \t")
    padding = text[len(content) :]
    if content.endswith(b"="):
        return _Line(content[:-1], b"=" + padding + eol, soft=True)
    return _Line(content, padding + eol, soft=False)


def _decoded_length(line: _Line) -> int:
    length = len(line.content) - 2 * line.content.count(b"=")
    return length if line.soft else length + len(line.tail.lstrip(b" \t"))


def _group(
    edits: Sequence[Edit], texts: Sequence[bytes], starts: Sequence[int]
) -> Iterable[tuple[int, int, list[Edit]]]:
    """Yield runs of lines, first and last, with the edits that touch them; no line is in two runs."""
    run: tuple[int, int, list[Edit]] | None = None
    for edit in edits:
        first = bisect_right(starts, edit.start) - 1
        last = max(first, bisect_right(starts, edit.end - 1) - 1)
        joins = last + 1 < len(texts) and starts[last + 1] == edit.end
        if joins and not texts[last].rstrip(b" \t\r").endswith(b"="):
            last += 1  # the edit takes a line break away, and so joins the next line
        if run is not None and first <= run[1]:
            run = (run[0], max(run[1], last), [*run[2], edit])
        else:
            if run is not None:
                yield run
            run = (first, last, [edit])
    if run is not None:
        yield run


@dataclass(frozen=True, slots=True)
class _Style:
    """How the original's encoder wrote."""

    limit: int
    eol: bytes
    lower: bool

    @classmethod
    def of(cls, encoded: bytes, texts: Sequence[bytes], eol: bytes) -> _Style:
        soft, longest = 0, 0
        # Only a line that could be the longest is worth a closer look.
        for text in texts:
            if len(text) > soft:
                length = len(text.rstrip(b" \t\r"))
                longest = max(longest, length)
                if length > soft and text[length - 1 : length] == b"=":
                    soft = length
        # A soft break shows where the encoder breaks. Without one, the longest line says what it thinks allowed.
        limit = soft if soft >= 20 else max(longest, QP_LINE)
        lower = _UPPER_ESCAPE.search(encoded) is None and _LOWER_ESCAPE.search(encoded) is not None
        return cls(min(max(limit, longest), MAX_LINE), eol, lower)

    def encode(self, data: bytes) -> bytes:
        """Return *data* as quoted-printable without any line break; a space at its end is encoded (rule 3)."""
        form = b"=%02x" if self.lower else b"=%02X"
        text = _QP_SPECIAL.sub(lambda m: form % m.group()[0], data)
        return text[:-1] + form % text[-1] if text.endswith((b" ", b"\t")) else text

    def wrap(self, content: bytes, tail: bytes, *, soft: bool) -> bytes:
        """Return an encoded *content* in lines no longer than the limit, the last of them ending in *tail*."""
        out: list[bytes] = []
        at = 0
        room_at_end = self.limit - 1 if soft else self.limit
        while len(content) - at > room_at_end:
            stop = _break_before(content, at, at + self.limit - 1)
            out += (content[at:stop], b"=", self.eol)
            at = stop
        out += (content[at:], tail)
        return b"".join(out)


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


def _rewrap(lines: Sequence[_Line], starts: Sequence[int], edits: Sequence[Edit], style: _Style) -> bytes:
    """Return the physical *lines*, whose decoded content starts at *starts*, with *edits* made and wrapped anew."""
    contents: list[bytes] = [b""]  # of the logical lines
    tails: list[_Line] = []
    where = 0  # the physical line, and the place in it, up to which everything is copied
    column = 0

    def copy_to(line: int, stop: int) -> None:
        nonlocal where, column
        while where < line:
            contents[-1] += lines[where].content[column:]
            if not lines[where].soft:
                tails.append(lines[where])
                contents.append(b"")
            where, column = where + 1, 0
        contents[-1] += lines[where].content[column:stop]
        column = stop

    for edit in edits:
        line, stop = _locate(lines, starts, edit.start)
        copy_to(line, stop)
        first, *more = edit.replacement.replace(b"\r\n", b"\n").split(b"\n")
        contents[-1] += style.encode(first)
        for text in more:
            tails.append(_Line(b"", style.eol, soft=False))
            contents.append(style.encode(text))
        where, column = _locate(lines, starts, edit.end)
    copy_to(len(lines) - 1, len(lines[-1].content))
    tails.append(lines[-1])
    return b"".join(
        style.wrap(content if line.soft else _guard_space(content, style), line.tail, soft=line.soft)
        for content, line in zip(contents, tails, strict=True)
    )


def _guard_space(content: bytes, style: _Style) -> bytes:
    """Encode white space that an edit has left at the end of a line, where it would be taken for padding."""
    if not content.endswith((b" ", b"\t")):
        return content
    return content[:-1] + style.encode(content[-1:])


def _locate(lines: Sequence[_Line], starts: Sequence[int], offset: int) -> tuple[int, int]:
    """Return the line of decoded *offset*, and its place in the line's content.

    TransferError if the offset is between the CR and the LF of a line break, which no edit has business with.
    """
    number = max(0, bisect_right(starts, offset) - 1)
    content = lines[number].content
    wanted = offset - starts[number]
    place = wanted
    for count, match in enumerate(_QP_ESCAPE.finditer(content)):
        if match.start() - 2 * count >= wanted:
            break
        place = wanted + 2 * (count + 1)
    if place > len(content):
        if number + 1 < len(lines) or place > len(content) + len(lines[number].tail):
            raise TransferError("edit-inside-line-break")
        place = len(content)
    return number, place


def encode_quoted_printable(data: bytes, eol: bytes) -> bytes:
    """Return *data*, whose lines end in CRLF or LF, as quoted-printable; its line breaks stay as they are."""
    style = _Style(QP_LINE, eol, lower=False)
    out: list[bytes] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        tail = b"" if number == len(lines) - 1 else b"\n"
        if tail and line.endswith(b"\r"):
            line, tail = line[:-1], b"\r\n"
        out.append(style.wrap(style.encode(line), tail, soft=False))
    return b"".join(out)


class Base64:
    """Base64 in lines."""

    def __init__(self, encoded: bytes, eol: bytes = b"\r\n") -> None:
        if not _BASE64_TEXT.match(encoded):
            raise TransferError("malformed-base64")
        self._encoded = encoded
        digits = encoded.translate(None, _SPACE)
        bare = digits.rstrip(b"=")
        # Padding may be missing altogether, as some senders leave it out, but never be wrong.
        if len(bare) % 4 == 1 or (len(digits) != len(bare) and len(digits) % 4):
            raise TransferError("malformed-base64")
        self.decoded = binascii.a2b_base64(bare + b"=" * (-len(bare) % 4))
        self._eol = line_ending(encoded, eol)

    def apply(self, edits: Sequence[Edit]) -> bytes:
        """Return the encoded bytes with *edits* made, the same bytes up to the first changed quantum."""
        if not edits:
            return self._encoded
        quantum = min(edits[0].start, len(self.decoded)) // 3
        keep = self._place(4 * quantum)
        rest = apply_edits(self.decoded, edits)[3 * quantum :]
        digits = binascii.b2a_base64(rest, newline=False)
        width = min(self._width(), MAX_LINE)
        column = keep - (self._encoded.rfind(b"\n", 0, keep) + 1)
        trailing = self._encoded[len(self._encoded.rstrip(_SPACE)) :]
        first = max(0, width - column)
        pieces = [digits[:first]] if first else []
        pieces += (digits[at : at + width] for at in range(first, len(digits), width))
        text = self._eol.join(pieces)
        if not first and pieces:
            text = self._eol + text
        return self._encoded[:keep] + text + trailing

    def _width(self) -> int:
        """Return the digits on a full line: the longest there is, or 76 where there is but one short line."""
        longest = len(max(self._encoded.split(b"\n"), key=len).strip(b" \t\r"))
        width = longest if b"\n" in self._encoded.strip(_SPACE) or longest > QP_LINE else QP_LINE
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
