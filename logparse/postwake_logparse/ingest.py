"""One block of the log, one transaction: its events and the cursor behind it commit together or not at all.

A crash before the commit reads the block again; after it, never again. When the store cannot be written the block is
kept and tried again: the log waits on the disk, nothing is lost.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from postwake.errors import StoreUnavailableError
from postwake.store.connection import Synchronous, WriteLock, open_writer
from postwake.store.transaction import Transactions
from postwake_logparse.correlate import Correlator
from postwake_logparse.record import Record
from postwake_logparse.shapes import Tally
from postwake_logparse.source import Chunk, Cursor
from postwake_logparse.stamp import StampReader


class Grammar(Protocol):
    """What turns blocks of one MTA's log into records, and counts what became of the lines."""

    tally: Tally

    def parse_block(self, data: bytes, clock: StampReader) -> Iterable[Record]:
        """Return the records of a block of whole lines, in order."""


@dataclass(slots=True)
class IngestStats:
    """Counts since this process started; read without a lock by metrics."""

    blocks: int = 0
    records: int = 0
    commits: int = 0
    failures: int = 0
    last_error: str = ""
    last_line_us: int = 0
    commit_s: float = 0.0


class Ingester:
    """Writes what a log says. Not for several threads at once."""

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
        self._dirty = False

    def cursor(self, source: str) -> tuple[Cursor | None, int | None]:
        """Return where *source* was left, and the newest time seen in it; (None, None) if it was never read."""
        row = self._open().connection.execute("SELECT state, at_us FROM cursor WHERE source = ?", (source,)).fetchone()
        return (None, None) if row is None else (Cursor(source, row[0]), row[1] or None)

    def commit(self, records: Sequence[Record], chunk: Chunk, last_us: int | None) -> None:
        """Write what *records* say and that *chunk* was read; :class:`StoreUnavailableError` leaves both unwritten."""
        started = time.perf_counter()
        try:
            transactions = self._open()
            with transactions.begin() as transaction:
                self._correlator.apply(transaction, records)
                transaction.execute(
                    "INSERT INTO cursor (source, state, at_us) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET state = excluded.state, at_us = excluded.at_us",
                    (chunk.cursor.source, chunk.cursor.state, last_us or 0),
                )
        except (sqlite3.OperationalError, StoreUnavailableError) as error:
            self._failed(str(error))
            raise StoreUnavailableError(f"{self._path}: {error}") from None
        except BaseException as error:
            self._failed(str(error))
            raise
        self.stats.blocks += 1
        self.stats.records += len(records)
        self.stats.commits += 1
        self.stats.commit_s += time.perf_counter() - started
        self.stats.last_line_us = last_us or self.stats.last_line_us
        self._dirty = True

    def idle(self) -> None:
        """Move the write-ahead log into the file, if there is anything in it."""
        if self._dirty and self._transactions is not None:
            self._transactions.checkpoint("PASSIVE")
            self._dirty = False

    def close(self) -> None:
        """Close the store."""
        if self._transactions is not None:
            self._transactions.checkpoint("TRUNCATE")
            self._transactions.close()
            self._transactions = None

    def _failed(self, error: str) -> None:
        self.stats.failures += 1
        self.stats.last_error = error
        self._correlator.reset()
        if self._transactions is not None:
            self._transactions.close()
            self._transactions = None

    def _open(self) -> Transactions:
        if self._transactions is None:
            connection = open_writer(self._path, busy_timeout_ms=self._busy_timeout_ms, synchronous=self._synchronous)
            if self._on_statement is not None:
                connection.set_trace_callback(self._on_statement)
            self._transactions = Transactions(connection, WriteLock(self._path))
        return self._transactions
