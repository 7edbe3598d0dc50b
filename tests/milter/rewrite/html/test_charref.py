"""Character references in attributes, by HTML5's rule."""

from __future__ import annotations

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite.charref import decode_attribute


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("?a=1&amp;b=2", "?a=1&b=2"),
        ("?a=1&#38;b=2", "?a=1&b=2"),
        ("?a=1&#x26;b=2&#X26;c", "?a=1&b=2&c"),
        ("?a=1&#038;b=2", "?a=1&b=2"),
        ("?a=1&b=2", "?a=1&b=2"),
        ("?a&sectionId=1", "?a&sectionId=1"),
        ("?a&copy=1", "?a&copy=1"),
        ("?a&copy;=1", "?a©=1"),
        ("?a&copy", "?a©"),
        ("?a&copy.", "?a©."),
        ("?a&copyx;", "?a&copyx;"),
        ("?a&ampb=1", "?a&ampb=1"),
        ("?a&amp=1", "?a&amp=1"),
        ("?a&AMP;b", "?a&b"),
        ("&notin;&notit;", "∉&notit;"),
        ("&NotEqualTilde;", "≂̸"),
        ("&#0;&#xD800;&#x110000;", "\ufffd" * 3),
        ("&#128;&#x81;", "€\x81"),
        ("&#;&#x;&;&", "&#;&#x;&;&"),
        ("&#38", "&"),
        ("&#38b", "&b"),
        ("&#" + "9" * 5000 + ";", "\ufffd"),
        ("&#" + "0" * 5000 + "65;", "A"),
    ],
)
def test_references_are_decoded_as_in_an_attribute(text: str, expected: str) -> None:
    """A named reference without its semicolon does not count before a letter, a digit or an equals sign."""
    assert decode_attribute(text) == expected


_NAMES = st.sampled_from(["amp", "AMP", "copy", "sect", "lt", "notit", "notin", "reg", "Dagger", "para", "x", "foo"])
_REFERENCES = st.builds("".join, st.lists(_NAMES | st.sampled_from(list("&#;=xX019aF/? ")), max_size=12))


@settings(max_examples=1500, deadline=None)
@given(_REFERENCES)
def test_html5lib_reads_the_same(text: str) -> None:
    """Any text of references means to us what it means to html5lib."""
    element = html5lib.parseFragment(f'<a href="{text}">', namespaceHTMLElements=False)[0]
    assert decode_attribute(text) == element.get("href")
