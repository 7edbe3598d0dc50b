"""The pixel server's processes: granian's parent, its workers, their recorders.

Purpose
    The parent owns the signals, the metrics listener and readiness; each worker process has its own Flask
    application on an event loop (:mod:`postwake_pixelserver.gateway`), writer thread, spool and store connection, made
    in the worker because none of them survives a fork.

Security
    Listens on a UNIX socket (``socket_mode``: what may connect may also say who the reader is), on loopback, or on the
    net with TLS of its own. HTTP/2 only under TLS, where clients negotiate it. Requests: head at most
    64 kB (granian), within 10 s; bodies are never read.

Signals
    SIGTERM, SIGINT: stop accepting, finish what runs, commit, leave. SIGHUP: read keys, deny list and network list
    again, in place, without closing a connection. A worker whose parent dies leaves, too.

Diagnostics
    Exit status 69 when an address is taken, 78 when the configuration or the store's schema is not usable. A store
    that is only locked, full or not there yet keeps nothing from starting: hits wait in the spool.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import grp
import http.client
import ipaddress
import logging
import multiprocessing
import multiprocessing.util
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer
from prometheus_client import CollectorRegistry

from postwake import metrics
from postwake.config import Config, PixelServer, require_tracking
from postwake.config_values import parse_listener
from postwake.errors import ConfigError, StoreUnavailableError, UnavailableError
from postwake.service import notify, set_up_logging, watchdog_s
from postwake.store.connection import open_reader
from postwake.store.recorder import Recorder
from postwake.store.spool_metrics import SpoolCollector
from postwake.store.writer_metrics import RecorderCollector
from postwake_pixelserver.app import Settings, create_app
from postwake_pixelserver.day_key import DayKeys
from postwake_pixelserver.forward import Forwarder
from postwake_pixelserver.gateway import Gateway
from postwake_pixelserver.gather import Gathered, Publisher
from postwake_pixelserver.live import LiveState, read_live
from postwake_pixelserver.measures import Measures
from postwake_pixelserver.relabel import Relabeler

log = logging.getLogger("postwake.pixelserver")

HEAD_TIMEOUT_MS = 10_000
"""A request head has to be complete by then: a slow client costs a socket, never a thread."""
MAX_CONNECTIONS = 4096
"""Open connections a worker; further ones wait in the listen queue. Idle ones are closed after HEAD_TIMEOUT_MS."""
STOP_PATIENCE_S = 20
GC_THRESHOLD = 10_000
"""Requests leave no cycles behind; looking for them every 700 objects takes 4 % of the time."""
READY_PATIENCE_S = 30.0
LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1
_DIRECTORY = "postwake-pixelserver-"
_LOGGING = {"handlers": {}, "formatters": {}, "loggers": {"_granian": {"propagate": True}, "granian.access": {}}}
"""granian's messages go where ours go."""


def serve(config: Config, origin: str = "configuration") -> None:
    """Serve until told to stop. *origin* names the configuration in messages.

    Raises :class:`ConfigError`, :class:`UnavailableError`.
    """
    # Until granian and the workers have their handlers, a reload that comes early must not end us; workers inherit it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    require_tracking(config, origin)
    live = LiveState(partial(read_live, config), config.tracking.keys)  # every problem is said now, not by a worker
    _check_store(config.store.path)
    listener = _Listener(config.pixelserver)
    directory, lock = _make_directory()
    registry = metrics.new_registry("pixelserver")
    registry.register(Gathered(directory))
    registry.register(SpoolCollector(config.store.spool_dir, "pixelserver"))
    stop_metrics = metrics.serve(config.metrics.pixelserver, registry)
    try:
        listener.probe()  # with our own metrics there already: the two may be configured on one port
        server = _make_server(config, listener)
        server.live = live
        server.on_startup(partial(_start_watching, listener))
        server.on_shutdown(lambda: notify("STOPPING=1"))
        # Not fork: this process has threads (metrics, readiness), and a lock one of them holds at that moment would
        # stay locked in the worker for ever. That was seen: a worker that never answered.
        multiprocessing.set_start_method("spawn", force=True)
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        loader: Any = partial(make_worker, config, live, directory, level)
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        if stop_metrics is not None:
            stop_metrics()
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _make_directory() -> tuple[Path, int]:
    """Make the directory for what the processes tell each other and nobody keeps; return it and its lock.

    In memory, if systemd gives a directory there. What a killed server left, with the key of a day's pseudonyms in it,
    goes: whose lock is free has no owner any more.
    """
    base = Path(os.environ.get("RUNTIME_DIRECTORY") or tempfile.gettempdir())
    for old in base.glob(f"{_DIRECTORY}*"):
        with contextlib.suppress(OSError):  # somebody else's, or a living one's
            descriptor = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(descriptor)
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY, dir=base))
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.exists():  # else another that starts just now took it for one that was left
            return directory, lock
        os.close(lock)


