"""The deny list stops a link at once, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from postwake.errors import ConfigError
from postwake_pixelserver.denied import parse_denied, read_denied
from postwake_pixelserver.destination import location

LIST = """
# abused on 2026-11-20
evil.example
BÜCHER.example   # IDN, upper case
[2001:db8::1]
https://shop.example/landing/
http://mixed.example/Path?x=
"""

DENIED = {
    "host": "https://evil.example/anything",
    "host, other scheme": "http://evil.example",
    "host upper case": "https://EVIL.example/",
    "host with port": "https://evil.example:8443/",
    "host behind user information": "https://good.example@evil.example/",
    "host by backslash": "https:\\\\evil.example\\x",
    "host with trailing dot": "https://evil.example./",
    "IDN": "https://bücher.example/x",
    "IPv6": "http://[2001:db8::1]/",
    "prefix itself": "https://shop.example/landing/",
    "below prefix": "https://shop.example/landing/page?x=1",
    "prefix with user information": "https://u:p@shop.example/landing/x",
    "prefix with default port": "https://shop.example:443/landing/x",
    "prefix by backslash": "https://shop.example\\landing\\x",
    "prefix case of host": "HTTPS://SHOP.example/landing/x",
    "prefix with query": "http://mixed.example/Path?x=1",
}
ALLOWED = {
    "subdomain": "https://www.evil.example/",
    "superdomain": "https://example/",
    "longer name": "https://notevil.example/",
    "as a path": "https://good.example/evil.example",
    "as a user": "https://evil.example@good.example/",
    "other path": "https://shop.example/landing",
    "other case of path": "https://shop.example/Landing/",
    "other scheme than the prefix": "http://shop.example/landing/",
    "other port than the prefix": "https://shop.example:8443/landing/",
}


@pytest.mark.parametrize("url", DENIED.values(), ids=DENIED)
def test_denied(url: str) -> None:
    """Hosts match exactly, prefixes by what a browser would request."""
    target = location(url)
    assert target is not None
    assert target in parse_denied(LIST, "list")


@pytest.mark.parametrize("url", ALLOWED.values(), ids=ALLOWED)
def test_allowed(url: str) -> None:
    """What is not listed is not denied."""
    assert location(url) not in parse_denied(LIST, "list")


def test_every_bad_line_is_named() -> None:
    """A list with mistakes is refused as a whole, with every line that is one."""
    with pytest.raises(ConfigError) as caught:
        parse_denied("good.example\nftp://x/\nhttps://\na/b\n", "deny.txt")
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["2", "3", "4"]


def test_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A deny list that cannot be read is not an empty deny list."""
    with pytest.raises(ConfigError, match="cannot read the denied destinations"):
        read_denied(tmp_path / "nowhere")
    assert len(read_denied(None)) == 0
