"""The spool: where events wait, fsynced, while the store cannot be written.

One file a process, ``<service>-<pid>-<ns>.spool``, one JSON event a line, held under ``flock`` while its
process lives. Replaying takes every file whose owner is gone (and our own, set aside first), applies its events
and unlinks it after the commit. A crash in between replays it again, which changes nothing: every event can be
applied twice.

A line that was not written to its end was not acknowledged to anybody, and is cut off before the next is written.
Lines that are no events (a damaged disk) are kept in a ``.bad`` file and counted, never dropped silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from postwake.errors import StoreUnavailableError
from postwake.events import Event, decode, encode

_SUFFIX = ".spool"
BATCH = 200
"""Events replayed in one transaction: some 10 ms, so that the living are not kept waiting by the past."""


class Spool:
    """The spool files of one directory, as one process writes and replays them. Thread-safe."""

    def __init__(self, directory: Path, service: str) -> None:
        """Take the directory (made if it is not there) and the name that our files begin with."""
        self._directory = directory
        self._service = service
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._path: Path | None = None
        self.appended = 0
        self.replayed = 0
        self.bad_lines = 0

    def append(self, events: Sequence[Event]) -> None:
        """Write *events* and return when they are on the disk; :class:`StoreUnavailableError` if they cannot be."""
        data = "".join(encode(event) + "\n" for event in events).encode("ascii")
        with self._lock:
            try:
                descriptor = self._open()
                size = os.fstat(descriptor).st_size
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    os.fsync(descriptor)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, size)
                    raise
            except OSError as error:
                raise StoreUnavailableError(f"{self._directory}: cannot write the spool: {error.strerror}") from None
            self.appended += len(events)

    def pending(self) -> bool:
        """Return whether any file waits (ours or anybody's)."""
        return any(True for _ in self._files())

    def depth(self) -> tuple[int, int]:
        """Return how many files and bytes wait."""
        sizes = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    def replay(self, apply: Callable[[Sequence[Event]], None]) -> int:
        """Give every waiting event to *apply*, which commits them or raises; return how many there were."""
        self._set_aside()
        count = 0
        for path in self._files():
            with self._owned(path) as descriptor:
                if descriptor is None:
                    continue
                for events in self._batches(descriptor, path):
                    apply(events)
                    count += len(events)
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
        self.replayed += count
        return count

    def close(self) -> None:
        """Let go of our file: whoever replays next may have it."""
        self._set_aside()

    def _files(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*{_SUFFIX}"))
        except OSError:
            return []

    def _open(self) -> int:
        if self._descriptor is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._path = self._directory / f"{self._service}-{os.getpid()}-{time.time_ns()}{_SUFFIX}"
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o660)
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o660)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._descriptor = descriptor
        return self._descriptor

    def _set_aside(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                self._path = None

    @contextlib.contextmanager
    def _owned(self, path: Path) -> Iterator[int | None]:
        """Yield a descriptor of *path* under its lock, or None while its owner lives or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield descriptor if os.fstat(descriptor).st_nlink else None
        finally:
            os.close(descriptor)

    def _batches(self, descriptor: int, path: Path) -> Iterator[list[Event]]:
        events: list[Event] = []
        bad: list[bytes] = []
        with os.fdopen(os.dup(descriptor), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # never acknowledged
                try:
                    events.append(decode(line.decode("ascii")))
                except ValueError:
                    bad.append(line)
                if len(events) >= BATCH:
                    yield events
                    events = []
        if events:
            yield events
        if bad:
            self.bad_lines += len(bad)
            with path.with_suffix(".bad").open("ab") as out:
                out.writelines(bad)