def make_worker(config: Config, live: LiveState, directory: Path, log_level: str) -> Gateway:
    """Make one worker's application and everything behind it; runs in the worker, on its main thread.

    *live* is the parent's: if a file has become unusable since, whoever takes a dead worker's place goes on with that.
    """
    _die_with_parent()
    set_up_logging(log_level)
    # The writer gives the interpreter's lock up at each statement, and at the default of 5 ms would wait that long for
    # a loop that is busy to give it back.
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()  # what is there now stays: no need to look through it again and again
    gc.set_threshold(GC_THRESHOLD)
    live.reload()
    signal.signal(signal.SIGHUP, lambda *_: live.reload())
    recorder = Recorder(
        config.store.path,
        config.store.spool_dir,
        "pixelserver",
        busy_timeout_ms=config.store.busy_timeout_ms,
        synchronous="FULL",
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RecorderCollector(recorder))
    measures = Measures(registry, _now_us)
    publisher = Publisher(registry, directory)
    forwarder = Forwarder(measures.forwarded) if config.pixelserver.notify_sender_unsubscribe else None
    relabeler = Relabeler(recorder.writer, config.store.path, _now_us, measures.relabeled.inc)

    def leave() -> None:
        relabeler.close()
        if forwarder is not None:
            forwarder.close()
        recorder.close()
        publisher.close()

    # atexit does not run in a worker of multiprocessing; this does, after granian has answered what it had accepted.
    multiprocessing.util.Finalize(None, leave, exitpriority=10)
    settings = Settings(
        prefixes=prefixes(config),
        proxy_hops=config.pixelserver.proxy_hops,
        proxies=tuple(map(ipaddress.ip_network, config.pixelserver.trusted_proxies)),
    )
    on_unsubscribe = forwarder.forward if forwarder is not None else None
    day_keys = DayKeys(directory)
    app = create_app(settings, live, measures, now_us=_now_us, on_unsubscribe=on_unsubscribe, day_keys=day_keys)
    return Gateway(
        app,
        recorder,
        measures,
        config.pixelserver.store_timeout_ms / 1000,
        on_unix_socket=config.pixelserver.listen.startswith("unix:"),
    )


def prefixes(config: Config) -> tuple[str, ...]:
    """Return the path prefixes to answer under: those of all tracking URLs, and none (a proxy may have cut them)."""
    urls = [config.tracking.url, *(override.url for override in config.domains.values())]
    return tuple(dict.fromkeys(["", *(urlsplit(url).path.rstrip("/") for url in urls if url)]))


class _Server(MPServer):
    """granian's parent process; SIGHUP reaches the workers as SIGHUP instead of replacing them."""

    live: LiveState

    def signal_handler_reload(self, *_args: Any, **_kwargs: Any) -> None:
        self.live.reload()  # for workers to come
        for worker in self.wrks:
            if worker.inner.is_alive():
                os.kill(worker.inner.pid, signal.SIGHUP)


def _make_server(config: Config, listener: _Listener) -> _Server:
    pixel = config.pixelserver
    return _Server(
        "postwake_pixelserver",
        address=listener.host,
        port=listener.port,
        uds=listener.path,
        uds_permissions=int(pixel.socket_mode, 8) if listener.path else None,
        interface=Interfaces.RSGI,
        workers=pixel.workers,
        http=HTTPModes.auto if listener.tls else HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_TIMEOUT_MS, max_buffer_size=65_536),
        websockets=False,
        backpressure=MAX_CONNECTIONS,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGING,
        ssl_cert=pixel.tls_certificate,
        ssl_key=pixel.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,  # mail is read with old programs
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=STOP_PATIENCE_S,
    )


