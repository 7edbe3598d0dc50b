#!/usr/bin/env python3
"""How long the engine takes for one message, and for its steps: milliseconds, best and median of many runs.

    bench/rewrite_speed.py [--runs 200]

Two messages that this script makes: 26 kB of quoted-printable HTML with 7 links, and 100 kB of base64 with 60.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import pstats
import quopri
import statistics
import sys
import time
from collections.abc import Callable

from postwake.tokens import KeyRing, Purpose, Token
from postwake_milter.rewrite.content import describe
from postwake_milter.rewrite.engine import Plan, rewrite
from postwake_milter.rewrite.headers import RawField, read_block
from postwake_milter.rewrite.html_edit import HtmlPlan, edit_html
from postwake_milter.rewrite.mime_parts import split
from postwake_milter.rewrite.transfer import apply_to, open_body


class SigningMint:
    """Signs real tokens, as the milter does."""

    host = "track.example.com"

    def __init__(self) -> None:
        self._ring = KeyRing({1: b"k" * 32})
        self._id = bytes(range(16))

    def _url(self, purpose: Purpose, link: int, url: str) -> str:
        return f"https://track.example.com/{purpose}/" + self._ring.sign(purpose, Token(self._id, 1, link, url))

    def open_url(self, position: int) -> str:
        return self._url(Purpose.OPEN, position, "") + ".gif"

    def click_url(self, link: int, destination: str) -> str:
        return self._url(Purpose.CLICK, link, destination)

    def unsubscribe_url(self, original: str | None) -> str:
        return self._url(Purpose.UNSUBSCRIBE, 0, original or "")


def html_of(size: int, links: int) -> bytes:
    """Return tables as templates have them, *size* bytes in all, with *links* links spread over them."""
    cell = (
        '<tr><td style="padding:12px 24px;font-family:Helvetica,Arial,sans-serif;font-size:14px;line-height:1.5;'
        'color:#51545e">Grüße aus der Werkstatt, Zeile {n}: {link}</td></tr>\n'
    )
    rows: list[str] = []
    total = 0
    every = max(1, size // links)
    placed = 0
    while total < size:
        link = "alles wie bestellt"
        if total >= placed * every and placed < links:
            link = f'<a class="b" href="https://shop.example.com/order/{placed}?utm=mail&amp;id=48213">ansehen</a>'
            placed += 1
        rows.append(cell.format(n=len(rows), link=link))
        total += len(rows[-1].encode())
    head = '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>x</title></head>\n<body><table>\n'
    return (head + "".join(rows) + "</table></body></html>\n").encode()


def message(html: bytes, encoding: str) -> tuple[list[RawField], bytes]:
    text = b"Guten Tag, https://shop.example.com/order\r\n"
    if encoding == "base64":
        body = base64.encodebytes(html).replace(b"\n", b"\r\n")
    else:
        body = quopri.encodestring(html).replace(b"\n", b"\r\n")
    raw = b"".join(
        (
            b"From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\nMIME-Version: 1.0\r\nX-PM-Tag: receipt\r\n",
            b'Content-Type: multipart/alternative; boundary="=_b"\r\n\r\n--=_b\r\nContent-Type: text/plain\r\n\r\n',
            text + b"\r\n--=_b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: ",
            encoding.encode() + b"\r\n\r\n" + body + b"\r\n--=_b--\r\n",
        )
    )
    block = read_block(raw)
    return [(item.name, item.value) for item in block.fields], raw[block.body_start :]


def measure(what: str, runs: int, call: Callable[[], object]) -> None:
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    print(f"  {what:28} best {min(times):7.3f}  median {statistics.median(times):7.3f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    args = parser.parse_args()
    mint = SigningMint()
    plan = Plan(own_hosts=frozenset({"track.example.com"}))
    html_plan = HtmlPlan(opens=True, clicks=True, own_hosts=plan.own_hosts)
    for size, links, encoding in ((26_000, 7, "quoted-printable"), (100_000, 60, "base64")):
        html = html_of(size, links)
        fields, body = message(html, encoding)
        result = rewrite(fields, body, plan, mint)
        print(f"{encoding}: {len(body)} bytes of body, {len(html)} of HTML, {len(result.destinations)} links")
        content = describe(fields)
        part = split(body, content)[-1]
        encoded = body[part.body_start : part.body_end]
        opened = open_body(encoded, encoding)
        edits = edit_html(opened.decoded, html_plan, mint).edits
        runs = args.runs
        measure("whole message", runs, lambda f=fields, b=body: rewrite(f, b, plan, mint))
        measure("split", runs, lambda b=body, c=content: split(b, c))
        measure("decode", runs, lambda e=encoded, k=encoding: open_body(e, k))
        measure("edit HTML and verify", runs, lambda d=opened.decoded: edit_html(d, html_plan, mint))
        measure("apply to encoded bytes", runs, lambda o=opened, e=edits: apply_to(o, e))
        measure(
            "sign the tokens", runs, lambda n=links: [mint.click_url(i, "https://x.example/" * 3) for i in range(n)]
        )
        if args.profile:
            profile = cProfile.Profile()
            profile.runcall(lambda f=fields, b=body: [rewrite(f, b, plan, mint) for _ in range(50)])
            pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(18)
    return 0


if __name__ == "__main__":
    sys.exit(main())
