"""The one writing thread of a process: it owns the only write connection and commits in groups.

Jobs are functions of a :class:`~postwake.store.transaction.Transaction`. Those that wait together share one
transaction, each in a savepoint, so that one that fails takes nothing with it. A future is resolved after the
commit. When the store itself fails (locked, full, read-only, gone, replaced by another file) every job of the group
fails with :class:`StoreUnavailableError`; the connection is opened again for the next.

Make it after any fork: neither the thread nor an SQLite connection survives one.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from postwake.errors import StoreUnavailableError
from postwake.store.connection import LockStats, Synchronous, WriteLock, file_identity, open_writer
from postwake.store.transaction import Transaction, Transactions

T = TypeVar("T")

MAX_GROUP = 128
"""Jobs in one transaction. At some 50 µs a job it stays under 10 ms, far below the 50 ms we promise others."""
MAX_WAITING = 10_000
IDLE_S = 1.0
_JOB_ERRORS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""SQLite's complaints about what a job asked for; its other errors are about the store."""


@dataclass(slots=True)
class WriterStats:
    """Counts of one writer since it started; read without a lock by metrics."""

    commits: int = 0
    jobs: int = 0
    failed_groups: int = 0
    last_error: str = ""
    lock: LockStats = field(default_factory=LockStats)


class Writer:
    """See the module's description. ``submit`` is safe from any thread."""

    def __init__(self, path: Path, *, busy_timeout_ms: int = 5000, synchronous: Synchronous = "NORMAL") -> None:
        """Start the thread; the store is opened with the first job."""
        self.path = path
        self.stats = WriterStats()
        self.healthy = True
        self._busy_timeout_ms = busy_timeout_ms
        self._synchronous: Synchronous = synchronous
        self._queue: queue.Queue[tuple[Callable[[Transaction], Any], Future[Any]] | None] = queue.Queue(MAX_WAITING)
        self._transactions: Transactions | None = None
        self._dirty = False
        self._closed = False
        self._closing = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Queue *job*; the future gives its result after the commit. Raises if the queue is full or closed."""
        future: Future[T] = Future()
        with self._closing:  # nothing comes behind the sentinel, where nobody would resolve it
            if self._closed:
                raise StoreUnavailableError(f"{self.path}: the writer is closed")
            try:
                self._queue.put_nowait((job, future))
            except queue.Full:
                raise StoreUnavailableError(f"{self.path}: {MAX_WAITING} writes are waiting already") from None
        return future

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return self._queue.qsize()

    def close(self, timeout_s: float = 10.0) -> None:
        """Commit what waits, move the WAL into the file, close."""
        deadline = time.monotonic() + timeout_s
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(queue.Full):  # the store hangs: the process's end ends the thread
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        running = True
        while running:
            try:
                items = [self._queue.get(timeout=IDLE_S)]
            except queue.Empty:
                self._idle()
                continue
            while len(items) < MAX_GROUP:
                try:
                    items.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            running = None not in items
            group = [item for item in items if item is not None and item[1].set_running_or_notify_cancel()]
            if group:
                self._commit(group)
        if self._transactions is not None:
            self._transactions.checkpoint("TRUNCATE")
            self._transactions.close()

    def _commit(self, group: list[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        results: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            transactions = self._open()
            with transactions.begin(self._busy_timeout_ms / 1000) as transaction:
                for job, future in group:
                    try:
                        with transactions.savepoint(transaction):
                            results.append((future, job(transaction), None))
                    except _JOB_ERRORS as error:
                        results.append((future, None, error))
                    except sqlite3.DatabaseError:
                        raise  # the store, not the job: nothing of this group stands
                    except Exception as error:  # noqa: BLE001 - belongs to the job's caller, who gets it through the future
                        results.append((future, None, error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told through the futures, and the thread lives on
            self._failed(group, error)
            return
        self.stats.commits += 1
        self.stats.jobs += len(group)
        self.healthy = True
        self._dirty = True
        for future, result, problem in results:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _failed(self, group: list[tuple[Callable[[Transaction], Any], Future[Any]]], error: Exception) -> None:
        self.healthy = False
        self.stats.failed_groups += 1
        self.stats.last_error = str(error)
        refusal = error if isinstance(error, StoreUnavailableError) else StoreUnavailableError(f"{self.path}: {error}")
        for _, future in group:
            future.set_exception(refusal)
        if self._transactions is not None:
            self._transactions.close()
            self._transactions = None

    def _open(self) -> Transactions:
        identity = file_identity(self.path)
        if self._transactions is not None and identity != self._identity:
            self._transactions.close()
            self._transactions = None
        if self._transactions is None:
            connection = open_writer(self.path, busy_timeout_ms=self._busy_timeout_ms, synchronous=self._synchronous)
            self._transactions = Transactions(connection, WriteLock(self.path, self.stats.lock))
            self._identity = identity
        return self._transactions

    def _idle(self) -> None:
        if self._dirty and self._transactions is not None:
            self._transactions.checkpoint("PASSIVE")
            self._dirty = False


def wait(future: Future[T], timeout_s: float) -> T:
    """Return the result of *future*; :class:`StoreUnavailableError` when it takes longer than *timeout_s*."""
    started = time.monotonic()
    try:
        return future.result(timeout_s)
    except TimeoutError:
        future.cancel()
        waited_ms = (time.monotonic() - started) * 1000
        raise StoreUnavailableError(f"the store has not committed within {waited_ms:.0f} ms") from None
