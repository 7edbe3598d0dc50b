"""The edits of a whole document: byte for byte, and verified."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite.html_edit import Edit, HtmlPlan, HtmlResult, Link, apply_edits

Edited = Callable[..., tuple[HtmlResult, bytes]]
SameDocument = Callable[[bytes, HtmlResult], None]

C = b"https://t.example.net/c/"
PIXEL = b'<img src="https://t.example.net/o/0.gif" width="1" height="1" alt="" style="display:block;border:0" />'
TOP_PIXEL = PIXEL.replace(b"o/0", b"o/1")


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param(b'<A HREF="http://x.example/">', b'<A HREF="' + C + b'0">', id="upper-case"),
        pytest.param(b"<a href=http://x.example/>", b"<a href=" + C + b"0>", id="unquoted"),
        pytest.param(b"<a href='http://x.example/'>", b"<a href='" + C + b"0'>", id="single-quoted"),
        pytest.param(b'<a href = "\n http://x.example/ ">', b'<a href = "' + C + b'0">', id="spaces"),
        pytest.param(
            b"<a href=http://x.example/ href=http://y.example/>",
            b"<a href=" + C + b"0 href=http://y.example/>",
            id="duplicate-attribute-first-wins",
        ),
        pytest.param(
            b"<a href=http://x.example/>1</a><a href=http://x.example/>2</a>",
            b"<a href=" + C + b"0>1</a><a href=" + C + b"1>2</a>",
            id="same-destination-twice",
        ),
        pytest.param(
            b'<map><area shape=rect href="http://x.example/"></map>',
            b'<map><area shape=rect href="' + C + b'0"></map>',
            id="area",
        ),
        pytest.param(
            b'<!--[if mso]><v:roundrect href="http://x.example/?a=1&amp;b" w="1">\r\n<a href=http://y.example>'
            b'</v:roundrect><![endif]--><![if !mso]><a href="http://x.example/?a=1&amp;b">x</a><![endif]>',
            b'<!--[if mso]><v:roundrect href="' + C + b'0" w="1">\r\n<a href=' + C + b"1>"
            b'</v:roundrect><![endif]--><![if !mso]><a href="' + C + b'2">x</a><![endif]>',
            id="outlook",
        ),
        pytest.param(
            b"<p>x<!-- <a href=http://x.example> --><script>'<a href=http://x.example>'</script>"
            b"<textarea><a href=http://x.example></textarea>",
            None,
            id="not-markup",
        ),
        pytest.param(
            b"<link href=http://x.example><base href=http://y.example><img src=http://z.example>x",
            None,
            id="other-elements",
        ),
        pytest.param(b"<p>x<a name=top>y</a><a>z</a>", None, id="anchors-without-href"),
        pytest.param(b"<p>x<a href=http://x.example", None, id="cut-off"),
        pytest.param(
            b"<!--[if mso]><a href=http://x.example><![endif]-->"
            b"<html><p>x</html><!--[if mso]><a href=/ title=y><![endif]-->"
            b"<!--[if mso]><a href=http://y.example><![endif]-->",
            b"<!--[if mso]><a href=" + C + b"0><![endif]--><html><p>x</html><!--[if mso]><a href=/ title=y><![endif]-->"
            b"<!--[if mso]><a href=" + C + b"1><![endif]-->",
            id="comments-outside-the-root",
        ),
        pytest.param(
            b"\xef\xbb\xbf<html><a href=http://x.example>", b"\xef\xbb\xbf<html><a href=" + C + b"0>", id="bom"
        ),
        pytest.param(
            b"<p \xff\x80=\xfe>\xe9 \0<a href=http://x.example>\x81",
            b"<p \xff\x80=\xfe>\xe9 \0<a href=" + C + b"0>\x81",
            id="any-bytes",
        ),
        pytest.param(
            b"<html><body>x</body></html>\n<p><a href=http://x.example>footer</a></p></html>y",
            b"<html><body>x</body></html>\n<p><a href=" + C + b"0>footer</a></p></html>y",
            id="behind-the-end-of-html",
        ),
        pytest.param(
            b"<table>\r\n<a href=http://x.example>a</table>b</a><b><a href='http://y.example'><i></b>c",
            b"<table>\r\n<a href=" + C + b"0>a</table>b</a><b><a href='" + C + b"1'><i></b>c",
            id="misnested",
        ),
    ],
)
def test_only_the_value_of_a_link_changes(
    edit: Edited, same_document: SameDocument, html: bytes, expected: bytes | None
) -> None:
    """The bytes between the quotes are replaced, whatever the quoting, and no others."""
    result, edited = edit(html, opens=False)
    assert edited == (html if expected is None else expected)
    assert result.reason is None
    same_document(html, result)


@pytest.mark.parametrize(
    ("html", "position", "expected"),
    [
        pytest.param(b"<html><body><p>x</body></html>\n", "bottom", b"<html><body><p>x{0}</body></html>\n", id="plain"),
        pytest.param(b"<p>x</p>", "bottom", b"<p>x</p>{0}", id="fragment"),
        pytest.param(b"text\r\n", "bottom", b"text{0}\r\n", id="text-before-final-line-break"),
        pytest.param(b"<html><p>x</html>", "bottom", b"<html><p>x{0}</html>", id="no-body"),
        pytest.param(
            b"<html><body>a</body></html><html><body>b</body></html>",
            "bottom",
            b"<html><body>a{0}</body></html><html><body>b</body></html>",
            id="two-documents",
        ),
        pytest.param(
            b"<html><body>a</body></html><p>footer",
            "bottom",
            b"<html><body>a{0}</body></html><p>footer",
            id="before-a-footer-behind-html",
        ),
        pytest.param(b"a<select></html></select>b", "bottom", b"a<select></html></select>b{0}", id="end-behind-html"),
        pytest.param(
            b"<html><body>a</body><body>b</body></html>",
            "bottom",
            b"<html><body>a</body><body>b{0}</body></html>",
            id="two-bodies",
        ),
        pytest.param(
            b"<body>a<!-- </body> --><script></body></script></body>",
            "bottom",
            b"<body>a<!-- </body> --><script></body></script>{0}</body>",
            id="end-tags-that-are-none",
        ),
        pytest.param(b"<body class=x>a<!-- b", "bottom", b"<body class=x>{0}a<!-- b", id="unclosed-comment"),
        pytest.param(b"<body>a<p title='b</body>", "bottom", b"<body>{0}a<p title='b</body>", id="unclosed-quote"),
        pytest.param(
            b"<html><body id=1>\n<p>x</body></html>", "top", b"<html><body id=1>{1}\n<p>x</body></html>", id="top"
        ),
        pytest.param(b" <p>x</p>", "top", b" {1}<p>x</p>", id="top-of-fragment"),
        pytest.param(
            b"<!doctype html><title>t</title><p>x</p>\n",
            "top",
            b"<!doctype html><title>t</title><p>x</p>{1}\n",
            id="top-without-body-tag-goes-to-the-bottom",
        ),
        pytest.param(b"<body><p>x</body>", "both", b"<body>{1}<p>x{0}</body>", id="both"),
        pytest.param(b"<body></body>", "both", b"<body>{1}{0}</body>", id="both-in-one-spot"),
        pytest.param(b"x", "both", b"{1}x{0}", id="both-around-text"),
        pytest.param(b"<body><table>x ", "bottom", b"<body>{0}<table>x ", id="not-between-text-in-a-table"),
        pytest.param(b"<body><table><td>x</tr>>\n", "bottom", b"<body>{0}<table><td>x</tr>>\n", id="or-behind-its-row"),
        pytest.param(b"\xef\xbb\xbfx", "both", b"\xef\xbb\xbf{1}x{0}", id="behind-a-byte-order-mark"),
        pytest.param(b"</p>x", "top", b"</p>x{1}", id="no-fragment-begins-with-an-end-tag"),
    ],
)
def test_the_pixel_goes_where_it_exists(
    edit: Edited, same_document: SameDocument, html: bytes, position: str, expected: bytes
) -> None:
    """The pixel goes to the first place of its order where it provably lands in the document."""
    result, edited = edit(html, pixel_position=position)
    assert edited == expected.replace(b"{0}", PIXEL).replace(b"{1}", TOP_PIXEL)
    assert result.reason is None
    assert result.pixels == (2 if position == "both" else 1)
    same_document(html, result)


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(b"<a href=http://x.example>x</a><!-- never closed", id="comment"),
        pytest.param(b"<a href=http://x.example>x</a><textarea>", id="textarea"),
        pytest.param(b"<a href=http://x.example>x</a><select><option>", id="select"),
        pytest.param(b"<a href=http://x.example>x</a><svg><g>", id="svg"),
        pytest.param(b"<p><a href=http://x.example>x</a><plaintext>", id="plaintext"),
        pytest.param(b"<p><a href=http://x.example>x</a><noscript>", id="noscript"),
    ],
)
def test_clicks_do_not_depend_on_the_pixel(edit: Edited, same_document: SameDocument, html: bytes) -> None:
    """Where no place for the pixel can be verified, links are wrapped without it, and the result says so."""
    result, edited = edit(html)
    assert edited == html.replace(b"http://x.example", C + b"0")
    assert (result.pixels, result.reason) == (0, "pixel-not-verifiable")
    same_document(html, result)


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(b"<table><tr><td>" * 5000 + b"<a href=http://x.example>x</a>", id="nested-too-deep"),
        pytest.param(b"", id="empty"),
        pytest.param(b" \r\n", id="blank"),
    ],
)
def test_what_cannot_be_judged_is_not_edited(edit: Edited, html: bytes) -> None:
    """A document that the judge cannot take in whole is left as it is, and the result says so."""
    result, edited = edit(html)
    assert edited == html
    assert (result.links, result.pixels, result.reason) == ((), 0, "html-not-verifiable")


def test_the_plan_decides_what_is_done(edit: Edited) -> None:
    """Opens, clicks, both or nothing: as planned, and without a reason."""
    html = b"<body><a href=http://x.example>x</a></body>"
    assert edit(html, opens=False, clicks=False) == (HtmlResult((), (), 0, {}, None), html)
    assert edit(html, opens=False)[1] == html.replace(b"http://x.example", C + b"0")
    assert edit(html, clicks=False)[1] == html.replace(b"</body>", PIXEL + b"</body>")
    result, edited = edit(html)
    assert edited == html.replace(b"</body>", PIXEL + b"</body>").replace(b"http://x.example", C + b"0")
    assert result.links == (Link(0, "http://x.example"),)


def test_links_are_numbered_from_the_first(edit: Edited) -> None:
    """Numbers go on where the message's previous part stopped; skipped links have none."""
    html = b"<a href=http://x.example>x</a><a href=#y>y</a><a href=http://z.example>z</a>"
    result, edited = edit(html, first_link=5)
    assert result.links == (Link(5, "http://x.example"), Link(6, "http://z.example"))
    assert re.findall(rb"/c/([0-9]+)", edited) == [b"5", b"6"]
    assert result.skipped == {"fragment": 1}


