"""The Location header leads exactly where the signed URL leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_pixelserver.destination import host, location

UNCHANGED = [
    "https://example.com",
    "https://example.com/",
    "https://example.com/a/../b/./c//d",
    "https://example.com/?a=1&b=2&amp;c=3&sectionId=4",
    "https://example.com/%7Euser/%zz/%C3%BC?q=%2B+%20#frag%20ment",
    "https://example.com/#/app/route?x=1#y",
    "https://user:pass@example.com:8443/x",
    'https://example.com/[a]{b}|c^d`e"f<g>h',
    "https://example.com/a\\b",
    "https:\\\\example.com\\a",
    "https:////example.com/x",
    "HTTPS://EXAMPLE.com/Path",
    "http://[2001:db8::1]:8080/x",
    "https://example.com/?redirect=https://evil.example/",
    "https://example.com/'quoted'(paren);semi,comma",
    "https://xn--bcher-kva.example/",
]


@pytest.mark.parametrize("url", UNCHANGED)
def test_visible_ascii_is_not_touched(url: str) -> None:
    """What a header can carry goes out as it was signed: the browser's parser does the rest, as with the href."""
    assert location(url) == url


# Right column: what `new URL(href).href` of a WHATWG implementation gives, as far as this module has to go.
CONVERTED = {
    "space in path": ("https://example.com/a b", "https://example.com/a%20b"),
    "space in query": ("https://example.com/?q=a b&c=d", "https://example.com/?q=a%20b&c=d"),
    "space in fragment": ("https://example.com/#a b", "https://example.com/#a%20b"),
    "spaces around": ("  https://example.com/x  ", "https://example.com/x"),
    "umlaut in path": ("https://example.com/größe", "https://example.com/gr%C3%B6%C3%9Fe"),
    "umlaut in query": ("https://example.com/?q=größe", "https://example.com/?q=gr%C3%B6%C3%9Fe"),
    "kanji in fragment": ("https://example.com/#日本", "https://example.com/#%E6%97%A5%E6%9C%AC"),
    "emoji": ("https://example.com/😀", "https://example.com/%F0%9F%98%80"),
    "no-break space": ("https://example.com/a\u00a0b", "https://example.com/a%C2%A0b"),
    "IDN": ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
    "IDN upper case": ("https://BÜCHER.example/x", "https://xn--bcher-kva.example/x"),
    "IDN sharp s is not ss": ("https://straße.de/", "https://xn--strae-oqa.de/"),
    "IDN full stop": ("https://日本語。jp/", "https://xn--wgv71a119e.jp/"),
    "IDN full width": ("https://ｅｘａｍｐｌｅ.com/", "https://example.com/"),
    "IDN emoji host": ("https://☃.net/", "https://xn--n3h.net/"),
    "IDN half of it escaped": ("https://b%C3%BCcher%2Emünchen.de/", "https://xn--bcher-kva.xn--mnchen-3ya.de/"),
    "IDN underscore": ("https://a_b.münchen.de/", "https://a_b.xn--mnchen-3ya.de/"),
    "IDN with user and port": (
        "https://jü:pä@bücher.example:8443/ü",
        "https://j%C3%BC:p%C3%A4@xn--bcher-kva.example:8443/%C3%BC",
    ),
    "IDN directly before query": ("https://bücher.example?x=ü", "https://xn--bcher-kva.example?x=%C3%BC"),
    "IDN directly before fragment": ("https://bücher.example#ü", "https://xn--bcher-kva.example#%C3%BC"),
}


@pytest.mark.parametrize(("url", "expected"), CONVERTED.values(), ids=CONVERTED)
def test_what_a_header_cannot_carry_is_written_as_a_browser_would(url: str, expected: str) -> None:
    """Non-ASCII becomes UTF-8 percent-encoding outside the host and UTS #46 Punycode inside it; spaces become %20."""
    assert location(url) == expected


UNUSABLE = {
    "no scheme": "example.com/x",
    "relative": "/x",
    "protocol-relative": "//example.com/x",
    "backslashes": "\\\\example.com/x",
    "javascript": "javascript:alert(1)",
    "data": "data:text/html,x",
    "mailto": "mailto:a@example.com",
    "ftp": "ftp://example.com/",
    "file": "file:///etc/passwd",
    "no host": "https://",
    "no host but a path": "https:///",
    "scheme without slashes": "https:example.com",
    "CR LF": "https://example.com/\r\nSet-Cookie: a=b",
    "LF": "https://example.com/\nx",
    "NUL": "https://example.com/\0",
    "tab in scheme": "java\tscript:alert(1)",
    "DEL": "https://example.com/\x7f",
    "empty": "",
    "IDN that becomes a path": "https://exam℀ple.com/",
    "IDN that becomes a port": "https://ü%3A80.example/",
    "IDN label too long": "https://" + "ü" * 70 + ".de/",
    "non-ASCII port": "https://example.com:８０/",
}


@pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_web_address_gets_no_redirect(url: str) -> None:
    """Only http and https with a host, without control characters, are gone to, signed or not."""
    assert location(url) is None


@given(st.text(max_size=60), st.sampled_from(["https://example.com/", "https://", "http://ex", "https://é", ""]))
def test_location_is_always_a_safe_header(text: str, start: str) -> None:
    """Whatever was signed: visible ASCII only, an http scheme, and stable when applied again."""
    found = location(start + text)
    if found is not None:
        assert all(0x21 <= ord(char) <= 0x7E for char in found)
        assert found.lower().startswith(("http:", "https:"))
        assert location(found) == found


HOSTS = {
    "plain": ("https://Example.COM/x", "example.com"),
    "port": ("https://example.com:8443/", "example.com"),
    "user": ("https://example.org@evil.example/", "evil.example"),
    "two ats": ("https://a@b@evil.example/", "evil.example"),
    "backslash ends the authority": ("https://evil.example\\@example.org/", "evil.example"),
    "query ends the authority": ("https://evil.example?@example.org/", "evil.example"),
    "trailing dot": ("https://example.com./", "example.com"),
    "IPv6": ("https://[2001:DB8::1]:443/", "[2001:db8::1]"),
    "many slashes": ("https:////evil.example/", "evil.example"),
    "not ours": ("mailto:a@b", ""),
}


@pytest.mark.parametrize(("url", "expected"), HOSTS.values(), ids=HOSTS)
def test_host_is_the_one_a_browser_connects_to(url: str, expected: str) -> None:
    """The deny list compares the host that a browser would connect to."""
    assert host(url) == expected
