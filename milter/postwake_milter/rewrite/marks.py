"""Marks that a sending service takes out of a text as it passes, and that nobody would take out here.

=========================== =========================================================================================
mark                        what it says
=========================== =========================================================================================
``{{ses:openTracker}}``     Amazon SES: the pixel goes here. One is enough; more are taken out.
a text of the sender's      SendGrid's ``opentrack`` filter names one in its ``replace``: the same
``https+notrack://…``       Postal: clicks on this link are not counted; with ``+notrack`` it is a dead one
``[[data-msys-…="…"]]``     SparkPost, in plain text: what the attributes of that name say of a link in HTML
=========================== =========================================================================================

They are taken out of every text of a tracked sender's mail that may be edited, be anything counted in it or not.

HTML is cleaned as bytes, wherever the marks stand: what is left must be, to libxml2, the same document without them
(:func:`.judge.same_without`), or they stay. Everything else (:mod:`.html_edit`) then works on the cleaned document, and
:func:`put_back` says where its edits stand in the original.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .html_scan import Edit, apply_edits, scan_html
from .judge import html_end_tags, same_without
from .placing import Span

PIXEL_MARK: Final = "{{ses:openTracker}}"

# What a browser reads otherwise where text, and be that a mark, has begun the body; libxml2 does not know of it.
_OUTSIDE: Final = rb"(?:html|head|base|link|meta|title|style|script|noscript|template|frameset|noframes)\b"
_FOREIGN: Final = re.compile(rb"<(?:frameset|svg|math)\b", re.IGNORECASE)
"""A frameset, which is ignored then; and elements in which names mean something else to one of the two."""
_INSIDE: Final = rb"<(?!" + _OUTSIDE + rb")[a-z]"
_BODY: Final = re.compile(rb"\s*(?:\Z|[^<\s]|" + _INSIDE + rb")", re.IGNORECASE)
"""What begins the body as text does."""
_HEAD: Final = re.compile(
    rb"<!--.*?(?:-->|\Z)|<(title|style|script|noframes)\b.*?(?:</\1\b|\Z)|(" + _INSIDE + rb")",
    re.IGNORECASE | re.DOTALL,
)
"""What holds text that is not the body's; and, the second group, an element that begins the body for both."""

_HINTS: Final = (PIXEL_MARK.encode("ascii"), b"notrack://", b"data-msys-")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An HTML document without its marks.

    *html*: its bytes. *removed*: the spans of the original that are not in it, in order. *pixel_at*: where in it the
    first mark for the pixel stood, or -1. *opted_out*: where in it URLs begin that were marked as not to be counted.
    """

    html: bytes
    removed: tuple[Span, ...] = ()
    pixel_at: int = -1
    opted_out: frozenset[int] = frozenset()


def may_hold_marks(text: bytes, pixel_mark: str = "") -> bool:
    """Whether *text* may hold a mark, *pixel_mark* one of them; quick, and never wrong where it says no."""
    return any(hint in text for hint in _HINTS) or (pixel_mark != "" and pixel_mark.encode("ascii") in text)


def clean_html(html: bytes, pixel_mark: str = "") -> Cleaned | None:
    """Return *html* without its marks, *pixel_mark* one of them; None if it has none.

    If taking them out would change anything else of the document, they stay: *removed* is empty then.
    """
    if not may_hold_marks(html, pixel_mark):
        return None
    found = list(_in_bytes(pixel_mark).finditer(html))
    if not found:
        return None
    edits, opted_out, pixel_at, gone = [], [], -1, 0
    for match in found:
        start, end = match.span(match.lastindex or 0)
        if match.lastindex:
            opted_out.append(match.start() - gone)
        elif pixel_at < 0:
            pixel_at = start - gone
        edits.append(Edit(start, end, b""))
        gone += end - start
    cleaned = apply_edits(html, edits)
    if (
        _begins_body(html, cleaned, edits)
        or _FOREIGN.search(html)
        or not same_without(_whole(html), _whole(cleaned), _in_text(pixel_mark))
    ):
        return Cleaned(html)
    return Cleaned(cleaned, tuple((edit.start, edit.end) for edit in edits), pixel_at, frozenset(opted_out))


def _begins_body(html: bytes, cleaned: bytes, marks: Sequence[Edit]) -> bool:
    """Whether one of the *marks* in *html* begins the body, and *cleaned* has nothing there that does."""
    gone = 0
    head = _HEAD.finditer(html)
    found = next(head, None)
    for mark in marks:
        while found is not None and not found[2] and found.end() <= mark.start:
            found = next(head, None)
        if found is None or mark.start < found.start():
            return not _BODY.match(cleaned, mark.start - gone)
        if found[2]:
            return False
        gone += mark.end - mark.start
    return False


def put_back(
    spans: Sequence[Span], fillings: Sequence[int | None], removed: Sequence[Span]
) -> tuple[tuple[Span, ...], tuple[int | None, ...]]:
    """Return *spans* of a cleaned document and what fills them as spans of the original, those *removed* among them.

    A mark inside a span, or where an insertion goes, becomes part of it.
    """
    where, gone = [], 0  # where in the cleaned document each mark stood
    for start, end in removed:
        where.append(start - gone)
        gone += end - start
    out: list[tuple[Span, int | None]] = []
    index = shift = 0
    for (start, end), filling in zip(spans, fillings, strict=True):
        while index < len(removed) and where[index] < start:
            out.append((removed[index], None))
            shift += removed[index][1] - removed[index][0]
            index += 1
        first = start + shift
        while index < len(removed) and (where[index] < end or where[index] == start == end):
            shift += removed[index][1] - removed[index][0]
            index += 1
        out.append(((first, end + shift), filling))
    out += ((span, None) for span in removed[index:])
    return tuple(span for span, _ in out), tuple(filling for _, filling in out)


def _whole(html: bytes) -> bytes:
    return apply_edits(html, html_end_tags(html, scan_html(html)))


@lru_cache(maxsize=16)
def _in_bytes(pixel_mark: str) -> re.Pattern[bytes]:
    """Return the pattern of the marks in HTML; in a URL's, the first group is what goes. Behind ``<`` it is a name."""
    marks = b"|".join(re.escape(mark.encode("ascii")) for mark in (PIXEL_MARK, pixel_mark) if mark)
    return re.compile(rb"(?<!<)(?i:https?)((?:\+|&#43;|&#[xX]2[bB];|&plus;)notrack)(?=://)|" + marks)


@lru_cache(maxsize=16)
def _in_text(pixel_mark: str) -> re.Pattern[str]:
    """Return the pattern of what goes, in texts and values that have been read."""
    marks = "|".join(re.escape(mark) for mark in (PIXEL_MARK, pixel_mark) if mark)
    return re.compile(r"(?i:(?<=http)|(?<=https))\+notrack(?=://)|" + marks)
