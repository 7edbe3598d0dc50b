"""What every daemon needs from the operating system: logging, signals, readiness.

The main thread owns the signals (libmilter would eat them) and waits; the daemon's work runs in other threads or
processes. SIGTERM and SIGINT stop, SIGHUP reloads. Readiness and reloading are told to systemd as sd_notify(3)
has it: datagrams to the socket in ``NOTIFY_SOCKET``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

log = logging.getLogger("postwake")


def set_up_logging(level: str = "INFO") -> None:
    """Log to standard error, a line a record, with a priority prefix when the journal reads it (sd-daemon(3))."""
    handler = _Handler()
    handler.setFormatter(_Formatter(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A record would look its thread up and leave a dummy behind for each of libmilter's (gh-114423).
    logging.logThreads = False
    # Nor where it was written and by which process (logging HOWTO, "Optimization"): there is one for each message.
    logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # documented there


class _Handler(logging.Handler):
    """Writes each record to standard error in one write(2), which needs no lock: threads would stand in line for it."""

    def createLock(self) -> None:  # noqa: N802 - logging's name
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)  # logging's own takes the lock first, and from Python 3.13 on must have one
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(2, f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)


_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Formatter(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        stamp = "" if journal else "%(asctime)s "
        super().__init__(f"{stamp}%(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._journal = journal
        self._time = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        second = int(record.created)
        if second != self._time[0]:
            self._time = second, super().formatTime(record, datefmt)
        return self._time[1]

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # A traceback has lines, and so may text that a stranger wrote: none of them may pass for a record of its own.
        if not text.isprintable():
            text = "\n  ".join(text.splitlines() or [""])
        if not self._journal:
            return text
        priority = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return priority + text.replace("\n", f"\n{priority}")


def journal_reads_errors() -> bool:
    """Return whether standard error is the journal's, as systemd.exec(5) has it: device and inode in JOURNAL_STREAM."""
    try:
        info = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def notify(state: str, *descriptors: int) -> None:
    """Tell the service manager *state*, such as ``READY=1``, and give it *descriptors*; nothing if there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        socket.send_fds(sender, [state.encode()], list(descriptors))


def watchdog_s() -> float | None:
    """Return how often the service manager wants ``WATCHDOG=1``: half of what it allows, or None."""
    allowed_us = os.environ.get("WATCHDOG_USEC", "")
    if (
        not allowed_us.isdecimal()
        or not int(allowed_us)
        or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid())
    ):
        return None
    return int(allowed_us) / 2e6


SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""What a daemon answers to."""


class Signals:
    """The signals of one daemon, turned into calls on the main thread."""

    def __init__(self, on_reload: Callable[[], None] | None = None) -> None:
        """Take over SIGTERM, SIGINT and SIGHUP. Without *on_reload* SIGHUP is ignored."""
        self._on_reload = on_reload
        self._stop = False
        self._reload = False
        # set_wakeup_fd would need a loop; a self-pipe read with a timeout is all that is needed here.
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(1.0)
        self._writer.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, self._caught)

    def wait(self, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Return when told to stop or when *is_alive*, asked every second, says no; reload and feed the watchdog."""
        interval_s = watchdog_s()
        if interval_s is not None:
            self._reader.settimeout(min(1.0, interval_s))
        fed_at = float("-inf")
        while not self._stop and is_alive():
            if interval_s is not None and time.monotonic() - fed_at >= interval_s:
                notify("WATCHDOG=1")
                fed_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                self._reader.recv(64)
            if self._reload:
                self._reload = False
                if self._on_reload is not None:
                    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
                    self._on_reload()
                    notify("READY=1")
        notify("STOPPING=1")

    @property
    def stopping(self) -> bool:
        """Whether a signal said stop."""
        return self._stop

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True
        with contextlib.suppress(BlockingIOError):
            self._writer.send(b"\0")
