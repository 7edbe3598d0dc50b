"""One write transaction: ``BEGIN IMMEDIATE``, dictionaries and rollups that commit or vanish with it.

Always IMMEDIATE: a deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT when
somebody else has written in between, whatever the busy timeout.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Literal

from postwake.store.connection import WriteLock
from postwake.store.dictionary import Dictionary, ReplyDictionary
from postwake.store.rollup import Rollup

LOCK_PATIENCE_S = 5.0

SWEPT = "dictionaries_swept"
"""The key in ``meta`` that counts the times unused dictionary rows were deleted. Whoever remembers a row's number (every
writing process, in :class:`Caches`) must look it up anew when it has changed."""


class Transaction:
    """What the code inside one transaction writes through."""

    def __init__(self, connection: sqlite3.Connection, caches: Caches) -> None:
        """Made by :meth:`Transactions.begin` only."""
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.relays = caches.relays
        self.urls = caches.urls
        self.user_agents = caches.user_agents
        self.replies = caches.replies
        self.rollup = Rollup()


class Caches:
    """The dictionary tables' caches of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Start empty."""
        self.relays = Dictionary(connection, "relay")
        self.urls = Dictionary(connection, "url")
        self.user_agents = Dictionary(connection, "user_agent")
        self.replies = ReplyDictionary(connection)

    def forget(self) -> None:
        """Drop what was cached: a rollback may have taken it back."""
        for cache in (self.relays, self.urls, self.user_agents, self.replies):
            cache.forget()


class Transactions:
    """The write transactions of one connection."""

    def __init__(self, connection: sqlite3.Connection, lock: WriteLock) -> None:
        """Take the connection that :func:`~postwake.store.connection.open_writer` made, and the store's lock."""
        self.connection = connection
        self._lock = lock
        self._caches = Caches(connection)
        self._swept: str | None = None

    @contextlib.contextmanager
    def begin(self, lock_patience_s: float = LOCK_PATIENCE_S) -> Iterator[Transaction]:
        """Yield a transaction; commit it when the block ends, roll it back when the block raises."""
        with self._lock.held(lock_patience_s):
            self.connection.execute("BEGIN IMMEDIATE")
            transaction = Transaction(self.connection, self._caches)
            try:
                self._forget_what_was_swept()
                yield transaction
                transaction.rollup.flush(self.connection)
                self.connection.execute("COMMIT")
            except BaseException:
                self._caches.forget()
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled back by itself
                    if self.connection.in_transaction:
                        self.connection.execute("ROLLBACK")
                raise

    def _forget_what_was_swept(self) -> None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (SWEPT,)).fetchone()
        swept = row[0] if row is not None else ""
        if swept != self._swept:
            self._caches.forget()
        self._swept = swept

    @contextlib.contextmanager
    def savepoint(self, transaction: Transaction) -> Iterator[None]:
        """Undo only this block's writes when it raises."""
        outer, transaction.rollup = transaction.rollup, Rollup()
        transaction.execute("SAVEPOINT job")
        try:
            yield
        except BaseException:
            self._caches.forget()
            if self.connection.in_transaction:  # else SQLite has already rolled everything back
                transaction.execute("ROLLBACK TO job")
                transaction.execute("RELEASE job")
            transaction.rollup = outer
            raise
        transaction.execute("RELEASE job")
        outer.merge(transaction.rollup)
        transaction.rollup = outer

    def checkpoint(self, mode: Literal["PASSIVE", "TRUNCATE"]) -> None:
        """Move the WAL into the file: PASSIVE when idle, TRUNCATE at shutdown, never RESTART under load."""
        # Somebody reads or writes: next time. The file is damaged: the next write says so, to those who wait for it.
        with contextlib.suppress(sqlite3.DatabaseError):
            self.connection.execute(f"PRAGMA wal_checkpoint({mode})")

    def close(self) -> None:
        """Close connection and lock."""
        self.connection.close()
        self._lock.close()
