"""The message around its text: which of its fields change, and that everything else of the frame stays."""

from __future__ import annotations

import email
from dataclasses import replace

import pytest

from postwake_milter.rewrite.engine import Mint, Plan, rewrite
from postwake_milter.rewrite.header_changes import HeaderChange
from postwake_milter.rewrite.whole_message import rewrite_message

STAMP = b"0197e0d5f3b87cc08a11223344556677"
HTML = b'<html><body><p>Hi <a href="https://example.com/?a=1&amp;b=2">there</a></p></body></html>\n'


def _html(*fields: bytes, body: bytes = HTML) -> bytes:
    head = (b"From: a@example.com", b"Subject: s", b"MIME-Version: 1.0", b"Content-Type: text/html; charset=utf-8")
    return b"\n".join([*head, *fields, b"", body])


# --- Header fields ---


def test_fields_are_removed_last_first(plan: Plan, mint: Mint) -> None:
    """Of one name the later field goes first, so that no deletion moves another's index."""
    fields = [(b"X-Tag", b" a"), (b"Content-Type", b" text/html"), (b"x-tag", b" b"), (b"X-Campaign", b" c")]
    changes = rewrite(fields, HTML, plan, mint).header_changes

    assert changes == (
        HeaderChange(b"x-tag", 2, None),
        HeaderChange(b"X-Tag", 1, None),
        HeaderChange(b"X-Campaign", 1, None),
    )


def test_list_unsubscribe_is_wrapped(plan: Plan, mint: Mint) -> None:
    """One field with our one-click address remains, the mailto beside it, and its Post field."""
    raw = _html(
        b"List-Unsubscribe: <mailto:u@example.com>,\n\t<https://example.com/u>",
        b"list-unsubscribe: <https://example.com/2>",
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    )
    after, result = rewrite_message(raw, replace(plan, list_unsubscribe="wrap"), mint, stamp=STAMP)
    message = email.message_from_bytes(after)

    assert message.get_all("list-unsubscribe") == [
        f"<{mint.unsubscribe_url('https://example.com/u')}>,\n <mailto:u@example.com>"
    ]
    assert message.get_all("list-unsubscribe-post") == ["List-Unsubscribe=One-Click"]
    assert result.tracked


def test_list_unsubscribe_alone_tracks_a_plain_mail(plan: Plan, mint: Mint) -> None:
    """A text mail that gets an unsubscribe address of ours is stamped, body untouched."""
    raw = b"From: a@example.com\nX-Track-Unsubscribe: yes\n\nhello\n"
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    assert result.tracked
    assert result.body is None
    assert after.endswith(b"\nX-Postwake-ID: " + STAMP + b"\n\nhello\n")
    assert b"X-Track" not in after


def test_list_unsubscribe_target_is_not_wrapped_in_the_body(plan: Plan, mint: Mint) -> None:
    """The link that the header names is the unsubscribe link, whatever it is called."""
    raw = _html(b"List-Unsubscribe: <https://example.com/?a=1&b=2>")

    assert rewrite_message(raw, plan, mint, stamp=None)[1].links_skipped == {"unsubscribe": 1}


def test_shared_body_offers_no_unsubscribing(mint: Mint) -> None:
    """A body that several recipients share gets no one-click address, whoever asks: it could not say who left. The
    reason has a name, where there would have been one."""
    fields = [(b"Content-Type", b" text/html"), (b"X-Track-Unsubscribe", b" yes")]
    body = b'<html><body><a href="https://shop.example.com/">x</a></body></html>\r\n'

    alone = rewrite(fields, body, Plan(list_unsubscribe="wrap"), mint)
    shared = rewrite(fields, body, Plan(list_unsubscribe="wrap", shared=True), mint)

    assert b"List-Unsubscribe" in {change.name for change in alone.header_changes}
    assert b"List-Unsubscribe" not in {change.name for change in shared.header_changes}
    assert shared.tracked
    assert shared.links_skipped == {"list-unsubscribe-shared": 1}
    own = [*fields, (b"List-Unsubscribe", b" <https://shop.example.com/u>")]
    assert rewrite(own, body, Plan(list_unsubscribe="add", shared=True), mint).links_skipped == {
        "list-unsubscribe-has-own": 1
    }
    assert rewrite(fields[:1], body, Plan(shared=True), mint).links_skipped == {}


