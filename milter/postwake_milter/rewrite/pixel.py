"""The open pixel: what it looks like and where it may go.

Where it goes decides whether it exists: mail has several ``</body>``, text after ``</html>``, quotes and comments that
never close. So there are candidate positions in an order of preference, and :mod:`.judge` says which one is right.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from .html_scan import RAW_TEXT, Scan

PixelPosition = Literal["bottom", "top", "both"]

BOTTOM: Final = 0
TOP: Final = 1
"""Positions as they are numbered in a token (``Mint.open_url``)."""

_SPACE: Final = b"\t\n\f\r "
_HIDING: Final = (b"svg", b"math", b"select", b"template", b"noscript")
"""An image inside these is not loaded, or closes them. An image makes a browser ignore a frameset that follows."""
# What may stand in head, or means something else before the body than in it (a stray end tag), is no beginning.
_FRAGMENT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?+[\t\n\f\r ]*+(?=[^<\t\n\f\r ]|<(?:p|div|table|center|h[1-6]|span|font|a|b|strong|em|i|u|img|"
    rb"ul|ol|blockquote|section|article|main|header|br|hr)[\t\n\f\r />])",
    re.IGNORECASE,
)


def pixel_tag(url: str) -> bytes:
    """Return the image that asks for *url*, an ASCII URL without ``"`` or ``&``: one pixel, no alternative text.

    Well-formed in XHTML too. ``display:block`` keeps the empty line away that an inline image makes; the alternative
    text is empty so that nothing shows in a preview line.
    """
    return f'<img src="{url}" width="1" height="1" alt="" style="display:block;border:0" />'.encode("ascii")


def wanted(position: PixelPosition) -> tuple[int, ...]:
    """Return the pixels that *position* asks for, in the order in which they are placed."""
    return {"bottom": (BOTTOM,), "top": (TOP,), "both": (BOTTOM, TOP)}[position]


def candidates(html: bytes, scan: Scan, pixel: int) -> list[int]:
    """Return the offsets where *pixel* may be inserted, best first, without duplicates.

    For the bottom: before the last ``</body>`` that precedes the first ``</html>``, before that ``</html>``, the end
    (ahead of trailing whitespace), behind the first ``<body …>``. For the top: behind ``<body …>``, or at the beginning
    of a fragment that begins with text or with an ordinary element, and then as for the bottom.

    Places inside a link that was left open come last: a browser would make the pixel part of it. There is none behind
    a ``<body>`` that comes as late as that, where what follows would become part of it too, none inside elements that
    show no image (:data:`_HIDING`), and none at all in a document of frames.
    """
    body_start = html_end = body_end = -1
    open_elements = dict.fromkeys(_HIDING, 0)
    hiding = 0
    in_link = False
    inside: set[int] = set()  # the offsets at which a link is open
    for tag in scan.tags:
        if tag.comment >= 0:
            continue
        name = tag.name
        if name == b"a":
            in_link = not tag.is_end
        elif name in open_elements:
            if not tag.is_end:
                open_elements[name] += 1
                hiding += 1
            elif open_elements[name]:
                open_elements[name] -= 1
                hiding -= 1
        elif name == b"body":
            if not tag.is_end:
                if body_start < 0 and not hiding and not in_link:
                    body_start = tag.end
            elif html_end < 0:
                body_end = -1 if hiding else tag.start
                if in_link:
                    inside.add(body_end)
        elif name == b"html":
            if tag.is_end and html_end < 0 and not hiding:
                html_end = tag.start
                if in_link:
                    inside.add(html_end)
        elif name == b"frameset" or (name in RAW_TEXT and open_elements[b"select"]):
            # In a select browsers pass over raw text's tags, so that its content is markup to them: no telling what,
            # and be it a frameset.
            return []
    if not scan.complete and (open_elements[b"svg"] or open_elements[b"math"]):
        return []  # nor here
    end = len(html.rstrip(_SPACE)) if scan.complete and not hiding else -1
    if in_link:
        inside.add(end)
    offsets = [body_end, html_end, end, body_start]
    if pixel == TOP:
        fragment = _FRAGMENT.match(html) if body_start < 0 else None
        offsets = [body_start, fragment.end() if fragment else -1, *offsets[:3]]
    places = dict.fromkeys(offset for offset in offsets if offset >= 0)
    return sorted(places, key=inside.__contains__)


def shows_at(scan: Scan, offset: int) -> bool:
    """Whether an image at *offset*, a place of the sender's own choice, is one, by the rules of :func:`candidates`."""
    open_elements = dict.fromkeys(_HIDING, 0)
    hidden = in_link = False
    for tag in scan.tags:
        if tag.comment >= 0:
            continue
        name = tag.name
        if name == b"frameset" or (name in RAW_TEXT and open_elements[b"select"]):
            return False
        if name in open_elements and (not tag.is_end or open_elements[name]):
            open_elements[name] += -1 if tag.is_end else 1
        if tag.start < offset:
            hidden = any(open_elements.values())
            in_link = not tag.is_end if name == b"a" else in_link
    return not hidden and not in_link
