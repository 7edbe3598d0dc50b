"""Removing what is older than [retention] says, while everybody goes on writing.

What goes, and what stays:

- A message goes with its deliveries, events and engagement, and with the queue IDs that turned out to be it. Events of it
  that are younger than the limit stay without a message, as does a hit that comes after: ``purged_before_us`` in ``meta``
  tells the pixel server not to make such a message anew. Links never break: a token needs no store.
- Mail that is still queued or deferred stays, however old.
- Readers' addresses and user agents become NULL; the hit, its time and its verdict stay.
- Rollups stay, but for the hourly ones past their own limit: reports of purged months still say what they said, but for
  the replies that went (as texts by strangers they may name anybody).
- The message that owns the newest number of a table stays until there is a newer one: SQLite gives a number out again
  when it was the highest, and others remember up to which number they have looked.
- Dictionary rows that no event refers to any more. The newest reply stays until there is a newer one: rollups know
  replies by their number, and one that was given out again would count for another.

Every transaction is small: its size follows how long the last one took (:data:`TARGET_S`), and as much time is left
to the others in between.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from postwake.config import Retention
from postwake.store.accepted import MERGES
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.queries import _hours
from postwake.store.schema import DAY_US, HOUR_US
from postwake.store.transaction import SWEPT, Transaction, Transactions

TARGET_S = 0.015
"""What a transaction aims at: well below the 50 ms that the services are promised."""
FIRST_BATCH = 20
MAX_BATCH = 2000
SCAN_ROWS = 50_000
"""Rows read between two moments, so that no read transaction keeps the write-ahead log from being checkpointed."""
PARENT_DAYS = 31
"""A bounce is made while its mail is in the queue: at most so many days after it."""
PURGED = "purged_before_us"
_CLIENTS_FROM = "clients_kept_from_event"
"""Before this event no reader's address is left: where the next look begins."""
_OPEN = "0, 2"
"""State.QUEUED and State.DEFERRED."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is older goes; None: nothing does. Microseconds UTC."""

    messages_us: int | None
    clients_us: int | None
    hours_us: int | None

    @classmethod
    def of(cls, retention: Retention, now_us: int) -> Limits:
        """Return the limits that *retention* sets at *now_us*."""

        def limit(days: int) -> int | None:
            return now_us - days * DAY_US if days else None

        return cls(limit(retention.events_days), limit(retention.client_days), limit(retention.rollup_hours_days))


@dataclass(slots=True)
class Purged:
    """How many rows went (or, in a dry run, would)."""

    messages: int = 0
    deliveries: int = 0
    events: int = 0
    clients: int = 0
    """Events that lost the reader's address and agent."""
    hourly_rollups: int = 0
    dictionary_rows: int = 0
    kept_in_queue: int = 0
    """Messages past the limit that are still queued or deferred."""
    transactions: int = 0
    longest_ms: float = 0.0

    def rows(self) -> int:
        """Return how many rows were deleted or changed."""
        counted = (field.name for field in fields(self) if field.name not in _NOT_ROWS)
        return int(sum(getattr(self, name) for name in counted))


_NOT_ROWS = ("kept_in_queue", "transactions", "longest_ms")


def purge(
    path: Path,
    limits: Limits,
    *,
    dry_run: bool = False,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.perf_counter,
) -> Purged:
    """Remove from the store at *path* what is older than *limits*; with *dry_run* only count it.

    *pause* is called with seconds between transactions. :class:`StoreUnavailableError` if the store cannot be opened;
    sqlite3.OperationalError if it fails in between: what was committed stays, and the next run goes on.
    """
    found = Purged()
    with contextlib.closing(open_reader(path)) as reader:
        if dry_run:
            _count(reader, limits, found)
            return found
        with contextlib.closing(_open(path)) as transactions:
            work = _Work(reader, transactions, found, pause, clock)
            if limits.messages_us is not None:
                work.messages(limits.messages_us)
                work.loose_events(limits.messages_us)
                work.parents(limits.messages_us)
            if limits.clients_us is not None:
                work.clients(limits.clients_us)
            if limits.hours_us is not None:
                work.hourly_rollups(limits.hours_us)
            if found.events or found.clients:
                work.dictionaries()
            transactions.checkpoint("PASSIVE")
    return found


