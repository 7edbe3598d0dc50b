"""Looking after the file: backup, integrity, checkpoint. Removing what is old is in :mod:`.purge`, persons in :mod:`.person`.

A backup is one consistent moment, taken with SQLite's backup API while everybody goes on writing: the read transaction
that is held keeps the copy from starting over whenever somebody commits, and keeps writers waiting for nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from postwake.errors import CannotCreateError, DataError, StoreUnavailableError, UsageError
from postwake.store import schema
from postwake.store.connection import migrate_file, open_reader, open_writer, room

BACKUP_PAGES = 2048
"""Pages copied between two looks at the progress: 8 MiB."""
MAX_PROBLEMS = 100
"""So many lines of an integrity check are kept: a damaged file can have millions."""


_BESIDE = ("-wal", "-shm", "-lock")


class Backup(NamedTuple):
    """A backup that was made."""

    path: Path
    size_bytes: int


def migrate(store: Path, *, keep_old: bool = True) -> tuple[list[str], Backup | None]:
    """Make or migrate the store; return the names of the migrations applied, and the copy of an older one that is kept.

    The copy stands beside the store and is never replaced by a later state of it: ``postwake.db.schema-1``. Errors are
    those of :func:`backup` and :func:`.connection.migrate_file`; whichever comes, the old store is as it was.
    """
    kept = None
    if keep_old and store.exists():
        with contextlib.closing(open_reader(store, older=True)) as connection:
            found = schema.found_version(connection)
        copy = store.with_name(f"{store.name}.schema-{found}")
        if 0 < found < schema.version() and not copy.exists():
            kept = backup(store, copy)
    return migrate_file(store), kept


def backup(store: Path, target: Path, *, progress: Callable[[int, int], None] | None = None) -> Backup:
    """Copy the store at *store* to *target*, which is replaced in one rename once its copy has been checked.

    The copy holds every transaction committed before this was called, is one file (no WAL beside it), mode 0600.
    *progress* is told pages left and pages in all. :class:`CannotCreateError` when it cannot be written, a full disk
    included; :class:`DataError` when what was copied does not pass SQLite's quick check: an existing *target* stays;
    :class:`UsageError` when *target* is one of the store's own files, or no file at all.
    """
    target = target.absolute()
    if target.resolve() in [store.resolve().with_name(store.resolve().name + end) for end in ("", *_BESIDE)]:
        # Renamed over the store, the copy would take the place of what the services are writing to.
        raise UsageError(f"{target}: a file of the store itself: expected another one for the backup")
    if target.exists() and not target.is_file():  # /dev/null would become one, for everybody on the machine
        raise UsageError(f"{target}: not a regular file: expected one, or a new name")
    with contextlib.closing(open_reader(store, older=True)) as source:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on the source is one moment
        try:
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        except OSError as error:
            raise CannotCreateError(f"{target}: cannot write the backup: {error.strerror}") from None
        os.close(descriptor)
        part = Path(name)
        try:
            _need_room(source, part, target)
            _copy(source, part, progress)
            problems = check_integrity(part, quick=True)
            if problems:
                raise DataError(f"{store}: its copy is damaged, nothing was replaced: {problems[0]}")
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        except OSError as error:
            raise CannotCreateError(f"{target}: cannot write the backup: {error.strerror}") from None
        except sqlite3.DatabaseError as error:
            raise CannotCreateError(f"{target}: cannot write the backup: {error}") from None
        finally:
            for leftover in part.parent.glob(f"{part.name}*"):
                leftover.unlink(missing_ok=True)
    return Backup(target, target.stat().st_size)


def _need_room(source: sqlite3.Connection, part: Path, target: Path) -> None:
    # Said before gigabytes are written, and before the disk is full for everybody else on it.
    wanted = source.execute("PRAGMA page_count").fetchone()[0] * source.execute("PRAGMA page_size").fetchone()[0]
    free = shutil.disk_usage(part.parent).free
    if free < wanted:
        raise CannotCreateError(f"{target}: {free} bytes free on its disk: expected {wanted} for the backup")


def _copy(source: sqlite3.Connection, part: Path, progress: Callable[[int, int], None] | None) -> None:
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # synced as a whole when it is complete
        source.backup(
            copy, pages=BACKUP_PAGES, progress=None if progress is None else lambda _, left, n: progress(left, n)
        )
        # The header says WAL, as the source's does: whoever opened the copy would leave two files beside it.
        copy.execute("PRAGMA journal_mode = DELETE")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_integrity(path: Path, *, quick: bool = False) -> list[str]:
    """Return what is wrong with the SQLite file at *path* (any schema), at most :data:`MAX_PROBLEMS`; empty: nothing.

    *quick* leaves out comparing the indexes with their tables, which takes most of the time. Nobody is kept waiting.
    :class:`StoreUnavailableError` if it cannot be looked at now, as on a full disk, which says nothing of the file.
    """
    pragma = "quick_check" if quick else "integrity_check"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as connection:
            rows = connection.execute(f"PRAGMA {pragma}({MAX_PROBLEMS})").fetchall()
    except sqlite3.OperationalError as error:
        raise StoreUnavailableError(f"{path}: cannot be checked: {error}{room(path, error)}") from None
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [line for (text,) in rows for line in str(text).splitlines() if line != "ok"][:MAX_PROBLEMS]


_REFERENCES = (
    ("delivery", "message", "message"),
    ("event", "message", "message"),
    ("event", "delivery", "delivery"),
    ("event", "relay", "relay"),
    ("event", "reply", "reply"),
    ("event", "url", "url"),
    ("event", "user_agent", "user_agent"),
    ("engagement", "message", "message"),
    ("relabel", "event", "event"),
    ("message", "merged_into", "message"),
    ("message", "parent", "message"),
    ("delivery", "last_event", "event"),
)


def check_references(path: Path) -> list[str]:
    """Return, a sentence each, which columns name rows that are not there, and how many. Reads every row."""
    problems = []
    with contextlib.closing(open_reader(path)) as connection:
        for table, column, other in _REFERENCES:
            n = connection.execute(
                f"SELECT count(*) FROM {table} WHERE {column} IS NOT NULL"
                f" AND NOT EXISTS (SELECT 1 FROM {other} AS there WHERE there.id = {table}.{column})"
            ).fetchone()[0]
            if n:
                problems.append(f"{n} rows of {table}: {column} names a row of {other} that is not there")
    return problems


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint did."""

    complete: bool
    """Whether the whole write-ahead log is in the file now; somebody who reads an older moment keeps the rest."""
    wal_bytes: int
    """Size of the write-ahead log afterwards."""


def checkpoint(path: Path) -> Checkpoint:
    """Move the write-ahead log into the file, and cut it to nothing if nobody is in the way; wait for nobody."""
    with contextlib.closing(open_writer(path)) as connection:
        # With no patience TRUNCATE does what PASSIVE does, and cuts only if it can at once.
        connection.execute("PRAGMA busy_timeout = 0")
        busy = 1
        with contextlib.suppress(sqlite3.OperationalError):
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        wal = path.with_name(path.name + "-wal")
        size = wal.stat().st_size if wal.exists() else 0
    return Checkpoint(busy == 0, size)
