"""Reading logs of the past: many files, oldest first, each exactly once however often it is asked for.

A file is known by its first line, not by its name, so ``mail.log.3`` of yesterday, ``mail.log.4.gz`` of today and a
copy elsewhere are one file with one cursor, ``backfill:<file_id>``. An interrupted backfill goes on where it was; a
file that was read to its end gives nothing; one that has grown since gives the new lines. A file that is or was
*followed* gives only what was there before following began, if it began at the end: the rest is the follower's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from postwake.errors import DataError, NoInputError
from postwake_logparse.file_identity import (
    FINGERPRINT_BYTES,
    FileState,
    Fingerprint,
    first_line_head,
    holds_what_was_read,
)
from postwake_logparse.file_reader import MAGIC_BYTES, Reader, UnpackingReader, compression_of, open_reader
from postwake_logparse.journal_export import is_journal
from postwake_logparse.source import (
    DEFAULT_BLOCK_BYTES,
    MAX_LINE_BYTES,
    Chunk,
    Cursor,
    SourceStats,
    cut_block,
    scan_lines,
)

_FIRST_LINE_BYTES = 4096

Stamp = Callable[[bytes, int], int | None]
r"""When a log line was written, in microseconds since 1970, or None if it does not say.

Takes the line, without ``\n``, and the file's time of modification, from which a year can be inferred."""

Lookup = Callable[[str], str | None]
"""From a ``file_id`` to the state of a cursor in the store, or None."""


class BackfillFile(NamedTuple):
    """A file to be backfilled, looked into."""

    path: Path
    compression: str
    """``.gz``, ``.bz2``, ``.xz``, ``.zst`` or empty, by what is in it, not by its name."""
    fingerprint: Fingerprint | None
    """None if there is no line in it."""
    first_line: bytes
    r"""Without ``\n``; its first 4 KiB if it is longer."""
    size_bytes: int
    """On disk."""
    mtime_us: int
    journal: bool = False
    """Whether it is a journal that somebody saved; what is said of lines is said of those that its entries become."""

    @property
    def file_id(self) -> str:
        """The name of its content, as in ``Chunk.file_id``; empty if there is no line in it."""
        return "" if self.fingerprint is None else str(self.fingerprint)


class Progress(NamedTuple):
    """How far a backfill is, in bytes on disk."""

    done_bytes: int
    total_bytes: int
    files_done: int
    files: int
    path: Path | None
    """The file being read."""


def cursor_name(file_id: str) -> str:
    """Return the name of the cursor of a backfilled file."""
    return f"backfill:{file_id}"


def examine(path: Path) -> BackfillFile:
    """Look into the file at *path*: what it is and how it begins.

    :class:`~postwake.errors.NoInputError` when it cannot be read, :class:`~postwake.errors.DataError` when it is
    damaged from the start, :class:`~postwake.errors.UnavailableError` for .zst without its package.
    """
    try:
        if path.is_dir():
            raise NoInputError(f"{path}: is a directory: expected a log file")
        with path.open("rb") as file:
            compression = compression_of(file.read(MAGIC_BYTES))
        reader = open_reader(path, compression)
    except OSError as error:
        raise NoInputError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        head = reader.pread(_FIRST_LINE_BYTES, 0)
        journal = is_journal(head)
        if journal:
            reader.close()
            reader = open_reader(path, compression, journal=True)
            head = reader.pread(_FIRST_LINE_BYTES, 0)
        if reader.error and not head:
            raise DataError(reader.error)
        info = reader.stat()
    finally:
        reader.close()
    identifying = first_line_head(head[:FINGERPRINT_BYTES])
    return BackfillFile(
        path,
        compression,
        None if identifying is None else Fingerprint.of(identifying),
        head.partition(b"\n")[0],
        info.st_size,
        info.st_mtime_ns // 1000,
        journal,
    )


def oldest_first(files: Iterable[BackfillFile], stamp: Stamp) -> list[BackfillFile]:
    """Order *files* by when their first lines were written; by time of modification those that do not say."""

    def key(file: BackfillFile) -> tuple[int, int, str]:
        written_us = stamp(file.first_line, file.mtime_us)
        return (file.mtime_us if written_us is None else written_us, file.mtime_us, str(file.path))

    return sorted(files, key=key)


