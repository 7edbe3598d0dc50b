"""The judge accepts the intended changes and nothing else."""

from __future__ import annotations

import pytest

from postwake_milter.rewrite.judge import CommentChange, Judge, LinkChange
from postwake_milter.rewrite.pixel import pixel_tag

HTML = (
    b'<p id=1>a<a href="http://x.example/?a&amp;b">b</a>c<!--[if mso]><a href=http://y.example><![endif]--><b>d</b></p>'
)
NEW = "https://t.example.net/c/0"
LINK = LinkChange(0, b"http://x.example/?a&amp;b", NEW)
WRAPPED = HTML.replace(b"http://x.example/?a&amp;b", NEW.encode())
PIXEL_URL = "https://t.example.net/o/0.gif"
PIXEL = {
    "src": PIXEL_URL,
    "width": "1",
    "height": "1",
    "alt": "",
    "style": "display:block;border:0",
}
TAG = pixel_tag(PIXEL_URL)


def test_the_intended_change_is_accepted() -> None:
    """A wrapped link, and nothing else, is what was meant."""
    assert Judge(HTML, [LINK]).accepts(WRAPPED, {})


def test_an_unchanged_document_is_accepted_only_if_no_change_was_meant() -> None:
    """Changes that were meant must be there."""
    assert Judge(HTML).accepts(HTML, {})
    assert not Judge(HTML, [LINK]).accepts(HTML, {})
    assert not Judge(HTML, [], [CommentChange(b"[if mso]><a href=http://y.example><![endif]", b"x")]).accepts(HTML, {})
    assert not Judge(HTML).accepts(HTML, {PIXEL_URL: PIXEL})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"id=1", b"id=2", id="attribute-value"),
        pytest.param(b"id=1", b"id=1 x", id="attribute-more"),
        pytest.param(b" id=1", b"", id="attribute-less"),
        pytest.param(b">a<", b">A<", id="text"),
        pytest.param(b">c<", b"> c<", id="whitespace"),
        pytest.param(b">b</a>", b"></a>", id="text-gone"),
        pytest.param(b"<b>d</b>", b"<i>d</i>", id="element-name"),
        pytest.param(b"<b>d</b>", b"d", id="element-gone"),
        pytest.param(b"c<!--", b"<!--", id="tail"),
        pytest.param(b"<b>d</b></p>", b"</p><b>d</b>", id="element-elsewhere"),
        pytest.param(b"y.example", b"z.example", id="comment"),
        pytest.param(b"</a>c", b"c</a>", id="end-tag-elsewhere"),
        pytest.param(b"<p id=1>", b'<p id=1><img src="https://t.example.net/o/0.gif">', id="a-pixel-not-meant"),
        pytest.param(b"<a href", b"<a title=x href", id="attribute-in-the-link"),
        pytest.param(b"/c/0", b"/c/1", id="another-url"),
        pytest.param(b"<b>d", b"<b>d<postwake-pixel></postwake-pixel>", id="a-name-of-the-judges-own"),
        pytest.param(b"c<!--", b"c<!----><!--", id="another-comment"),
    ],
)
def test_any_other_change_is_refused(old: bytes, new: bytes) -> None:
    """Whatever differs besides the intended changes makes the judge refuse."""
    assert old in WRAPPED
    assert not Judge(HTML, [LINK]).accepts(WRAPPED.replace(old, new, 1), {})


def test_the_original_value_must_be_what_was_replaced() -> None:
    """A link whose original reads otherwise than the one we meant is refused: its decoding is checked too."""
    other = LinkChange(0, b"http://x.example/?a&b;", NEW)
    assert not Judge(HTML, [other]).accepts(WRAPPED, {})
    same = LinkChange(0, b"http://x.example/?a&#38;b", NEW)
    assert Judge(HTML, [same]).accepts(WRAPPED, {})
    assert not Judge(HTML, [LinkChange(7, LINK.value, NEW)]).can_judge


def test_links_must_be_in_document_order() -> None:
    """Two links exchanged are not what was meant."""
    html = b"<a href=http://x.example>1</a><a href=http://y.example>2</a>"
    x, y = LinkChange(0, b"http://x.example", "https://t/0"), LinkChange(1, b"http://y.example", "https://t/1")
    right = b"<a href=https://t/0>1</a><a href=https://t/1>2</a>"
    wrong = b"<a href=https://t/1>1</a><a href=https://t/0>2</a>"
    assert Judge(html, [x, y]).accepts(right, {})
    assert not Judge(html, [x]).accepts(right, {})
    assert not Judge(html, [x, y]).accepts(wrong, {})


def test_removed_attributes_must_be_those_meant() -> None:
    """An opt-out may go when it was meant to, from that link only."""
    html = b"<a data-no-track href=x>1</a><a data-no-track title=t href=y>2</a>"
    removed = [LinkChange(i, None, None, frozenset(("data-no-track",))) for i in range(2)]
    assert Judge(html, removed).accepts(html.replace(b" data-no-track", b""), {})
    assert not Judge(html, removed[:1]).accepts(html.replace(b" data-no-track", b""), {})
    assert not Judge(html, removed).accepts(html.replace(b" data-no-track title=t", b""), {})