class _Listener:
    """Where to listen, and asking whether somebody answers there."""

    def __init__(self, pixel: PixelServer) -> None:
        self.text = text = pixel.listen
        self.tls = pixel.tls_certificate is not None
        self._group = _group(pixel.socket_group)
        self.path = Path(text.removeprefix("unix:")) if text.startswith("unix:") else None
        self.host, self.port = ("127.0.0.1", 0) if self.path else parse_listener(text)

    def probe(self) -> None:
        """Raise :class:`UnavailableError` unless we can listen there; take a dead server's socket away.

        granian binds with SO_REUSEPORT, so a second instance would share the port without a word.
        """
        try:
            if self.path is not None:
                if self.path.is_socket():
                    if self._answers():
                        raise UnavailableError(f"pixelserver.listen {self.text}: somebody is listening there already")
                    self.path.unlink()
                if not self.path.parent.is_dir():
                    raise UnavailableError(f"pixelserver.listen {self.text}: {self.path.parent} is not a directory")
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.bind(str(self.path))
                self.path.unlink()
                return
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.host, self.port))
        except OSError as error:
            raise UnavailableError(
                f"pixelserver.listen {self.text}: {error.strerror or error}: expected a free address"
            ) from None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                probe.connect(str(self.path))
                return True
        except OSError:
            return False

    def give_to_group(self) -> None:
        """Give the UNIX socket to its group, again if a worker has made it anew."""
        if self.path is not None and self._group is not None:
            with contextlib.suppress(FileNotFoundError):
                if self.path.stat().st_gid != self._group:
                    os.chown(self.path, -1, self._group)

    def healthy(self) -> bool:
        """Whether ``/healthz`` answers."""
        try:
            connection = _connect(self)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False


def _group(name: str) -> int | None:
    if not name:
        return None
    key = f'pixelserver.socket_group = "{name}"'
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"{key}: no such group: expected one of this machine") from None
    if os.geteuid() and group not in (os.getegid(), *os.getgroups()):  # chown(2) would be refused
        user = pwd.getpwuid(os.geteuid()).pw_name
        raise ConfigError(f"{key}: {user} is not in it: expected `usermod -aG {name} {user}`, then a restart")
    return group


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _connect(listener: _Listener) -> http.client.HTTPConnection:
    if listener.path is not None:
        return _UnixConnection(listener.path)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104 - compared, not bound
    if listener.tls:
        import ssl

        context = ssl._create_unverified_context()  # noqa: S323 - ourselves, under whatever name
        return http.client.HTTPSConnection(host, listener.port, timeout=5, context=context)
    return http.client.HTTPConnection(host, listener.port, timeout=5)


def _start_watching(listener: _Listener) -> None:
    threading.Thread(target=_watch, args=(listener,), name="readiness", daemon=True).start()


def _watch(listener: _Listener) -> None:
    """Say READY when the first worker answers; feed the service manager's watchdog while one does."""
    deadline = time.monotonic() + READY_PATIENCE_S
    while not listener.healthy():
        if time.monotonic() > deadline:
            log.error("listen=%s ready=no after_s=%.0f", listener.text, READY_PATIENCE_S)
            return
        time.sleep(0.05)
    listener.give_to_group()
    log.info("listen=%s ready=yes", listener.text)
    notify("READY=1")
    interval_s = watchdog_s()
    while True:
        time.sleep(interval_s or LOOK_S)
        listener.give_to_group()
        if interval_s is not None and listener.healthy():
            notify("WATCHDOG=1")


def _check_store(path: Path) -> None:
    """Let a wrong schema stop the start, and nothing else about the store."""
    try:
        open_reader(path).close()
    except StoreUnavailableError as error:
        log.warning("store=unavailable hits=spooled error=%s", error)


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies, so that a killed parent leaves no orphan on the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _now_us() -> int:
    return time.time_ns() // 1000