def test_a_second_pass_changes_no_link(edit: Edited) -> None:
    """Editing an edited document finds links of ours only and leaves them alone."""
    once, edited = edit(b"<p><a href=http://x.example>x</a>", opens=False)
    twice, again = edit(edited, opens=False)
    assert len(once.links) == 1
    assert again == edited
    assert twice.skipped == {"own-host": 1}


def test_what_the_mint_raises_passes_through(plan: Callable[..., HtmlPlan]) -> None:
    """An error of the mint is not swallowed: the milter's edge decides about it."""
    from postwake_milter.rewrite.html_edit import edit_html

    class Broken:
        def open_url(self, position: int) -> str:
            raise RuntimeError("no key")

        def click_url(self, link: int, destination: str) -> str:
            raise RuntimeError("no key")

    with pytest.raises(RuntimeError, match="no key"):
        edit_html(b"<a href=http://x.example>x</a>", plan(), Broken())


_PIECES = st.sampled_from(
    [
        *('<a href="http://x.example/?a=1&amp;b=2">', "<a href=http://x.example/>", "<A HREF='https://y.example'>"),
        *("<a data-no-track href='http://z.example'>", "</a>", "<a clicktracking=off\nhref=http://x.example>"),
        *("<a href=http://x.example ses:tags=a:b>", "<v:rect href=http://v.example data-msys-linkname='a b'\n>"),
        *("<!--[if mso]>", "<![endif]-->", "<v:rect href='http://v.example'>", "<!-- ", "-->", "<![if !mso]>"),
        *("<html>", "<head>", "</head>", "<body>", "<body id=x>", "</body>", "</html>", "<!doctype html>", "<title>"),
        *("</title>", "<style>", "</style>", "<script>", "</script>", "<textarea>", "</textarea>", "<frameset>"),
        *("<noframes>", "</noframes>", "<table>", "<tr>", "<td>", "</td>", "</table>", "<p>", "</p>", "<b>", "</b>"),
        *("<i>", "</i>", "<div>", "</div>", "<select>", "<option>", "</select>", "<form>", "<button>", "<img src=x>"),
        *("<svg>", "</svg>", "<math>", "<template>", "</template>", "<noscript>", "<h1>", "<ul><li>", "<br/>", "\0"),
        *("text", " ", "\r\n", "é", "&amp;", "&copy", '"', "'", ">", "<", "<p title='", '<p title="', "{{x}}", "\x80"),
        *("{{ses:openTracker}}", "<a href='https+notrack://n.example/x'>", "http+notrack://n.example"),
    ]
)
_SOUP = st.lists(_PIECES, max_size=20).map(lambda pieces: "".join(pieces).encode("latin-1"))