# --- Whole messages ---

FRAMES = [
    pytest.param(_html(), id="lf"),
    pytest.param(_html().replace(b"\n", b"\r\n"), id="crlf"),
    pytest.param(b"From a@example.com Thu Jan  1 00:00:00 1970\n" + _html(), id="mbox"),
    pytest.param(_html(body=b"one\rtwo\r\r\n" + HTML), id="bare-cr"),
    pytest.param(_html(body=HTML.rstrip(b"\n")), id="no-final-newline"),
    pytest.param(_html().replace(b"Subject: s\n", b"Subject: s\r\n"), id="mixed-endings"),
]


@pytest.mark.parametrize("raw", FRAMES)
def test_the_frame_stays(raw: bytes, plan: Plan, mint: Mint) -> None:
    """Taking our edits out of the result gives the original bytes, however the message is framed."""
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    assert result.tracked
    eol = (
        b"\r\n"
        if b"s\r\n" in raw and b"\r\nContent" in raw
        else b"\r\n"
        if raw.startswith(b"From: a@example.com\r\n")
        else b"\n"
    )
    restored = after.replace(b"X-Postwake-ID: " + STAMP + eol, b"")
    restored = restored.replace(
        mint.click_url(0, "https://example.com/?a=1&b=2").encode(), b"https://example.com/?a=1&amp;b=2"
    )
    start = restored.index(b"<img")
    restored = restored[:start] + restored[restored.index(b">", start) + 1 :]
    assert restored == raw


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\r\n", b"x", b"From ", b"From x\n", b":\n", b"A: b", b"\x00\xff", b"Content-Type:"]
)
def test_hardly_a_message(raw: bytes, plan: Plan, mint: Mint) -> None:
    """What is hardly a message comes out as it went in."""
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    assert after == raw
    assert not result.tracked


def test_field_added_to_a_message_that_is_cut_off(plan: Plan, mint: Mint) -> None:
    """A field of ours starts on a line of its own, even where the message ends in the middle of one."""
    for raw in (b"From a@example.com Thu Jan  1 00:00:00 1970", b"Subject: cut"):
        after, _ = rewrite_message(raw, replace(plan, list_unsubscribe="add"), mint, stamp=STAMP)
        assert after.startswith(raw + b"\nList-Unsubscribe: <")
    after, _ = rewrite_message(b"Subject: s\nX-Tag: cut", replace(plan, list_unsubscribe="add"), mint, stamp=STAMP)
    assert after.startswith(b"Subject: s\nList-Unsubscribe: <")


def test_fields_with_bare_lf_folding(plan: Plan, mint: Mint) -> None:
    """A milter has fields without line endings, folded with LF: they read the same."""
    fields = [(b"Content-Type", b" multipart/mixed;\n\tboundary=b")]
    body = b"--b\r\nContent-Type: text/html\r\n\r\n" + HTML.replace(b"\n", b"\r\n") + b"\r\n--b--\r\n"
    result = rewrite(fields, body, plan, mint)

    assert result.tracked
    assert result.body is not None
    assert result.body.count(b"\n") == result.body.count(b"\r\n")


def test_rewriting_twice_changes_nothing_more(plan: Plan, mint: Mint) -> None:
    """A content filter hands the mail back: it is stamped once, and even unstamped its links stay as they are."""
    once, _ = rewrite_message(_html(), plan, mint, stamp=STAMP)
    assert rewrite_message(once, plan, mint, stamp=STAMP)[0] == once

    unstamped = once.replace(b"X-Postwake-ID: " + STAMP + b"\n", b"")
    assert rewrite_message(unstamped, replace(plan, opens=False), mint, stamp=STAMP)[1].links_skipped == {"own-host": 1}
