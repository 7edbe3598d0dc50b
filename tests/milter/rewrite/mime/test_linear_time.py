"""Time grows no faster than the message, on the shapes that make readers of MIME and of header fields quadratic."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from postwake_milter.rewrite.engine import Plan
from postwake_milter.rewrite.whole_message import rewrite_message

HEAD = b"From: a@example.com\nMIME-Version: 1.0\n"
LINK = b'<a href="https://x.example/?a=1&amp;b=2">x</a>'
QP_LINK = LINK.replace(b"=", b"=3D")
SIZE = 40_000


def _html(encoding: bytes, body: bytes) -> bytes:
    return HEAD + b"Content-Type: text/html\nContent-Transfer-Encoding: " + encoding + b"\n\n" + body


def _fields(fields: bytes) -> bytes:
    return HEAD + fields + b"Content-Type: text/html\n\n" + LINK


def _parts(parts: bytes) -> bytes:
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + parts + b"\n--b--\n"


def _text(body: bytes) -> bytes:
    return HEAD + b"Content-Type: text/plain\n\n" + body


# What makes the message, and what is repeated in it.
SHAPES: dict[str, tuple[Callable[[bytes], bytes], bytes]] = {
    "qp-links-on-one-line": (lambda many: _html(b"quoted-printable", many), QP_LINK),
    "qp-links-in-soft-breaks": (
        lambda many: _html(b"quoted-printable", many),
        QP_LINK.replace(b"//", b"/=\n/") + b"=\n",
    ),
    "qp-escapes-on-one-line": (lambda many: _html(b"quoted-printable", many + QP_LINK), b"=41"),
    "qp-characters-on-one-line": (lambda many: _html(b"quoted-printable", many + QP_LINK), b"=E2=82=AC"),
    "qp-soft-breaks": (lambda many: _html(b"quoted-printable", many + QP_LINK), b"=\n"),
    "qp-padding": (lambda many: _html(b"quoted-printable", many + QP_LINK), b"x = \t\n"),
    "qp-spaces": (lambda many: _html(b"quoted-printable", b"x" + many + b"\n" + QP_LINK), b" "),
    "base64-links": (lambda many: _html(b"base64", base64.b64encode(many)), LINK),
    "base64-short-lines": (lambda many: _html(b"base64", base64.b64encode(LINK) + b"\n" + many), b"PGI+\n"),
    "base64-empty-lines": (lambda many: _html(b"base64", b"PGI+\n" + many + base64.b64encode(LINK)), b"\n"),
    "8bit-links-on-one-line": (lambda many: _html(b"8bit", many), LINK),
    "control-fields": (_fields, b"X-Tag: a\n"),
    "list-unsubscribe-fields": (_fields, b"List-Unsubscribe: <https://x.example/u>\n"),
    "list-unsubscribe-targets": (lambda many: _fields(b"List-Unsubscribe: " + many + b"\n"), b"<https://x.example/u>,"),
    "fields": (_fields, b"X: y\n"),
    "folds": (lambda many: _fields(b"X: y" + many + b"\n"), b"\n y"),
    "encoded-words": (lambda many: _fields(b"X-Tag: " + many + b"\n"), b"=?utf-8?q?a?= "),
    "encoded-punycode": (lambda many: _fields(b"X-Tag: =?punycode?q?" + many + b"?=\n"), b"abc"),
    "json": (lambda many: _fields(b'X-SMTPAPI: {"to":[' + many + b"0]}\n"), b'"a@b.example",'),
    "json-nesting": (lambda many: _fields(b"X-SMTPAPI: " + many + b"\n"), b'{"a":'),
    "parameters": (lambda many: HEAD + b"Content-Type: text/html" + many + b"\n\n" + LINK, b"; a=b"),
    "comments": (lambda many: HEAD + b"Content-Transfer-Encoding: " + many + b"\n\n" + LINK, b"("),
    "hyphens": (lambda many: _parts(b"--b\nContent-Type: text/html\n\n" + LINK + many), b"\n--b-"),
    "closing-delimiters": (_parts, b"--b--\n"),
    "part-fields": (lambda many: _parts(b"--b\n" + many + b"Content-Type: text/html\n\n" + LINK), b"X: y\n"),
    "urls": (_text, b"https://x.example/a\n"),
    "urls-on-one-line": (_text, b"https://x.example/a "),
    "brackets-after-url": (lambda many: _text(b"https://x.example/a" + many), b")"),
    "brackets-in-url": (lambda many: _text(b"https://x.example/a" + many), b"](("),
    "opt-outs-begun": (_text, b"https://x[[ "),
    "marks": (_text, b'https+notrack://x[[data-msys-linkname="a"]]{{ses:openTracker}} '),
    "marks-behind-one-url": (lambda many: _text(b"https://x.example/a" + many), b"[[data-msys-linkname=a]]"),
    "marked-urls-without-a-space": (_text, b"https://x[[data-msys-a=b]]"),
    "attributes-of-one-url": (lambda many: _text(b"https://x.example/a[[" + many), b"data-msys-linkname=a "),
    "attributes-run-together": (lambda many: _text(b"https://x[[" + many), b"data-msys-linkname="),
    "attributes-begun": (_text, b"https://x[[data-msys-linkname=" + b"data-msys-a=" * 20),
    "marks-in-html": (
        lambda many: _html(b"8bit", many),
        b"<p>{{ses:openTracker}}<a href='https+notrack://x.example/'>x</a>",
    ),
    "end-tags-of-nothing-before-a-mark": (lambda many: _html(b"8bit", many + b"<b>{{ses:openTracker}}"), b"</1"),
    "qp-marks": (lambda many: _html(b"quoted-printable", many), b"<p>{{ses:openTracker}}https+not=\nrack://x\n"),
}


@pytest.mark.parametrize(("make", "unit"), SHAPES.values(), ids=SHAPES.keys())
def test_messages_take_linear_time(
    plan: Plan,
    judge: ModuleType,
    assert_linear: Callable[[Callable[[bytes], object], bytes, bytes], None],
    make: Callable[[bytes], bytes],
    unit: bytes,
) -> None:
    """Four times the message takes about four times as long, from the first field to the last line."""
    plan = replace(plan, text_clicks=True, list_unsubscribe="wrap")
    small, big = (make(unit * (size // len(unit))) for size in (SIZE, 4 * SIZE))
    assert_linear(lambda raw: rewrite_message(raw, plan, judge.JudgedMint(), stamp=None), small, big)
