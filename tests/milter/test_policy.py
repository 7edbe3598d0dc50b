"""Whose mail is tracked: where it came from, and who sends it."""

from __future__ import annotations

import pytest

from postwake.events import Direction
from postwake.networks import Networks
from postwake_milter.policy import Origin, direction_of, domain_of, tracked_domain

INTERNAL = Networks(["127.0.0.0/8", "::1/128", "10.1.0.0/16"])


@pytest.mark.parametrize(
    ("origin", "direction"),
    [
        pytest.param(Origin("", ""), Direction.OUTBOUND, id="sendmail-without-address"),
        pytest.param(Origin("127.0.0.1", ""), Direction.OUTBOUND, id="loopback"),
        pytest.param(Origin("::1", ""), Direction.OUTBOUND, id="loopback-6"),
        pytest.param(Origin("::ffff:127.0.0.1", ""), Direction.OUTBOUND, id="loopback-mapped"),
        pytest.param(Origin("10.1.255.1", ""), Direction.OUTBOUND, id="internal-network"),
        pytest.param(Origin("10.2.0.1", ""), Direction.INBOUND, id="outside"),
        pytest.param(Origin("2001:db8::1", ""), Direction.INBOUND, id="outside-6"),
        pytest.param(Origin("203.0.113.9", "ada"), Direction.OUTBOUND, id="authenticated-from-outside"),
        pytest.param(Origin("unknown", ""), Direction.INBOUND, id="no-address-we-know"),
    ],
)
def test_direction(origin: Origin, direction: Direction) -> None:
    """Mail is outgoing if it was authenticated, came from an internal network, or was submitted here; else inbound."""
    assert direction_of(origin, INTERNAL) is direction


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        pytest.param("ada@Example.COM", "example.com", id="lower-case"),
        pytest.param('"a@b"@example.com', "example.com", id="quoted-local-part"),
        pytest.param("root", "", id="no-domain"),
        pytest.param("", "", id="null-sender"),
        pytest.param("ada@grün.example", "grün.example", id="smtputf8"),
    ],
)
def test_domain_of(address: str, domain: str) -> None:
    """The domain is what follows the last @, in lower case."""
    assert domain_of(address) == domain


@pytest.mark.parametrize("configured", ["grün.example", "xn--grn-ioa.example"])
@pytest.mark.parametrize("sender", ["ada@GRÜN.example", "ada@xn--grn-ioa.example"])
def test_tracked_international_domain(sender: str, configured: str) -> None:
    """A domain is the same in ASCII and in its own letters; it counts under the name that the configuration has."""
    assert tracked_domain(sender, "", [configured]) == configured
    assert tracked_domain("a@other.test", f"Ada <{sender}>", [configured]) == configured
    assert tracked_domain("ada@xn--.example", "", [configured]) is None


@pytest.mark.parametrize(
    ("sender", "header_from", "domain"),
    [
        pytest.param("a@example.com", "b@other.test", "example.com", id="envelope"),
        pytest.param("bounce-1@bounces.test", "Shop <a@EXAMPLE.com>", "example.com", id="from-field"),
        pytest.param("a@news.example.com", "a@example.com", "news.example.com", id="envelope-goes-first"),
        pytest.param("a@sub.example.com", "a@sub.example.com", None, id="subdomain-is-not-named"),
        pytest.param("a@example.com.evil.test", "a@evil.test", None, id="suffix"),
        pytest.param("a@other.test", '"a@example.com" <b@other.test>', None, id="display-name-does-not-count"),
        pytest.param("a@other.test", "", None, id="no-from"),
        pytest.param("a@other.test", "<<<@@@", None, id="broken-from"),
    ],
)
def test_tracked_domain(sender: str, header_from: str, domain: str | None) -> None:
    """The envelope sender's domain counts if it is configured, else the From field's, else none."""
    assert tracked_domain(sender, header_from, ["example.com", "news.example.com"]) == domain
