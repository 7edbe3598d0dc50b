"""Mail to one address that an alias led to two mailboxes: they share one token, and which of them it was is unknown."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.events import EventType, Who
from postwake.store import queries, recipients
from postwake.store.connection import open_reader
from postwake.store.hit_group import apply_hits
from postwake.store.transaction import Transactions

Make = Callable[..., Any]


@pytest.fixture
def alias(store: Path, apply: Make, accepted: Make) -> Any:
    """Mail to team@example.com, which the log parser found to have gone to Ann and Bo."""
    event = accepted(recipients=("team@example.com",))
    apply(event)
    with closing(sqlite3.connect(store)) as connection, connection:
        change = "UPDATE delivery SET recipient = 'ann@example.net', original_recipient = 'team@example.com'"
        connection.execute(f"{change}, state = 1")
        connection.execute(
            "INSERT INTO delivery (message, recipient, original_recipient, idx, state, at_us)"
            " SELECT message, 'bo@example.net', original_recipient, idx, state, at_us FROM delivery"
        )
    return event


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_a_hit_is_nobodys_in_particular(
    alias: Any, apply: Make, hit: Make, transactions: Transactions, store: Path, together: bool
) -> None:
    """Neither of the two is named for it, and what was done is told once, of the recipient that was asked for."""
    hits = [hit(1, who=Who.HUMAN), hit(2, EventType.CLICKED, who=Who.HUMAN)]
    if together:
        with transactions.begin() as transaction:
            apply_hits(transaction, hits)
    else:
        apply(*hits)
    with closing(open_reader(store)) as connection:
        assert connection.execute("SELECT recipient FROM opens").fetchall()[0][0] is None
        assert connection.execute("SELECT recipient FROM clicks").fetchall()[0][0] is None
        (reader,) = queries.engagement(connection, 1)
    assert (reader["recipient"], reader["opens_human"], reader["clicks_human"]) == ("team@example.com", 1, 1)


def test_who_unsubscribed_is_who_was_asked_for(alias: Any, apply: Make, hit: Make, store: Path, noon_us: int) -> None:
    """The sender's list has the alias: it is the one to be taken off, and neither of the two asked for it by name."""
    apply(hit(1, EventType.UNSUBSCRIBED))
    with closing(open_reader(store)) as connection:
        rows = list(recipients.unsubscribed(connection, noon_us, noon_us + 3_600_000_000))
    assert [row["recipient"] for row in rows] == ["team@example.com"]
