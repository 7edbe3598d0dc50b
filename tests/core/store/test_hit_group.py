"""Hits written together say the same as hits written one by one."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from postwake.events import EventType, Who
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, open_writer
from postwake.store.hit_group import apply_hits
from postwake.store.many_rows import NotTogetherError
from postwake.store.transaction import Transactions

TABLES = ("event", "engagement", "rollup", "message")


@pytest.mark.parametrize("seed", range(8))
def test_same_as_one_by_one(seed: int, empty_store: Path, tmp_path: Path, accepted, hit) -> None:
    """Events, readers, rollups and made messages are equal, for known and unknown messages, shared and not."""
    dice = random.Random(seed)
    known = accepted(1, recipients=("a@example.net", "b@example.net"), tag="weekly")
    hits = [
        hit(
            n,
            dice.choice([EventType.OPENED, EventType.CLICKED]),
            dice.choice([1, 1, 2, 3]),
            recipient=dice.randrange(3),
            who=dice.choice(list(Who)),
            at_us=known.at_us + dice.randrange(10**10),
            url=dice.choice(["", "https://example.com/", "a\0b"]),
            link=n,
        )
        for n in range(40)
    ]
    found = []
    for together in (True, False):
        path = Path(shutil.copy(empty_store, tmp_path / f"{together}.db"))
        transactions = Transactions(open_writer(path), WriteLock(path))
        with transactions.begin() as transaction:
            apply_event(transaction, known)
        for start in range(0, len(hits), 8):
            with transactions.begin() as transaction:
                if together:
                    apply_hits(transaction, hits[start : start + 8])
                else:
                    for one in hits[start : start + 8]:
                        apply_event(transaction, one)
        transactions.close()
        with closing(sqlite3.connect(path)) as connection:
            found.append([connection.execute(f"SELECT * FROM {t} WHERE 1 ORDER BY 1, 2, 3").fetchall() for t in TABLES])
    for one, other in zip(*found, strict=True):
        assert [row for row in one if row[-1] != 0] == [row for row in other if row[-1] != 0]


def test_declined(transactions: Transactions, accepted, hit) -> None:
    """What is there already, and who unsubscribes, goes one by one."""
    with transactions.begin() as transaction:
        apply_event(transaction, accepted())
        apply_event(transaction, hit(1))
        for group in ([hit(1), hit(2)], [hit(3), hit(3)], [hit(4), hit(5, EventType.UNSUBSCRIBED)]):
            with pytest.raises(NotTogetherError), transactions.savepoint(transaction):
                apply_hits(transaction, group)
