"""How an encoder writes quoted-printable (RFC 2045 section 6.7): the length of lines, their ends, the case of escapes.

What is written anew in a part follows its own encoder's habits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .placing import ENCODED_LINE, MAX_LINE

_SPECIAL = re.compile(rb"[^\t -<>-~]")
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x3D)
SHAPE = bytes.maketrans(_PLAIN, b"x" * len(_PLAIN))
_LOWER_ESCAPE = re.compile(rb"=(?:[0-9][a-f]|[a-f][0-9a-f])")
_UPPER_ESCAPE = re.compile(rb"=(?:[0-9][A-F]|[A-F][0-9A-F])")


@dataclass(slots=True)
class Line:
    """A physical line of quoted-printable: what it says, and what ends it."""

    content: bytes
    tail: bytes
    soft: bool

    @property
    def is_last(self) -> bool:
        """Whether no line follows."""
        return not self.tail.endswith(b"\n")


@dataclass(frozen=True, slots=True)
class Style:
    """How the original's encoder wrote."""

    limit: int
    eol: bytes
    lower: bool

    @classmethod
    def of(cls, encoded: bytes, eol: bytes) -> Style:
        """Return the style of *encoded*; *eol* ends its lines."""
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

    def wrap(self, content: bytes, tail: bytes) -> bytes:
        """Return an encoded *content* in lines no longer than the limit, the last of them ending in *tail*."""
        stops = [0, *self.breaks(content, soft=False), len(content)]
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


def is_plain(data: bytes) -> bool:
    """Whether quoted-printable spells *data* as it is, as it does our URLs."""
    return not data.translate(None, _PLAIN)


def guard_space(content: bytes, style: Style) -> bytes:
    """Encode white space that an edit has left at the end of a line, where it would be taken for padding."""
    if not content.endswith((b" ", b"\t")):
        return content
    return content[:-1] + style.encode(content[-1:])


def encode_quoted_printable(data: bytes, eol: bytes) -> bytes:
    """Return *data*, whose lines end in CRLF or LF, as quoted-printable; its line breaks stay as they are."""
    style = Style(ENCODED_LINE, eol, lower=False)
    out: list[bytes] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        tail = b"" if number == len(lines) - 1 else b"\n"
        if tail and line.endswith(b"\r"):
            line, tail = line[:-1], b"\r\n"
        out.append(style.wrap(style.encode(line), tail))
    return b"".join(out)
