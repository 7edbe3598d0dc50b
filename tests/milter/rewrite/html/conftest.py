"""A mint, plans, and a judge that is not the code's own: html5lib, the reference implementation of HTML5 parsing."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import html5lib
import html5lib.treewalkers
import pytest

from postwake_milter.rewrite.html_edit import HtmlPlan, HtmlResult, apply_edits, edit_html
from postwake_milter.rewrite.links import OPT_OUTS, SERVICE_ATTRIBUTES

FORMATTING = frozenset(
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"]
)
"""Elements that HTML5 opens again where they were left open."""
TRACKING_HOST = "t.example.net"
CLICK = re.compile(r"https://t\.example\.net/c/([0-9]+)\Z")
OPEN = re.compile(r"https://t\.example\.net/o/([01])\.gif\Z")


STRIPPED = {name.decode() for name in (*OPT_OUTS, *SERVICE_ATTRIBUTES)}
_OPT_OUT = re.compile("\\s+(?:" + "|".join(STRIPPED) + r")(?:=(?:\"[^\"]*\"|'[^']*'|[^\s>]+))?(?=[\s/>])")


_MARKS = re.compile(
    r"(?i:(?<=http)|(?<=https))(?i:(?<!<http)(?<!<https))(?:\+|&#43;|&#[xX]2[bB];|&plus;)notrack(?=://)|\{\{ses:openTracker\}\}"
)


def without_marks(html: bytes) -> bytes:
    """Take services' marks out of a document, as bytes."""
    return _MARKS.sub("", html.decode("latin-1")).encode("latin-1")


class PlainMint:
    """A mint whose URLs say what they are; it remembers what it was asked for."""

    def __init__(self) -> None:
        self.clicks: list[tuple[int, str]] = []

    def open_url(self, position: int) -> str:
        """Return a URL that says the position."""
        return f"https://{TRACKING_HOST}/o/{position}.gif"

    def click_url(self, link: int, destination: str) -> str:
        """Return a URL that says the link."""
        self.clicks.append((link, destination))
        return f"https://{TRACKING_HOST}/c/{link}"


@pytest.fixture(scope="session")
def plan() -> Callable[..., HtmlPlan]:
    """Make a plan: opens and clicks on unless said otherwise, our tracking host known."""

    def make(**changes: Any) -> HtmlPlan:
        settings: dict[str, Any] = {
            "opens": True,
            "clicks": True,
            "pixel_position": "bottom",
            "own_hosts": frozenset((TRACKING_HOST,)),
            "excluded_hosts": (),
        }
        return HtmlPlan(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def edit(plan: Callable[..., HtmlPlan]) -> Callable[..., tuple[HtmlResult, bytes]]:
    """Edit a document and return the result with the edited bytes."""

    def run(html: bytes, *, codec: str = "utf-8", first_link: int = 0, **changes: Any) -> tuple[HtmlResult, bytes]:
        mint = PlainMint()
        result = edit_html(html, plan(**changes), mint, codec=codec, first_link=first_link)
        return result, apply_edits(html, result.edits)

    return run


_UNSEEN = frozenset(["title", "style", "script", "noframes"])
_Seen = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]


def _tokens(html: bytes) -> Iterator[dict[str, Any]]:
    tree = html5lib.HTMLParser(html5lib.getTreeBuilder("etree", fullTree=True)).parse(html.decode("latin-1"))
    yield from html5lib.treewalkers.getTreeWalker("etree")(tree)


