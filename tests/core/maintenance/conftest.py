"""For the maintenance tests: stores with a past, written by the code that the daemons run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.events import Event, EventType, Who
from postwake.store.transaction import Transactions

DAY_US = 86_400_000_000


@pytest.fixture
def rows(store: Path) -> Callable[[str], int]:
    """Count the rows of a table."""

    def count(table: str) -> int:
        with closing(sqlite3.connect(store)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    return count


@pytest.fixture
def finish(transactions: Transactions) -> Callable[..., None]:
    """Have the deliveries of messages end in a state, as the log parser does, and the queue let go of them."""

    def end(*numbers: int, state: int = 1) -> None:
        with transactions.begin() as transaction:
            for number in numbers:
                (at_us,) = transaction.execute("SELECT at_us FROM message WHERE id = ?", (number,)).fetchone()
                for (delivery,) in transaction.execute(
                    "SELECT id FROM delivery WHERE message = ?", (number,)
                ).fetchall():
                    text = f"250 2.0.0 Ok: queued as {{}} for message {number}"
                    reply = transaction.execute(
                        "INSERT INTO reply (text, code) VALUES (?, 250) RETURNING id", (f"{text} {delivery} {state}",)
                    ).fetchone()[0]
                    event = transaction.execute(
                        "INSERT INTO event (at_us, type, message, delivery, relay, reply) VALUES (?, 3, ?, ?, ?, ?)"
                        " RETURNING id",
                        (at_us + 1, number, delivery, transaction.relays.id(f"mx{number}.example.net"), reply),
                    ).fetchone()[0]
                    transaction.execute(
                        "UPDATE delivery SET state = ?, last_event = ? WHERE id = ?", (state, event, delivery)
                    )
                if state == 1:
                    transaction.execute("DELETE FROM queue WHERE message = ?", (number,))

    return end


@pytest.fixture
def past(
    accepted: Callable[..., Any],
    hit: Callable[..., Any],
    apply: Callable[..., None],
    finish: Callable[..., None],
    noon_us: int,
) -> int:
    """Ten messages, one a day, the newest today; each sent, opened and clicked. Returns the newest's time."""
    for n in range(1, 11):
        at_us = noon_us - (10 - n) * DAY_US
        message = accepted(n, at_us=at_us, recipients=(f"reader{n}@example.net",))
        events: list[Event] = [message]
        for number, kind in ((2 * n, EventType.OPENED), (2 * n + 1, EventType.CLICKED)):
            url = f"https://shop.example.com/{n}" if kind is EventType.CLICKED else ""
            about = {"tracking_id": message.tracking_id, "who": Who.HUMAN, "url": url}
            reader = {"client": f"192.0.2.{n}", "user_agent": f"Browser/{n}"}
            events.append(hit(number, kind, at_us=at_us + 60_000_000, **about, **reader))
        apply(*events)
        finish(n)
    return noon_us
