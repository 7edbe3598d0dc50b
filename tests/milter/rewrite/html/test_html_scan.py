"""The scanner: offsets of tags and attributes, as HTML5 tokenises."""

from __future__ import annotations

import re
from typing import Any

import pytest
from html5lib._tokenizer import HTMLTokenizer
from html5lib.constants import tokenTypes
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite.charref import decode_attribute
from postwake_milter.rewrite.html_scan import NAMES, RAW_TEXT, Edit, apply_edits, attributes, scan_html


def _seen(html: bytes) -> list[tuple[Any, ...]]:
    """Every start tag with its attributes as (name, value bytes or None), every end tag as a name with a slash."""
    out: list[tuple[Any, ...]] = []
    for tag in scan_html(html).tags:
        if tag.is_end:
            out.append((b"/" + tag.name,))
        else:
            pairs = [
                (a.name, html[a.value_start : a.value_end] if a.value_start < a.end else None)
                for a in attributes(html, tag)
            ]
            out.append((tag.name, *pairs))
    return out


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param(b'<a href="x">', [(b"a", (b"href", b"x"))], id="double-quoted"),
        pytest.param(b"<a href='x'>", [(b"a", (b"href", b"x"))], id="single-quoted"),
        pytest.param(b"<a href=x>", [(b"a", (b"href", b"x"))], id="unquoted"),
        pytest.param(b"<a href=x/>", [(b"a", (b"href", b"x/"))], id="unquoted-takes-the-slash"),
        pytest.param(b"<A HREF = x\n>", [(b"a", (b"href", b"x"))], id="upper-case-and-spaces"),
        pytest.param(b'<a\r\n\thref\n=\n"x">', [(b"a", (b"href", b"x"))], id="line-breaks-around-equals"),
        pytest.param(b'<a href="x\r\ny">', [(b"a", (b"href", b"x\r\ny"))], id="line-break-in-value"),
        pytest.param(b'<a href="a>b">', [(b"a", (b"href", b"a>b"))], id="gt-in-value"),
        pytest.param(b'<a title=\'"\' href="x">', [(b"a", (b"title", b'"'), (b"href", b"x"))], id="other-quote"),
        pytest.param(b'<a href="x"id=y>', [(b"a", (b"href", b"x"), (b"id", b"y"))], id="no-space-between"),
        pytest.param(b'<a/href="x"/id>', [(b"a", (b"href", b"x"), (b"id", None))], id="slashes-between"),
        pytest.param(b"<a href=>", [(b"a", (b"href", None))], id="missing-value"),
        pytest.param(b"<a href= >", [(b"a", (b"href", None))], id="missing-value-after-space"),
        pytest.param(b"<a x = >", [(b"a", (b"x", None))], id="missing-value-between-spaces"),
        pytest.param(b'<a href="">', [(b"a", (b"href", b""))], id="empty-value"),
        pytest.param(b"<a =x>", [(b"a", (b"=x", None))], id="name-begins-with-equals"),
        pytest.param(b'<a "x"=1>', [(b"a", (b'"x"', b"1"))], id="quotes-in-name"),
        pytest.param(b"<a b<c=1>", [(b"a", (b"b<c", b"1"))], id="lt-in-name"),
        pytest.param(b'<a b=c"d">', [(b"a", (b"b", b'c"d"'))], id="quote-inside-unquoted"),
        pytest.param(b"<a href=1 HREF=2>", [(b"a", (b"href", b"1"), (b"href", b"2"))], id="duplicates-all-listed"),
        pytest.param(b"<a\x0bb=1>", [], id="vertical-tab-is-part-of-the-name"),
        pytest.param(b"<a\0b=1>", [], id="nul-is-part-of-the-name"),
        pytest.param(b'<img alt="<a href=x>"><a>', [(b"a",)], id="tag-in-another-tags-value"),
        pytest.param(b"</a href=x><a>", [(b"/a",), (b"a",)], id="end-tag-with-attributes"),
        pytest.param(b"< a href=x><a>", [(b"a",)], id="space-after-lt-is-text"),
        pytest.param(b"1 < 2 <3 <a>", [(b"a",)], id="lt-in-text"),
        pytest.param(b"<abbr><area><a>", [(b"area",), (b"a",)], id="names-that-begin-alike"),
        pytest.param(b"</><a></ a><a></3><a>", [(b"a",), (b"a",), (b"a",)], id="bogus-end-tags"),
        pytest.param(b"<!-- <a> --><a>", [(b"a",)], id="comment"),
        pytest.param(b"<!--><a><!---><a>-->", [(b"a",), (b"a",)], id="abrupt-comments"),
        pytest.param(b"<!--!><a>--><a>", [(b"a",)], id="bang-does-not-close-at-once"),
        pytest.param(b"<!---!><a>--><a>", [(b"a",)], id="bang-after-one-dash-does-not-close"),
        pytest.param(b"<!----!><a>", [(b"a",)], id="bang-closes-an-empty-comment"),
        pytest.param(b"<!-- x --!><a>", [(b"a",)], id="bang-closes"),
        pytest.param(b"<!-- <!-- --><a>-->", [(b"a",)], id="comments-do-not-nest"),
        pytest.param(b"<!doctype html '<a>'><a>", [(b"a",)], id="doctype-ends-at-first-gt"),
        pytest.param(b"<?xml x='>'?><a>", [(b"a",)], id="processing-instruction"),
        pytest.param(b"<![if !mso]><a><![endif]>", [(b"a",)], id="downlevel-revealed"),
        pytest.param(b"<![CDATA[<a>]]><b>", [], id="cdata-in-html-is-bogus-and-eats-one-tag"),
        pytest.param(b"<![CDATA[<b><a>]]>", [(b"a",)], id="cdata-in-html-ends-at-gt"),
        pytest.param(b"<svg><![CDATA[<b>text<a>]]><a>", [(b"svg",), (b"a",)], id="cdata-in-svg"),
        pytest.param(b"<![cdata[<a>]]>", [], id="cdata-is-case-sensitive"),
        pytest.param(
            b"<svg><title>x</title></svg><a>",
            [(b"svg",), (b"title",), (b"/title",), (b"/svg",), (b"a",)],
            id="svg-title",
        ),
        pytest.param(b"<svg><style><p><script></style><a>", [(b"svg",), (b"style",)], id="markup-in-raw-text-in-svg"),
        pytest.param(b"<script>'<a>'</script ><a>", [(b"script",), (b"/script",), (b"a",)], id="script"),
        pytest.param(
            b"<script><!--<script></script><a>--></script><a>",
            [(b"script",), (b"/script",), (b"a",)],
            id="script-double-escaped",
        ),
        pytest.param(b"<script><!--</script><a>", [(b"script",), (b"/script",), (b"a",)], id="script-escaped-ends"),
        pytest.param(b"<script><!--><script></script><a>", [(b"script",), (b"/script",), (b"a",)], id="script-abrupt"),
        pytest.param(
            b"<TEXTAREA><a></TextArea/><a>", [(b"textarea",), (b"/textarea",), (b"a",)], id="textarea-any-case"
        ),
        pytest.param(b"<title></titles><a></title>", [(b"title",), (b"/title",)], id="end-tag-of-longer-name"),
        pytest.param(b"<style><a>", [(b"style",)], id="raw-text-never-closed"),
        pytest.param(b"<plaintext><a>", [(b"plaintext",)], id="plaintext"),
        pytest.param(
            b"<noscript><a></noscript>",
            [(b"noscript",), (b"a",), (b"/noscript",)],
            id="noscript",
        ),
        pytest.param(b"<a><a href=x", [(b"a",)], id="cut-off-tag"),
        pytest.param(b'<a><a href="x><a>', [(b"a",)], id="unclosed-quote"),
        pytest.param(b"<a><p title='<a>", [(b"a",)], id="unclosed-quote-elsewhere"),
        pytest.param(b"<a><!-- <a>", [(b"a",)], id="unclosed-comment"),
        pytest.param(b"<a><", [(b"a",)], id="lt-at-the-end"),
        pytest.param(
            b"<p {{ if x }}><a %%y%% href=*|z|*>", [(b"a", (b"%%y%%", None), (b"href", b"*|z|*"))], id="template"
        ),
    ],
)
def test_tags_are_found_as_html5_tokenises(html: bytes, expected: list[tuple[Any, ...]]) -> None:
    """What counts as a tag or an attribute is what HTML5's tokeniser makes of it."""
    assert _seen(html) == expected


