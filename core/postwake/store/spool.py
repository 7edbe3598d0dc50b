"""The spool: where events wait, fsynced, while the store cannot be written.

One file a process, ``<service>-<pid>-<ns>.spool``, one JSON event a line, held under ``flock`` while its
process lives. Replaying takes every file whose owner is gone (and our own, set aside first), applies its events
and unlinks it after the commit. A crash in between replays it again, which changes nothing: every event can be
applied twice.

A line that was not written to its end was not acknowledged to anybody, and is cut off before the next is written.
Lines that are no events (a damaged disk), and events that the store refuses one by one, are kept in a ``.bad`` file
and counted, never dropped silently, and hold up nothing behind them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from postwake.durable import sync_directory
from postwake.errors import StoreUnavailableError
from postwake.events import Event, decode, encode

log = logging.getLogger("postwake.store")

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
                    try:
                        os.ftruncate(descriptor, size)
                    except OSError:
                        self._let_go()  # half a line stays at its end: the next goes into a file of its own
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
        """Give every waiting event to *apply*, which commits them or raises; return how many it took.

        :class:`StoreUnavailableError` from *apply* ends the replay: the file is replayed again. Whatever else it
        raises is about the events; they are tried one by one, and those it is about go into the ``.bad`` file.
        """
        self._set_aside()
        count = 0
        for path in self._files():
            with self._owned(path) as descriptor:
                if descriptor is None:
                    continue
                try:
                    count += self._replay_file(descriptor, path, apply)
                except OSError as error:  # an unreadable or undeletable file must not hold up the others
                    log.error("spool=%s replayed=no error=%s", path, error.strerror)
        self.replayed += count
        return count

    def _replay_file(self, descriptor: int, path: Path, apply: Callable[[Sequence[Event]], None]) -> int:
        count = 0
        bad: list[bytes] = []
        for batch in self._batches(descriptor, bad):
            count += _apply_batch(batch, apply, bad)
        if bad:
            _keep(path.with_suffix(".bad"), bad)
            self.bad_lines += len(bad)
            log.error("spool=%s bad_lines=%d kept=%s", path, len(bad), path.with_suffix(".bad"))
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
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
        """Return our file, making one if we have none or it was deleted under us."""
        if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:
            self._let_go()
        while self._descriptor is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = self._make()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Between making and locking, whoever replays may have found it empty and taken it away.
                ours = os.fstat(descriptor).st_nlink > 0
                if ours:
                    sync_directory(self._directory)
            except BaseException:
                os.close(descriptor)
                raise
            if ours:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return self._descriptor

    def _make(self) -> int:
        path = self._directory / f"{self._service}-{os.getpid()}-{time.time_ns()}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o660)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o660)
        return descriptor

    def _set_aside(self) -> None:
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

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

    def _batches(self, descriptor: int, bad: list[bytes]) -> Iterator[list[tuple[bytes, Event]]]:
        """Yield the events with their lines, some at a time; add to *bad* the lines that are none."""
        batch: list[tuple[bytes, Event]] = []
        with os.fdopen(os.dup(descriptor), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # never acknowledged
                try:
                    batch.append((line, decode(line.decode("ascii"))))
                except ValueError:
                    bad.append(line)
                if len(batch) >= BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch


def _apply_batch(
    batch: Sequence[tuple[bytes, Event]], apply: Callable[[Sequence[Event]], None], bad: list[bytes]
) -> int:
    """Apply *batch*, in halves if it is refused; return how many were taken, add the lines that were not to *bad*."""
    try:
        apply([event for _, event in batch])
    except (StoreUnavailableError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - about these events, whatever it is: they are kept and the others go on
        if len(batch) == 1:
            # Who it is about stands in the .bad file, and in no log.
            log.error("spool=refused error=%s kind=%s", error, type(batch[0][1]).__name__.lower())
            bad.append(batch[0][0])
            return 0
        middle = len(batch) // 2
        return _apply_batch(batch[:middle], apply, bad) + _apply_batch(batch[middle:], apply, bad)
    return len(batch)


def _keep(path: Path, lines: Sequence[bytes]) -> None:
    """Add *lines* to *path* and return when they are on the disk, under its name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o660)
    with os.fdopen(descriptor, "ab") as out:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o660)  # whatever the umask, as a spool file
        out.writelines(lines)
        out.flush()
        os.fsync(descriptor)
    sync_directory(path.parent)
