"""Time grows no faster than the input, on the shapes that make scanners quadratic."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postwake_milter.rewrite.html_edit import HtmlResult
from postwake_milter.rewrite.html_scan import scan_html

AssertLinear = Callable[[Callable[[bytes], object], bytes, bytes], None]

LINK = b'<a href="http://x.example/?a=1&amp;b=2">'
REPEATED = {
    "lt": b"<",
    "comment": b"<!--",
    "comment-bang": b"<!--!>",
    "empty-comment": b"<!---->",
    "condition": b"<!--[if mso]>",
    "condition-unclosed": b"<!--[if mso",
    "conditional-links": b"<!--[if mso]>" + LINK + b"x</a><![endif]-->",
    "bogus-comment": b"<!",
    "processing-instruction": b"<?",
    "end-tag": b"</",
    "end-tag-empty": b"</>",
    "unclosed-double-quote": b'<a href="',
    "unclosed-single-quote": b"<a href='http://x",
    "unclosed-unquoted": b"<a href=http://x.example/",
    "equals": b"<p = ",
    "script": b"<script",
    "script-open": b"<script>",
    "script-escaped": b"<script><!--<script>",
    "title": b"<title>",
    "textarea": b"<textarea x='",
    "cdata": b"<![CDATA[",
    "cdata-in-svg": b"<svg><![CDATA[",
    "many-bodies": b"<body>",
    "many-body-ends": b"x</body>",
    "many-html-ends": b"x</html>",
    "nested-tables": b"<table><tr><td>",
    "tables": b"<table><tr><td>x</td></tr></table>",
    "formatting": b"<font><b><i>",
    "links": LINK + b"x</a>",
    "links-unclosed": LINK,
    "links-with-comment": LINK + b"<!--" * 300 + b">",
    "links-with-lt": LINK + b"<" * 1000,
    "links-with-dots": LINK + b"a." * 500,
    "links-with-hyphens": LINK + b"a-" * 500,
    "links-with-references": LINK + b"&amp;" * 300,
    "opt-outs": b"<a data-no-track href=x>",
    "many-duplicates": b"<a" + b" href=http://x.example" * 50 + b">",
    "nul": b"\0",
    "whitespace": b" \r\n",
    "selects": b"<select>",
}
ONE_TAG = {
    "attributes": (b"<a ", b"a=b ", b">x"),
    "opt-outs": (b"<a", b" data-no-track", b">x"),
    "whitespace": (b"<a x", b" ", b"data-no-track>x"),
    "value": (b'<a href="http://x.example/', b"x", b'">y</a>'),
    "value-of-spaces": (b'<a href="', b" ", b'http://x.example">y</a>'),
    "value-of-references": (b'<a href="http://x.example/', b"&amp;", b'">y</a>'),
    "value-of-backslashes": (b'<a href="http://x.example', b"\\", b'">y</a>'),
    "digits": (b'<a href="&#', b"1", b'">x'),
    "name": (b"<", b"a", b">x"),
}
SIZE = 60_000
BIG = 4 * SIZE


@pytest.mark.parametrize("unit", REPEATED.values(), ids=REPEATED.keys())
def test_repeated_shapes_take_linear_time(
    edit: Callable[..., tuple[HtmlResult, bytes]], assert_linear: AssertLinear, unit: bytes
) -> None:
    """Four times the input takes about four times as long, for scanning, editing and judging together."""
    small, big = (unit * (size // len(unit)) for size in (SIZE, BIG))
    assert_linear(lambda html: edit(html, pixel_position="both"), small, big)


@pytest.mark.parametrize("parts", ONE_TAG.values(), ids=ONE_TAG.keys())
def test_one_big_tag_takes_linear_time(
    edit: Callable[..., tuple[HtmlResult, bytes]], assert_linear: AssertLinear, parts: tuple[bytes, bytes, bytes]
) -> None:
    """A tag of any size is read in linear time too."""
    before, unit, after = parts
    small, big = (before + unit * (size // len(unit)) + after for size in (SIZE, BIG))
    assert_linear(lambda html: edit(html, pixel_position="both"), small, big)


def test_ten_megabytes_of_nested_tables(edit: Callable[..., tuple[HtmlResult, bytes]]) -> None:
    """10 MB of nested tables are scanned to the end; too deep to judge, they are left alone."""
    html = b"<table><tr><td>" * 700_000 + LINK + b"x</a>"
    assert len(scan_html(html).tags) == 2
    result, edited = edit(html)
    assert (result.reason, edited == html) == ("html-not-verifiable", True)
