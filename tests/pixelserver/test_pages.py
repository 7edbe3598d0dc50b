"""The unsubscribe page in every language."""

from __future__ import annotations

import html5lib
import pytest

from postwake_pixelserver import pages

ALL = ["en", "de", "fr", "es", "it", "pt", "nl", "ja"]


def test_every_language_has_every_word() -> None:
    """No language misses a key or leaves it empty, and none has too many."""
    languages = pages.languages()
    assert list(languages) == ALL
    for words in languages.values():
        assert list(words) == list(languages["en"])
        assert all(words.values())


@pytest.mark.parametrize("language", ALL)
@pytest.mark.parametrize("state", ["ask", "done", "undone"])
def test_page_is_valid_and_needs_nothing(language: str, state: pages.State) -> None:
    """Valid HTML in the right language, one heading, one form with one button, no script, nothing loaded."""
    page = pages.unsubscribe_page(state, language)
    document = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    assert document.get("lang") == language
    assert len(document.findall(".//h1")) == 1
    assert [form.get("method") for form in document.findall(".//form")] == ["post"]
    assert len(document.findall(".//button")) == 1
    for tag in ("script", "img", "link", "iframe"):
        assert document.findall(f".//{tag}") == []
    assert document.find(".//title") is not None
    assert document.findall(".//main")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pt-BR", "pt"),
        ("ja", "ja"),
        ("sv,nl;q=0.5", "nl"),
        ("sv", "en"),
        ("", "en"),
        ("*", "en"),
        ("fr;q=0,es", "es"),
        ("q=;;,,x" * 200, "en"),
    ],
)
def test_language_is_the_readers(header: str, expected: str) -> None:
    """Accept-Language decides; English when nothing fits."""
    assert pages.choose_language(header) == expected
