"""postwake logparse: follows the MTA's log and turns it into the states of deliveries.

Purpose
    Reads a log file (or the journal, or a syslog socket), understands Postfix's or Exim's lines, joins them to the
    messages the milter saw, and keeps queued → deferred → sent, bounced or expired for each recipient.

Security
    Reads the log (group adm on Debian) and writes the store; talks to nobody. Log text comes from strangers: it is
    parsed, never executed, never printed unquoted.

Diagnostics
    One line when it starts, one for each batch that said something of mail, one a minute at most while the store
    cannot be written. What became of every line is
    counted in ``postwake_log_lines_total``. Exit status 78 for a wrong configuration.

Limits
    One log a process. Lines over 64 KiB are left out and counted. While the store is away the log waits on the
    disk; nothing is lost unless it is rotated out of existence meanwhile.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from postwake import config as configuration
from postwake.errors import PostwakeError, StoreUnavailableError
from postwake.metrics import new_registry, serve
from postwake.service import Signals, notify
from postwake.store.connection import open_reader
from postwake.store.store_metrics import StoreCollector
from postwake_logparse.correlate import make_correlator
from postwake_logparse.detect import open_grammar
from postwake_logparse.follow import Follower, open_source, source_name
from postwake_logparse.ingest import Ingester, IngestStats
from postwake_logparse.log_metrics import LogCollector

log = logging.getLogger("postwake.logparse")


def run(path: Path, reasons: Iterable[str] = ()) -> int:
    """Follow the log with the configuration at *path* until told to stop; return the exit status.

    *reasons* are the untracked reasons there can be, which only the milter knows: their counts begin at 0.
    """
    config = configuration.load(path)
    open_reader(config.store.path).close()  # a missing store or a wrong schema is said now
    ingester = Ingester(config.store.path, make_correlator(config), busy_timeout_ms=config.store.busy_timeout_ms)
    follower = Follower(
        lambda cursor: open_source(config.logparse, cursor, ingested=ingester.backfilled),
        open_grammar(config.logparse.mta),
        ingester,
        name=source_name(config.logparse),
        timezone=config.logparse.timezone or None,
        now_us=lambda: time.time_ns() // 1000,
    )
    registry = new_registry("logparse")
    registry.register(LogCollector(follower, ingester, time.time))
    registry.register(StoreCollector(config.store.path, config.tracking.sender_domains, reasons))
    stop_metrics = serve(config.metrics.logparse, registry)
    stop = threading.Event()
    status = [os.EX_SOFTWARE]
    thread = threading.Thread(target=_follow, args=(follower, ingester.stats, stop, status), name="follow", daemon=True)

    def reload() -> None:
        """Begin anew in this process with the configuration as it is now; what was read stands in the store."""
        try:
            make_correlator(configuration.load(path))
        except PostwakeError as error:
            log.error("reload=refused error=%s", error)
            return
        stop.set()
        thread.join(10)
        log.info("reload=done")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # stays so until the new beginning listens to it again
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves

    signals = Signals(reload)
    thread.start()
    notify("READY=1")
    log.info("source=%s state=ready", follower.name)
    signals.wait(thread.is_alive)
    stop.set()
    thread.join(10)
    if stop_metrics is not None:
        stop_metrics()
    return 0 if signals.stopping or follower.ended else status[0]


class _SourceErrors:
    """Says in the log what went wrong with the source: the first time at once, then once a minute at most."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._said = 0
        self._said_at = float("-inf")

    def __call__(self) -> None:
        """Say what is new."""
        source = self._follower.source
        if source is None or source.stats.read_errors == self._said or time.monotonic() - self._said_at < 60:
            return
        self._said, self._said_at = source.stats.read_errors, time.monotonic()
        log.warning(
            "source=%s errors=%d error=%s", self._follower.name, source.stats.read_errors, source.stats.last_error
        )


def _follow(follower: Follower, stats: IngestStats, stop: threading.Event, status: list[int]) -> None:
    """Follow until told to stop; leave the exit status of what ended it in *status*."""
    complained_at = 0.0
    complain_of_source = _SourceErrors(follower)
    while not stop.is_set():
        try:
            before = stats.records
            if not follower.step(timeout_s=1.0) and follower.ended:
                break
            if stats.records > before:  # else it may have been our own line, in a log of everything
                log.info(
                    "source=%s records=%d lag_bytes=%d", follower.name, stats.records - before, follower.lag_bytes()
                )
            complain_of_source()
        except StoreUnavailableError as error:
            if time.monotonic() - complained_at > 60:
                log.warning("store=unavailable waiting=yes error=%s", error)
                complained_at = time.monotonic()
            stop.wait(0.5)
        except PostwakeError as error:
            log.error("source=%s state=failed error=%s", follower.name, error)
            status[0] = error.exit_status
            break
        except Exception:
            log.exception("source=%s state=failed", follower.name)
            raise
    follower.close()
