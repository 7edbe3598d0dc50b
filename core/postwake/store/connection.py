"""Opening the store: pragmas, the schema check, and the lock in front of each write.

Security: the directory must be writable by every service that opens the file (WAL keeps two files beside it),
and by nobody else: mode 2770 and one group. Files are created 0660 (SQLite itself would make them 0644 less the
umask, and give the WAL the same: then only their maker could write).

Why a lock file: SQLite's own busy handler sleeps longer and longer (up to 100 ms) between looks, so that a small
writer starves beside a busy one. Queueing on a lock that is looked at every millisecond keeps its waits short.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from postwake.errors import ConfigError, StoreUnavailableError
from postwake.store import schema

Synchronous = Literal["NORMAL", "FULL"]

WAL_LIMIT_BYTES = 64 << 20
"""The WAL is truncated to this after a checkpoint, so that one long reader does not leave a big file for ever."""

# For each None and each bytes that is bound sqlite3 looks for an adapter, and where none is registered it raises and
# swallows an exception: a fifth of the time that inserting a row takes. These give back what they get.
sqlite3.register_adapter(type(None), dict[None, None]().get)
sqlite3.register_adapter(bytes, bytes)


def open_writer(path: Path, *, busy_timeout_ms: int = 5000, synchronous: Synchronous = "NORMAL") -> sqlite3.Connection:
    """Open *path* for writing in WAL mode, autocommit (transactions are explicit).

    :class:`ConfigError` if its schema is not ours, :class:`StoreUnavailableError` if it cannot be opened now.
    """
    connection = _connect(path, busy_timeout_ms)
    try:
        check_schema(connection, path)  # before anything is changed in a file that may be somebody else's
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigError(f"{path}: journal mode is {mode}: expected wal; is it on a network file system?")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        connection.execute("PRAGMA cache_size = -16000")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refused(path, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, older: bool = False) -> sqlite3.Connection:
    """Open *path* read-only; the same errors as :func:`open_writer`. Rows come as :class:`sqlite3.Row`.

    *older* lets a store of an earlier release pass: for copying it, not for reading its rows.
    """
    try:
        connection = sqlite3.connect(_uri(path, "ro"), uri=True, timeout=5, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from None
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA query_only = 1")
        check_schema(connection, path, older=older)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refused(path, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def migrate_file(path: Path) -> list[str]:
    """Make or migrate the store at *path*; return the names of the migrations applied."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(WriteLock(path)) as lock, lock.held(60.0):
            _make_file(path)
            with contextlib.closing(sqlite3.connect(_uri(path, "rw"), uri=True, timeout=60)) as connection:
                found = schema.found_version(connection)
                if found > schema.version():
                    raise ConfigError(_newer(path, found))
                if schema.is_foreign(connection):
                    raise ConfigError(_foreign(path))
                connection.execute("PRAGMA journal_mode = WAL")
                return schema.migrate(connection)
    except OSError as error:
        raise StoreUnavailableError(f"{path}: cannot make the store: {error.strerror}") from None
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from None


def check_schema(connection: sqlite3.Connection, path: Path, *, older: bool = False) -> None:
    """Raise :class:`ConfigError` unless the file's schema is exactly ours, or *older* and that may be."""
    found = schema.found_version(connection)
    if schema.is_foreign(connection):
        raise ConfigError(_foreign(path))
    if found > schema.version():
        raise ConfigError(_newer(path, found))
    if found < schema.version() and not older:
        raise ConfigError(f"{path}: schema version {found}: expected {schema.version()}; run `postwake db migrate`")


def _newer(path: Path, found: int) -> str:
    return f"{path}: schema version {found} is newer than this Postwake's {schema.version()}: install the newer release"


def _foreign(path: Path) -> str:
    return f"{path}: an SQLite file of another program: expected a Postwake store, or no file and `postwake db migrate`"


def _uri(path: Path, mode: Literal["ro", "rw"]) -> str:
    # Never rwc: a store that is gone must not come back as an empty file.
    return f"{path.absolute().as_uri()}?mode={mode}"


def _make_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o660)  # whatever the umask
    finally:
        os.close(descriptor)


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    timeout_s = busy_timeout_ms / 1000
    try:
        return sqlite3.connect(
            _uri(path, "rw"), uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: sqlite3.DatabaseError) -> StoreUnavailableError:
    try:
        path.stat()
    except FileNotFoundError:
        return StoreUnavailableError(f"{path}: no store there; `postwake db migrate` makes one")
    except OSError as denied:  # a directory on the way that we may not enter
        return StoreUnavailableError(f"{path}: {denied.strerror}: expected to be root or in the group of the store")
    if not os.access(path, os.R_OK):
        return StoreUnavailableError(f"{path}: Permission denied: expected to be root or in the group of the store")
    return StoreUnavailableError(f"{path}: cannot open the store: {error}{room(path, error)}")


