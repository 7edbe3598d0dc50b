"""What a daemon calls to record an event: into the store, or into the spool while the store cannot be written.

:meth:`Recorder.record` returns when the event is safe. While the store is in trouble events go straight to the
spool, so that nobody waits for a store that is known to be away; every half second a look is taken whether it is
back, and the spool is replayed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from postwake.errors import StoreUnavailableError
from postwake.events import Event, Requeued
from postwake.store.apply import apply_event
from postwake.store.connection import Synchronous
from postwake.store.spool import Spool
from postwake.store.transaction import Transaction
from postwake.store.writer import Writer, wait

RETRY_S = 0.5
REPLAY_PATIENCE_S = 30.0

log = logging.getLogger("postwake.store")


class Recorder:
    """Writer and spool of one process. ``record`` is safe from any thread."""

    def __init__(
        self,
        path: Path,
        spool_dir: Path,
        service: str,
        *,
        busy_timeout_ms: int = 5000,
        synchronous: Synchronous = "NORMAL",
    ) -> None:
        """Start writing to the store at *path*; replay at once what an earlier process left in *spool_dir*."""
        self.writer = Writer(path, busy_timeout_ms=busy_timeout_ms, synchronous=synchronous)
        self.spool = Spool(spool_dir, service)
        self._stop = threading.Event()
        self._attention = threading.Event()
        if self.spool.pending():
            self._attention.set()
        self._thread = threading.Thread(target=self._replay_when_possible, name="spool-replay", daemon=True)
        self._thread.start()

    @property
    def available(self) -> bool:
        """Whether the store took the last write."""
        return self.writer.healthy

    def takes(self, event: Event) -> bool:
        """Whether the store is to be given *event*: it took the last write, and nothing has to come before.

        A message that comes back is known by the row of the first time, which may still wait in the spool.
        """
        return self.writer.healthy and not (isinstance(event, Requeued) and self.spool.pending())

    def record(self, event: Event, timeout_s: float) -> bool:
        """Make *event* safe; return True if it is in the store, False if it waits in the spool.

        Raises :class:`StoreUnavailableError` if neither can be written.
        """
        if self.takes(event):
            try:
                wait(self.writer.submit(partial(apply_event, event=event)), timeout_s)
                return True
            except StoreUnavailableError as error:
                self.trouble(error)
        self.spool_events([event])
        return False

    def trouble(self, error: StoreUnavailableError) -> None:
        """Take note that the store did not take an event: the next go straight to the spool until it is back."""
        if self.writer.healthy:
            log.warning("store=%s spooling=yes error=%s", self.writer.path, error)
        self.writer.healthy = False

    def spool_events(self, events: Sequence[Event]) -> None:
        """Put *events* into the spool and return when they are safe; :class:`StoreUnavailableError` if it cannot."""
        try:
            self.spool.append(events)
        finally:
            self._attention.set()  # also if there is no room for it: the store may be back before the next event comes

    def close(self) -> None:
        """Commit what waits and stop; what is in the spool stays for the next process."""
        self._stop.set()
        self._attention.set()
        self._thread.join(REPLAY_PATIENCE_S)
        self.writer.close()
        self.spool.close()

    def _replay_when_possible(self) -> None:
        while not self._stop.is_set():
            # Also looked at now and then without being told: another process may have died and left a spool.
            self._attention.wait(60.0)
            if self._stop.is_set():
                return
            self._attention.clear()
            try:
                if not self.writer.healthy:
                    # Asked first: a replay sets our file aside, and a store that is away for days would make thousands.
                    wait(self.writer.submit(_nothing), REPLAY_PATIENCE_S)
                count = self.spool.replay(self._commit)
                if count:
                    log.info("store=%s replayed=%d", self.writer.path, count)
            except StoreUnavailableError:
                self._attention.set()
                self._stop.wait(RETRY_S)

    def _commit(self, events: Sequence[Event]) -> None:
        def job(transaction: Transaction) -> None:
            for event in events:
                apply_event(transaction, event)

        wait(self.writer.submit(job), REPLAY_PATIENCE_S)


def _nothing(transaction: Transaction) -> None:
    """Write nothing: succeeds when the store can be written."""
    transaction.execute("UPDATE meta SET value = value WHERE key = ''")
