"""Sets of networks."""

from __future__ import annotations

import pytest

from postwake.networks import Networks


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("::1", True),
        ("2001:db8::5", True),
        ("128.0.0.1", False),
        ("::2", False),
        ("", False),
        ("localhost", False),
        ("127.0.0.1 ", False),
        ("fe80::1%eth0", False),
        ("\ud800", False),
    ],
)
def test_membership(address: str, inside: bool) -> None:
    """An address is looked up in networks of its own version, an IPv4-mapped one as IPv4; other text is in none."""
    assert (address in Networks(["127.0.0.0/8", "::1/128", "2001:db8::/32"])) is inside


def test_not_a_network() -> None:
    """Text that is no network is a ValueError."""
    with pytest.raises(ValueError, match="host bits"):
        Networks(["10.0.0.1/8"])
