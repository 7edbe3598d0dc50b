"""List-Unsubscribe is added or wrapped with one click, and nothing the sender wrote is lost."""

from __future__ import annotations

import pytest

from postwake_milter.rewrite.unsubscribe import list_unsubscribe, targets


class _Mint:
    def unsubscribe_url(self, original: str | None) -> str:
        return "https://t.example/u/" + ("-" if original is None else original.replace("://", "."))


POST = (b"list-unsubscribe-post", b" List-Unsubscribe=One-Click")
OWN = frozenset({"t.example"})
TABLE = [
    pytest.param("add", None, b"<https://t.example/u/->", id="add-to-nothing"),
    pytest.param("add", b" <mailto:u@e.com>", b"<https://t.example/u/->,\n <mailto:u@e.com>", id="add-to-mailto"),
    pytest.param("add", b" <https://e.com/u>", "has-own", id="add-leaves-the-senders-own"),
    pytest.param("wrap", None, b"<https://t.example/u/->", id="wrap-nothing"),
    pytest.param("wrap", b" <https://e.com/u>", b"<https://t.example/u/https.e.com/u>", id="wrap"),
    pytest.param(
        "wrap",
        b" <mailto:u@e.com?subject=x>,\r\n\t<http://e.com/a>, <https://e.com/b>",
        b"<https://t.example/u/https.e.com/b>,\n <mailto:u@e.com?subject=x>",
        id="wrap-prefers-https-keeps-mailto",
    ),
    pytest.param("wrap", b" <https://e.com/\r\n  long>", b"<https://t.example/u/https.e.com/long>", id="folded-inside"),
    pytest.param(
        "wrap",
        b" (not <https://e.com/x> (nor <https://e.com/y>)) <https://e.com/u(1)> (but this)",
        b"<https://t.example/u/https.e.com/u(1)>",
        id="comments",
    ),
    pytest.param("wrap", b" :-( <https://e.com/u>", b"<https://t.example/u/https.e.com/u>", id="comment-never-closed"),
    pytest.param("wrap", b" (<https://e.com/u>)", "malformed", id="only-in-a-comment"),
    pytest.param("wrap", b" <https://t.example/u/x>", "own-host", id="already-ours"),
    pytest.param("wrap", b" https://e.com/u", "malformed", id="no-brackets"),
    pytest.param("add", b" <mailto:u@e.com?subject=<x>>", "malformed", id="brackets-in-brackets"),
    pytest.param("add", b" <mailto:\xc3\xbc@e.com>", "malformed", id="mailto-not-ascii"),
    pytest.param("wrap", b" <ftp://e.com/u>, <mailto:u@e.com>", "malformed", id="another-scheme"),
    pytest.param("wrap", b" <https://e.com/\x01>", "malformed", id="control-character"),
    pytest.param("wrap", b" <https://e.com/" + b"x" * 1000 + b">", "too-long", id="too-long-for-a-line"),
    pytest.param("add", b" ", b"<https://t.example/u/->", id="empty-field"),
]


@pytest.mark.parametrize(("how", "value", "expected"), TABLE)
def test_list_unsubscribe(how: str, value: bytes | None, expected: bytes | str) -> None:
    """RFC 2369 lists read right, RFC 8058's address goes first, and mailto stays."""
    fields = [] if value is None else [(b"List-Unsubscribe", value), POST]
    result = list_unsubscribe(fields, "wrap" if how == "wrap" else "add", OWN, _Mint())

    assert (result.value if isinstance(expected, bytes) else result.skipped) == expected


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b"List-Unsubscribe", b" <https://e.com/u>")], id="a-page-to-look-at"),
        pytest.param([(b"List-Unsubscribe", b" <http://e.com/u>"), POST], id="not-https"),
        pytest.param(
            [(b"List-Unsubscribe", b" <https://e.com/u>"), (b"List-Unsubscribe-Post", b" yes")], id="some-other-post"
        ),
    ],
)
def test_what_takes_no_click_is_not_taken_over(fields: list[tuple[bytes, bytes]]) -> None:
    """An address that nothing can be POSTed to stays: an unsubscription from ours could not be passed on to it."""
    result = list_unsubscribe(fields, "wrap", OWN, _Mint())

    assert (result.value, result.skipped) == (None, "not-one-click")


def test_a_path_of_ours_is_not_the_whole_site() -> None:
    """Where the tracking URL is a path of the sender's own site, the sender's own address is elsewhere on it."""
    own = frozenset(("e.com/mail",))

    def wrapped(url: bytes) -> str | None:
        return list_unsubscribe([(b"List-Unsubscribe", b" <" + url + b">"), POST], "wrap", own, _Mint()).skipped

    assert (wrapped(b"https://e.com/u"), wrapped(b"https://e.com/mail/u/x")) == (None, "own-host")


def test_one_click_needs_https() -> None:
    """A tracking host without TLS offers no one-click address: mail programs would not use it, nor the sender's own."""

    class Mint(_Mint):
        def unsubscribe_url(self, original: str | None) -> str:
            return super().unsubscribe_url(original).replace("https:", "http:")

    result = list_unsubscribe([(b"List-Unsubscribe", b" <https://e.com/u>"), POST], "wrap", OWN, Mint())

    assert (result.value, result.skipped) == (None, "not-https")


def test_targets_of_several_fields() -> None:
    """Every address of every field counts, so that the link in the body is recognised."""
    fields = [
        (b"list-unsubscribe", b" <https://e.com/1>, <mailto:x@e.com>"),
        (b"List-Unsubscribe", b" <https://e.com/2>"),
    ]

    assert targets(fields) == ["https://e.com/1", "mailto:x@e.com", "https://e.com/2"]
