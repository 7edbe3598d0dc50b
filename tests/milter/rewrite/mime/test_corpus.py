"""Real mail through the engine, judged by the standard library and html5lib."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from postwake_milter.rewrite.engine import Mint, Plan
from postwake_milter.rewrite.html_edit import HTML_NOT_VERIFIABLE, PIXEL_NOT_VERIFIABLE
from postwake_milter.rewrite.reasons import UNTRACKED_REASONS
from postwake_milter.rewrite.whole_message import rewrite_message

STAMP = b"0197e0d5f3b87cc08a11223344556677"


def _mails(corpora: Path) -> Iterator[tuple[str, bytes]]:
    for pattern in ("mime-stalwart/**/*.eml", "mime-cpython/*.txt", "bounces-sisimai/**/*.eml"):
        for path in sorted(corpora.glob(pattern)):
            yield str(path.relative_to(corpora)), path.read_bytes()


def _without_seals(raw: bytes) -> bytes:
    """Rename the fields that keep a mail from being touched, so that its body is exercised as well."""
    for name in (b"DKIM-Signature:", b"ARC-Seal:", b"ARC-Message-Signature:", b"Auto-Submitted:"):
        raw = raw.replace(name, b"X-Was-" + name)
    return raw.replace(b"multipart/report", b"multipart/mixed")


def _count(corpora: Path, least: int) -> None:
    if sum(1 for _ in _mails(corpora)) < least:
        pytest.skip(f"fewer than {least} mails under {corpora}")


@pytest.mark.parametrize("unsealed", [False, True], ids=["as-it-is", "seals-off"])
def test_real_mail_is_never_hurt(corpora: Path, judge: ModuleType, mint: Mint, plan: Plan, unsealed: bool) -> None:
    """Every mail goes through without an error, and only what is ours differs afterwards."""
    _count(corpora, 100)
    eager = replace(plan, text_clicks=True, list_unsubscribe="wrap", pixel_position="both")
    tracked = edited = 0
    for name, raw in _mails(corpora):
        raw = _without_seals(raw) if unsealed else raw
        after, result = rewrite_message(raw, eager, mint, stamp=STAMP)

        if result.untracked_reason is None:
            tracked += 1
        else:
            known = {*UNTRACKED_REASONS, HTML_NOT_VERIFIABLE, PIXEL_NOT_VERIFIABLE}
            assert result.untracked_reason in known, name
        if result.body is None and not result.header_changes:
            assert after == raw, name
        try:
            edited += judge.check(raw, after, {item[0].decode("latin-1").lower() for item in result.control.remove})
        except judge.ChangedError as difference:
            raise AssertionError(f"{name}: {difference}") from difference
    assert tracked > 50
    assert edited > 20


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_templates_in_every_encoding(
    corpora: Path, judge: ModuleType, mint: Mint, plan: Plan, encoding: str, eol: bytes
) -> None:
    """Real transactional templates, wrapped into mail, are tracked, and nothing but links and pixel differs."""
    paths = sorted(corpora.glob("html-postmark/templates-inlined/**/*.html"))
    if not paths:
        pytest.skip(f"no templates under {corpora}")
    for path in paths[:: 1 if encoding == "quoted-printable" and eol == b"\r\n" else 5]:
        html = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", eol)
        raw = _mail(html, encoding, eol)
        after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

        assert result.tracked, path
        assert result.opens == 1, path
        assert judge.check(raw, after, set()) == 1, path


def _mail(html: bytes, encoding: str, eol: bytes) -> bytes:
    if encoding == "base64":
        body = base64.encodebytes(html).replace(b"\n", eol)
    elif encoding == "quoted-printable":
        body = quopri.encodestring(html.replace(b"\r\n", b"\n")).replace(b"\n", eol)
    else:
        body = html
    lines = [
        b"From: shop@example.com",
        b"Subject: receipt",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/alternative; boundary="=_b"',
        b"",
        b"--=_b",
        b"Content-Type: text/plain",
        b"",
        b"see https://example.com/",
        b"--=_b",
        b"Content-Type: text/html; charset=utf-8",
        b"Content-Transfer-Encoding: " + encoding.encode(),
        b"",
        body,
        b"--=_b--",
        b"",
    ]
    return eol.join(lines)
