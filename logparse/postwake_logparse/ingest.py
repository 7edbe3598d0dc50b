"""Blocks of the log and one transaction: their events and the cursor behind them commit together or not at all.

A crash before the commit reads the blocks again; after it, never again. When the store cannot be written the log waits
on the disk, nothing is lost.

The cursor also guards against a second reader. Each commit moves it from where *this* process left it; if it stands
elsewhere, somebody else reads the same log, and one of the two must stop. A file is known by its content, so what a
backfill has read of it is not taken again when it is followed, nor the other way round (see :class:`Ingester`).
"""

from __future__ import annotations

import gc
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from postwake.errors import StoreUnavailableError, UnavailableError
from postwake.store.connection import LockStats, Synchronous, WriteLock, file_identity, is_the_stores, open_writer
from postwake.store.transaction import Transaction, Transactions
from postwake_logparse.attempt_reading import AttemptReader, Tried
from postwake_logparse.backfill_files import cursor_name
from postwake_logparse.correlate import Correlator
from postwake_logparse.file_identity import FileState
from postwake_logparse.record import Record
from postwake_logparse.shapes import Tally
from postwake_logparse.source import Chunk, Cursor
from postwake_logparse.stamp import StampReader

CACHE_KIB = 8000
"""Holds the pages of the day that is written; twice as much is no faster, and counts in the process's memory."""

FLUSH_BYTES = 512 * 1024
"""Rows made from as much of the log wait in memory, and at the end of a transaction that somebody waits for."""

CHECKPOINT_BYTES = 1 << 20
"""After as much of the log, some 4 MB of the write-ahead log, that is moved into the file, while others may write."""

_BACKFILL = "backfill:"
_FOLLOWED = "followed:"


class Grammar(Protocol):
    """What turns blocks of one MTA's log into records, and counts what became of the lines."""

    tally: Tally

    def parse_block(self, data: bytes, clock: StampReader) -> Iterable[Record]:
        """Return the records of a block of whole lines, in order."""


class AnotherReaderError(UnavailableError):
    """The cursor is not where this process left it: another one reads the same log into the same store."""


@dataclass(slots=True)
class IngestStats:
    """Counts since this process started; read without a lock by metrics."""

    blocks: int = 0
    records: int = 0
    commits: int = 0
    failures: int = 0
    last_error: str = ""
    last_line_us: int = 0
    lock: LockStats = field(default_factory=LockStats)


