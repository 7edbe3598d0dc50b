"""One worker process of the milter: libmilter in a thread, rewriting threads, the store's writer.

The main thread owns the signals, which libmilter would otherwise take (it stops on SIGHUP too).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from postwake.config import Config
from postwake.errors import ConfigError
from postwake.service import SIGNALS, Signals
from postwake.store.recorder import Recorder
from postwake_milter.adapter import Application, serve, stop
from postwake_milter.handle import Envelope, Handled, Handler
from postwake_milter.pool import Pool
from postwake_milter.shared_stats import WorkerStats

log = logging.getLogger("postwake.milter")

DRAIN_S = 10.0
"""How long a stopping worker waits for messages that are being handled."""

TAKE_UP_S = 0.3
"""For a message whose end the MTA has sent already to get into hand: on a busy machine libmilter's thread waits."""

SETTLE_S = 0.1
"""For the edits and the verdict of the last message to leave through libmilter."""

GATHER_S = 0.001
"""For each other message that is on its way, but for :data:`FEW`, a row waits so long for theirs: five rows written
together cost a third of what they cost one by one."""

GATHER_AT_MOST_S = 0.01

FEW = 2
"""With no more others on their way nobody waits: the processor has time for each."""

Load = Callable[[], tuple[Config, Handler]]


def gather_s(begun: int, waiting: int) -> float:
    """Return how long rows are to gather, *begun* messages being on their way and *waiting* rows there already."""
    return min(GATHER_AT_MOST_S, GATHER_S * max(0, begun - waiting - FEW))


def run_worker(listener: int, load: Load, stats: WorkerStats, parent: int) -> None:
    """Serve until told to stop, or until the process *parent* is gone.

    *load* reads configuration and keys, and is called again on SIGHUP. Signals may be blocked when this is called.
    """

    def reload() -> None:
        try:
            application.handler = load()[1]
        except ConfigError as error:  # the parent has checked it; it changed in between
            log.error("pid=%d reload=refused error=%s", os.getpid(), error)
        else:
            log.info("pid=%d state=reloaded", os.getpid())

    # First of all: until then a signal would kill us or, with the handlers that a fork inherits, be lost, and the
    # parent would wait for us for ever.
    signals = Signals(reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # After the last edit libmilter's thread waits for the interpreter once more before its verdict leaves; Python's
    # 5 ms a turn would leave that gap open (see adapter.Session.eom).
    sys.setswitchinterval(0.0005)
    # A thread of ours that is woken wants the interpreter, which the one that woke it still has: let it not take that
    # one's place on the processor at once (SCHED_BATCH, sched(7)). A quarter fewer switches, and nobody waits longer.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    config, handler = load()
    recorder = Recorder(
        config.store.path, config.store.spool_dir, "milter", busy_timeout_ms=config.store.busy_timeout_ms
    )
    pool = Pool(config.milter.threads, recorder, config.milter.store_timeout_ms / 1000)
    active = _Active()

    def process(envelope: Envelope) -> Handled:
        current = application.handler
        with active:
            return pool.process(current, envelope, current.config.milter.rewrite_timeout_s)

    application = Application(handler, process, stats)
    recorder.writer.gather_s = lambda: gather_s(len(application.begun), recorder.writer.depth)
    libmilter = threading.Thread(target=serve, args=(listener, application), name="libmilter", daemon=True)
    libmilter.start()

    def alive() -> bool:
        stats.note(recorder)
        return libmilter.is_alive() and os.getppid() == parent

    signals.wait(alive)
    # smfi_stop() returns only after libmilter's five-second poll; the end of this process stops it as well.
    threading.Thread(target=stop, name="stop", daemon=True).start()
    time.sleep(TAKE_UP_S)
    deadline = time.monotonic() + DRAIN_S
    while active.count and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(SETTLE_S)
    recorder.close()
    # Not sys.exit: libmilter's threads are not Python's to join.
    os._exit(0 if signals.stopping or os.getppid() != parent else 1)


class _Active:
    """Counts messages that are being handled."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1
