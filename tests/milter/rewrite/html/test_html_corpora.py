"""Real mail: every HTML part that is at hand is edited, and html5lib finds nothing else changed."""

from __future__ import annotations

import email
import email.policy
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postwake_milter.rewrite.html_edit import HtmlResult, apply_edits

Edited = Callable[..., tuple[HtmlResult, bytes]]
SameDocument = Callable[[bytes, HtmlResult], None]


def _templates(corpora: Path) -> list[Path]:
    files = sorted((corpora / "html-postmark").rglob("*.html"))
    if not files:
        pytest.skip(f"no html-postmark in {corpora}")
    return files


def test_templates_are_verified_to_the_last(corpora: Path, edit: Edited, same_document: SameDocument) -> None:
    """Every template gets its pixel, and its links wrapped, with nothing else changed."""
    for path in _templates(corpora):
        html = path.read_bytes()
        result, _ = edit(html)
        assert (result.pixels, result.reason) == (1, None), path
        assert set(result.skipped) <= {"template", "visible-url", "not-http", "unsubscribe", "relative"}, path
        same_document(html, result)


def test_filled_in_templates_have_their_links_wrapped(corpora: Path, edit: Edited) -> None:
    """Templates with their placeholders filled in: every http link is wrapped or skipped by name."""
    links: Counter[str] = Counter()
    for path in _templates(corpora):
        html = path.read_bytes().replace(b"{{", b"https://x.example/?a=1&amp;b=").replace(b"}}", b"")
        result, _ = edit(html)
        assert (result.pixels, result.reason) == (1, None), path
        links.update(wrapped=len(result.links), **result.skipped)
    assert links["wrapped"] >= 250
    assert links["template"] == 0


def _html_parts(corpora: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in ("mime-stalwart", "mime-cpython", "bounces-sisimai"):
        for path in sorted((corpora / folder).rglob("*")):
            if not path.is_file():
                continue
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
            for part in message.walk():
                if part.get_content_type() == "text/html":
                    payload = part.get_payload(decode=True)
                    if isinstance(payload, bytes):
                        yield path, payload


def test_html_parts_of_real_mail(corpora: Path, edit: Edited, same_document: SameDocument) -> None:
    """HTML parts of legacy and malformed mail: nothing but links and pixels changes, and most can be edited."""
    reasons: Counter[str | None] = Counter()
    for path, html in _html_parts(corpora):
        for position in ("bottom", "both"):
            result, _ = edit(html, pixel_position=position, codec="latin-1")
            same_document(html, result)
            if html.strip():
                reasons[result.reason] += 1
        # No pixel: links never fail for want of a place for it.
        links_only, edited = edit(html, opens=False)
        assert apply_edits(html, links_only.edits) == edited, path
        assert links_only.reason is None, path
    if not reasons:
        pytest.skip(f"no mail with HTML parts in {corpora}")
    assert reasons[None] >= 0.9 * reasons.total()