def _open(path: Path) -> Transactions:
    connection = open_writer(path)
    # Zeros over what is deleted: who asks for removal does not expect it in the file's free space.
    connection.execute("PRAGMA secure_delete = ON")
    # Not within a transaction's time: between them.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return Transactions(connection, WriteLock(path))


_FAMILY = """
WITH RECURSIVE family (root, id) AS (
  SELECT value, value FROM json_each(?1)
  UNION SELECT family.root, message.id FROM message JOIN family ON message.merged_into = family.id)
"""
_STILL_QUEUED = f"""
SELECT DISTINCT root FROM family
WHERE EXISTS (SELECT 1 FROM delivery WHERE delivery.message = family.id AND delivery.state IN ({_OPEN}))
OR (EXISTS (SELECT 1 FROM queue WHERE queue.message = family.id)
    AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.message = family.root))
"""


def _old_messages(reader: sqlite3.Connection, before_us: int) -> Iterator[list[int]]:
    """Yield, an hour at a time, the messages of before *before_us* that are not part of another."""
    for hour in list(_hours(reader, "message", "message_queue_id")):
        if hour <= before_us // HOUR_US:
            rows = reader.execute(
                "SELECT id FROM message INDEXED BY message_queue_id WHERE at_us / 3600000000 = ? AND at_us < ? AND merged_into IS NULL",
                (hour, before_us),
            ).fetchall()
            yield [row[0] for row in rows]


def _families(connection: sqlite3.Connection, roots: Sequence[int]) -> tuple[list[int], int]:
    """Return the messages that may go with *roots*, and how many of the roots are still in the queue."""
    newest = {
        row[0]
        for row in connection.execute(
            "SELECT max(id) FROM message UNION SELECT message FROM event WHERE id = (SELECT max(id) FROM event)"
            " UNION SELECT message FROM delivery WHERE id = (SELECT max(id) FROM delivery)"
        )
    }
    queued = {row[0] for row in connection.execute(_FAMILY + _STILL_QUEUED, (json.dumps(roots),))}
    members = connection.execute(_FAMILY + "SELECT root, id FROM family", (json.dumps(roots),)).fetchall()
    kept = queued | {root for root, number in members if number in newest}
    return [number for root, number in members if root not in kept], len(queued)


def _count(reader: sqlite3.Connection, limits: Limits, found: Purged) -> None:
    if limits.messages_us is not None:
        for roots in _old_messages(reader, limits.messages_us):
            for start in range(0, len(roots), 500):
                numbers, queued = _families(reader, roots[start : start + 500])
                text = json.dumps(numbers)
                found.kept_in_queue += queued
                found.messages += len(numbers)
                for name, table, also in (("deliveries", "delivery", ""), ("events", "event", " AND at_us < ?2")):
                    values = (text, limits.messages_us) if also else (text,)
                    sql = f"SELECT count(*) FROM {table} WHERE message IN (SELECT value FROM json_each(?1)){also}"
                    setattr(found, name, getattr(found, name) + reader.execute(sql, values).fetchone()[0])
                found.clients -= _going_with_clients(
                    reader, "message IN (SELECT value FROM json_each(?1))", text, limits
                )
        loose = "message IS NULL AND id < (SELECT max(id) FROM event)"
        found.events += reader.execute(
            f"SELECT count(*) FROM event WHERE {loose} AND at_us < ?", (limits.messages_us,)
        ).fetchone()[0]
        found.clients -= _going_with_clients(reader, f"{loose} AND ?1 = ''", "", limits)
    if limits.clients_us is not None:
        for rows in _hits_with_client(reader, 0):
            found.clients += sum(at_us < limits.clients_us for _, at_us in rows)
    if limits.hours_us is not None:
        found.hourly_rollups = reader.execute(
            "SELECT count(*) FROM rollup WHERE span = 'hour' AND start_us < ?", (limits.hours_us,)
        ).fetchone()[0]


