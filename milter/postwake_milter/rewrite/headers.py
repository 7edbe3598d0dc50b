"""Header fields as bytes: taken apart without losing any, and read however badly they are written.

Nothing here raises on wild input: a field that means nothing reads as empty. Values are raw bytes after the colon,
folded with CRLF or bare LF (libmilter's way).

Rules: RFC 5322 section 2.2 (fields, folding), RFC 2045 section 5.1 (parameters), RFC 2047 (encoded words),
RFC 2231 section 3 and 4 (continued and encoded parameters), RFC 2183 (Content-Disposition).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .charsets import find_codec

RawField = tuple[bytes, bytes]
"""A field's name, and its value: everything after the colon, with its leading space and its folding."""

# Postfix, too, takes white space before the colon (is_header(3)); RFC 5322 names are printable ASCII without a colon.
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_ENCODED_WORD = re.compile(r"=\?([^?\s*]{1,64})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
# Every pattern here moves forward only, whatever it meets: a header may be 100 kB of semicolons or spaces.
# Of bytes above ASCII none is white space, though the characters that stand for them may be.
_BETWEEN = re.compile(r"[\s;]*", re.ASCII)
_SPACE = re.compile(r"[ \t]*")
_PARAMETER_NAME = re.compile(r"([^\s;=\"()]+)\s*=\s*", re.ASCII)
_NEXT_PARAMETER = re.compile(r"(?<=\s)[A-Za-z0-9*-]+\s*=", re.ASCII)
_WHITE = " \t\v\f\r\n"
_CONTINUED = re.compile(r"([^*]+)\*(\d{1,3})(\*?)\Z|([^*]+)\*\Z")
_CONTROLS = dict.fromkeys((*range(0x20), 0x7F), " ")
_MAX_PARAMETERS = 64
"""No client writes more; a field built to hold thousands is read this far."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a header block: ``block[start:end]`` with its line ending, the value from *value_start*."""

    name: bytes
    value: bytes
    start: int
    value_start: int
    end: int


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """The fields at the start of an entity, where they end, and where its body starts.

    *malformed* says that something other than a field stood among them: a line without a colon, a continuation
    with nothing to continue, or no empty line before the body.
    """

    fields: tuple[Field, ...]
    start: int
    end: int
    body_start: int
    malformed: bool


def read_block(text: bytes, start: int = 0, stop: int | None = None, stop_line: Iterable[bytes] = ()) -> HeaderBlock:
    """Read the header block of *text* from *start*, never past *stop*.

    It ends before the empty line (which belongs to neither block nor body), before a line that is no field, or
    before a line whose text, trailing white space aside, is in *stop_line*. Every byte of ``text[start:end]`` is in
    exactly one field. Lines end in LF or CRLF; a bare CR is part of a line.
    """
    stop = len(text) if stop is None else stop
    fields: list[Field] = []
    begun: tuple[bytes, int, int] | None = None  # name, start, start of the value
    at = start
    end_of_last = start

    def close() -> None:
        nonlocal begun
        if begun is not None:
            raw_end = end_of_last
            value_end = raw_end
            if text[value_end - 1 : value_end] == b"\n":
                value_end -= 2 if text[value_end - 2 : value_end - 1] == b"\r" else 1
            name, field_start, value_start = begun
            value = text[value_start : max(value_start, value_end)]
            fields.append(Field(name, value, field_start, value_start, raw_end))
            begun = None

    while at < stop:
        newline = text.find(b"\n", at, stop)
        next_at = stop if newline < 0 else newline + 1
        first = text[at : at + 1]
        if first == b"\n" or (first == b"\r" and next_at - at <= 2 and newline >= 0):
            close()
            return HeaderBlock(tuple(fields), start, at, next_at, malformed=False)
        if first in (b" ", b"\t"):
            if begun is None:
                return HeaderBlock(tuple(fields), start, at, at, malformed=True)
        else:
            match = _NAME.match(text, at, next_at)
            if match is None or (first == b"-" and stop_line and text[at:next_at].rstrip() in stop_line):
                close()
                return HeaderBlock(tuple(fields), start, at, at, malformed=True)
            close()
            begun = (match.group(1), at, match.end())
        at = end_of_last = next_at
    close()
    return HeaderBlock(tuple(fields), start, at, at, malformed=True)


class Fields(tuple[RawField, ...]):
    """A message's fields in order, and by name: some twenty names are asked for."""

    by_name: dict[bytes, list[bytes]]
    """The values of each name, which is in lower case."""

    def __new__(cls, fields: Iterable[RawField] = ()) -> Fields:
        """Take the fields, each name and value."""
        new = super().__new__(cls, fields)
        new.by_name = {}
        for name, value in new:
            new.by_name.setdefault(name.lower(), []).append(value)
        return new


def values(fields: Sequence[RawField], name: bytes) -> Sequence[bytes]:
    """Return the raw values of every field called *name* (lower case), in order."""
    if isinstance(fields, Fields):
        return fields.by_name.get(name, ())
    return [value for field, value in fields if field.lower() == name]


def unfold(value: bytes) -> str:
    """Return *value* on one line without surrounding white space, each byte as the character of that number."""
    return value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t").decode("latin-1")


def decode_text(value: bytes) -> str:
    """Return what a person reads in the unstructured *value*: encoded words decoded, raw bytes taken as UTF-8.

    Neighbouring words of one charset are joined before they are decoded, as senders do cut characters in half.
    A word in an unknown charset, or one that does not decode, stays as it is written. Control characters become
    spaces, so the result is safe on one line of a terminal or a table.
    """
    text = value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t").decode("utf-8", "surrogateescape")
    if "=?" not in text and text.isprintable():
        return text
    out: list[str] = []
    pending: tuple[str, bytes, str] | None = None  # charset, bytes, as written
    at = 0

    def flush() -> None:
        nonlocal pending
        if pending is not None:
            charset, data, written = pending
            codec = find_codec(charset)
            # UTF-7 can say half of a surrogate pair, which is no character.
            out.append(data.decode(codec, "replace").encode("utf-8", "replace").decode("utf-8") if codec else written)
            pending = None

    for match in _ENCODED_WORD.finditer(text):
        between = text[at : match.start()]
        data = _decode_word(match.group(2), match.group(3))
        charset = match.group(1).lower()
        if between.strip(" \t") or (at == 0 and between):
            flush()
            out.append(between)
        elif pending is None and at > 0:
            out.append(between)
        if data is None:
            flush()
            out.append(match.group())
        elif pending is not None and pending[0] == charset:
            pending = (charset, pending[1] + data, pending[2] + match.group())
        else:
            flush()
            pending = (charset, data, match.group())
        at = match.end()
    flush()
    out.append(text[at:])
    joined = "".join(out).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return joined.translate(_CONTROLS)


def _decode_word(encoding: str, text: str) -> bytes | None:
    """Return the bytes of an encoded word's text, or None if it is not what it says."""
    raw = text.encode("utf-8", "surrogateescape")
    if encoding in "qQ":
        return _Q_ESCAPE.sub(lambda m: bytes((int(m.group(1), 16),)), raw.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except binascii.Error:
        return None


@dataclass(frozen=True, slots=True)
class Parameterised:
    """A value such as ``text/html; charset=utf-8``: its first word, and its parameters by name, both in lower case.

    Text is Latin-1: encode it so to have the bytes that were sent. *ambiguous* names the parameters that stood there
    more than once with different values (the first counts here, as in most clients, but not in all), or whose quoted
    value is followed by stray words, all behind such a one, and a boundary whose quote never closes or that no
    semicolon parts from what stands before it.
    """

    value: str
    parameters: dict[str, str]
    ambiguous: frozenset[str]


def parse_parameters(value: bytes) -> Parameterised:
    """Read a Content-Type or Content-Disposition value, however it is written.

    Understood beside the standard: comments, unquoted values with spaces, a quote that never closes, a missing
    semicolon, stray semicolons, and RFC 2231 continuations (joined) and encodings (percent-decoded, charset dropped).
    """
    text = unfold(value)
    stop = text.find(";")
    main = (text if stop < 0 else text[:stop]).partition("(")[0].strip(_WHITE).lower()
    raw: dict[str, str] = {}
    ambiguous: set[str] = set()
    if stop >= 0:
        doubtful = False  # as are those behind an odd one: its stray words may hold a quote that swallows them
        for name, content, odd in _parameters(text, stop):
            doubtful |= odd
            if doubtful:
                ambiguous.add(name)
            if name in raw:
                if raw[name] != content:
                    ambiguous.add(name)
            elif len(raw) < _MAX_PARAMETERS:
                raw[name] = content
    return Parameterised(main, _join_continuations(raw), frozenset(name.partition("*")[0] for name in ambiguous))


def _parameters(text: str, at: int) -> Iterator[tuple[str, str, bool]]:
    """Yield the parameters of *text* from *at* on: name as it is written but in lower case, value, and whether some
    programs take the value for another: words follow its quote that are no comment and no parameter, or a parameter
    does without a space; or it is a boundary whose quote never closes, without a semicolon before it, or with a stray
    quote in it or before it."""
    stray = False
    while at < len(text):
        before, at = at, _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string
        parted = ";" in text[before:at]
        match = _PARAMETER_NAME.match(text, at)
        if match is None:  # a comment, or words that are no parameter: on to the next semicolon
            at = _skip(text, at)
            continue
        name, at = match.group(1).lower(), match.end()
        if text.startswith('"', at):
            content, at, closed = _quoted(text, at)
            rest = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string
            odd = rest < len(text) and text[rest] not in ";("
            odd = odd and (rest == at or _PARAMETER_NAME.match(text, rest) is None)
            odd |= not closed and name.startswith("boundary")  # for some programs the quote is part of it
        else:
            odd = False
            stop = text.find(";", at)
            stop = len(text) if stop < 0 else stop
            following = _NEXT_PARAMETER.search(text, at, stop)
            if following is not None:
                stop = following.start()
            content = text[at:stop].partition(" (")[0].strip(_WHITE)
            stray |= '"' in content  # for some programs it opens a quoted string, which swallows what follows
            at = stop
        odd |= (stray or not parted) and name.startswith("boundary")
        yield name, content, odd


def _skip(text: str, at: int) -> int:
    stop = text.find(";", at)
    return len(text) if stop < 0 else stop


def _quoted(text: str, at: int) -> tuple[str, int, bool]:
    """Return the quoted string that opens at *at*, unescaped, where it ends, and whether it is closed.

    One that is not ends at a semicolon.
    """
    out: list[str] = []
    index = at + 1
    while index < len(text):
        char = text[index]
        if char == '"':
            return "".join(out), index + 1, True
        if char == "\\" and index + 1 < len(text):
            index += 1
            char = text[index]
        out.append(char)
        index += 1
    stop = _skip(text, at)
    return text[at + 1 : stop].strip(_WHITE), stop, False


def _join_continuations(raw: dict[str, str]) -> dict[str, str]:
    """Return *raw* with RFC 2231's ``name*0``, ``name*1*`` and ``name*`` folded into ``name``; a plain name wins."""
    joined: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[bool, str]]] = {}
    for name, content in raw.items():
        match = _CONTINUED.match(name)
        if match is None:
            joined[name] = content
        elif match.group(4) is not None:
            pieces.setdefault(match.group(4), {}).setdefault(0, (True, content))
        else:
            pieces.setdefault(match.group(1), {})[int(match.group(2))] = (bool(match.group(3)), content)
    for name, numbered in pieces.items():
        if name in joined or 0 not in numbered:
            continue
        out: list[str] = []
        for number in range(len(numbered)):
            if number not in numbered:
                break
            encoded, content = numbered[number]
            if encoded:
                if number == 0 and content.count("'") >= 2:
                    content = content.split("'", 2)[2]
                content = unquote_to_bytes(content.encode("latin-1")).decode("latin-1")
            out.append(content)
        joined[name] = "".join(out)
    return joined
