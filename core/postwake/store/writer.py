"""The one writing thread of a process: it owns the only write connection and commits in groups.

Jobs are functions of a :class:`~postwake.store.transaction.Transaction`, or hits. Those that wait together share one
transaction, each in a savepoint, so that one that fails takes nothing with it; the hits of a group are written
together (:mod:`postwake.store.hit_group`). A future is resolved after the commit. When the store itself fails (locked,
full, read-only, gone, replaced by another file) every job of the group fails with :class:`StoreUnavailableError`; the
connection is opened again for the next.

Make it after any fork: neither the thread nor an SQLite connection survives one.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from postwake.errors import StoreUnavailableError
from postwake.events import Hit
from postwake.store.apply import apply_event
from postwake.store.connection import LockStats, Synchronous, WriteLock, file_identity, open_writer
from postwake.store.hit_group import NotTogetherError, apply_hits
from postwake.store.transaction import Transaction, Transactions

T = TypeVar("T")

MAX_GROUP = 128
"""Jobs in one transaction. At some 50 µs a job it stays under 10 ms, far below the 50 ms we promise others."""
MAX_WAITING = 10_000
IDLE_S = 1.0
BUSY_GROUP = 8
GATHER_S = 0.001
"""After a group of so many the next is given so long to gather: under load fewer, larger commits, and nobody waits
who comes alone."""
_JOB_ERRORS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""SQLite's complaints about what a job asked for; its other errors are about the store."""


class Waiting(Protocol):
    """Who waits for a write: a Future, or something lighter that is told the same."""

    def set_running_or_notify_cancel(self) -> bool:
        """Return whether it is still wanted."""

    def set_result(self, result: Any, /) -> None:
        """Hear that it is committed."""

    def set_exception(self, error: BaseException, /) -> None:
        """Hear why it is not."""


_Item = tuple[Callable[[Transaction], Any] | Hit, Waiting]


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
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._transactions: Transactions | None = None
        self._dirty = False
        self._closed = False
        self._closing = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Queue *job*; the future gives its result after the commit.

        :class:`StoreUnavailableError` if too many wait already or the writer is closed.
        """
        future: Future[T] = Future()
        self._put(job, future)
        return future

    def submit_hit(self, hit: Hit, waiting: Waiting) -> None:
        """Queue *hit* to be recorded together with others; *waiting* is told, on the writer's thread. Errors as above."""
        self._put(hit, waiting)

    def _put(self, job: Callable[[Transaction], Any] | Hit, waiting: Waiting) -> None:
        with self._closing:  # nothing comes behind the sentinel, where nobody would resolve it
            if self._closed:
                raise StoreUnavailableError(f"{self.path}: the writer is closed")
            if self._queue.qsize() >= MAX_WAITING:
                raise StoreUnavailableError(f"{self.path}: {MAX_WAITING} writes are waiting already")
            self._queue.put((job, waiting))

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return self._queue.qsize()

    def close(self, timeout_s: float = 10.0) -> None:
        """Commit what waits, move the WAL into the file, close."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join(timeout_s)  # if the store hangs, the process's end ends the thread

    def _run(self) -> None:
        running = True
        group: list[_Item] = []
        while running:
            try:
                items = [self._queue.get(timeout=IDLE_S)]
            except queue.Empty:
                self._idle()
                continue
            if len(group) >= BUSY_GROUP:
                time.sleep(GATHER_S)
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

    def _commit(self, group: list[_Item]) -> None:
        try:
            transactions = self._open()
            with transactions.begin(self._busy_timeout_ms / 1000) as transaction:
                outcomes = list(_outcomes(transactions, transaction, group))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who wait, and the thread lives on
            self._failed(group, error)
            return
        self.stats.commits += 1
        self.stats.jobs += len(group)
        self.healthy = True
        self._dirty = True
        for waiting, result, problem in outcomes:
            if problem is None:
                waiting.set_result(result)
            else:
                waiting.set_exception(problem)

    def _failed(self, group: list[_Item], error: Exception) -> None:
        self.healthy = False
        self.stats.failed_groups += 1
        self.stats.last_error = str(error)
        refusal = error if isinstance(error, StoreUnavailableError) else StoreUnavailableError(f"{self.path}: {error}")
        for _, waiting in group:
            waiting.set_exception(refusal)
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


def _outcomes(
    transactions: Transactions, transaction: Transaction, group: list[_Item]
) -> Iterator[tuple[Waiting, Any, Exception | None]]:
    """Run *group* in *transaction*; yield each one's future with its result or what it raised."""
    hits = [job for job, _ in group if isinstance(job, Hit)]
    together = len(hits) > 1 and _together(transactions, transaction, hits)
    for job, waiting in group:
        result: Any = None
        problem: Exception | None = None
        try:
            if not isinstance(job, Hit):
                with transactions.savepoint(transaction):
                    result = job(transaction)
            elif not together:
                with transactions.savepoint(transaction):
                    apply_event(transaction, job)
        except sqlite3.DatabaseError as error:
            if not isinstance(error, _JOB_ERRORS):
                raise  # the store, not the job: nothing of this group stands
            problem = error
        except Exception as error:  # noqa: BLE001 - belongs to the job's caller, who gets it through the future
            problem = error
        yield waiting, result, problem


def _together(transactions: Transactions, transaction: Transaction, hits: Sequence[Hit]) -> bool:
    """Write *hits* in a few statements; return False, with nothing written, if they have to go one by one."""
    try:
        with transactions.savepoint(transaction):
            apply_hits(transaction, hits)
    except NotTogetherError:
        return False
    except _JOB_ERRORS:  # one of them is at fault: it is found when they go one by one
        return False
    return True


def wait(future: Future[T], timeout_s: float) -> T:
    """Return the result of *future*; :class:`StoreUnavailableError` when it takes longer than *timeout_s*."""
    started = time.monotonic()
    try:
        return future.result(timeout_s)
    except TimeoutError:
        future.cancel()
        waited_ms = (time.monotonic() - started) * 1000
        raise StoreUnavailableError(f"the store has not committed within {waited_ms:.0f} ms") from None