def test_comments_must_change_as_meant() -> None:
    """A conditional comment's text must be the intended one, to the byte."""
    before = b"[if mso]><a href=http://y.example><![endif]"
    after = before.replace(b"http://y.example", NEW.encode())
    changed = HTML.replace(before, after)
    assert Judge(HTML, [], [CommentChange(before, after)]).accepts(changed, {})
    assert not Judge(HTML).accepts(changed, {})
    assert not Judge(HTML, [], [CommentChange(before, after + b" ")]).accepts(changed, {})
    assert not Judge(HTML, [], [CommentChange(before + b" ", after)]).accepts(changed, {})


def test_comments_outside_the_root_count() -> None:
    """Comments before and behind the html element are compared like any other."""
    html = b"<!--a--><html><p>x</p></html><!--[if mso]>b<![endif]-->"
    judge = Judge(html)
    assert judge.accepts(html, {})
    assert not judge.accepts(html.replace(b"a", b"A"), {})
    assert not judge.accepts(html.replace(b"b", b"B"), {})


@pytest.mark.parametrize(
    ("html", "result"),
    [
        pytest.param(b"<p>a</p>", b"<p>a" + TAG + b"</p>", id="last-child"),
        pytest.param(b"<p>a</p>", b"<p>" + TAG + b"a</p>", id="first-child"),
        pytest.param(b"<p>a<b>c</b>d</p>", b"<p>a<b>c</b>" + TAG + b"d</p>", id="between"),
        pytest.param(b"<p>ad</p>", b"<p>a" + TAG + b"d</p>", id="inside-text"),
        pytest.param(b"<p><!--x-->\x01d</p>", b"<p><!--x-->" + TAG + b"\x01d</p>", id="before-a-control-character"),
    ],
)
def test_a_pixel_is_taken_out_with_its_tail_joined(html: bytes, result: bytes) -> None:
    """Without the pixel the text on both its sides is one again."""
    assert Judge(html).accepts(result, {PIXEL_URL: PIXEL})


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(b"<p>a</p><!--" + TAG + b"-->", id="in-a-comment"),
        pytest.param(b"<p>a</p><textarea>" + TAG + b"</textarea>", id="in-raw-text"),
        pytest.param(b"<p>a</p>" + TAG + TAG, id="twice"),
        pytest.param(b"<p>a</p><noscript>" + TAG + b"</noscript>", id="in-noscript"),
        pytest.param(b"<p>a</p><p>" + TAG + b"</p>", id="with-more-around"),
    ],
)
def test_a_pixel_that_does_not_show_is_refused(result: bytes) -> None:
    """The pixel must be in the document once, as it was meant, in an element that shows images."""
    html = result.replace(TAG, b"").replace(b"<p></p>", b"")
    assert not Judge(html).accepts(result, {PIXEL_URL: PIXEL})


def test_a_pixel_must_be_as_meant() -> None:
    """An image that asks for our URL but is otherwise not ours is refused."""
    other = TAG.replace(b'alt=""', b'alt="x"')
    assert Judge(b"<p>a</p>").accepts(b"<p>a" + TAG + b"</p>", {PIXEL_URL: PIXEL})
    assert not Judge(b"<p>a</p>").accepts(b"<p>a" + other + b"</p>", {PIXEL_URL: PIXEL})


@pytest.mark.parametrize("html", [b"", b"\n ", b"<!-- only -->", b"<div>" * 3000 + b"x"])
def test_what_the_parser_gives_up_on_cannot_be_judged(html: bytes) -> None:
    """An empty document, or one nested deeper than the parser goes, is refused as a whole."""
    judge = Judge(html)
    assert not judge.can_judge
    assert not judge.accepts(html, {})


@pytest.mark.parametrize("before", ["é".encode(), b"\xe9"], ids=["UTF-8", "another charset"])
def test_bytes_outside_ascii_are_compared(before: bytes) -> None:
    """A link's address and the text around it may be in any charset; no byte of them may become another."""
    html = b"<p>%b <a href='http://x.example/%b'>x</a></p>" % (before, before)
    judge = Judge(html, [LinkChange(0, b"http://x.example/" + before, NEW)])
    result = html.replace(b"http://x.example/" + before, NEW.encode())
    assert judge.accepts(result, {})
    for other in ("è".encode(), b"\xe8", b"\xff", "\N{REPLACEMENT CHARACTER}".encode()):
        assert not judge.accepts(result.replace(before, other), {})


def test_what_is_no_utf8_any_more() -> None:
    """A result that is not UTF-8 is not the document that was, though libxml2 read a replacement character in both."""
    html = "<p>\N{REPLACEMENT CHARACTER} <a href='http://x.example'>x</a></p>".encode()
    judge = Judge(html, [LinkChange(0, b"http://x.example", NEW)])
    result = html.replace(b"http://x.example", NEW.encode())
    assert judge.accepts(result, {})
    assert not judge.accepts(result.replace("\N{REPLACEMENT CHARACTER}".encode(), b"\xff"), {})
