"""The native threads that rewrite, and the row that is committed before a message goes on.

lxml on a libmilter thread crashes the process after some hundred messages: pymilter attaches a thread state of its
own to each connection, and C extensions that use PyGILState find a stale one. So libmilter's thread hands the whole
message to a thread of ours and waits.

Whoever comes first decides what is recorded: the rewriting thread when it is done, or the waiting one when the time
is up. A message that went out unchanged is never recorded as tracked.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass, field

from postwake.store.recorder import Recorder
from postwake_milter.handle import Envelope, Handled, Handler

log = logging.getLogger("postwake.milter")


@dataclass(slots=True, eq=False)
class _Job:
    envelope: Envelope
    handler: Handler
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    claimed: bool = False
    result: Handled | None = None

    def claim(self) -> bool:
        """Return True to the first who asks."""
        with self.lock:
            first, self.claimed = not self.claimed, True
            return first


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
        """Handle and record *envelope*; after *timeout_s* it is recorded as going out unchanged, and does."""
        job = _Job(envelope, handler)
        self._jobs.put(job)
        if not job.done.wait(timeout_s) and job.claim():
            log.warning("%s: rewriting took longer than %.1f s: sent on unchanged", envelope.queue_id, timeout_s)
            return self._record(handler.timed_out(envelope, "rewrite-timeout"), envelope)
        job.done.wait()  # claimed by the thread: it is only recording now, which is bounded
        assert job.result is not None
        return job.result

    def close(self) -> None:
        """Let the threads end when they have done what waits."""
        for _ in self._threads:
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.claimed:
                self._work(job)

    def _work(self, job: _Job) -> None:
        handled = self._handle(job.handler, job.envelope)
        if not job.claim():
            return
        try:
            job.result = self._record(handled, job.envelope)
        finally:
            job.result = job.result or Handled(handled.event, outcome="unrecorded")
            job.done.set()

    def _handle(self, handler: Handler, envelope: Envelope) -> Handled:
        try:
            return handler.handle(envelope)
        except Exception:  # the milter's fail-open edge: analytics must never cost a mail
            log.exception("%s: rewriting failed: sent on unchanged", envelope.queue_id)
            return handler.timed_out(envelope, "error")

    def _record(self, handled: Handled, envelope: Envelope) -> Handled:
        """Record; a message whose row can be written nowhere goes out unchanged, for its links would say nothing."""
        try:
            self._recorder.record(handled.event, self._store_timeout_s)
            return handled
        except Exception as error:  # noqa: BLE001 - the same edge: neither store nor spool
            log.error("%s: not recorded, sent on unchanged: %s", envelope.queue_id, error)
            return Handled(handled.event, outcome="unrecorded")