@pytest.mark.parametrize(
    ("html", "inside"),
    [
        pytest.param(b"<!--[if mso]><a href=x><![endif]--><a>", [True, False], id="hidden"),
        pytest.param(b"<!-- [IF gte mso 9]><v:rect href=x/><![endif]-->", [True], id="spaced-upper-case-vml"),
        pytest.param(b"<!--[if !mso]><!--><a><!--<![endif]-->", [False], id="revealed-by-two-comments"),
        pytest.param(b"<!--[if mso]><style><a></style><a><![endif]-->", [True, True, True], id="raw-text-inside"),
        pytest.param(b"<!--[if mso]><title><![endif]--><a>", [True, False], id="raw-text-ends-with-the-comment"),
        pytest.param(b"<!--[if mso]><p x='<![endif]--><a>'>", [False], id="quote-ends-with-the-comment"),
        pytest.param(b"<!--[if mso]><!-- <a> --><a>", [False], id="comment-in-comment"),
        pytest.param(b"<!--[if mso<a>-->", [], id="unclosed-condition"),
        pytest.param(b"<!-- note: [if mso]><a>-->", [], id="not-a-condition"),
        pytest.param(b"<!--[if mso]><a>", [], id="unclosed-comment"),
    ],
)
def test_conditional_comments_are_scanned_inside(html: bytes, inside: list[bool]) -> None:
    """Tags in a conditional comment are found and marked; whatever is unclosed in it ends with it."""
    scan = scan_html(html)
    assert [tag.comment >= 0 for tag in scan.tags] == inside
    for tag in scan.tags:
        if tag.comment >= 0:
            start, end = scan.comments[tag.comment]
            assert start < tag.start < tag.end <= end
            assert html[start - 4 : start] == b"<!--"