class BackfillSource:
    """Reads *files* in their order. Implements :class:`~postwake_logparse.source.Source`; ``ended`` says when to stop.

    *position* gives the state of the cursor ``backfill:<file_id>`` (see :func:`cursor_name`), *followed* that of any
    cursor of a followed log whose chunks had this ``file_id``. Both are asked when a file's turn comes. Memory does not
    depend on the files' sizes.
    """

    def __init__(
        self,
        files: Sequence[BackfillFile],
        position: Lookup,
        followed: Lookup = lambda _file_id: None,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.stats = SourceStats()
        self.files_skipped = 0
        """Files of which nothing was left to do: empty, or followed from their beginning."""
        self._files = list(files)
        self._lookup = position
        self._followed = followed
        self._bound = max_line_bytes
        self._index = -1
        self._reader: Reader | None = None
        self._state = FileState()
        self._tail = b""
        self._limit: int | None = None

    @property
    def name(self) -> str:
        """``backfill``: the cursors have names of their own, one for each file."""
        return "backfill"

    @property
    def ended(self) -> bool:
        """Whether all files were read."""
        return self._index >= len(self._files)

    @property
    def current(self) -> BackfillFile | None:
        """The file that the last chunk came from."""
        return self._files[self._index] if 0 <= self._index < len(self._files) else None

    def read(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """See :class:`~postwake_logparse.source.Source`; None only at the very end."""
        while not self.ended:
            if self._reader is None and not self._next_file():
                continue
            assert self._reader is not None
            try:
                chunk = self._read(self._reader, max_bytes)
            except OSError as error:
                self.stats.error(f"{self._files[self._index].path}: {error.strerror or error}")
                self._close_file()
                continue
            if chunk is not None:
                return chunk
            self._finish(self._reader)
        return None

    def read_on(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """As :meth:`read`, but None at the end of the file that is open, and before the first.

        Where the next file is to be read from may depend on what was said of this one: on its being a copy of it.
        """
        if self._reader is None:
            return None
        try:
            return self._read(self._reader, max_bytes)
        except OSError:
            return None  # read() meets the same error and counts it

    def wait(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def lag_bytes(self) -> int:
        """How many bytes on disk are left to read."""
        progress = self.progress()
        return progress.total_bytes - progress.done_bytes

    def progress(self) -> Progress:
        """How far it is."""
        done = sum(file.size_bytes for file in self._files[: max(0, self._index)])
        current = self.current
        if current is not None:
            reader = self._reader
            consumed = reader.consumed_bytes() if isinstance(reader, UnpackingReader) else self._state.offset
            done += min(consumed, current.size_bytes)
        total = sum(file.size_bytes for file in self._files)
        path = None if current is None else current.path
        return Progress(done, total, max(0, self._index), len(self._files), path)

    def close(self) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        self._close_file()

    def _next_file(self) -> bool:
        """Open the next file at its position; False if there is nothing to read in it, or no next file."""
        self._index += 1
        self._state, self._tail = FileState(), b""
        if self.ended:
            return False
        file = self._files[self._index]
        if file.fingerprint is None:
            self.files_skipped += 1
            if file.first_line:
                self.stats.partial_lines_abandoned += 1
                self.stats.bytes_discarded += len(file.first_line)
            return False
        followed = self._followed(file.file_id)
        self._limit = None if followed is None else FileState.from_json("the followed log", followed).begin
        saved = self._lookup(file.file_id)
        state = None if saved is None else FileState.from_json(cursor_name(file.file_id), saved)
        if self._limit is not None and self._limit <= (0 if state is None else state.offset):
            self.files_skipped += 1
            return False
        try:
            reader = open_reader(file.path, file.compression, journal=file.journal)
        except OSError as error:
            self.stats.error(f"{file.path}: {error.strerror or error}")
            return False
        self.stats.opens += 1
        if state is None:
            state = FileState(fingerprint=file.fingerprint)
        if not holds_what_was_read(state, reader.pread):
            self.stats.error(
                f"{file.path}: begins like a log that was ingested before but does not go on like it: not read"
            )
            reader.close()
            return False
        if state.tail is not None:
            self._tail = reader.pread(state.tail.length, state.offset - state.tail.length)
        info = reader.stat()
        self._state = dataclasses.replace(
            state, device=info.st_dev, inode=info.st_ino, mtime_us=info.st_mtime_ns // 1000, finished=()
        )
        self._reader = reader
        return True

    def _read(self, reader: Reader, max_bytes: int) -> Chunk | None:
        wanted = max(max_bytes, self._bound + 1)
        if self._limit is not None:
            wanted = min(wanted, self._limit - self._state.offset)
        data = reader.pread(wanted, self._state.offset) if wanted > 0 else b""
        if not data:
            return None
        scan = scan_lines(cut_block(data, max_bytes, self._state.skipping), self._state.skipping, self._bound)
        self.stats.lines_discarded += scan.lines_discarded
        self.stats.bytes_discarded += scan.skip
        passed = scan.skip + scan.take
        if not passed:
            return None
        start = self._state.offset + scan.skip
        self._tail = (self._tail + data[max(0, passed - FINGERPRINT_BYTES) : passed])[-FINGERPRINT_BYTES:]
        self._state = dataclasses.replace(
            self._state,
            offset=self._state.offset + passed,
            tail=Fingerprint.of(self._tail),
            skipping=scan.skipping,
        )
        file_id = self._files[self._index].file_id
        cursor = Cursor(cursor_name(file_id), self._state.to_json())
        return Chunk(data[scan.skip : passed], cursor, start, self._state.offset, file_id)

    def _finish(self, reader: Reader) -> None:
        """Count what is behind the last whole line, and what could not be decompressed."""
        if self._limit is None:
            rest = reader.pread(self._bound, self._state.offset)
            if rest:
                self.stats.partial_lines_abandoned += 1
                self.stats.bytes_discarded += len(rest)
        if reader.error:
            self.stats.error(reader.error)
        self._close_file()

    def _close_file(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
