"""Logs of the past into the store: ``postwake logparse --backfill``.

Many blocks make one transaction, which ends when another service waits to write and has waited long enough
(:data:`POLITE_S`), so that a backfill of hours costs the milter some milliseconds a message and no more.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from postwake.errors import StoreUnavailableError
from postwake_logparse.attempt_reading import Tried
from postwake_logparse.backfill_files import (
    BackfillFile,
    BackfillSource,
    Progress,
    cursor_name,
    examine,
    oldest_first,
)
from postwake_logparse.ingest import AnotherReaderError, Ingester
from postwake_logparse.parse_ahead import WORTHWHILE_BYTES, BlockParser, LogTime, ParseAhead, ParseHere
from postwake_logparse.record import Record
from postwake_logparse.shapes import Tally
from postwake_logparse.source import Chunk
from postwake_logparse.stamp import StampReader
from postwake_logparse.syslog import decode, split_line

BLOCK_BYTES = 128 * 1024
"""About a thousand lines: how long another writer waits is decided after each."""
BATCH_BYTES = 2 << 20
"""As much of the log makes one transaction while somebody else wants to write."""
ALONE_BATCH_BYTES = 16 << 20
"""As much at most while nobody does, worked up to by doubling: pages that are written again and again are written once
a transaction, and to the file once more."""
POLITE_S = 0.02
"""A transaction that somebody waits for ends after the block in which it gets so old: under 50 ms with its commit."""
YIELD_S = 0.003
"""Writers look at the lock every millisecond: long enough for one of them to see it free."""
RETRIES = 12
RETRY_S = 5.0


Batch = tuple["Sequence[Record | Tried]", Chunk, "int | None"]


class Summary(NamedTuple):
    """What a backfill did."""

    files: int
    files_skipped: int
    lines: int
    records: int
    unparsed: int
    partial_lines: int
    lines_discarded: int
    seconds: float
    errors: tuple[str, ...]
    """Sentences about files, or parts of them, that could not be read."""


def order_files(paths: Sequence[Path], *, year: int | None, timezone: str | None) -> list[BackfillFile]:
    """Look into *paths* and order them, oldest first by what their first lines say.

    *year* is that of each file's first line where stamps have none; None infers it from the time of modification.
    Errors as :func:`~postwake_logparse.backfill_files.examine`.
    """

    def written_us(line: bytes, mtime_us: int) -> int | None:
        entry = split_line(decode(line))
        stamp = entry.stamp if entry.stamp is not None else _leading_stamp(entry.body)
        return None if stamp is None else StampReader(reference_us=mtime_us, timezone=timezone, year=year).at_us(stamp)

    return oldest_first([examine(path) for path in paths], written_us)


def _leading_stamp(body: str) -> str | None:
    """Exim's own stamp, ``2026-11-22 04:27:10`` with or without fraction and zone."""
    date, _, rest = body.partition(" ")
    time_of_day, _, rest = rest.partition(" ")
    zone = rest.partition(" ")[0]
    stamp = f"{date} {time_of_day}"
    return f"{stamp} {zone}" if zone[:1] in ("+", "-") and zone[1:].isdigit() else stamp


