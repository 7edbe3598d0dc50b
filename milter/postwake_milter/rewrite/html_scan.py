"""A scanner for HTML as it stands in mail: which tags are where, in byte offsets.

In go the bytes of a document in any ASCII-compatible charset (bytes from 0x80 on are opaque); out comes a :class:`Scan`
with the tags that rewriting needs, each with its offsets. Nothing is decoded and nothing is built: this is the
tokenisation stage of HTML5 (https://html.spec.whatwg.org/multipage/parsing.html#tokenization), with

 - comments skipped, except that the inside of a conditional comment (``<!--[if mso]> … <![endif]-->``) is scanned as
   markup, because Outlook reads it; downlevel-revealed ones (``<![if !mso]>``), doctypes, processing instructions and
   ``</3`` are bogus comments and end at the next ``>``;
 - raw text (script with its escaped states, style, textarea, title, xmp, iframe, noembed, noframes, plaintext) skipped;
   with markup in it behind an svg or math element, where it need not be raw text, nothing that follows can be told;
 - ``<![CDATA[`` a bogus comment, or, once an svg or math element has been seen, skipped up to ``]]>``.

A tag or comment that the end of the input cuts off is not a tag, as in HTML5, and nothing follows it.

Time is linear in the input. Every pattern is possessive (Python 3.11), so no failed match is tried again another way; a
pattern fails only where the input ends inside a tag, and then the scan is over.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Edit(NamedTuple):
    """Bytes *start* to *end* of the original become *replacement*. An insertion has ``start == end``."""

    start: int
    end: int
    replacement: bytes


def apply_edits(data: bytes, edits: Iterable[Edit], *, offset: int = 0) -> bytes:
    """Return *data* with *edits* made: sorted, not overlapping, their offsets counted from -*offset*.

    Raises ValueError for an edit out of order or out of bounds.
    """
    pieces: list[bytes] = []
    at = 0
    for edit in edits:
        start, end = edit.start - offset, edit.end - offset
        if not at <= start <= end <= len(data):
            raise ValueError(f"edit of bytes {edit.start} to {edit.end}: expected {at + offset} <= start <= end")
        pieces += (data[at:start], edit.replacement)
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)


@dataclass(slots=True)
class Tag:
    """A start or end tag: ``html[start:end]`` runs from ``<`` to ``>``; *name* is in lower case.

    *comment* is the index in :attr:`Scan.comments` of the conditional comment around it, or -1.
    """

    name: bytes
    start: int
    end: int
    is_end: bool
    comment: int


@dataclass(slots=True)
class Attribute:
    """An attribute: *name* in lower case; ``html[start:end]`` is all of it, ``html[value_start:value_end]`` its value.

    The value's span lies inside the quotes; an attribute without a value has both at *end*.
    """

    name: bytes
    start: int
    end: int
    value_start: int
    value_end: int


@dataclass(slots=True)
class Scan:
    """What was found: the tags named in :data:`NAMES`, in document order, and the conditional comments.

    *comments* holds the spans of the text between ``<!--`` and ``-->``. *complete* is false when the input ends inside
    a tag, a comment or raw text, or is not all told, so that nothing can be appended to the document.
    """

    tags: list[Tag]
    comments: list[tuple[int, int]]
    complete: bool


RAW_TEXT: Final = frozenset((b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes"))
NAMES: Final = RAW_TEXT | frozenset(
    (
        *(b"a", b"area", b"body", b"html", b"head", b"script", b"plaintext"),
        *(b"svg", b"math", b"select", b"template", b"noscript", b"frameset"),  # where an image is not loaded
    )
)
"""Elements whose tags are reported, besides VML's (``v:…``)."""


def _either_case(name: bytes) -> bytes:
    return b"".join(b"[%c%c]" % (c, c - 32) for c in name)


def _any_of(names: list[bytes]) -> bytes:
    """Return a pattern for any of *names* in either case, then what ends a tag's name; common beginnings tried once."""
    following: dict[int, list[bytes]] = {}
    for name in sorted(names):
        if name:
            following.setdefault(name[0], []).append(name[1:])
    branches = [b"[%c%c]" % (c, c - 32) + _any_of(rest) for c, rest in following.items()]
    if b"" in names:
        branches.append(rb"[\t\n\f\r />]")
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


# One attribute as the tokeniser reads it: a name may begin with anything but whitespace, "/" and ">"; a quote delimits
# only directly after "=". `(?!=)` keeps a name whose "=" leads to an unclosed quote from counting as one without value.
_ATTRIBUTE = (
    rb"([^\t\n\f\r />][^\t\n\f\r />=]*+)[\t\n\f\r ]*+"
    rb"(?:=[\t\n\f\r ]*+(?:\"([^\"]*+)\"|'([^']*+)'|(?=>)|([^\t\n\f\r >\"'][^\t\n\f\r >]*+))|(?!=))"
)
# The rest of a tag behind its name. What nearly all tags are comes first: no attribute, or ="…" for a value.
_ATTRIBUTE_UNGROUPED = (
    rb"[^\t\n\f\r />][^\t\n\f\r />=]*+(?:=\"[^\"]*+\"|[\t\n\f\r ]*+"
    rb"(?:=[\t\n\f\r ]*+(?:\"[^\"]*+\"|'[^']*+'|(?=>)|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)|(?!=)))"
)
_TAG_REST = rb"(?:>|(?:[\t\n\f\r /]*+" + _ATTRIBUTE_UNGROUPED + rb")*+[\t\n\f\r /]*+>)"
_NAMED = rb"(?:[vV]:|" + _any_of(list(NAMES)) + rb")"

