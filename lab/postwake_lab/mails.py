"""Mails as applications send them: a newsletter and a receipt, each as a whole message with CRLF line ends."""

from __future__ import annotations

import base64
import quopri
from datetime import UTC, datetime
from email.utils import format_datetime

LINKS = (
    "https://shop.example.com/autumn?utm_source=newsletter&utm_medium=email&id=42",
    "https://shop.example.com/products/teapot?color=blue&size=2#reviews",
    "https://shop.example.com/account",
    "http://blog.example.org/why-tea/",
    "https://shop.example.com/söme/ünicode?q=grün",
)


def newsletter(
    number: int, recipient: str, *, sender: str = "news@example.com", encoding: str = "quoted-printable"
) -> bytes:
    """Return a multipart newsletter whose HTML part is in *encoding*: quoted-printable, base64, 7bit or 8bit."""
    items = "\n".join(
        f'<tr><td class="item"><a href="{link.replace("&", "&amp;")}" style="color:#06c">Offer {index}</a></td></tr>'
        for index, link in enumerate(LINKS, 1)
    )
    html = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Autumn teas</title>
<style>a:hover {{ color: red }} .item {{ padding: 4px }}</style></head>
<body bgcolor=#ffffff>
<!--[if mso]><table width="600"><tr><td><![endif]-->
<h1>Autumn teas</h1>
<p>Hello {recipient}, the new harvest is here — mit Grüßen.</p>
<table role=presentation>
{items}
</table>
<p>Questions? <a href="mailto:help@example.com">Write to us</a> or see <a href="#top">the top</a>.</p>
<p><a href="https://shop.example.com/unsubscribe?u={number}">Unsubscribe</a></p>
<!--[if mso]></td></tr></table><![endif]-->
</body></html>
"""
    text = f"Autumn teas\n\nHello {recipient}, the new harvest is here.\nhttps://shop.example.com/autumn\n"
    if encoding in ("7bit",):
        html = html.replace("—", "-").replace("Grüßen", "Gruessen").replace("söme/ünicode?q=grün", "some/ascii?q=green")
    return _message(number, sender, recipient, f"Autumn teas, no. {number}", text, html, encoding)


def receipt(number: int, recipient: str, *, sender: str = "shop@example.com") -> bytes:
    """Return a single-part HTML receipt in quoted-printable."""
    rows = "".join(f"<tr><td>Item {n}</td><td align=right>{n}.99 EUR</td></tr>\n" for n in range(1, 9))
    html = f"""<html><body><p>Thank you for order {number}.</p>
<table>{rows}</table>
<p><a href='https://shop.example.com/orders/{number}?key=abc&amp;print=1'>Your order</a></p></body></html>
"""
    body = quopri.encodestring(html.encode()).replace(b"\n", b"\r\n")
    head = _head(number, sender, recipient, f"Your order {number}")
    return (
        head + b'Content-Type: text/html; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n' + body
    )


def plain(number: int, recipient: str, *, sender: str = "shop@example.com") -> bytes:
    """Return a plain-text mail: nothing to track."""
    head = _head(number, sender, recipient, f"Note {number}")
    return head + b"Content-Type: text/plain; charset=us-ascii\r\n\r\nJust a note, see https://example.org/ .\r\n"


def of_size(
    size_bytes: int, links: int, *, sender: str = "news@example.com", recipient: str = "ada@accept.test"
) -> bytes:
    """Return a quoted-printable HTML mail of about *size_bytes* with *links* links in rows of tables."""
    row = (
        '<tr><td style="padding:12px 24px;font-family:Helvetica,Arial,sans-serif;font-size:14px;line-height:1.5;'
        'color:#51545e">Grüße aus der Werkstatt, Zeile {n}{link}</td></tr>\n'
    )
    link = ': <a href="https://shop.example.com/items/{n}?utm_source=mail&amp;id={n}" style="color:#06c">Stück {n}</a>'
    rows: list[str] = []
    total, placed = 0, 0
    while total < size_bytes * 0.97 or placed < links:
        here = placed < links and total >= placed * size_bytes // (links + 1)
        text = row.format(n=len(rows), link=link.format(n=placed) if here else "")
        placed += here
        rows.append(text)
        total += len(text) + 20  # what quoted-printable adds, about
    html = (
        f"<!DOCTYPE html>\n<html><head><title>Teas</title></head><body><table>\n{''.join(rows)}</table></body></html>\n"
    )
    body = quopri.encodestring(html.encode()).replace(b"\n", b"\r\n")
    return (
        _head(size_bytes, sender, recipient, "Autumn teas")
        + b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + body
    )


def _head(number: int, sender: str, recipient: str, subject: str) -> bytes:
    date = format_datetime(datetime(2026, 11, 22, 8, 0, tzinfo=UTC))
    return (
        f"From: Example Shop <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\nDate: {date}\r\n"
        f"Message-ID: <{number}.{recipient}>\r\nMIME-Version: 1.0\r\n"
    ).encode()


def _message(number: int, sender: str, recipient: str, subject: str, text: str, html: str, encoding: str) -> bytes:
    boundary = f"=_postwake_lab_{number}"
    data = html.replace("\n", "\r\n").encode()
    if encoding == "quoted-printable":
        data = quopri.encodestring(html.encode()).replace(b"\n", b"\r\n")
    elif encoding == "base64":
        data = base64.encodebytes(data).replace(b"\n", b"\r\n")
    lines = text.replace("\n", "\r\n")
    return (
        _head(number, sender, recipient, subject)
        + f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'.encode()
        + f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{lines}\r\n".encode()
        + f"--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\n".encode()
        + f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        + data
        + f"\r\n--{boundary}--\r\n".encode()
    )