class Ingester:
    """Writes what a log says. Not for several threads at once.

    Besides the sources' cursors two kinds of rows stand in the ``cursor`` table, both by a file's content:
    ``backfill:<file_id>``, how far a backfill has read it, and ``followed:<file_id>``, where following it began. A
    followed file's lines before the first, and a backfilled file's behind the second, are the other's.
    """

    def __init__(
        self,
        path: Path,
        correlator: Correlator,
        *,
        busy_timeout_ms: int = 5000,
        synchronous: Synchronous = "NORMAL",
        on_statement: Callable[[str], None] | None = None,
    ) -> None:
        """Open the store at *path* with the first block. *on_statement* is told each SQL statement (for tests)."""
        self.stats = IngestStats()
        self._path = path
        self._correlator = correlator
        self._busy_timeout_ms = busy_timeout_ms
        self._synchronous: Synchronous = synchronous
        self._on_statement = on_statement
        self._transactions: Transactions | None = None
        self._lock: WriteLock | None = None
        self._identity: tuple[int, int] | None = None
        self._dirty = False
        self._unchecked_bytes = 0
        self._states: dict[str, str | None] = {}
        """What the cursors said when this process last read or wrote them."""
        self._unsure = False
        """Whether the last commit failed, and may have succeeded for all we know."""
        self._file_id = ""
        self._backfilled_to = 0

    @property
    def attempt_reader(self) -> AttemptReader:
        """What reads attempts, for who would rather do it elsewhere than in :meth:`commit_all`."""
        return self._correlator.outcomes.reader

    def cursor(self, source: str) -> tuple[Cursor | None, int | None]:
        """Return where *source* was left, and the newest time seen in it; (None, None) if it was never read."""
        row = self._select(source)
        self._states[source] = None if row is None else row[0]
        if row is None:
            return None, None
        self.stats.last_line_us = self.stats.last_line_us or row[1] or 0
        return Cursor(source, row[0]), row[1] or None

    def backfilled(self, file_id: str) -> str | None:
        """Return how far a backfill has read the file: the state of its cursor, None if it has not."""
        return self.cursor_state(cursor_name(file_id))

    def followed(self, file_id: str) -> str | None:
        """Return the state in which following the file began, None if it never was followed."""
        return self.cursor_state(f"{_FOLLOWED}{file_id}")

    def cursor_state(self, source: str) -> str | None:
        """Return what the cursor *source* says, without any claim on it."""
        row = self._select(source)
        return None if row is None else row[0]

    def commit(self, records: Sequence[Record | Tried], chunk: Chunk, last_us: int | None) -> None:
        """Write what *records* say and that *chunk* was read; :class:`StoreUnavailableError` leaves both unwritten.

        :class:`AnotherReaderError` when someone else has moved the cursor.
        """
        self.commit_all([(records, chunk, last_us)])

    def commit_all(
        self,
        batches: Iterable[tuple[Sequence[Record | Tried], Chunk, int | None]],
        *,
        polite_s: float = float("inf"),
    ) -> bool:
        """Write *batches* in one transaction, taking them one by one; return whether all were taken.

        It ends early, and the rest is left in *batches*, once another process has waited to write and *polite_s* has
        passed: pass an iterator, and call again. The errors are those of :meth:`commit`; of what was taken nothing is
        written then, so go on from :meth:`cursor`.
        """
        blocks = records_read = unwritten = size_bytes = 0
        newest = self.stats.last_line_us
        moved: dict[str, str] = {}
        complete = True
        collecting = gc.isenabled()
        try:
            transactions = self._open()
            assert self._lock is not None
            with transactions.begin() as transaction:
                gc.disable()  # thousands of rows live until the commit, and none of them in a cycle
                deadline = time.perf_counter() + polite_s
                self._correlator.begin(transaction)
                for records, chunk, last_us in batches:
                    blocks += 1
                    records_read += len(records)
                    # last_us is good to the hour only. The last record and not the newest: one wild year would stick.
                    newest = records[-1].at_us if records else newest or last_us or 0
                    if not self._is_written(transaction, chunk):
                        self._correlator.feed(self._not_backfilled(transaction, records, chunk))
                        self._move(transaction, moved, chunk, last_us)
                    unwritten += len(chunk.data)
                    size_bytes += len(chunk.data)
                    if unwritten >= FLUSH_BYTES:
                        self._correlator.flush()
                        unwritten = 0
                    if time.perf_counter() > deadline and self._lock.is_waited_for():
                        complete = False
                        break
                self._correlator.finish()
        except BaseException as error:
            self._failed(str(error))
            if isinstance(error, sqlite3.DatabaseError) and is_the_stores(error):
                raise StoreUnavailableError(f"{self._path}: {error}") from None
            raise
        finally:
            if collecting:
                gc.enable()
        self._states.update(moved)
        self._unsure = False
        self.stats.blocks += blocks
        self.stats.records += records_read
        self.stats.commits += 1
        self.stats.last_line_us = newest
        self._dirty = True
        self._unchecked_bytes += size_bytes
        if self._unchecked_bytes >= CHECKPOINT_BYTES:
            self.idle()
        return complete

    def idle(self) -> None:
        """Move the write-ahead log into the file, if there is anything in it."""
        if self._dirty and self._transactions is not None:
            self._transactions.checkpoint("PASSIVE")
            self._dirty = False
            self._unchecked_bytes = 0

    def close(self) -> None:
        """Close the store."""
        if self._transactions is not None:
            self._transactions.checkpoint("TRUNCATE")
            self._transactions.close()
            self._transactions = None

    # Cursors

    def _move(self, transaction: Transaction, moved: dict[str, str], chunk: Chunk, last_us: int | None) -> None:
        """Put the cursor behind *chunk*, if it is where we left it."""
        source, state = chunk.cursor.source, chunk.cursor.state
        at_us = last_us or 0
        before = moved.get(source, self._states.get(source))
        if before is None:
            done = transaction.execute(
                "INSERT INTO cursor (source, state, at_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (source, state, at_us),
            )
        else:
            done = transaction.execute(
                "UPDATE cursor SET state = ?, at_us = ? WHERE source = ? AND state = ?", (state, at_us, source, before)
            )
        if done.rowcount != 1:
            raise AnotherReaderError(
                f"{source}: read into {self._path} by another process at the same time; only one of them can go on"
            )
        moved[source] = state

    def _is_written(self, transaction: Transaction, chunk: Chunk) -> bool:
        """After a failed commit: return whether it succeeded in spite of that."""
        if not self._unsure:
            return False
        self._unsure = False
        source, state = chunk.cursor.source, chunk.cursor.state
        row = transaction.execute("SELECT state FROM cursor WHERE source = ?", (source,)).fetchone()
        if row is None or row[0] != state:
            return False
        self._states[source] = state
        return True

    def _not_backfilled(
        self, transaction: Transaction, records: Sequence[Record | Tried], chunk: Chunk
    ) -> Sequence[Record | Tried]:
        """Return those of *records* that nobody else has from the same file, and claim the file for ourselves."""
        if not chunk.file_id:
            return records
        if chunk.cursor.source.startswith(_BACKFILL):
            if self._file_id != chunk.file_id:
                self._file_id = chunk.file_id
            row = transaction.execute(
                "SELECT state FROM cursor WHERE source = ?", (f"{_FOLLOWED}{chunk.file_id}",)
            ).fetchone()
            if row is not None and chunk.end > FileState.from_json(_FOLLOWED, row[0]).begin:
                raise AnotherReaderError(f"{chunk.cursor.source}: is followed since a moment ago")
            return records
        if self._file_id != chunk.file_id:
            self._file_id = chunk.file_id
            transaction.execute(
                "INSERT INTO cursor (source, state, at_us) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
                (f"{_FOLLOWED}{chunk.file_id}", chunk.cursor.state),
            )
            row = transaction.execute(
                "SELECT state FROM cursor WHERE source = ?", (cursor_name(chunk.file_id),)
            ).fetchone()
            self._backfilled_to = 0 if row is None else FileState.from_json(cursor_name(chunk.file_id), row[0]).offset
        if chunk.start >= self._backfilled_to:
            return records
        return [record for record in records if chunk.start + record.offset >= self._backfilled_to]

    # The store

    def _select(self, source: str) -> tuple[str, int] | None:
        try:
            connection = self._open().connection
            row: tuple[str, int] | None = connection.execute(
                "SELECT state, at_us FROM cursor WHERE source = ?", (source,)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            self._failed(str(error))
            raise StoreUnavailableError(f"{self._path}: {error}") from None
        return row

    def _failed(self, error: str) -> None:
        self.stats.failures += 1
        self.stats.last_error = error
        self._correlator.reset()
        self._unsure = True
        self._file_id = ""
        if self._transactions is not None:
            self._transactions.close()
            self._transactions = None

    def _open(self) -> Transactions:
        identity = file_identity(self._path)
        if self._transactions is not None and identity != self._identity:
            # Another file stands there now: what is known of the old one says nothing about it.
            self._transactions.close()
            self._transactions = None
            self._correlator.reset()
        if self._transactions is None:
            connection = open_writer(self._path, busy_timeout_ms=self._busy_timeout_ms, synchronous=self._synchronous)
            connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # at a commit it would be done with the lock held
            if self._on_statement is not None:
                connection.set_trace_callback(self._on_statement)
            self._lock = WriteLock(self._path, self.stats.lock)
            self._transactions = Transactions(connection, self._lock)
            self._identity = identity
        return self._transactions