@settings(max_examples=600, deadline=None)
@given(html=_SOUP, position=st.sampled_from(["bottom", "top", "both"]), opens=st.booleans(), clicks=st.booleans())
def test_edits_are_what_the_result_says(edit: Edited, html: bytes, position: str, opens: bool, clicks: bool) -> None:
    """On any soup of markup: edits in bounds and order, undone they give the original, counts as reported."""
    result, edited = edit(html, pixel_position=position, opens=opens, clicks=clicks)
    undo: list[Edit] = []
    shift = 0
    at = 0
    for change in result.edits:
        assert at <= change.start <= change.end <= len(html)
        at = change.end
        start = change.start + shift
        undo.append(Edit(start, start + len(change.replacement), html[change.start : change.end]))
        shift += len(change.replacement) - (change.end - change.start)
    assert apply_edits(edited, undo) == html
    assert edited.count(C) == len(result.links)
    assert edited.count(b"/o/") == result.pixels <= (2 if position == "both" else 1)
    assert [link.index for link in result.links] == list(range(len(result.links)))
    if result.reason is None:
        assert b"{{ses:openTracker}}" not in edited
    if not opens:
        assert result.pixels == 0
    if not clicks:
        assert (result.links, result.skipped) == ((), {})


# The same soups each time. Of other seeds one in a hundred finds markup of nobody's in which a browser does yet another
# thing around a mark or a pixel: POSTWAKE_SEARCH=1 looks for that, and what it finds comes to stand here.
@settings(max_examples=600, deadline=None, derandomize="POSTWAKE_SEARCH" not in os.environ)
@given(html=_SOUP, position=st.sampled_from(["bottom", "top", "both"]))
@example(html=b"<div><a href='http://x.example/'></div><body><div>", position="bottom")
@example(html=b"<svg><title><p title='<a href='https+notrack://n.example/x'>", position="bottom")
@example(html=b"{{ses:openTracker}}</title><noscript>", position="bottom")
@example(html=b"<noscript><!--[if mso]><a href='http://x.example/'>-->{{ses:openTracker}}<noscript>", position="bottom")
@example(html=b"<a href='http://x.example/'></html>{{ses:openTracker}}<!--[if mso]>", position="bottom")
@example(html=b"<select><title><select><http+notrack://n.example<a href='http://x.example/'>", position="bottom")
@example(html=b"</html><svg><title><frameset>", position="bottom")
@example(html=b"<noframes></noframes>{{ses:openTracker}}</p>", position="bottom")
@example(html=b"<title>{{ses:openTracker}}</title>{{ses:openTracker}}<noscript><noscript>", position="bottom")
@example(html=b"<svg><style><p><script></style><a href='http://x.example/'>", position="bottom")
def test_html5lib_finds_nothing_else_changed(
    edit: Edited, same_document: SameDocument, html: bytes, position: str
) -> None:
    """On any soup of markup the edited document is, to html5lib, the original with our links and pixels in it."""
    same_document(html, edit(html, pixel_position=position)[0])


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(Edit(13, 13, b"y"), id="text"),
        pytest.param(Edit(8, 12, b""), id="attribute"),
        pytest.param(Edit(3, 3, b"<a href='http://z.example/'>"), id="link-around-text"),
        pytest.param(Edit(3, 3, b"<!--"), id="comment"),
        pytest.param(Edit(16, 19, b""), id="element"),
    ],
)
def test_html5lib_finds_what_else_changed(edit: Edited, same_document: SameDocument, extra: Edit) -> None:
    """The judge of these tests is one: another change beside the edits is found."""
    html = b"<p><img id=i>x <br><a href='http://x.example/'>x</a>"
    result = edit(html)[0]
    same_document(html, result)
    with pytest.raises(AssertionError):
        same_document(html, replace(result, edits=(extra, *result.edits)))


@settings(max_examples=300, deadline=None)
@given(html=st.binary(max_size=300) | _SOUP, codec=st.sampled_from(("utf-8", "cp1252", "cp932")))
def test_no_bytes_make_it_fail(edit: Edited, html: bytes, codec: str) -> None:
    """Any bytes whatever are edited or left alone, without an error."""
    edit(html, pixel_position="both", codec=codec)
