"""Readers: what mail clients do with a delivered message."""

from __future__ import annotations

import email.policy
import http.client
import re
from email.parser import BytesParser
from urllib.parse import urlsplit

from lxml import html

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.1.0"
_PIXEL = re.compile(r"/o/[A-Za-z0-9_-]+\.gif$")
_CLICK = re.compile(r"/c/[A-Za-z0-9_-]+$")


def tracked_urls(message: bytes) -> tuple[list[str], list[str]]:
    """Return the pixels and the wrapped links in a delivered message's HTML."""
    parsed = BytesParser(policy=email.policy.default).parsebytes(message)
    part = parsed.get_body(("html",))
    if part is None:
        return [], []
    tree = html.fromstring(part.get_content())
    pixels = [src for image in tree.iter("img") if _PIXEL.search(src := image.get("src", ""))]
    links = [href for anchor in tree.iter("a") if _CLICK.search(href := anchor.get("href", ""))]
    return pixels, links


def fetch(
    url: str, *, method: str = "GET", user_agent: str = BROWSER, timeout_s: float = 10
) -> tuple[int, dict[str, str], bytes]:
    """Ask for *url* without following redirects; return status, header fields in lower case, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, headers={"User-Agent": user_agent, "Accept-Language": "en"})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()
