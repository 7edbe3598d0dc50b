"""The judge: is the edited document the original but for the edits we meant to make?

Original and result are parsed by libxml2 (whose tokeniser is HTML5's since 2.14, hence lxml 6), the intended edits are
undone in the trees, and the trees must be equal: every element's name, attributes in order, text, tail and children,
every comment. Bytes that are no UTF-8 are read as Latin-1, so that any byte is a character and none is lost.

libxml2 drops all that follows ``</html>``, browsers do not: where something does, let :func:`html_end_tags` be taken
out of both documents first. HTML5 itself goes on in the body as if the tag were not there.

What the judge cannot judge is not edited: a document that libxml2 gives up on (nested deeper than 2048 elements, or
empty) is refused as a whole.

lxml may be called from ordinary Python threads only, never from a libmilter callback (segmentation fault).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from lxml import etree

from .charref import decode_attribute
from .charsets import is_utf8
from .html_scan import Edit, Scan

_TAKEN_OUT: Final = "postwake-pixel"
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
_RESOURCE_LIMIT = 114
"""libxml2's XML_ERR_RESOURCE_LIMIT: it gave up half-way. lxml names it only from 6.1 on."""


@dataclass(slots=True)
class LinkChange:
    """A link's intended change: the bytes of its original value, the URL that replaced them, the opt-outs taken out.

    *ordinal* counts the start tags of ``a`` and ``area`` in the document, comments left out. *value* and *url* are None
    where only attributes were taken out.
    """

    ordinal: int
    value: bytes | None
    url: str | None
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CommentChange:
    """A conditional comment's intended change: the bytes between its ``<!--`` and ``-->`` before and after."""

    before: bytes
    after: bytes


def html_end_tags(html: bytes, scan: Scan) -> list[Edit]:
    """Return the edits that take the ``</html>`` tags out of *html*, if more than whitespace follows the first."""
    tags = [tag for tag in scan.tags if tag.is_end and tag.name == b"html" and tag.comment < 0]
    if not tags or not html[tags[0].end :].strip():
        return []
    return [Edit(tag.start, tag.end, b"") for tag in tags]


