"""Lists of milters as people write them."""

from __future__ import annotations

import pytest

from postwake_operate.milter_list import parse, place, problem_of_order

OURS = "{ unix:postwake/milter.sock, default_action=accept, connect_timeout=5s }"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        ("  ,\n\t, ", []),
        ("inet:localhost:8891", ["inet:localhost:8891"]),
        ("inet:localhost:8891, unix:/run/x.sock", ["inet:localhost:8891", "unix:/run/x.sock"]),
        ("inet:localhost:8891 unix:/run/x.sock", ["inet:localhost:8891", "unix:/run/x.sock"]),
        ("{inet:localhost:8891,default_action=accept}unix:x", ["inet:localhost:8891", "unix:x"]),
        ("{ inet:[::1]:8891 }, $more", ["inet:[::1]:8891", "$more"]),
        ("\n  inet:a:1,\n# a comment, with inet:b:2\n  inet:c:3", ["inet:a:1", "inet:c:3"]),
        ("${smtpd_milters}", ["${smtpd_milters}"]),
    ],
)
def test_entries(text: str, addresses: list[str]) -> None:
    """Commas and white space separate, braces group, comment lines are none; offsets lead back to the text."""
    found = parse(text)
    assert [milter.address for milter in found] == addresses
    assert [text[milter.start : milter.end] for milter in found] == [milter.text for milter in found]


def test_options() -> None:
    """What is in braces after the address."""
    (ours,) = parse(OURS)
    assert ours.options == {"default_action": "accept", "connect_timeout": "5s"}


def test_an_open_brace() -> None:
    """Is no list: Postfix would refuse it too."""
    with pytest.raises(ValueError, match="closing brace"):
        parse("{ inet:localhost:8891, default_action=accept")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", 0),
        ("inet:localhost:8891", 0),
        ("unix:clamav/clamav-milter.ctl, unix:opendkim/opendkim.sock", 1),
        ("unix:spamass/spamass.sock, inet:localhost:11332, inet:localhost:9999", 1),
        ("unix:spamass/spamass.sock unix:opendmarc/opendmarc.sock", 2),
        ("unix:clamav/x.sock, inet:localhost:9999", 1),
        ("unix:clamav/x.sock, $more, inet:localhost:8891", 2),
        ("{ unix:/run/dkimpy-milter/x.sock, default_action=tempfail }", 0),
    ],
)
def test_where_ours_belongs(text: str, index: int) -> None:
    """Before the first that signs; else before the first that may; else at the end."""
    assert place(parse(text)) == index


def test_order() -> None:
    """A signer before us is named, one behind us is as it should be."""
    addresses = frozenset({"unix:postwake/milter.sock"})
    assert problem_of_order(parse(f"unix:clamav/x.sock, {OURS}, inet:localhost:8891"), addresses) is None
    assert problem_of_order(parse(f"inet:localhost:8891, {OURS}"), addresses) == "inet:localhost:8891"
