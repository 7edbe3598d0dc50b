"""The native threads that rewrite, and the row that is committed before a message goes on.

lxml on a libmilter thread crashes the process after some hundred messages: pymilter attaches a thread state of its
own to each connection, and C extensions that use PyGILState find a stale one. So libmilter's thread hands the whole
message to a thread of ours and waits.

That thread does not wait for the store: it gives the row to the writer, whose group commit wakes libmilter's thread,
and takes the next message. Three hand-offs a message in all.

Whoever comes first decides what is recorded: the rewriting thread when it is done, or the waiting one when the time
is up. A message that went out unchanged is never recorded as tracked.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from postwake.errors import StoreUnavailableError
from postwake.events import Accepted, Event
from postwake.store.recorder import Recorder
from postwake_milter.handle import Envelope, Handled, Handler

log = logging.getLogger("postwake.milter")


class _Job:
    """One message on its way through, and its row: :class:`postwake.store.writer.Batch`.

    Plain locks: an Event costs a hand-off of the interpreter more.
    """

    __slots__ = ("_claim", "done", "envelope", "error", "handled", "handler", "recorded_from_s", "told", "wanted")

    def __init__(self, envelope: Envelope, handler: Handler) -> None:
        self.envelope = envelope
        self.handler = handler
        self.done = threading.Lock()
        """Held until there is a verdict and the writer has had its say."""
        self.done.acquire()
        self._claim = threading.Lock()
        self.handled: Handled | None = None
        self.recorded_from_s: float | None = None
        """When the row went to the writer, by the monotonic clock; None before."""
        self.wanted = True
        """Whether the writer is to write it; after that it is the spool's."""
        self.told = False
        """Whether the writer has said what became of the row: :attr:`error`, or nothing that is wrong."""
        self.error: Exception | None = None

    def claim(self) -> bool:
        """Return True to the first who asks."""
        return self._claim.acquire(blocking=False)

    @property
    def claimed(self) -> bool:
        """Whether somebody has asked."""
        return self._claim.locked()

    def failed(self, error: Exception) -> None:
        """Let the message go on without a verdict: nobody could say even what to record of it."""
        self.error = error
        self.done.release()

    def take(self) -> Sequence[Event]:
        """Begin to write the row, unless it has gone to the spool in the meantime."""
        assert self.handled is not None
        return (self.handled.event,) if self.wanted else ()

    def written(self, problems: Mapping[int, Exception]) -> None:
        """Let the message go on: the store has its row, or says what is wrong with it."""
        self._tell(problems.get(0))

    def refused(self, error: StoreUnavailableError) -> None:
        """Let the message go on to the spool."""
        self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        self.error = error
        self.told = True
        self.done.release()


class Pool:
    """Rewriting threads of one worker process."""

    def __init__(self, threads: int, recorder: Recorder, store_timeout_s: float) -> None:
        """Start *threads* threads that record through *recorder*."""
        self._recorder = recorder
        self._store_timeout_s = store_timeout_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"rewrite-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def process(self, handler: Handler, envelope: Envelope, timeout_s: float) -> Handled:
        """Handle and record *envelope*; after *timeout_s* it is recorded as going out unchanged, and does.

        What is returned is recorded, or its outcome is ``unrecorded`` and nothing in it changes the message. Raises
        what the handler raises when it is asked what to record of a message that it failed on.
        """
        job = _Job(envelope, handler)
        self._jobs.put(job)
        if not self._wait(job, timeout_s):
            log.warning("%s: rewriting took longer than %.1f s: sent on unchanged", envelope.queue_id, timeout_s)
            return self._record(handler.unchanged(envelope, "rewrite-timeout"), envelope)
        if job.handled is None:
            assert job.error is not None
            raise job.error
        return self._settle(job, job.handled)

    def close(self) -> None:
        """Let the threads end when they have done what waits."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _wait(self, job: _Job, timeout_s: float) -> bool:
        """Wait until *job* is handled and, within the store's own time, recorded; False if it is not even handled."""
        if job.done.acquire(timeout=min(timeout_s, self._store_timeout_s)):
            return True
        deadline_s = time.monotonic() + max(0.0, timeout_s - self._store_timeout_s)
        while job.recorded_from_s is None:
            # Never 0: who is late finds it claimed, and waits for what is said of it.
            if job.done.acquire(timeout=max(0.001, min(deadline_s - time.monotonic(), 0.05))):
                return True
            if time.monotonic() >= deadline_s and job.claim():
                return False
        job.done.acquire(timeout=max(0.0, job.recorded_from_s + self._store_timeout_s - time.monotonic()))
        return True

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.claimed:
                self._work(job)

    def _work(self, job: _Job) -> None:
        try:
            handled = self._handle(job.handler, job.envelope)
        except Exception as error:  # noqa: BLE001 - told to the message's own thread, and this one lives on
            if job.claim():
                job.failed(error)
            return
        if not job.claim():
            return
        job.handled = handled
        log.info("%s: %s", job.envelope.queue_id, handled)
        job.recorded_from_s = time.monotonic()
        if self._recorder.takes(handled.event):
            # Full or closed: the waiting thread goes to the spool.
            with suppress(StoreUnavailableError):
                self._recorder.writer.submit_batch(job, 1)
                return
        job.wanted = False
        job.done.release()

    def _handle(self, handler: Handler, envelope: Envelope) -> Handled:
        started = time.perf_counter()
        try:
            handled = handler.handle(envelope)
        except Exception:  # the milter's fail-open edge: analytics must never cost a mail
            log.exception("%s: rewriting failed: sent on unchanged", envelope.queue_id)
            handled = handler.unchanged(envelope, "error")
        if isinstance(handled.event, Accepted):
            handled.event.rewrite_us = int((time.perf_counter() - started) * 1e6)
        return handled

    def _settle(self, job: _Job, handled: Handled) -> Handled:
        """Return *handled* once it is safe: committed, or else in the spool."""
        if job.told:
            if job.error is None:
                return handled
            if not isinstance(job.error, StoreUnavailableError):
                return self._unrecorded(handled, job.envelope, job.error)
        elif job.wanted:
            # Committed late after all, it is found again by its tracking ID when the spool is replayed.
            job.wanted = False
            log.warning("%s: the store has not committed in time", job.envelope.queue_id)
            self._recorder.writer.healthy = False
        return self._record(handled, job.envelope)

    def _record(self, handled: Handled, envelope: Envelope) -> Handled:
        """Record; a message whose row can be written nowhere goes out unchanged, for its links would say nothing."""
        try:
            self._recorder.record(handled.event, self._store_timeout_s)
            return handled
        except Exception as error:  # noqa: BLE001 - the same edge: neither store nor spool
            return self._unrecorded(handled, envelope, error)

    def _unrecorded(self, handled: Handled, envelope: Envelope, error: BaseException) -> Handled:
        log.error("%s: not recorded, sent on unchanged: %s", envelope.queue_id, error)
        return Handled(handled.event, outcome="unrecorded")
