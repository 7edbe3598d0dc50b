"""The open pixel: what it looks like and where it may go.

Where it goes decides whether it exists: mail has several ``</body>``, text after ``</html>``, quotes and comments that
never close. So there are candidate positions in an order of preference, and :mod:`.judge` says which one is right.
"""

from __future__ import annotations

from typing import Final, Literal

from .html_scan import Scan

PixelPosition = Literal["bottom", "top", "both"]

BOTTOM: Final = 0
TOP: Final = 1
"""Positions as they are numbered in a token (``Mint.open_url``)."""

_SPACE: Final = b"\t\n\f\r "


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
    of a fragment that has neither head nor body, and then as for the bottom.
    """
    body_start = html_end = body_end = -1
    is_document = False
    for tag in scan.tags:
        if tag.comment >= 0:
            continue
        name = tag.name
        if name == b"body":
            if not tag.is_end:
                is_document = True
                if body_start < 0:
                    body_start = tag.end
            elif html_end < 0:
                body_end = tag.start
        elif name == b"html":
            if not tag.is_end:
                is_document = True
            elif html_end < 0:
                html_end = tag.start
        elif name in (b"head", b"title", b"style") and not tag.is_end and body_start < 0:
            is_document = True
    end = len(html.rstrip(_SPACE)) if scan.complete else -1
    offsets = [body_end, html_end, end, body_start]
    if pixel == TOP:
        beginning = -1 if is_document or _has_doctype(html) else len(html) - len(html.lstrip(_SPACE))
        offsets = [body_start, beginning, *offsets[:3]]
    return list(dict.fromkeys(offset for offset in offsets if offset >= 0))


def _has_doctype(html: bytes) -> bool:
    return html[:1000].lstrip(_SPACE).lower().startswith((b"<!doctype", b"<?xml"))