ROOM_BYTES = 1 << 20
"""With less than this on the disk that is what is the matter: to be opened a store wants a log and its index beside it."""


def room(path: Path, error: sqlite3.DatabaseError) -> str:
    """Return how much room there is on the disk of *path* if that explains *error*, to be put behind it; else empty."""
    if not isinstance(error, sqlite3.OperationalError):  # a damaged file, or none of SQLite's
        return ""
    free = shutil.disk_usage(path.parent).free
    return f"; {free} bytes are free on its disk" if free < ROOM_BYTES else ""


_ASKERS_ERRORS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)


def is_the_stores(error: Exception) -> bool:
    """Return whether *error* is the store's (locked, full, damaged), and not about what it was asked for."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _ASKERS_ERRORS)


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of *path*, None if it is not there: what an open connection can be compared with.

    SQLite goes on writing, without an error, into a file that was deleted or replaced under it.
    """
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


@dataclass(slots=True)
class LockStats:
    """How often and how long one process waited for other writers; read without a lock by metrics."""

    waits: int = 0
    """Transactions that found another process writing."""
    wait_s: float = 0.0
    """Seconds waited in front of them."""
    timeouts: int = 0
    """Waits that were given up: then SQLite itself says whether the store is busy."""


class WriteLock:
    """The ``flock`` that writing processes queue on, beside the store as ``<name>-lock``.

    Only an accelerator: SQLite's own lock is what excludes. A lock file that cannot be made is done without.
    """

    def __init__(self, path: Path, stats: LockStats | None = None) -> None:
        """Take the store's path; the file is opened at the first use. Waits are added to *stats*."""
        self._path = path.with_name(path.name + "-lock")
        self._stats = LockStats() if stats is None else stats
        self._descriptor: int | None = None

    @contextlib.contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock; after *timeout_s* go on without it: SQLite then says whether the store is busy."""
        descriptor = self._open()
        if descriptor is None:
            yield
            return
        locked = _flock(descriptor, timeout_s, self._stats)
        try:
            yield
        finally:
            if locked:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def is_waited_for(self) -> bool:
        """Return whether another process waits for the lock that is held: time to end a long transaction."""
        if self._descriptor is None:
            return False
        try:
            answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _byte_lock(fcntl.F_WRLCK))
        except OSError:
            return False
        return int(struct.unpack(_BYTE_LOCK, answer)[0]) != fcntl.F_UNLCK

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int | None:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            except OSError:
                return None
            with contextlib.suppress(OSError):
                os.fchmod(self._descriptor, 0o660)  # whatever the umask: the other services are in our group
        return self._descriptor


def _flock(descriptor: int, timeout_s: float, stats: LockStats) -> bool:
    """Wait for the lock in the kernel's queue; poll only to bound the wait when somebody sits on it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass
    except OSError:  # a file system without locks: SQLite's own lock is what excludes
        return False
    started = time.monotonic()
    stats.waits += 1
    _announce(descriptor, fcntl.F_RDLCK)
    try:
        locked = _poll(descriptor, started + timeout_s)
    finally:
        _announce(descriptor, fcntl.F_UNLCK)
        stats.wait_s += time.monotonic() - started
    stats.timeouts += not locked
    return locked


def _poll(descriptor: int, deadline: float) -> bool:
    # A blocking flock cannot be given a time limit without signals, which belong to the main thread. Another
    # writer holds it for under 50 ms; polling at 1 ms keeps the order roughly fair and the bound exact.
    while time.monotonic() < deadline:
        time.sleep(0.001)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            continue
    return False


# struct flock of fcntl(2), natively aligned: type, whence, start, length, process.
_BYTE_LOCK = "hhqqi0q"


def _byte_lock(kind: int) -> bytes:
    return struct.pack(_BYTE_LOCK, kind, os.SEEK_SET, 0, 1, 0)


def _announce(descriptor: int, kind: int) -> None:
    """Tell the holder of the lock that somebody waits, by a shared lock of the other sort, or take that back.

    Open file description locks (Linux) know nothing of flock's and vanish with their process.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte_lock(kind))