# Text and the markup of no interest behind it, as far as it goes. Not "*+" around it, which would do it in one match:
# up to Python 3.11.4 (Debian 12 has 3.11.2) a possessive group leaves its end inside the turn that failed (gh-106052).
# Nothing follows that could make it turn back, and the bound keeps what it remembers of its turns small.
_SKIP: Final = re.compile(
    rb"(?:[^<]*+"
    rb"<(?:/?(?!" + _NAMED + rb")[A-Za-z][^\t\n\f\r />]*+" + _TAG_REST + rb"|(?![A-Za-z/!?])"
    rb"|/(?![A-Za-z])[^>]*+>"
    rb"|\?[^>]*+>"
    rb"|!(?!--|\[CDATA\[)[^>]*+>)){1,1000}"
)
_TAG: Final = re.compile(rb"<(/?)([A-Za-z][^\t\n\f\r />]*+)" + _TAG_REST)
_ATTRIBUTES: Final = re.compile(_ATTRIBUTE)
_COMMENT_END: Final = re.compile(rb"--!?>")
_CONDITION: Final = re.compile(rb"[\t\n\f\r ]*+\[[iI][fF][^\]]*+\]>")
_SCRIPT: Final = re.compile(rb"<!--|-->|<(/?)[sS][cC][rR][iI][pP][tT](?=[\t\n\f\r />])")
_RAW_TEXT_END: Final = {name: re.compile(rb"</" + _either_case(name) + rb"(?=[\t\n\f\r />])") for name in RAW_TEXT}


def scan_html(html: bytes) -> Scan:
    """Find the tags of *html* that rewriting needs. Never raises; linear time."""
    scan = Scan([], [], True)
    scan.complete = _scan(html, 0, len(html), -1, scan)
    return scan


def attributes(html: bytes, tag: Tag, names: Container[bytes] | None = None) -> list[Attribute]:
    """Return the attributes of *tag* in order, duplicates included (HTML5 keeps the first of a name).

    With *names*, in lower case, those only.
    """
    found = []
    for match in _ATTRIBUTES.finditer(html, tag.start + 1 + tag.is_end + len(tag.name), tag.end):
        name = match[1].lower()
        if names is not None and name not in names:
            continue
        group = match.lastindex or 1
        start, end = match.span(1)
        if group == 1:
            # No value, or "=" directly before ">": the match then ends behind the "=".
            if b"=" in html[end : match.end()]:
                end = match.end()
            found.append(Attribute(name, start, end, end, end))
        else:
            value_start, value_end = match.span(group)
            found.append(Attribute(name, start, match.end(), value_start, value_end))
    return found


def _scan(html: bytes, at: int, limit: int, comment: int, scan: Scan) -> bool:
    """Scan ``html[at:limit]`` into *scan*; whether it ends outside any tag, comment or raw text."""
    skip, match_tag, tags = _SKIP.match, _TAG.match, scan.tags
    foreign = False
    while True:
        while skipped := skip(html, at, limit):
            at = skipped.end()
        at = html.find(b"<", at, limit)
        if at < 0:
            return True
        if html.startswith(b"<!--", at, limit):
            at = _comment(html, at, limit, comment, scan)
            if at < 0:
                return False
            continue
        if html.startswith(b"<![CDATA[", at, limit):
            close = html.find(b"]]>", at + 9, limit) if foreign else html.find(b">", at, limit)
            if close < 0:
                return False
            at = close + (3 if foreign else 1)
            continue
        match = match_tag(html, at, limit)
        if match is None:
            return False
        name = match[2].lower()
        end = match.end()
        is_end = bool(match[1])
        tags.append(Tag(name, at, end, is_end, comment))
        at = end
        if is_end:
            continue
        if name in RAW_TEXT:
            close_match = _RAW_TEXT_END[name].search(html, at, limit)
            if close_match is None:
                return False
            at = close_match.start()
        elif name == b"script":
            at = _script_end(html, at, limit)
            if at < 0:
                return False
        elif name == b"plaintext":
            return False
        elif name in (b"svg", b"math"):
            foreign = True
        if foreign and html.find(b"<", end, at) >= 0:
            return False


def _comment(html: bytes, at: int, limit: int, comment: int, scan: Scan) -> int:
    """Return the offset behind the comment at *at*, its inside scanned if it is conditional; -1 if it never ends."""
    # "<!-->" and "<!--->" are whole comments, "<!--!>" is not: "--!>" counts from behind the opening dashes only.
    match = _COMMENT_END.search(html, at + 2, limit)
    while match is not None and match.start() < at + 4 and match[0] == b"--!>":
        match = _COMMENT_END.search(html, match.start() + 1, limit)
    if match is None:
        return -1
    start, end = at + 4, match.start()
    if comment < 0 and end > start:
        condition = _CONDITION.match(html, start, end)
        if condition is not None:
            scan.comments.append((start, end))
            _scan(html, condition.end(), end, len(scan.comments) - 1, scan)
    return match.end()


def _script_end(html: bytes, at: int, limit: int) -> int:
    """Return the offset of the ``</script`` that ends the script whose text begins at *at*; -1 if there is none.

    Follows HTML5's "script data escaped" and "double escaped" states: inside ``<!-- <script> … </script> -->`` the
    inner end tag does not count.
    """
    escaped = nested = False
    while True:
        match = _SCRIPT.search(html, at, limit)
        if match is None:
            return -1
        token = match[0]
        if token == b"<!--":
            escaped = True
            at = match.start() + 2  # the dashes may also be those of "-->"
            continue
        if token == b"-->":
            escaped = nested = False
        elif match[1]:
            if not nested:
                return match.start()
            nested = False
        elif escaped:
            nested = True
        at = match.end()
