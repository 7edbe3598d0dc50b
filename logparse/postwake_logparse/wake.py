"""What ends a wait early: a change in a directory.

A hint, never the truth. inotify's queue overflows, network file systems send no events at all, and its watches run
out: whoever waits here looks at the files themselves afterwards, and at least once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

POLL_INTERVAL_S = 1.0
"""How long a wait lasts at most: what a change without an event costs in latency."""


class Waker(Protocol):
    """Something to wait with."""

    def wait(self, timeout_s: float) -> None:
        """Return after *timeout_s* seconds or :data:`POLL_INTERVAL_S`, or earlier when something may have happened."""

    def close(self) -> None:
        """Release threads."""


class PollingWaker:
    """Waits for the time alone."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> None:
        """See :class:`Waker`."""
        self._closed.wait(min(timeout_s, POLL_INTERVAL_S))

    def close(self) -> None:
        """See :class:`Waker`."""
        self._closed.set()


class DirectoryWaker:
    """Wakes when a file whose name starts with that of one of *paths* is written, created, moved or deleted.

    Watches directories, not files: a file's own watch would follow it when it is renamed. A directory that does not
    exist yet is watched once it does. When no watch can be had (``fs.inotify.max_user_watches`` and ``…_instances``
    run out), this polls, and :attr:`error` says why.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.error = ""
        self._names: dict[Path, set[str]] = {}
        for path in paths:
            self._names.setdefault(path.parent, set()).add(path.name)
        self._event = threading.Event()
        self._closed = False
        self._observer: Any = None
        self._watched: dict[Path, tuple[int, int]] = {}
        self._watches: dict[Path, Any] = {}
        self._watch()

    def wait(self, timeout_s: float) -> None:
        """See :class:`Waker`."""
        if not self._closed:
            self._watch()
        self._event.wait(min(timeout_s, POLL_INTERVAL_S))
        self._event.clear()

    def close(self) -> None:
        """See :class:`Waker`."""
        self._closed = True
        self._event.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _watch(self) -> None:
        if self.error:
            return
        for directory, names in self._names.items():
            try:
                info = directory.stat()
            except OSError:
                continue
            identity = (info.st_dev, info.st_ino)
            if self._watched.get(directory) == identity:
                continue
            try:
                if self._observer is None:
                    self._observer = Observer()
                    self._observer.start()
                if directory in self._watches:
                    self._observer.unschedule(self._watches.pop(directory))
                self._watches[directory] = self._observer.schedule(_Handler(self._event, names), str(directory))
                self._watched[directory] = identity
            except OSError as error:
                self.error = f"{directory}: no notification of changes ({error.strerror or error}): polling instead"
                return


class _Handler(FileSystemEventHandler):
    """Sets the event for files that matter.

    Opening, reading and closing are not among them: our own reading would wake us for ever.
    """

    _KINDS = frozenset({"modified", "created", "moved", "deleted"})

    def __init__(self, event: threading.Event, names: set[str]) -> None:
        self._event = event
        self._names = tuple(names)

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type not in self._KINDS or event.is_directory:
            return
        for path in (event.src_path, event.dest_path):
            text = path if isinstance(path, str) else bytes(path).decode(errors="surrogateescape")
            if text.rpartition("/")[2].startswith(self._names):
                self._event.set()
                return
