"""A mint, plans, and a judge that is not the code's own: html5lib, the reference implementation of HTML5 parsing."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
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
"""Elements that HTML5 opens again where they were left open: so they may come to stand around a pixel."""
TRACKING_HOST = "t.example.net"
CLICK = re.compile(r"https://t\.example\.net/c/([0-9]+)\Z")
OPEN = re.compile(r"https://t\.example\.net/o/([01])\.gif\Z")


STRIPPED = {name.decode() for name in (*OPT_OUTS, *SERVICE_ATTRIBUTES)}
_OPT_OUT = re.compile("\\s+(?:" + "|".join(STRIPPED) + r")(?:=(?:\"[^\"]*\"|'[^']*'|[^\s>]+))?(?=[\s/>])")


_MARKS = re.compile(r"(?i:(?<=http)|(?<=https))(?:\+|&#43;|&#[xX]2[bB];|&plus;)notrack(?=://)|\{\{ses:openTracker\}\}")


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


def _tokens(html: bytes) -> Iterator[dict[str, Any]]:
    tree = html5lib.HTMLParser(html5lib.getTreeBuilder("etree")).parse(html.decode("latin-1"))
    yield from html5lib.treewalkers.getTreeWalker("etree")(tree)


def _document(html: bytes, hrefs: list[str] | None) -> list[tuple[Any, ...]]:
    """Flatten a document to its tokens without our pixels, opt-outs and click URLs.

    With *hrefs*, the click URL number N stands for ``hrefs[N]``.
    """
    flat: list[tuple[Any, ...]] = []
    for token in _tokens(html):
        kind = token["type"]
        if kind in ("Characters", "SpaceCharacters"):
            if flat and flat[-1][0] == "text":
                flat[-1] = ("text", flat[-1][1] + token["data"])
            else:
                flat.append(("text", token["data"]))
        elif kind in ("StartTag", "EmptyTag"):
            attributes = [((ns, name), value) for (ns, name), value in token["data"].items()]
            src = dict(attributes).get((None, "src"), "")
            if token["name"] == "img" and OPEN.match(src):
                if flat[-1:] != [("pixel",)]:
                    flat.append(("pixel",))
                continue
            if token["name"] in ("a", "area"):
                attributes = [(n, v) for n, v in attributes if n[1] not in STRIPPED]
                if hrefs is not None:
                    attributes = [
                        (n, hrefs[int(m[1])] if n[1] == "href" and (m := CLICK.match(v)) else v) for n, v in attributes
                    ]
            flat.append((kind, token["namespace"], token["name"], attributes))
        elif kind == "EndTag":
            flat.append((kind, token["name"]))
        elif kind == "Comment":
            flat.append((kind, _OPT_OUT.sub("", token["data"])))
        else:
            flat.append((kind, token.get("name"), token.get("publicId"), token.get("systemId")))
    return flat


def _texts_without_marks(flat: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Take services' marks out of the texts, comments and values of a document; a text that is blank is none.

    Nor is a formatting element that is empty: a browser opens those again for a text that was nothing but a mark.
    """
    out: list[tuple[Any, ...]] = []
    for token in flat:
        if token[0] in ("text", "Comment"):
            token = (token[0], _MARKS.sub("", token[1]))
            if token[0] == "text" and not token[1].strip():
                continue
        elif token[0] in ("StartTag", "EmptyTag"):
            token = (*token[:3], [(name, _MARKS.sub("", value)) for name, value in token[3]])
        elif token[0] == "EndTag" and token[1] in FORMATTING and out and out[-1][::2][:2] == ("StartTag", token[1]):
            out.pop()
            continue
        out.append(token)
    return out


def _blank_text_outside(flat: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Move blank text that follows a pixel behind the ends of the formatting elements that the two share."""
    out = list(flat)
    for at, token in enumerate(flat[:-1]):
        if token == ("pixel",) and flat[at + 1][0] == "text" and flat[at + 1][1].isspace():
            to = at + 1
            while to + 1 < len(out) and out[to + 1][0] == "EndTag" and out[to + 1][1] in FORMATTING:
                out[to], out[to + 1] = out[to + 1], out[to]
                to += 1
    return out


def _without_pixels(flat: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Take the pixels out, each alone or with formatting elements that a browser opened again just for it.

    Those may take in the blank text that follows it.
    """
    for variant in (flat, _blank_text_outside(flat)):
        yield from _pixels_taken_out(variant)


def _pixels_taken_out(flat: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    pixels = [i for i, t in enumerate(flat) if t == ("pixel",)]
    depths = []
    for at in pixels:
        depth = 0
        while (
            at - depth > 0
            and flat[at - depth - 1][0] == "StartTag"
            and flat[at - depth - 1][2] in FORMATTING
            and flat[at + depth + 1][0] == "EndTag"
        ):
            depth += 1
        depths.append(range(depth + 1))
    for chosen in itertools.product(*depths):
        gone = {i for at, depth in zip(pixels, chosen, strict=True) for i in range(at - depth, at + depth + 1)}
        joined: list[tuple[Any, ...]] = []
        for i, token in enumerate(flat):
            if i in gone:
                continue
            if token[0] == "text" and joined and joined[-1][0] == "text":
                joined[-1] = ("text", joined[-1][1] + token[1])
            else:
                joined.append(token)
        yield joined


def _without_clicks(text: str, hrefs: list[str]) -> str:
    return re.sub(r"https://t\.example\.net/c/([0-9]+)(?![0-9])", lambda m: hrefs[int(m[1])], text)


@pytest.fixture(scope="session")
def same_document() -> Callable[[bytes, HtmlResult], None]:
    """Assert, by html5lib, that a result changes links, opt-outs and pixels only, and that the pixels are there.

    Documents that html5lib itself fails on are passed over.
    """

    def check(html: bytes, result: HtmlResult) -> None:
        edited = apply_edits(html, result.edits)
        cleaned = without_marks(html)
        if without_marks(edited) == edited and cleaned != html:
            try:
                assert _texts_without_marks(_document(html, None)) == _texts_without_marks(_document(cleaned, None))
            except AssertionError as error:
                if not str(error):  # html5lib's own
                    return
                raise
        else:
            cleaned = html
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
            before, after = _document(cleaned, None), _document(edited, read)
        except AssertionError:
            return
        after = [("Comment", _without_clicks(t[1], raw)) if t[0] == "Comment" else t for t in after]
        assert before in _without_pixels(after)
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
