"""postwake milter: rewrites outgoing mail on its way through Postfix.

Purpose
    Listens where ``smtpd_milters`` and ``non_smtpd_milters`` point, inserts the open pixel and wraps links in mail of
    tracked senders, stamps ``X-Postwake-ID``, and commits the message's row before it lets the mail go on.

Security
    Talks to the MTA only, over a UNIX socket of mode ``milter.socket_mode``; whoever can write to it can have links
    signed. Reads the signing keys. Keeps no mail: sender, recipients, subject, tag and metadata go to the store,
    bodies go nowhere.

Diagnostics
    One line a message, queue ID first: its outcome, tracking ID and, if it is not tracked, the reason; a warning or
    error if it was not let through normally. No addresses. Fails open: what cannot be rewritten or
    recorded goes out unchanged. Exit status 78 for a wrong configuration, 69 if the socket is taken.

Limits
    ``milter.max_message_bytes`` a message, ``milter.rewrite_timeout_s`` a rewriting; a worker's memory is bounded by
    some three times ``milter.max_held_bytes``. Stopping waits for messages in hand, 10 s at most.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from postwake.config import Config
from postwake.errors import CannotCreateError, ConfigError, UnavailableError
from postwake.metrics import new_registry, serve
from postwake.service import SIGNALS, Signals, notify
from postwake.settings import load_settings
from postwake.store.connection import open_reader
from postwake.store.spool_metrics import SpoolCollector
from postwake_milter.handle import Handler
from postwake_milter.shared_stats import SharedStats
from postwake_milter.worker import run_worker

log = logging.getLogger("postwake.milter")

BACKLOG = 128
RESTART_DELAY_S = 1.0
"""A worker that dies at once is not started more often than this."""


def run(path: Path) -> int:
    """Run the milter with the configuration at *path* until told to stop; return the exit status."""
    config, _ = _load(path)
    open_reader(config.store.path).close()  # a wrong schema is said now, not by every worker
    listener = _listen(config)
    stats = SharedStats(config.milter.workers)
    supervisor = _Supervisor(path, listener, stats)
    # Forked before this process has any thread of its own.
    for number in range(config.milter.workers):
        supervisor.start(number)
    registry = new_registry("milter")
    registry.register(stats)
    registry.register(SpoolCollector(config.store.spool_dir, "milter"))
    signals = Signals(supervisor.reload)
    try:
        stop_metrics = serve(config.metrics.milter, registry)
    except UnavailableError:
        supervisor.stop()
        raise
    notify("READY=1")
    log.info("socket=%s workers=%d state=ready", config.milter.socket, config.milter.workers)
    signals.wait(supervisor.tend)
    supervisor.stop()
    if stop_metrics is not None:
        stop_metrics()
    return 0


def _load(path: Path) -> tuple[Config, Handler]:
    config, keys = load_settings(path)
    return config, Handler(config, keys)


class _Supervisor:
    """The worker processes."""

    def __init__(self, path: Path, listener: socket.socket, stats: SharedStats) -> None:
        self._path = path
        self._listener = listener
        self._stats = stats
        self._workers: dict[int, tuple[int, float]] = {}  # process ID: number, started at

    def start(self, number: int) -> None:
        """Fork worker *number*."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the worker's until it has handlers of its own
        process = os.fork()
        if process == 0:
            status = 1
            os.environ.pop("NOTIFY_SOCKET", None)  # readiness and watchdog are the parent's to tell
            try:
                run_worker(self._listener.fileno(), lambda: _load(self._path), self._stats.worker(number), parent)
            except Exception:
                log.exception("worker=%d state=failed", number)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            finally:
                sys.stderr.flush()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._workers[process] = (number, time.monotonic())

    def tend(self) -> bool:
        """Start workers that have died anew; always True: the daemon goes on."""
        for process, (number, started) in list(self._workers.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            log.error("worker=%d pid=%d state=died status=%d", number, process, os.waitstatus_to_exitcode(status))
            del self._workers[process]
            self._stats.restarts += 1
            if time.monotonic() - started < RESTART_DELAY_S:
                time.sleep(RESTART_DELAY_S)
            self.start(number)
        return True

    def reload(self) -> None:
        """Check configuration and keys, and only if they are right let the workers take them."""
        try:
            _load(self._path)
        except ConfigError as error:
            log.error("reload=refused error=%s", error)
            return
        for process in self._workers:
            os.kill(process, signal.SIGHUP)
        log.info("reload=done")

    def stop(self) -> None:
        """Stop the workers and wait for them."""
        self._listener.close()
        for process in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for process in self._workers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, 0)


def _listen(config: Config) -> socket.socket:
    """Return the listening socket: systemd's, if it passed one for this path (sd_listen_fds(3)), else our own.

    Ours is left with systemd, which gives it back after a restart: meanwhile Postfix's connections wait in its queue.
    """
    listener = _inherited(config.milter.socket)
    if listener is None:
        listener = _bind(config)
        notify("FDSTORE=1\nFDNAME=milter", listener.fileno())
    # Several processes accept from it: one that loses the race must not be left waiting in accept(2).
    listener.setblocking(False)
    return listener


def _inherited(path: Path) -> socket.socket | None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    listener = socket.socket(fileno=3)
    if listener.getsockname() == str(path) and path.is_socket():
        return listener
    # Another path is configured since, or the file is gone: nobody would come in that way.
    listener.close()
    notify("FDSTOREREMOVE=1\nFDNAME=milter")
    return None


def _bind(config: Config) -> socket.socket:
    path = config.milter.socket
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            _refuse_if_served(path)
            path.unlink()
        old_umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old_umask)
        if config.milter.socket_group:
            try:
                os.chown(path, -1, grp.getgrnam(config.milter.socket_group).gr_gid)
            except KeyError:
                raise ConfigError(
                    f'milter.socket_group = "{config.milter.socket_group}": no such group: expected one of this machine'
                ) from None
        path.chmod(int(config.milter.socket_mode, 8))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotCreateError(f"milter.socket = {path}: cannot listen: {error.strerror}") from None
    return listener


def _refuse_if_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise UnavailableError(f"milter.socket = {path}: somebody serves it already: expected it free")
