"""Marks of sending services in HTML: honoured, and taken out where that provably changes nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_milter.rewrite.html_edit import HtmlResult
from postwake_milter.rewrite.html_scan import Edit, apply_edits
from postwake_milter.rewrite.marks import clean_html, may_hold_marks, put_back

Edited = Callable[..., tuple[HtmlResult, bytes]]
SameDocument = Callable[[bytes, HtmlResult], None]

MARK = b"{{ses:openTracker}}"
PIXEL = b'<img src="https://t.example.net/o/0.gif" width="1" height="1" alt="" style="display:block;border:0" />'


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param(b"<body>\n%m\n<p>x</body>", b"<body>\n%p\n<p>x</body>", id="top"),
        pytest.param(b"%m<p>x</p>", b"%p<p>x</p>", id="fragment"),
        pytest.param(
            b"<html><head><div style='display:none'>%m</div><title>t</title></head><body>x</body></html>",
            b"<html><head><div style='display:none'>%p</div><title>t</title></head><body>x</body></html>",
            id="in-a-div-that-ends-the-head",
        ),
        pytest.param(b"<p>a%mb%m</p>c", b"<p>a%pb</p>c", id="more-than-one"),
        pytest.param(b"%mx<p>%m</p>", b"%px<p></p>", id="the-first-at-the-very-beginning"),
        pytest.param(b"<p>http+notrack://x%m</p>c", b"<p>http://x%p</p>c", id="behind-another-mark"),
        pytest.param(
            b"<table><tr><td><p>%m</p></td></tr></table>",
            b"<table><tr><td><p>%p</p></td></tr></table>",
            id="table-cell",
        ),
        pytest.param(
            b"<body><table><td>%mx</td></table></body>",
            b"<body><table><td>x</td></table>%p</body>",
            id="table-cell-with-text",
        ),
        pytest.param(b"<title>%m</title><p>x", b"<title></title><p>x%p", id="where-no-image-shows"),
        pytest.param(b"<body><select><p>x%m</p></body>", b"<body>%p<select><p>x</p></body>", id="in-an-open-select"),
        pytest.param(
            b"<body><select></select><p>x%m</p></body>", b"<body><select></select><p>x%p</p></body>", id="select"
        ),
        pytest.param(b"<!-- %m --><p>x", b"<!--  --><p>x%p", id="comment"),
        pytest.param(b"<img alt='%m'><p>x", b"<img alt=''><p>x%p", id="value"),
        pytest.param(b"<p>x</p><script>'%m'</script>", b"<p>x</p><script>''</script>%p", id="script"),
        pytest.param(b"<p>%m", b"<p>%p", id="last"),
        pytest.param(b"<body>x</html>%m", b"<body>x%p</html>", id="behind-the-end"),
        pytest.param(b"<p>\xe9%m\xff</p>", b"<p>\xe9%p\xff</p>", id="any-bytes"),
    ],
)
def test_the_pixel_stands_where_the_mark_stood(
    edit: Edited, same_document: SameDocument, html: bytes, expected: bytes
) -> None:
    """The first mark gives way to the pixel if that provably lands there; all go, opens counted or not."""
    html = html.replace(b"%m", MARK)
    result, edited = edit(html)
    assert edited == expected.replace(b"%p", PIXEL)
    assert (result.pixels, result.reason) == (1, None)
    same_document(html, result)
    assert edit(html, opens=False)[1] == expected.replace(b"%p", b"")
    assert edit(html, opens=False, clicks=False)[1] == expected.replace(b"%p", b"")


def test_a_mark_of_the_senders_own(edit: Edited) -> None:
    """SendGrid's opentrack filter names a text, which is then a mark like Amazon's."""
    html = b"<body>%open-track%<p>x</body>"
    assert edit(html, pixel_mark="%open-track%")[1] == html.replace(b"%open-track%", PIXEL)
    assert edit(html)[1] == html.replace(b"</body>", PIXEL + b"</body>")


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(b"<head>%m<title>t</title></head><body>x</body>", id="it-ends-the-head"),
        pytest.param(b"<%mb>x</b>", id="markup-without-it"),
        pytest.param(b"<p>&am%mp;</p>", id="a-reference-without-it"),
        pytest.param(b"<!-- -%m-> x --><p>y", id="a-comment-that-would-end"),
        pytest.param(b"<p %m>x</p>", id="a-name"),
        pytest.param(b"<p>\x01%m</p>", id="control-character"),
        pytest.param(b"<a href='mailto:x@example'>%m<FrameSet>", id="text-that-undoes-a-frameset"),
        pytest.param(b"%m</p><p>x", id="text-that-opens-the-body-for-an-end-tag"),
        pytest.param(b"<!doctype html><HTML lang=en><!-- c -->%m </x></P ><p>x", id="the-same-behind-other-markup"),
        pytest.param(b"%m<noscript>", id="text-that-begins-the-body-for-what-may-be-in-the-head"),
        pytest.param(b"%m" + b"<table><tr><td>" * 3000, id="nested-too-deep"),
    ],
)
def test_a_mark_without_which_the_document_is_another_stays(edit: Edited, html: bytes) -> None:
    """What cannot be verified is not done, and the result says so; links are wrapped all the same where they can be."""
    html = html.replace(b"%m", MARK)
    result, edited = edit(html, opens=False, clicks=False)
    assert (edited, result.reason) == (html, "mark-not-verifiable")
    assert MARK in edit(html)[1]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param(
            b'<p><a href="https+notrack://x.example/?a=1&amp;b">x</a>',
            b'<p><a href="https://x.example/?a=1&amp;b">x</a>',
            id="https",
        ),
        pytest.param(b"<p><A HREF=HTTP+notrack://x.example>x", b"<p><A HREF=HTTP://x.example>x", id="unquoted"),
        pytest.param(
            b"<p><a href=' https&#43;notrack://x.example'>", b"<p><a href=' https://x.example'>", id="escaped"
        ),
        pytest.param(b"<p><a href='https&#x2B;notrack://x.example'>", b"<p><a href='https://x.example'>", id="in-hex"),
        pytest.param(
            b"<p>x<!--[if mso]><v:rect href='https+notrack://x.example'></v:rect><![endif]-->",
            b"<p>x<!--[if mso]><v:rect href='https://x.example'></v:rect><![endif]-->",
            id="outlook",
        ),
        pytest.param(
            b"<p><a data-no-track href=https+notrack://x.example>x",
            b"<p><a href=https://x.example>x",
            id="beside-an-attribute",
        ),
        pytest.param(
            b"<p>{{ses:openTracker}}<a href=https+notrack://x.example>x</a>{{ses:openTracker}}",
            b"<p><a href=https://x.example>x</a>",
            id="between-other-marks",
        ),
    ],
)
def test_links_marked_as_not_to_be_counted(
    edit: Edited, same_document: SameDocument, html: bytes, expected: bytes
) -> None:
    """Postal's +notrack goes from a link, which is left alone for it; so it does where no clicks are counted."""
    result, edited = edit(html, opens=False)
    assert (edited, result.skipped, result.reason) == (expected, {"opt-out": 1}, None)
    same_document(html, result)
    assert b"+" not in edit(html, opens=False, clicks=False)[1]