class Judge:
    """Judges results against one original, which is parsed once, for one set of changes to links and comments.

    *links* and *comments* are in document order.
    """

    def __init__(self, html: bytes, links: Sequence[LinkChange] = (), comments: Sequence[CommentChange] = ()) -> None:
        self._changed: list[tuple[int, list[tuple[str, str]]]] = []
        self._encoding = "utf-8" if is_utf8(html) else "iso-8859-1"  # UTF-8 is read in less time, being libxml2's own
        self._comments = [self._normalised(change.after) for change in comments]
        self._original = self._undone_original(html, links, comments)

    @property
    def can_judge(self) -> bool:
        """Whether the original can be parsed whole and holds what is to be changed."""
        return self._original is not None

    def accepts(self, result: bytes, pixels: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether *result* differs from the original by exactly the changes, all of them, and the *pixels*.

        *pixels* maps the ``src`` of each inserted image to its attributes.
        """
        if self._original is None or (self._encoding == "utf-8" and not is_utf8(result)):
            return False
        root = _parse(result, self._encoding)
        if root is None:
            return False
        anchors = list(root.iter(*_LINK_NAMES)) if self._changed else []
        for ordinal, expected in self._changed:
            if ordinal >= len(anchors) or anchors[ordinal].items() != expected:
                return False
            anchors[ordinal].attrib.clear()
        return (
            _blank_comments(root, self._comments)
            and (not pixels or _take_out(root, pixels))
            and _serialised(root) == self._original
        )

    def _undone_original(
        self, html: bytes, links: Sequence[LinkChange], comments: Sequence[CommentChange]
    ) -> str | None:
        """Serialise the original without what is to be changed, and note what the changed tags must come to be."""
        root = _parse(html, self._encoding)
        if root is None:
            return None
        anchors = list(root.iter(*_LINK_NAMES)) if links else []
        for change in links:
            if change.ordinal >= len(anchors):
                return None
            anchor = anchors[change.ordinal]
            expected = [(name, value) for name, value in anchor.items() if name not in change.removed]
            if change.value is not None and change.url is not None:
                href = ("href", decode_attribute(self._normalised(change.value)))
                if href not in expected:
                    return None
                expected[expected.index(href)] = ("href", change.url)
            self._changed.append((change.ordinal, expected))
            anchor.attrib.clear()
        if not _blank_comments(root, [self._normalised(change.before) for change in comments]):
            return None
        return _serialised(root)

    def _normalised(self, raw: bytes) -> str:
        """Return *raw* as the parser reads bytes: line breaks made LF, NUL replaced."""
        text = raw.decode(self._encoding, "replace")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _parse(html: bytes, encoding: str = "iso-8859-1") -> Any:
    """Return the root element of *html*; None if libxml2 finds none or gives up before the end."""
    parser = etree.HTMLParser(encoding=encoding, huge_tree=True)
    try:
        root = etree.fromstring(html.removeprefix(_UTF8_BOM), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    last_error = parser.error_log.last_error
    if last_error is not None and last_error.type == _RESOURCE_LIMIT:
        return None
    return root


def _serialised(root: Any) -> str:
    """Return the whole document as XML. Equal texts mean equal trees, though it need not be well-formed.

    Text and values are escaped, so a bare ``<`` begins a tag or a comment and a bare ``"`` ends a value; HTML's names
    hold no space, ``/`` or ``>``, and no ``=`` but as an attribute's first character; no comment holds its own end.
    """
    return etree.tostring(root.getroottree(), encoding="unicode")


def _blank_comments(root: Any, texts: list[str]) -> bool:
    """Empty the comments whose texts are *texts*, in document order; whether all were found."""
    if not texts:
        return True
    left = iter(texts)
    wanted = next(left)
    # Not by XPath, which sorts what it finds by comparing neighbours over and over.
    before = reversed(list(root.itersiblings(etree.Comment, preceding=True)))
    for comment in chain(before, root.iter(etree.Comment), root.itersiblings(etree.Comment)):
        if comment.text == wanted:
            comment.text = ""
            following = next(left, None)
            if following is None:
                return True
            wanted = following
    return False


def _take_out(root: Any, pixels: Mapping[str, Mapping[str, str]]) -> bool:
    """Take *pixels* out of the tree; whether each was there, once, as meant, where an image shows."""
    found: set[str] = set()
    for image in root.iter("img"):
        src = image.get("src")
        if src not in pixels:
            continue
        if src in found or dict(image.items()) != pixels[src]:
            return False
        around = {ancestor.tag for ancestor in image.iterancestors()}
        if not around.isdisjoint(_NOT_SHOWN):
            return False
        parent, before = image.getparent(), image.getprevious()
        # In any of them: a cell that libxml2 takes for open may be closed for a browser, which makes rows of its own.
        if not around.isdisjoint(_TABLE) and _is_text(image.tail, before.tail if before is not None else parent.text):
            return False
        found.add(src)
        image.tag = _TAKEN_OUT
    # Text on both its sides becomes two nodes, which are serialised like one.
    etree.strip_elements(root, _TAKEN_OUT, with_tail=False)
    return len(found) == len(pixels)


def _is_text(*texts: str | None) -> bool:
    return any(text and not text.isspace() for text in texts)


def same_without(html: bytes, result: bytes, mark: re.Pattern[str]) -> bool:
    """Whether the document *result* is *html* with *mark* taken out of texts, comments and values, all else equal."""
    root, other = _parse(html), _parse(result)
    if root is None or other is None:
        return False
    try:
        for node in chain(root.itersiblings(preceding=True), root.iter(), root.itersiblings()):
            if node.text and mark.search(node.text):
                node.text = mark.sub("", node.text) or None
            if node.tail and mark.search(node.tail):
                node.tail = mark.sub("", node.tail) or None
            for name, value in node.items():
                if mark.search(value):
                    node.set(name, mark.sub("", value))
    except ValueError:  # beside it stands a control character, which lxml reads and does not write
        return False
    return _serialised(root) == _serialised(other)