class Backfill:
    """One run over *files*. :meth:`run` does it all; what it writes is safe whenever it is interrupted."""

    def __init__(
        self,
        files: Sequence[BackfillFile],
        ingester: Ingester,
        *,
        mta: str = "auto",
        year: int | None = None,
        timezone: str | None = None,
        progress: Callable[[Progress, int], None] = lambda _progress, _lines: None,
        sleep: Callable[[float], None] = time.sleep,
        polite_s: float = POLITE_S,
        ahead_from_bytes: int = WORTHWHILE_BYTES,
    ) -> None:
        """Take the ordered files, what writes, and what is told after each transaction how far it is (and lines).

        From *ahead_from_bytes* of log on, a second process parses, if there is a second core.
        """
        self._files = files
        self._ingester = ingester
        self._mta = mta
        self._year = year
        self._timezone = timezone
        self._progress = progress
        self._sleep = sleep
        self._polite_s = polite_s
        self._ahead_from_bytes = ahead_from_bytes
        self._tally = Tally()
        self._errors: list[str] = []
        self._last_us: int | None = None

    def run(self) -> Summary:
        """Read everything that is not in the store yet.

        :class:`StoreUnavailableError` when the store could not be written for a minute,
        :class:`~postwake_logparse.ingest.AnotherReaderError` when another backfill reads the same file.
        """
        started = time.monotonic()
        failures = 0
        while True:
            parser = self._parser()  # before the store is opened
            source = BackfillSource(self._files, self._position, self._ingester.followed)
            try:
                self._read(source, parser)
                break
            except (StoreUnavailableError, AnotherReaderError):
                failures += 1
                if failures > RETRIES:
                    raise
                self._sleep(RETRY_S)  # and go on from what the store says
            finally:
                source.close()
                parser.close()
        tally = self._tally
        return Summary(
            len(self._files),
            source.files_skipped,
            tally.lines,
            sum(tally.records.values()),
            tally.unparsed,
            source.stats.partial_lines_abandoned,
            source.stats.lines_discarded,
            time.monotonic() - started,
            tuple(self._errors),
        )

    def _parser(self) -> BlockParser:
        reader = self._ingester.attempt_reader
        size_bytes = sum(file.size_bytes for file in self._files)
        if size_bytes < self._ahead_from_bytes or len(os.sched_getaffinity(0)) < 2:
            return ParseHere(self._mta, reader)
        return ParseAhead(self._mta, reader, BLOCK_BYTES)

    def _read(self, source: BackfillSource, parser: BlockParser) -> None:
        batches = self._batches(source, parser)
        batch_bytes = BATCH_BYTES
        while (first := next(batches, None)) is not None:
            complete = self._ingester.commit_all(_limited(first, batches, batch_bytes), polite_s=self._polite_s)
            self._progress(source.progress(), self._tally.lines)
            if complete:
                batch_bytes = min(2 * batch_bytes, ALONE_BATCH_BYTES)
            else:
                batch_bytes = BATCH_BYTES
                self._sleep(YIELD_S)
        self._ingester.idle()

    def _batches(self, source: BackfillSource, parser: BlockParser) -> Iterator[Batch]:
        """Yield the blocks of all files with what they say, read and given to *parser* ahead, file by file."""
        ahead: deque[Chunk] = deque()
        file_id = ""
        errors = source.stats.read_errors
        while True:
            if not ahead:
                chunk = source.read(BLOCK_BYTES)
                if source.stats.read_errors != errors:
                    errors = source.stats.read_errors
                    self._errors.append(source.stats.last_error)
                if chunk is None:
                    return
                begins = None
                if chunk.file_id != file_id:
                    file_id = chunk.file_id
                    file = source.current
                    assert file is not None
                    begins = LogTime(file.mtime_us, self._timezone, self._year, self._last_us)
                parser.give(chunk.data, begins)
                ahead.append(chunk)
            while len(ahead) < parser.depth and (chunk := source.read_on(BLOCK_BYTES)) is not None:
                parser.give(chunk.data, None)
                ahead.append(chunk)
            records, last_us, tally = parser.take()
            self._tally.add(tally)
            yield records, ahead.popleft(), last_us

    def _position(self, file_id: str) -> str | None:
        """Return how far the file has been read, and remember the newest time seen in it."""
        cursor, self._last_us = self._ingester.cursor(cursor_name(file_id))
        return None if cursor is None else cursor.state


def _limited(first: Batch, rest: Iterator[Batch], batch_bytes: int) -> Iterator[Batch]:
    """Return *first* and as many of the *rest* as one transaction takes."""
    size = len(first[1].data)
    yield first
    while size < batch_bytes:
        batch = next(rest, None)
        if batch is None:
            return
        size += len(batch[1].data)
        yield batch