def test_notrack_goes_from_what_a_reader_sees(edit: Edited, same_document: SameDocument) -> None:
    """As Postal does it, wherever a URL begins so; other links are counted."""
    html = (
        b"<p><a href='https+notrack://x.example'>https+notrack://x.example</a> "
        b"<a href='https://y.example/{{ses:openTracker}}'>y</a> <a href='https://z.example/?u=https+notrack://a'>z</a>"
    )
    result, edited = edit(html, opens=False)
    assert edited == (
        b"<p><a href='https://x.example'>https://x.example</a> "
        b"<a href='https://t.example.net/c/0'>y</a> <a href='https://t.example.net/c/1'>z</a>"
    )
    assert [link.url for link in result.links] == ["https://y.example/", "https://z.example/?u=https://a"]
    same_document(html, result)


def test_one_that_opts_out_is_kept_for_the_text_part(plan: Callable[..., object]) -> None:
    """The text part leaves the same address alone, as it does for an attribute."""
    from postwake_milter.rewrite.html_edit import draft_html

    draft = draft_html(b"<p><a href='https+notrack://x.example/a'>x</a>", plan(), "t.example.net")  # type: ignore[arg-type]
    assert draft.kept == {"https://x.example/a": "opt-out"}


@pytest.mark.parametrize(
    "html", [b"<p>{{name}} <a href='https://x.example/+notrack'>", b"<p>http+notrack:/x", b"<p>[[data-msys-a=b]]"]
)
def test_what_is_no_mark_stays(html: bytes) -> None:
    """Only the marks themselves are; in HTML, SparkPost's brackets are text."""
    assert clean_html(html) is None


_PIECES = st.sampled_from(
    [b"{{ses:openTracker}}", b"https+notrack://", b"<p>", b"x", b" ", b"<a href='", b"'>", b"\xe9"]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 90), max_size=8))
def test_edits_of_the_cleaned_document_are_put_back(html: bytes, at: list[int]) -> None:
    """Made in the original, they give what they give in the cleaned one, whatever and wherever they are."""
    cleaned = clean_html(html)
    if cleaned is None or not cleaned.removed:
        return
    offsets = sorted(min(offset, len(cleaned.html)) for offset in at)
    spans = tuple(zip(offsets[::2], offsets[1::2], strict=False))
    fillings = tuple(range(len(spans)))
    edits = [Edit(start, end, b"[%d]" % number) for number, (start, end) in enumerate(spans)]
    back, what = put_back(spans, fillings, cleaned.removed)
    new = [b"" if filling is None else b"[%d]" % filling for filling in what]
    there = [Edit(*span, replacement) for span, replacement in zip(back, new, strict=True)]
    assert apply_edits(html, there) == apply_edits(cleaned.html, edits)
    assert may_hold_marks(html)
