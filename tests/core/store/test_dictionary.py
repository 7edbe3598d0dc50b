"""Dictionary tables, and replies cut into what repeats and what does not."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postwake.store.dictionary import StoredReply, cut_variable
from postwake.store.transaction import Transaction, Transactions

reply_texts = st.lists(
    st.sampled_from(
        ["{", "}", "{}", "a", "queued", "as", " ", "(", "[", "<", "=", "4F2A81B3C5", "5.7.1", "1234567", "\n"]
    ),
    max_size=12,
).map("".join) | st.text(max_size=40)


@given(reply_texts)
@settings(max_examples=500, deadline=None)
@example("{4F2A81B3C5}")
@example("a {4F2A81B3C5 } {}")
@example("{{4F2A81B3C5}}")
@example("4F2A81B3C5{}4F2A81B3C5")
def test_cutting_is_reversible(text: str) -> None:
    """The cut text with its part put back is the text, in Python and as the views do it in SQL."""
    cut, part = cut_variable(text)
    assert (cut if part is None else cut.replace("{}", part)) == text
    assert part is None or cut.count("{}") == 1


@given(reply_texts.filter(lambda text: "\0" not in text and text.isascii()))
@settings(max_examples=100, deadline=None)
def test_cutting_is_reversible_in_sql(text: str) -> None:
    """SQLite's replace(), which the views use, gives the text back too."""
    cut, part = cut_variable(text)
    with sqlite3.connect(":memory:") as connection:
        found = connection.execute("SELECT replace(?1, '{}', coalesce(?2, '{}'))", (cut, part)).fetchone()[0]
    connection.close()
    assert found == text


@pytest.mark.parametrize(
    ("text", "cut", "part"),
    [
        ("250 2.0.0 Ok: queued as 4F2A81B3C5", "250 2.0.0 Ok: queued as {}", "4F2A81B3C5"),
        ("550 5.1.1 <ann.bee1@example.net> unknown", "550 5.1.1 {} unknown", "<ann.bee1@example.net>"),
        ("250 2.0.0 OK", "250 2.0.0 OK", None),
        ("template {} 4F2A81B3C5", "template {} 4F2A81B3C5", None),
        ("a 1234567 b 7654321 c", "a {} c", "1234567 b 7654321"),
    ],
    ids=["queue-id", "address", "nothing", "braces", "first-to-last"],
)
def test_what_is_cut(text: str, cut: str, part: str | None) -> None:
    """Queue IDs, times and addresses are cut; codes stay."""
    assert cut_variable(text) == (cut, part)


def test_a_hostile_reply_costs_no_more_than_its_length() -> None:
    """A line of 64 KiB that is made to be looked at again from each place takes some milliseconds."""
    started = time.process_time()
    for text in ("(" * 65_000, "(" * 65_000 + "1", "=<" * 32_000 + " 1", "a" * 65_000, "1" * 65_000):
        cut_variable(text)
    assert time.process_time() - started < 0.5


def test_replies_are_one_by_text_and_verdict(transactions: Transactions, ask: Callable[..., list[Any]]) -> None:
    """The same reply has one row; another code, status or rule makes another."""
    replies = [
        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox", None, "a"),
        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox", None, "a"),
        StoredReply("no", 551, "5.1.1", "hard", "recipient", "bad-mailbox", None, "a"),
        StoredReply("no", 550, "5.1.0", "hard", "recipient", "bad-mailbox", None, "a"),
        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox", None, "b"),
        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox", "Yahoo", "a"),
        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox", "Gmail", "a"),
        StoredReply("no"),
        StoredReply("no"),
    ]
    with transactions.begin() as transaction:
        first = [transaction.replies.id(reply) for reply in replies]
        transaction.replies.forget()
        assert [transaction.replies.id(reply) for reply in replies] == first
    assert [first.index(number) for number in first] == [0, 0, 2, 3, 4, 5, 6, 7, 7]
    assert ask("SELECT count(*) FROM reply") == [(7,)]


def test_texts_live_once(transactions: Transactions, ask: Callable[..., list[Any]]) -> None:
    """A text has one number for ever; the empty one has none."""
    with transactions.begin() as transaction:
        one, two = transaction.urls.id("a"), transaction.urls.id("b")
        transaction.urls.forget()
        assert (transaction.urls.id("a"), transaction.urls.id("b"), transaction.urls.id("")) == (one, two, None)
    assert ask("SELECT text FROM url ORDER BY id") == [("a",), ("b",)]


def test_what_was_rolled_back_is_not_remembered(transactions: Transactions, ask: Callable[..., list[Any]]) -> None:
    """A number given out in a transaction or savepoint that failed is not used afterwards."""

    def fail(transaction: Transaction, text: str) -> None:
        transaction.urls.id(text)
        raise KeyError

    with pytest.raises(KeyError), transactions.begin() as transaction:
        fail(transaction, "lost")
    with transactions.begin() as transaction:
        with pytest.raises(KeyError), transactions.savepoint(transaction):
            fail(transaction, "lost too")
        kept = [transaction.urls.id(text) for text in ("x", "lost", "lost too")]
    assert ask("SELECT id, text FROM url ORDER BY id") == list(zip(kept, ("x", "lost", "lost too"), strict=True))
