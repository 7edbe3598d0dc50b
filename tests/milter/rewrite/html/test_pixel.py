"""Where the pixel may go, before anyone has judged."""

from __future__ import annotations

import pytest

from postwake_milter.rewrite.html_scan import scan_html
from postwake_milter.rewrite.pixel import BOTTOM, TOP, candidates, pixel_tag, wanted


@pytest.mark.parametrize(
    ("marked", "pixel"),
    [
        pytest.param("<html><body>{3}a{0}</body>b{1}</html>c{2}\n", BOTTOM, id="every-candidate"),
        pytest.param("<body>{3}a</body>b{0}</body>{1}</html></body></html>{2}", BOTTOM, id="last-body-before-html"),
        pytest.param("<body>{2}a{0}</body>b{1}", BOTTOM, id="no-html-end"),
        pytest.param("a{0}</html>{1}", BOTTOM, id="no-body"),
        pytest.param("a{0} \r\n", BOTTOM, id="fragment"),
        pytest.param("<body>{1}a{0}</body><!-- ", BOTTOM, id="no-end-in-a-comment"),
        pytest.param("<body>{1}a<svg></body></svg>{0}", BOTTOM, id="no-body-end-in-svg"),
        pytest.param("<select><body></select>a{0}</body>{1}", BOTTOM, id="no-body-start-in-select"),
        pytest.param("a{0}</body><template></html>", BOTTOM, id="nothing-in-an-unclosed-template"),
        pytest.param("<frameset><frame></frameset><noframes><body>a</body></noframes>", BOTTOM, id="no-frames"),
        pytest.param("<select><title></select></title><body>a</body>", BOTTOM, id="no-raw-text-in-select"),
        pytest.param("<!--[if mso]><body></body><![endif]-->a{0}</body>{1}", BOTTOM, id="not-outlooks-own"),
        pytest.param("<html><body>{0}<a>b{1}</body>{2}</html>c{3}", BOTTOM, id="open-link-comes-last"),
        pytest.param("<html><body>{0}a{1}</body>b{2}</html>c{3}\n", TOP, id="top"),
        pytest.param("\n{0}text{1}", TOP, id="top-of-text"),
        pytest.param("{0}<TABLE><tr></table>{1}", TOP, id="top-of-element"),
        pytest.param("<!doctype html><p>a{0}", TOP, id="no-top-before-a-doctype"),
        pytest.param("<style>a{}</style>a{0}", TOP, id="no-top-before-head-content"),
        pytest.param("<pre>a{0}", TOP, id="no-top-before-an-element-not-listed"),
    ],
)
def test_candidates_come_in_order_of_preference(marked: str, pixel: int) -> None:
    """The places are those marked, the best one 0."""
    html = marked
    places: dict[int, int] = {}
    while any(f"{{{i}}}" in html for i in range(4)):
        at, number = min((html.index(f"{{{i}}}"), i) for i in range(4) if f"{{{i}}}" in html)
        places[number] = at
        html = html.replace(f"{{{number}}}", "", 1)
    data = html.encode()
    assert candidates(data, scan_html(data), pixel) == [places[i] for i in sorted(places)]


def test_the_pixel_is_one_short_well_formed_tag() -> None:
    """The tag is ASCII, self-closed, without text to show, and well within a line of mail."""
    tag = pixel_tag("https://t.example.net/o/" + "x" * 80 + ".gif")
    assert tag.startswith(b'<img src="https://t.example.net/o/x')
    assert tag.endswith(b"/>")
    assert b'alt=""' in tag
    assert len(tag) < 250


def test_positions_are_placed_bottom_first() -> None:
    """Each position names its pixels."""
    assert (wanted("bottom"), wanted("top"), wanted("both")) == ((BOTTOM,), (TOP,), (BOTTOM, TOP))