def _seen(html: bytes, read: Sequence[str] = (), raw: Sequence[str] = (), *, marks: bool = True) -> _Seen:
    """Return what a reader sees of a document, and apart from it what nobody does, without our pixels and opt-outs.

    Seen are the elements, and every character but blanks, and every image, with the formatting elements and links that
    it stands in. Not seen are comments, styles and scripts, and each different formatting element: a browser opens
    those again for a text or an image, and puts what comes behind it inside, so that how many there are, and where, is
    nothing that a reader sees. The click URL number N stands for *read*[N], and in a comment for *raw*[N]; without
    *marks* services' marks are out of all texts and values.
    """
    seen: list[tuple[Any, ...]] = []
    apart: list[tuple[Any, ...]] = []
    around: list[tuple[Any, ...]] = []  # the formatting elements that are open
    unseen = False
    text = ""

    def without(value: str) -> str:
        return value if marks else _MARKS.sub("", value)

    for token in itertools.chain(_tokens(html), [{"type": "End"}]):
        kind = token["type"]
        if kind in ("Characters", "SpaceCharacters"):
            text += token["data"]
            continue
        attributes: tuple[Any, ...] = ()
        if kind in ("StartTag", "EmptyTag"):
            given = token["data"]
            if token["name"] == "img" and OPEN.match(given.get((None, "src"), "")):
                continue
            attributes = tuple((name, without(value)) for name, value in given.items())
            if token["name"] in ("a", "area"):
                attributes = tuple(
                    (n, read[int(m[1])] if read and n[1] == "href" and (m := CLICK.match(v)) else v)
                    for n, v in attributes
                    if n[1] not in STRIPPED
                )
        formatting = frozenset(around)
        if unseen:
            apart.append(("text", without(text)))
        else:
            seen += [(character, formatting) for character in without(text) if character not in " \t\n\f\r"]
        text = ""
        element = (token.get("namespace"), token.get("name"), attributes)
        if kind == "Comment":
            apart.append(("comment", _without_clicks(_OPT_OUT.sub("", without(token["data"])), raw)))
        elif kind in ("StartTag", "EndTag") and token["name"] in FORMATTING:
            if kind == "EndTag":
                around.pop()
            else:
                around.append(element)
                apart += [element] if element not in apart else []
        elif kind in ("StartTag", "EndTag") and token["name"] in _UNSEEN:
            unseen = kind == "StartTag"
            apart.append((kind, *element))
        elif kind == "EmptyTag":
            seen.append((kind, *element, formatting))
        elif kind != "End":
            seen.append((kind, *element, token.get("publicId"), token.get("systemId")))
    return seen, sorted(apart, key=repr)  # in any order: comments stay behind in a table, where images do not


def _without_clicks(text: str, hrefs: Sequence[str]) -> str:
    return (
        text if not hrefs else re.sub(r"https://t\.example\.net/c/([0-9]+)(?![0-9])", lambda m: hrefs[int(m[1])], text)
    )


@pytest.fixture(scope="session")
def same_document() -> Callable[[bytes, HtmlResult], None]:
    """Assert, by html5lib, that a result changes links, opt-outs and pixels only, and that the pixels are there.

    Documents that html5lib itself fails on are passed over.
    """

    def check(html: bytes, result: HtmlResult) -> None:
        edited = apply_edits(html, result.edits)
        cleaned = without_marks(html) if without_marks(edited) == edited else html
        # What stood where the click URLs stand now, as html5lib reads it and as it stands in comments.
        raw: list[str] = []
        read: list[str] = []
        for change in result.edits:
            if b"/c/" in change.replacement:
                value = html[change.start : change.end]
                if cleaned != html:
                    value = without_marks(value)
                quoted = b'<a href="' + value.replace(b'"', b"&quot;") + b'">'
                element = html5lib.parseFragment(quoted.decode("latin-1"), namespaceHTMLElements=False)[0]
                read.append(element.get("href"))
                raw.append(value.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n"))
        try:
            before, after = _seen(cleaned), _seen(edited, read, raw)
            marked = _seen(html, marks=False)
        except AssertionError:
            return
        assert before == after
        assert cleaned == html or marked == _seen(cleaned, marks=False)
        shown = [
            t["data"][(None, "src")]
            for t in _tokens(edited)
            if t["type"] == "EmptyTag" and t["name"] == "img" and OPEN.match(t["data"].get((None, "src"), ""))
        ]
        assert len(shown) == result.pixels

    return check


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real mail to measure against, where there is one."""
    default = Path(__file__).resolve().parents[4].parent / "shared" / "corpora"
    path = Path(os.environ.get("POSTWAKE_CORPORA", default))
    if not path.is_dir():
        pytest.skip(f"no corpora at {path}: set POSTWAKE_CORPORA to a folder of real mail to run this test")
    return path
