"""From the URL that was signed to the ``Location`` header that leads a reader exactly there.

A browser that follows a link parses the ``href`` with the WHATWG URL parser; a browser that follows a redirect
parses ``Location`` with the same parser. So every ASCII character that may stand in a header goes out as it came in
(``%``, ``&``, ``#``, brackets, even a backslash: whatever the parser does to it, it does to both), and only what a
header cannot carry is written in the form that the parser itself would give it:

- non-ASCII in path, query, fragment and user information: UTF-8, percent-encoded (URL Standard, "percent-encode
  after encoding");
- non-ASCII in the host: Punycode after UTS #46 non-transitional mapping (URL Standard, "domain to ASCII"), so that
  ``straße.de`` stays itself and does not become ``strasse.de``, as IDNA 2003 would have it;
- spaces: ``%20``; leading and trailing ones are dropped, as the parser drops them.

RFC 9110 section 10.2.2 wants a URI-reference there. Werkzeug's own treatment (``iri_to_uri``) decodes and re-encodes,
which changes signed URLs; it is bypassed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

import idna

_SCHEME = re.compile(r"(https?:)([/\\]*)", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/\\?#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE = re.compile(r"[^\x21-\x7e]+")


@lru_cache(maxsize=4096)
def location(url: str) -> str | None:
    """Return the ``Location`` value that resolves to the same URL as *url*, ASCII only, or None if there is none.

    None means: not http or https, no host, a control character, or a host that IDNA cannot write. Such a URL is not
    sent to anybody, signed or not.
    """
    url = url.strip(" ")
    if _CONTROL.search(url):
        return None
    scheme = _SCHEME.match(url)
    if scheme is None or not scheme[2]:
        # ``http:host`` has its meaning only relative to a base; a mail has none.
        return None
    start = scheme.end()
    end_match = _AUTHORITY_END.search(url, start)
    end = end_match.start() if end_match else len(url)
    authority = url[start:end]
    if not authority:
        return None
    if authority.isascii() and " " not in authority:
        out = authority
    else:
        converted = _authority(authority)
        if converted is None:
            return None
        out = converted
    return _quote(url[:start]) + out + _quote(url[end:])


def host(url: str) -> str:
    """Return the host that *url* (as :func:`location` returns it) leads to: ASCII, lower case, "" if there is none."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return ""
    authority = _AUTHORITY_END.split(url[scheme.end() :], maxsplit=1)[0]
    name = authority.rpartition("@")[2].lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")


def _quote(text: str) -> str:
    """Percent-encode what is not visible ASCII, and nothing else."""
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), text)


def _authority(authority: str) -> str | None:
    """Write user information, host and port in ASCII; None if the host cannot be written."""
    user, at, host_port = authority.rpartition("@")
    name, colon, port = host_port.partition(":")
    if not port.isascii() or " " in host_port:
        return None
    if not name.isascii():
        ascii_name = _domain(name)
        if ascii_name is None:
            return None
        name = ascii_name
    return _quote(user) + at + name + colon + port


def _domain(name: str) -> str | None:
    """Percent-decoding, UTS #46 mapping, Punycode; lenient as browsers are (emoji and underscores exist)."""
    try:
        mapped = idna.uts46_remap(unquote(name), std3_rules=False, transitional=False)
        labels = [
            label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
            for label in mapped.split(".")
        ]
    except (idna.IDNAError, UnicodeError):
        return None
    out = ".".join(labels)
    if (
        not out.isascii()
        or _UNSAFE.search(out)
        or _AUTHORITY_END.search(out)
        or "@" in out
        or ":" in out
        or any(len(label) > 63 for label in labels)
    ):
        return None
    return out