def _going_with_clients(reader: sqlite3.Connection, which: str, value: str, limits: Limits) -> int:
    """Return how many of the events that go would have lost the reader's address and agent if they had stayed."""
    if limits.messages_us is None or limits.clients_us is None:
        return 0
    sql = f"SELECT count(*) FROM event WHERE {which} AND at_us < ?2 AND (client IS NOT NULL OR user_agent IS NOT NULL)"
    return int(reader.execute(sql, (value, min(limits.messages_us, limits.clients_us))).fetchone()[0])


def _hits_with_client(reader: sqlite3.Connection, start: int) -> Iterator[list[tuple[int, int]]]:
    """Yield number and time of the events from *start* on that hold a reader's address or agent."""
    last = reader.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
    while start <= last:
        rows = reader.execute(
            "SELECT id, at_us FROM event WHERE id >= ? AND id < ? AND (client IS NOT NULL OR user_agent IS NOT NULL)",
            (start, start + SCAN_ROWS),
        ).fetchall()
        yield [(row[0], row[1]) for row in rows]
        start += SCAN_ROWS


class _Work:
    """One run."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        transactions: Transactions,
        found: Purged,
        pause: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._transactions = transactions
        self._found = found
        self._pause = pause
        self._clock = clock
        self._batch = FIRST_BATCH

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with self._transactions.begin() as transaction:
            started = self._clock()
            yield transaction
        took_s = self._clock() - started
        self._found.transactions += 1
        self._found.longest_ms = max(self._found.longest_ms, took_s * 1000)
        factor = min(2.0, max(0.25, TARGET_S / max(took_s, 1e-6)))
        self._batch = max(1, min(MAX_BATCH, int(self._batch * factor)))
        self._transactions.checkpoint("PASSIVE")
        self._pause(took_s)

    def _batches(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        start = 0
        while start < len(numbers):
            batch = numbers[start : start + self._batch]
            start += len(batch)
            yield batch

    def messages(self, before_us: int) -> None:
        with self._transaction() as transaction:
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE"
                " SET value = max(CAST(value AS INTEGER), CAST(?2 AS INTEGER))",
                (PURGED, str(before_us)),
            )
        for roots in _old_messages(self._reader, before_us):
            for batch in self._batches(roots):
                with self._transaction() as transaction:
                    self._messages(transaction, batch, before_us)

    def _messages(self, transaction: Transaction, roots: Sequence[int], before_us: int) -> None:
        numbers, queued = _families(transaction.connection, roots)
        self._found.kept_in_queue += queued
        if not numbers:
            return
        these = "IN (SELECT value FROM json_each(?1))"
        text = json.dumps(numbers)
        execute = transaction.execute
        execute(
            f"UPDATE event SET message = NULL, delivery = NULL, recipient_idx = NULL WHERE message {these} AND at_us >= ?2",
            (text, before_us),
        )
        execute(f"DELETE FROM relabel WHERE event IN (SELECT id FROM event WHERE message {these})", (text,))
        self._found.events += execute(f"DELETE FROM event WHERE message {these}", (text,)).rowcount
        execute(f"DELETE FROM engagement WHERE message {these}", (text,))
        self._found.deliveries += execute(f"DELETE FROM delivery WHERE message {these}", (text,)).rowcount
        execute(f"DELETE FROM queue WHERE message {these}", (text,))
        self._found.messages += execute(f"DELETE FROM message WHERE id {these}", (text,)).rowcount
        # The log parser may remember one of them.
        bump(transaction, MERGES)

    def loose_events(self, before_us: int) -> None:
        rows = self._reader.execute(
            "SELECT id FROM event WHERE message IS NULL AND at_us < ? AND id < (SELECT max(id) FROM event)",
            (before_us,),
        ).fetchall()
        for batch in self._batches([row[0] for row in rows]):
            with self._transaction() as transaction:
                text = json.dumps(batch)
                transaction.execute("DELETE FROM relabel WHERE event IN (SELECT value FROM json_each(?))", (text,))
                # Looked at again: a row that came from a spool may have given it a message meanwhile.
                self._found.events += transaction.execute(
                    "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?)) AND message IS NULL", (text,)
                ).rowcount

    def parents(self, before_us: int) -> None:
        """Take away the mention of a purged message from the bounces that it caused."""
        hour = before_us // HOUR_US
        rows = self._reader.execute(
            "SELECT id FROM message INDEXED BY message_queue_id WHERE at_us / 3600000000 BETWEEN ? AND ?"
            " AND parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM message AS there WHERE there.id = message.parent)",
            (hour - 24 * PARENT_DAYS, hour + 24 * PARENT_DAYS),
        ).fetchall()
        for batch in self._batches([row[0] for row in rows]):
            with self._transaction() as transaction:
                transaction.execute(
                    "UPDATE message SET parent = NULL WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps(batch),),
                )

    def clients(self, before_us: int) -> None:
        row = self._reader.execute("SELECT value FROM meta WHERE key = ?", (_CLIENTS_FROM,)).fetchone()
        kept_from: int | None = None
        last = self._reader.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
        for rows in _hits_with_client(self._reader, int(row[0]) if row else 0):
            young = [number for number, at_us in rows if at_us >= before_us]
            if young and kept_from is None:
                kept_from = young[0]
            for batch in self._batches([number for number, at_us in rows if at_us < before_us]):
                with self._transaction() as transaction:
                    self._found.clients += transaction.execute(
                        "UPDATE event SET client = NULL, user_agent = NULL WHERE id IN (SELECT value FROM json_each(?))",
                        (json.dumps(batch),),
                    ).rowcount
        with self._transaction() as transaction:
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (_CLIENTS_FROM, str(kept_from if kept_from is not None else last + 1)),
            )

    def hourly_rollups(self, before_us: int) -> None:
        bases = self._reader.execute("SELECT DISTINCT basis, dimension FROM rollup WHERE span = 'hour'").fetchall()
        key = "basis, span, dimension, start_us, key, measure"
        for basis, dimension in bases:
            deleted = 1
            while deleted:
                with self._transaction() as transaction:
                    deleted = transaction.execute(
                        f"DELETE FROM rollup WHERE ({key}) IN (SELECT {key} FROM rollup WHERE basis = ? AND span = 'hour'"
                        " AND dimension = ? AND start_us < ? LIMIT ?)",
                        (basis, dimension, before_us, self._batch),
                    ).rowcount
                self._found.hourly_rollups += deleted

    def dictionaries(self) -> None:
        """Delete dictionary rows that no event refers to; what came since the look is looked at in the deletion."""
        tables = ("relay", "url", "user_agent", "reply")
        # Read first: what is entered from now on is no candidate.
        unused = {table: {row[0] for row in self._reader.execute(f"SELECT id FROM {table}")} for table in tables}
        unused["reply"].discard(max(unused["reply"], default=0))
        last = self._reader.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
        for start in range(0, last + 1, SCAN_ROWS):
            _strike(self._reader, unused, start, min(start + SCAN_ROWS, last + 1))
        looked = last + 1
        for table in tables:
            for batch in self._batches(sorted(unused[table])):
                with self._transaction() as transaction:
                    end = transaction.execute("SELECT coalesce(max(id), 0) + 1 FROM event").fetchone()[0]
                    _strike(transaction.connection, unused, looked, end)
                    looked = max(looked, end)
                    these = json.dumps([number for number in batch if number in unused[table]])
                    self._found.dictionary_rows += transaction.execute(
                        f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))", (these,)
                    ).rowcount
                    bump(transaction, SWEPT)


def _strike(connection: sqlite3.Connection, unused: dict[str, set[int]], start: int, end: int) -> None:
    """Take out of *unused* what the events numbered from *start* to before *end* refer to."""
    for relay, url, user_agent, reply in connection.execute(
        "SELECT DISTINCT relay, url, user_agent, reply FROM event WHERE id >= ? AND id < ?", (start, end)
    ):
        unused["relay"].discard(relay)
        unused["url"].discard(url)
        unused["user_agent"].discard(user_agent)
        unused["reply"].discard(reply)


def bump(transaction: Transaction, key: str) -> None:
    """Raise the number under *key* in ``meta``: whoever remembers things from before reads them anew."""
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES (?, '1') ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) + 1",
        (key,),
    )
