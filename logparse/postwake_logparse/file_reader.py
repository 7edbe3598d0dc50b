"""Reading a log file at an offset, whether it is plain, compressed, or a journal that somebody saved.

Offsets are always in uncompressed bytes, so that a position in a plain file stays good once logrotate compressed it; in
a saved journal they are those of the lines that its entries become.
The open file is held, not its name: it may be renamed or deleted while it is read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from postwake.errors import UnavailableError
from postwake_logparse.journal_export import as_lines

MAGIC_BYTES = 6
"""So many bytes of a file tell how it is compressed."""

_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
_STEP_BYTES = 1 << 18


class Reader(Protocol):
    """An open log file."""

    error: str
    """Why the content ended early, if it did; empty otherwise."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to *size* bytes from *offset* on; fewer only at the end."""

    def stat(self) -> os.stat_result:
        """Return the open file's status (``st_size`` in bytes on disk)."""

    def remaining_bytes(self, offset: int) -> int:
        """How many bytes are behind *offset*; for a compressed file an estimate, in compressed bytes."""

    def close(self) -> None:
        """Close the file."""


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class PlainReader:
    """A file as it is. Raises :class:`OSError` as the system does."""

    def __init__(self, path: Path) -> None:
        self.error = ""
        # O_NONBLOCK: a FIFO under the log's name must not hang the service.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def pread(self, size: int, offset: int) -> bytes:
        """See :class:`Reader`."""
        return os.pread(self._descriptor, size, offset)

    def stat(self) -> os.stat_result:
        """See :class:`Reader`."""
        return os.fstat(self._descriptor)

    def remaining_bytes(self, offset: int) -> int:
        """See :class:`Reader`."""
        return max(0, self.stat().st_size - offset)

    def close(self) -> None:
        """See :class:`Reader`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class UnpackingReader:
    """The content of a .gz, .bz2, .xz or .zst file, or of a journal as lines, meant to be read forwards.

    Going back means unpacking from the start again. Memory: the bytes asked for and one step of 256 KiB, besides
    the decompressor's own window. Damaged or unfinished content ends early and says so in ``error``; a file that has
    grown since is tried again. :class:`~postwake.errors.UnavailableError` when .zst has no decompressor.
    """

    def __init__(self, path: Path, compression: str, *, journal: bool = False) -> None:
        self.error = ""
        self._path = path
        self._journal = journal
        self._decompressor = _decompressor(path, compression)
        self._raw: BinaryIO = path.open("rb", buffering=0)
        self._stream: _Stream | None = None
        self._buffer = b""
        self._buffer_start = 0
        self._ended = False
        self._size_at_error = -1

    def pread(self, size: int, offset: int) -> bytes:
        """See :class:`Reader`."""
        if self.error and self.stat().st_size != self._size_at_error:
            self._stream = None
        if self._stream is None or offset < self._buffer_start:
            self._restart()
        while not self._ended and self._buffer_start + len(self._buffer) < offset + size:
            more = self._decompress()
            if offset > self._buffer_start:
                gone = min(offset - self._buffer_start, len(self._buffer))
                self._buffer = self._buffer[gone:]
                self._buffer_start += gone
            self._buffer += more
        start = offset - self._buffer_start
        return self._buffer[start : start + size]

    def stat(self) -> os.stat_result:
        """See :class:`Reader`."""
        return os.fstat(self._raw.fileno())

    def remaining_bytes(self, offset: int) -> int:  # noqa: ARG002 - where it is in the compressed file says more
        """See :class:`Reader`."""
        if self._raw.closed or (self._ended and not self._buffer):
            return 0
        return max(0, self.stat().st_size - self._raw.tell())

    def consumed_bytes(self) -> int:
        """How many compressed bytes were read so far: for progress bars."""
        return 0 if self._raw.closed else self._raw.tell()

    def close(self) -> None:
        """See :class:`Reader`."""
        self._raw.close()

    def _restart(self) -> None:
        self._raw.seek(0)
        stream = self._decompressor(self._raw)
        self._stream = _JournalLines(stream) if self._journal else stream
        self._buffer, self._buffer_start, self._ended, self.error = b"", 0, False, ""

    def _decompress(self) -> bytes:
        assert self._stream is not None
        try:
            data = self._stream.read1(_STEP_BYTES)  # read() would lose what precedes the damage
        except (EOFError, OSError, lzma.LZMAError, zlib.error, ValueError) as error:
            self.error = f"{self._path}: cannot be decompressed any further: {error}"
            self._size_at_error = self.stat().st_size
            data = b""
        if not data:
            self._ended = True
        return data


def compression_of(start: bytes) -> str:
    """``.gz``, ``.bz2``, ``.xz``, ``.zst`` or empty, told from a file's first :data:`MAGIC_BYTES`."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def open_reader(path: Path, compression: str = "", *, journal: bool = False) -> Reader:
    """Open *path* with the reader for *compression* (``.gz``, ``.bz2``, ``.xz``, ``.zst`` or empty).

    *journal*: what is in it is one that somebody saved (:func:`~postwake_logparse.journal_export.is_journal`).
    """
    return UnpackingReader(path, compression, journal=journal) if compression or journal else PlainReader(path)


def _decompressor(path: Path, compression: str) -> Callable[[BinaryIO], _Stream]:
    if not compression:
        return _AsItIs
    if compression == ".gz":
        return lambda raw: gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == ".bz2":
        return lambda raw: bz2.BZ2File(raw, "rb")
    if compression == ".xz":
        return lambda raw: lzma.LZMAFile(raw, "rb")
    if compression == ".zst":
        try:
            import zstandard
        except ImportError:
            raise UnavailableError(
                f"{path}: reading .zst files needs the Python package zstandard, which is not installed: "
                "`pip install zstandard`, or decompress the file"
            ) from None
        return lambda raw: _Zstandard(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    raise ValueError(f"{compression!r} is not a compression: expected .gz, .bz2, .xz or .zst")


class _AsItIs:
    """A file that is not compressed."""

    def __init__(self, raw: BinaryIO) -> None:
        self.read1 = raw.read


class _JournalLines:
    """A saved journal's entries as lines; one that is not written to its end yet is left out."""

    def __init__(self, stream: _Stream) -> None:
        self._lines = as_lines(iter(lambda: stream.read1(_STEP_BYTES), b""), unfinished=False)

    def read1(self, _size: int) -> bytes:
        """Return some lines, whatever their size; nothing at the end."""
        return next(filter(None, self._lines), b"")


class _Zstandard:
    """Gives zstandard's own exception the class that the other decompressors' share."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def read1(self, size: int) -> bytes:
        """Return some bytes, *size* at most; :class:`ValueError` if the content is damaged."""
        import zstandard

        try:
            return self._stream.read1(size)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