@pytest.mark.parametrize(
    ("html", "complete"),
    [
        (b"", True),
        (b"text", True),
        (b"<a>", True),
        (b"<a", False),
        (b"<p a='", False),
        (b"<!--", False),
        (b"<!x", False),
        (b"<?x", False),
        (b"</ x", False),
        (b"<title>", False),
        (b"<script>", False),
        (b"<plaintext>", False),
        (b"<svg><script>'<'</script>", False),
        (b"<![CDATA[ ", False),
        (b"<", True),
    ],
)
def test_an_input_cut_off_inside_markup_is_not_complete(html: bytes, complete: bool) -> None:
    """Appending to a document is possible only where it ends in text."""
    assert scan_html(html).complete is complete


_PIECES = st.sampled_from(
    [
        *("<a ", "<A", "</a", "<area ", "<body", "</body>", "</html>", "<html ", "<p ", "<td>", "</p>", "<v:rect "),
        *(">", "/>", " ", "\n", "\r\n", "\t", "\f", "/", "=", '"', "'", "<", "</", "<!", "<?", "-", "!", "&", ";"),
        *("href", " href=", ' href="', " href='", "HREF", " x", " href=http://example.com/?a=1&amp;b=2", "&#38;"),
        *("<!--", "-->", "--!>", "<!-->", "<![if !mso]>", "<![endif]>", "<![CDATA[", "]]>", "<!doctype html>"),
        *(
            "<script>",
            "<script",
            "</script>",
            "<style>",
            "</style>",
            "<title>",
            "</title>",
            "<textarea>",
            "</textarea ",
        ),
        *("<xmp>", "</xmp>", "<iframe>", "</iframe>", "<noembed>", "</noembed>", "<noframes>", "</noframes>"),
        *("<plaintext>", "\0", "é", "\x80", "\x0b", "z", "[if mso]>", "{{x}}", "<%=", "%>"),
    ]
)
_MARKUP = st.lists(_PIECES | st.text(st.characters(max_codepoint=0xFF, exclude_categories=()), max_size=3), max_size=25)


