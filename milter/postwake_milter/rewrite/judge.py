"""The judge: is the edited document the original but for the edits we meant to make?

Original and result are parsed by libxml2 (whose tokeniser is HTML5's since 2.14, hence lxml 6), the intended edits are
undone on the result's nodes, and the two trees must be equal: every element's name, attributes in order, text, tail and
children, every comment. The bytes are read as Latin-1, so that any byte is a character and none is lost.

libxml2 drops all that follows ``</html>``, browsers do not: where something does, let :func:`html_end_tags` be taken
out of both documents first. HTML5 itself goes on in the body as if the tag were not there.

What the judge cannot judge is not edited: a document that libxml2 gives up on (nested deeper than 2048 elements, or
empty) is refused as a whole.

lxml may be called from ordinary Python threads only, never from a libmilter callback (segmentation fault).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from .charref import decode_attribute
from .html_scan import Edit, Scan

_UTF8_BOM: Final = b"\xef\xbb\xbf"
_LINK_NAMES: Final = ("a", "area")
_NOT_SHOWN: Final = frozenset(
    (
        *("head", "title", "style", "script", "noscript", "template", "select", "option", "optgroup", "textarea"),
        *("svg", "math", "object", "iframe", "frameset", "noframes", "audio", "video", "canvas"),
    )
)
"""Elements inside which an image is not loaded, or not an image: a pixel there would never be asked for."""


_TABLE: Final = frozenset(("table", "tbody", "thead", "tfoot", "tr"))
"""Browsers move an image that stands directly in these ahead of the table, and text by whether it is blank as a whole:
where there is text on either side, cutting it in two could move some of it elsewhere."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A link's intended change: the bytes of its original value, the URL that replaced them, the opt-outs taken out.

    *value* and *url* are None where only attributes were taken out.
    """

    value: bytes | None
    url: str | None
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CommentChange:
    """A conditional comment's intended change: the bytes between its ``<!--`` and ``-->`` before and after."""

    before: bytes
    after: bytes


# One node: name, text, tail, number of children, attributes. In document order these determine the tree.
_Node = tuple[Any, str | None, str | None, int, list[tuple[str, str]]]


def html_end_tags(html: bytes, scan: Scan) -> list[Edit]:
    """Return the edits that take the ``</html>`` tags out of *html*, if more than whitespace follows the first."""
    tags = [tag for tag in scan.tags if tag.is_end and tag.name == b"html" and tag.comment < 0]
    if not tags or not html[tags[0].end :].strip():
        return []
    return [Edit(tag.start, tag.end, b"") for tag in tags]


class Judge:
    """Judges results against one original, which is parsed once."""

    def __init__(self, html: bytes) -> None:
        self._original = _nodes(html, {})

    @property
    def can_judge(self) -> bool:
        """Whether the original can be parsed whole."""
        return self._original is not None

    def accepts(
        self,
        result: bytes,
        links: Sequence[LinkChange],
        comments: Sequence[CommentChange],
        pixels: Mapping[str, Mapping[str, str]],
    ) -> bool:
        """Whether *result* differs from the original by exactly these changes, all of them, each in document order.

        *pixels* maps the ``src`` of each inserted image to its attributes.
        """
        before = self._original
        after = _nodes(result, pixels)
        if before is None or after is None or len(before) != len(after):
            return False
        if before == after:
            return not links and not comments
        next_link = next_comment = 0
        for old, new in zip(before, after, strict=True):
            if old == new:
                continue
            if old[0] is etree.Comment and new[0] is etree.Comment:
                if next_comment == len(comments) or not _same_comment(old, new, comments[next_comment]):
                    return False
                next_comment += 1
            else:
                if next_link == len(links) or not _same_link(old, new, links[next_link]):
                    return False
                next_link += 1
        return next_link == len(links) and next_comment == len(comments)


def _same_link(old: _Node, new: _Node, change: LinkChange) -> bool:
    if old[:4] != new[:4] or old[0] not in _LINK_NAMES:
        return False
    expected = [(name, value) for name, value in old[4] if name not in change.removed]
    if change.value is not None and change.url is not None:
        href = decode_attribute(_normalised(change.value))
        try:
            at = expected.index(("href", href))
        except ValueError:
            return False
        expected[at] = ("href", change.url)
    return expected == new[4]


def _same_comment(old: _Node, new: _Node, change: CommentChange) -> bool:
    return old[1] == _normalised(change.before) and new[1] == _normalised(change.after) and old[2:] == new[2:]


def _normalised(raw: bytes) -> str:
    """Return *raw* as the parser reads bytes: Latin-1, line breaks made LF, NUL replaced."""
    text = raw.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _nodes(html: bytes, pixels: Mapping[str, Mapping[str, str]]) -> list[_Node] | None:
    """Return the nodes of *html* without the *pixels*; None if it cannot be parsed or a pixel does not show."""
    parser = etree.HTMLParser(encoding="iso-8859-1", huge_tree=True)
    try:
        root = etree.fromstring(html.removeprefix(_UTF8_BOM), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    if root is None:
        return None
    last_error = parser.error_log.last_error
    if last_error is not None and last_error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
        return None
    elements = [*root.itersiblings(preceding=True)][::-1]
    elements += root.iter()
    elements += root.itersiblings()
    nodes: list[_Node] = [(e.tag, e.text, e.tail, len(e), e.items()) for e in elements]
    return _without_pixels(root, elements, nodes, pixels) if pixels else nodes


def _without_pixels(
    root: Any, elements: list[Any], nodes: list[_Node], pixels: Mapping[str, Mapping[str, str]]
) -> list[_Node] | None:
    """Take *pixels* out of *nodes*, their tails joined to the text before; None unless each is there once and shows."""
    found: set[str] = set()
    gone: set[int] = set()
    for image in root.iter("img"):
        src = image.get("src")
        if src not in pixels:
            continue
        if src in found or dict(image.items()) != pixels[src] or image.text is not None or len(image):
            return None
        if any(ancestor.tag in _NOT_SHOWN for ancestor in image.iterancestors()):
            return None
        found.add(src)
        at = elements.index(image)
        gone.add(at)
        parent = image.getparent()
        parent_at = elements.index(parent)
        tag, text, tail, children, items = nodes[parent_at]
        moved = nodes[at][2]
        before = image.getprevious()
        if parent.tag in _TABLE and _is_text(moved, before.tail if before is not None else text):
            return None
        while before is not None and elements.index(before) in gone:
            before = before.getprevious()
        if before is None:
            text = _joined(text, moved)
        else:
            before_at = elements.index(before)
            sibling = nodes[before_at]
            nodes[before_at] = (sibling[0], sibling[1], _joined(sibling[2], moved), sibling[3], sibling[4])
        nodes[parent_at] = (tag, text, tail, children - 1, items)
    if len(found) != len(pixels):
        return None
    return [node for at, node in enumerate(nodes) if at not in gone]


def _is_text(*texts: str | None) -> bool:
    return any(text and not text.isspace() for text in texts)


def _joined(left: str | None, right: str | None) -> str | None:
    return left + right if left and right else left or right
