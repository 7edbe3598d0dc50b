"""The one writing thread of a process: it owns the only write connection and commits in groups.

Jobs are functions of a :class:`~postwake.store.transaction.Transaction`, or batches of events. Those that wait together
share one transaction. Each function has a savepoint, so that one that fails takes nothing with it; events are written
together (:func:`postwake.store.accepted.apply_together`, :mod:`postwake.store.hit_group`), and one by one only if that
cannot be. Who waits hears of it after the commit. When the store itself fails (locked, full, read-only, gone, replaced
by another file) everybody of the group gets :class:`StoreUnavailableError`; the connection is opened again for the next.

Make it after any fork: neither the thread nor an SQLite connection survives one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from postwake.errors import StoreUnavailableError
from postwake.events import Accepted, Event, Hit, Requeued
from postwake.store.accepted import apply_together
from postwake.store.apply import apply_event
from postwake.store.connection import LockStats, Synchronous, WriteLock, file_identity, is_the_stores, open_writer
from postwake.store.hit_group import apply_hits
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


class Batch(Protocol):
    """Events that are handed over together, on behalf of those who wait for them; called on the writer's thread.

    Lighter than a future for each, which is made of locks.
    """

    def take(self) -> Sequence[Event]:
        """Return the events that are still wanted: what is told afterwards is about these."""

    def written(self, problems: Mapping[int, Exception]) -> None:
        """Hear that they are committed, all but those at the places that have a problem of their own."""

    def refused(self, error: StoreUnavailableError) -> None:
        """Hear why none of them is."""


_Job = tuple[Callable[[Transaction], Any], "Future[Any]"]
_Item = _Job | Batch
_Outcome = tuple["Future[Any]", Any, Exception | None]


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
        self.gather_s: Callable[[], float] = lambda: 0.0
        """How long the thread lets jobs gather, asked when the first has come; 0 where none is on its way."""
        self._queue: queue.SimpleQueue[tuple[_Item, int] | None] = queue.SimpleQueue()
        self._transactions: Transactions | None = None
        self._dirty = False
        self._submitted = 0
        self._taken = 0
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
        self._put((job, future), 1)
        return future

    def submit_batch(self, batch: Batch, count: int) -> None:
        """Queue the *count* events of *batch*, at most :data:`MAX_GROUP`, to be applied together. Errors as above."""
        self._put(batch, count)

    def _put(self, item: _Item, count: int) -> None:
        with self._closing:  # nothing comes behind the sentinel, where nobody would resolve it
            if self._closed:
                raise StoreUnavailableError(f"{self.path}: the writer is closed")
            if self.depth >= MAX_WAITING:
                raise StoreUnavailableError(f"{self.path}: {MAX_WAITING} writes are waiting already")
            self._submitted += count
            self._queue.put((item, count))

    @property
    def depth(self) -> int:
        """How many jobs and events wait."""
        return self._submitted - self._taken

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
        size = 0
        while running:
            try:
                entry = self._queue.get(timeout=IDLE_S)
            except queue.Empty:
                self._idle()
                continue
            gather_s = max(self.gather_s(), GATHER_S if size >= BUSY_GROUP else 0.0)
            if gather_s:
                time.sleep(gather_s)
            group: list[_Item] = []
            size = 0
            while entry is not None:
                group.append(entry[0])
                size += entry[1]
                self._taken += entry[1]
                if size >= MAX_GROUP:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                running = False
            if group:
                self._commit(group)
        if self._transactions is not None:
            self._transactions.checkpoint("TRUNCATE")
            self._transactions.close()

    def _commit(self, group: Sequence[_Item]) -> None:
        jobs = [item for item in group if isinstance(item, tuple) and item[1].set_running_or_notify_cancel()]
        batches = [(item, item.take()) for item in group if not isinstance(item, tuple)]
        events = [event for _, taken in batches for event in taken]
        if not jobs and not events:
            return
        together = len(events) > 1 or isinstance(next(iter(events), None), Accepted)
        try:
            transactions = self._open()
            try:
                written = self._write(transactions, jobs, events, together=together)
            except Exception as error:
                if not together or is_the_stores(error):
                    raise
                # One of the events is at fault, or there already: it is found when they go one by one.
                written = self._write(transactions, jobs, events, together=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who wait, and the thread lives on
            self._failed(jobs, [batch for batch, _ in batches], error)
            return
        self.stats.commits += 1
        self.stats.jobs += len(jobs) + len(events)
        self.healthy = True
        self._dirty = True
        outcomes, problems = written
        for future, result, problem in outcomes:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
        start = 0
        for batch, taken in batches:
            end = start + len(taken)
            batch.written({place - start: error for place, error in problems.items() if start <= place < end})
            start = end

    def _write(
        self, transactions: Transactions, jobs: Sequence[_Job], events: Sequence[Event], *, together: bool
    ) -> tuple[list[_Outcome], dict[int, Exception]]:
        """Write everything in one transaction; return what became of each job, and the events with a problem."""
        problems: dict[int, Exception] = {}
        again = [place for place, event in enumerate(events) if isinstance(event, Requeued)]
        with transactions.begin(self._busy_timeout_ms / 1000) as transaction:

            def apply(place: int) -> None:
                _, problem = _attempt(transactions, transaction, partial(apply_event, event=events[place]))
                if problem is not None:
                    problems[place] = problem

            if together:
                apply_together(transaction, [event for event in events if isinstance(event, Accepted)])
                hits = [event for event in events if isinstance(event, Hit)]
                if hits:
                    apply_hits(transaction, hits)
            else:
                for place in range(len(events)):
                    if place not in again:
                        apply(place)
            outcomes = [(future, *_attempt(transactions, transaction, job)) for job, future in jobs]
            for place in again:  # last: the message that came back may be what a job has brought from a spool
                apply(place)
        return outcomes, problems

    def _failed(self, jobs: Sequence[_Job], batches: Sequence[Batch], error: Exception) -> None:
        self.healthy = False
        self.stats.failed_groups += 1
        self.stats.last_error = str(error)
        refusal = error if isinstance(error, StoreUnavailableError) else StoreUnavailableError(f"{self.path}: {error}")
        for _, future in jobs:
            future.set_exception(refusal)
        for batch in batches:
            batch.refused(refusal)
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


def _attempt(
    transactions: Transactions, transaction: Transaction, job: Callable[[Transaction], Any]
) -> tuple[Any, Exception | None]:
    """Run *job* in a savepoint; return its result or what it raised."""
    try:
        with transactions.savepoint(transaction):
            return job(transaction), None
    except Exception as error:
        if is_the_stores(error):
            raise  # the store: nothing of this group stands
        return None, error  # belongs to the job's caller, who gets it through the future


def wait(future: Future[T], timeout_s: float) -> T:
    """Return the result of *future*; :class:`StoreUnavailableError` when it takes longer than *timeout_s*."""
    started = time.monotonic()
    try:
        return future.result(timeout_s)
    except TimeoutError:
        future.cancel()
        waited_ms = (time.monotonic() - started) * 1000
        raise StoreUnavailableError(f"the store has not committed within {waited_ms:.0f} ms") from None