def _by_html5lib(text: str) -> list[tuple[str, Any]]:
    """The tags that html5lib's tokeniser finds, driven as its parser drives it."""
    tokenizer = HTMLTokenizer(text)
    out: list[tuple[str, Any]] = []
    for token in tokenizer:
        if token["type"] not in (tokenTypes["StartTag"], tokenTypes["EndTag"], tokenTypes["EmptyTag"]):
            continue
        name = token["name"]
        if token["type"] == tokenTypes["EndTag"]:
            out.append(("/" + name, None))
            continue
        first: dict[str, str] = {}
        for key, value in token["data"].items() if isinstance(token["data"], dict) else token["data"]:
            first.setdefault(key, value)
        out.append((name, first))
        if name in ("title", "textarea"):
            tokenizer.state = tokenizer.rcdataState
        elif name.encode() in RAW_TEXT:
            tokenizer.state = tokenizer.rawtextState
        elif name == "script":
            tokenizer.state = tokenizer.scriptDataState
        elif name == "plaintext":
            tokenizer.state = tokenizer.plaintextState
    names = {n.decode() for n in NAMES}
    return [(n, v) for n, v in out if n.removeprefix("/") in names]


def _by_scanner(html: bytes) -> list[tuple[str, Any]]:
    def text(raw: bytes) -> str:
        return re.sub("\r\n?", "\n", raw.decode("latin-1")).replace("\0", "\N{REPLACEMENT CHARACTER}")

    out: list[tuple[str, Any]] = []
    scan = scan_html(html)
    for tag in scan.tags:
        if tag.comment >= 0 or tag.name.startswith(b"v:"):
            continue
        if tag.is_end:
            out.append(("/" + tag.name.decode(), None))
            continue
        first: dict[str, str] = {}
        for attribute in attributes(html, tag):
            value = decode_attribute(text(html[attribute.value_start : attribute.value_end]))
            first.setdefault(text(attribute.name), value)
        out.append((tag.name.decode(), first))
    return out


@settings(max_examples=1500, deadline=None)
@given(_MARKUP)
def test_the_scanner_agrees_with_html5lib(pieces: list[str]) -> None:
    """On any soup of markup the scanner finds the very tags and attributes that html5lib's tokeniser finds."""
    html = "".join(pieces).encode("latin-1")
    assert _by_scanner(html) == _by_html5lib(html.decode("latin-1"))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | _MARKUP.map(lambda p: "".join(p).encode("latin-1")))
def test_spans_lie_within_the_input(html: bytes) -> None:
    """Every span is in bounds, in order, and holds what it says."""
    scan = scan_html(html)
    for tag in scan.tags:
        assert html[tag.start : tag.start + 1] == b"<"
        assert html[tag.end - 1 : tag.end] == b">"
        at = tag.start
        for a in attributes(html, tag):
            assert at < a.start < a.end < tag.end
            assert a.start < a.value_start <= a.value_end <= a.end
            assert html[a.start : a.start + len(a.name)].lower() == a.name
            at = a.end - 1
    for start, end in scan.comments:
        assert 4 <= start <= end <= len(html)


def test_edits_are_applied_by_offset() -> None:
    """Edits replace, remove and insert at their offsets; those of a slice count from its offset."""
    edits = [Edit(1, 2, b"XX"), Edit(3, 3, b"+"), Edit(4, 6, b"")]
    assert apply_edits(b"abcdefg", edits) == b"aXXc+dg"
    assert apply_edits(b"bcdefg", edits, offset=1) == b"XXc+dg"


@pytest.mark.parametrize("edits", [[Edit(2, 3, b""), Edit(1, 2, b"")], [Edit(5, 9, b"")], [Edit(3, 2, b"")]])
def test_edits_out_of_order_or_bounds_are_refused(edits: list[Edit]) -> None:
    """Edits that overlap, run backwards or leave the input raise ValueError."""
    with pytest.raises(ValueError, match="edit of bytes"):
        apply_edits(b"abcdef", edits)
