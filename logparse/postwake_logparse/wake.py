"""What ends a wait early: a change in a directory.

A hint, never the truth. inotify's queue overflows, network file systems send no events at all, and its watches run
out: whoever waits here looks at the files themselves afterwards, and at least once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

POLL_INTERVAL_S = 1.0
"""How long a wait lasts at most: what a change without an event costs in latency."""


SETTLE_S = 0.1
"""How long a woken wait still lets lines gather. Without it a busy log is read and committed line by line: at 2,000
lines/s that was 22 % of a core for reading alone, 12 % with it, and 1 % with :data:`BUSY_WAITS` as well."""


BUSY_WAITS = 50
"""Waits without a watch after a wake-up: five seconds. An event costs ten times what a look at the file does."""


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
    run out), this polls, and :attr:`error` says why. A wait that begins to watch returns at once: what happened before
    has no event.

    A log that is written to all the time needs nobody to wake us: after each wake-up the watches are lifted, and the
    next :data:`BUSY_WAITS` waits only last :data:`SETTLE_S`.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.error = ""
        self._names: dict[Path, set[str]] = {}
        for path in paths:
            self._names.setdefault(path.parent, set()).add(path.name)
        self._event = threading.Event()
        self._stopped = threading.Event()
        self._observer: Any = None
        self._watched: dict[Path, tuple[int, int]] = {}
        self._busy_waits = 0

    def wait(self, timeout_s: float) -> None:
        """See :class:`Waker`."""
        if self._busy_waits:
            self._busy_waits -= 1
            self._stopped.wait(min(timeout_s, SETTLE_S))
            return
        if not self._stopped.is_set() and self._watch():
            return
        if self._event.wait(min(timeout_s, POLL_INTERVAL_S)):
            self._stopped.wait(min(timeout_s, SETTLE_S))
            self._lift()
            self._event.clear()
            self._busy_waits = BUSY_WAITS

    def close(self) -> None:
        """See :class:`Waker`."""
        self._stopped.set()
        self._event.set()
        self._lift()

    def _watch(self) -> bool:
        """Watch the directories that are not watched; tell whether there was one."""
        if self.error:
            return False
        added = False
        for directory, names in self._names.items():
            try:
                info = directory.stat()
            except OSError:
                continue
            identity = (info.st_dev, info.st_ino)
            if self._watched.get(directory) == identity:
                continue
            if directory in self._watched:
                self._lift()  # another directory under the same name
                return self._watch()
            try:
                if self._observer is None:
                    self._observer = Observer()
                    self._observer.start()
                self._observer.schedule(_Handler(self._event, names), str(directory), event_filter=_EVENTS)
            except OSError as error:
                self.error = f"{directory}: no notification of changes ({error.strerror or error}): polling instead"
                return False
            self._watched[directory] = identity
            added = True
        return added

    def _lift(self) -> None:
        self._watched.clear()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


_EVENTS: list[type[FileSystemEvent]] = [FileModifiedEvent, FileCreatedEvent, FileMovedEvent, FileDeletedEvent]
"""Opening, reading and closing are not among them: our own reading would wake us for ever."""


class _Handler(FileSystemEventHandler):
    """Sets the event for files that matter."""

    def __init__(self, event: threading.Event, names: set[str]) -> None:
        self._event = event
        self._names = tuple(names)

    def dispatch(self, event: FileSystemEvent) -> None:
        if self._event.is_set():
            return
        for path in (event.src_path, event.dest_path):
            text = path if isinstance(path, str) else bytes(path).decode(errors="surrogateescape")
            if text.rpartition("/")[2].startswith(self._names):
                self._event.set()
                return
