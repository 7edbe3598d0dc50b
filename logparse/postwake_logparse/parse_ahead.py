"""Parsing a backfill's blocks while the blocks before them are being written, in a process of its own.

A backfill is half parsing and half writing, and Python runs one thread at a time: two processes halve the time where
there are two cores. The child knows nothing of the store: bytes go to it, and what they say comes back, in order. It is
the parent that reads the files, keeps the cursor and writes, so a child that dies costs nothing but the run.

Blocks lie in memory that both share, and requests are a few bytes, so that the parent never waits in order to send;
results come through a pipe, where the child waits until they are wanted. What is ahead of the writing is bounded.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import marshal
import mmap
import os
import pickle
import signal
import struct
from collections import Counter, deque
from typing import Any, NamedTuple, Protocol

from postwake.errors import UnavailableError
from postwake_logparse.attempt_reading import AttemptReader, Tried
from postwake_logparse.detect import open_grammar
from postwake_logparse.record import Attempt, Client, MessageId, Program, Queued, Record, Removed
from postwake_logparse.shapes import Tally
from postwake_logparse.stamp import StampReader

BLOCKS_AHEAD = 12
"""As many as are written at once, and some: the child must not run dry while the parent is in the store."""
WORTHWHILE_BYTES = 4 << 20
"""Below this much of log a second process is not worth its start."""

_PIPE_BYTES = 1 << 20
_LENGTH = struct.Struct("=Q")
_NO_PROGRAM = Program("", "", "")
_new = tuple.__new__

# The kinds that nearly all records are cross as plain tuples, the others pickled. Who wrote a line is of no use behind
# the grammar, and stays behind.
_PLAIN: tuple[type[Any], ...] = (Tried, Client, MessageId, Queued, Removed)
_CODE = {kind: code for code, kind in enumerate(_PLAIN)}
_PICKLED = len(_PLAIN)


class LogTime(NamedTuple):
    """What a file's stamps are to be read with: see :class:`~postwake_logparse.stamp.StampReader`."""

    reference_us: int
    timezone: str | None
    year: int | None
    last_us: int | None


class Parsed(NamedTuple):
    """What a block said."""

    records: list[Record | Tried]
    last_us: int | None
    """The newest time seen so far."""
    tally: Tally


class BlockParser(Protocol):
    """Parses blocks in the order in which they are given; keeps up to ``depth`` of them."""

    depth: int

    def give(self, data: bytes, begins: LogTime | None) -> None:
        """Give a block; *begins* when it is a file's first."""

    def take(self) -> Parsed:
        """Return what the oldest block given, and not taken yet, says."""

    def close(self) -> None:
        """End."""


class ParseHere:
    """Parses in this process."""

    depth = 1

    def __init__(self, mta: str, reader: AttemptReader) -> None:
        """Take whose log it is (``postfix``, ``exim``, ``auto``) and what reads attempts."""
        self._mta = mta
        self._reader = reader
        self._parsed: deque[Parsed] = deque()

    def give(self, data: bytes, begins: LogTime | None) -> None:
        """See :class:`BlockParser`."""
        if begins is not None:
            self._grammar = open_grammar(self._mta)
            self._clock = StampReader(**begins._asdict())
        read = self._reader.read
        records = [
            read(record) if type(record) is Attempt else record
            for record in self._grammar.parse_block(data, self._clock)
        ]
        tally = Tally()
        tally.add(self._grammar.tally)
        self._grammar.tally.reset()
        self._parsed.append(Parsed(records, self._clock.last_us, tally))

    def take(self) -> Parsed:
        """See :class:`BlockParser`."""
        return self._parsed.popleft()

    def close(self) -> None:
        """Nothing to end."""


class ParseAhead:
    """Parses in a child process. Make it before the store is opened, whose locks it must not inherit."""

    depth = BLOCKS_AHEAD

    def __init__(self, mta: str, reader: AttemptReader, block_bytes: int) -> None:
        """Start the child; no block may be longer than *block_bytes*."""
        self._block_bytes = block_bytes
        self._blocks = mmap.mmap(-1, block_bytes * BLOCKS_AHEAD)
        self._given = 0
        requests, self._requests = os.pipe()
        self._results, results = os.pipe()
        with contextlib.suppress(OSError):  # a smaller one does as well, with more waiting
            fcntl.fcntl(results, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        gc.freeze()  # or the child's first collection would copy every page that is shared
        self._pid = os.fork()
        if not self._pid:
            status = os.EX_SOFTWARE
            try:
                os.close(self._requests)
                os.close(self._results)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business: the pipe ends with it
                _serve(ParseHere(mta, reader), self._blocks, requests, results)
                status = 0
            finally:
                os._exit(status)
        gc.unfreeze()
        os.close(requests)
        os.close(results)

    def give(self, data: bytes, begins: LogTime | None) -> None:
        """See :class:`BlockParser`."""
        start = self._given % BLOCKS_AHEAD * self._block_bytes
        self._given += 1
        self._blocks[start : start + len(data)] = data
        request = marshal.dumps((start, len(data), None if begins is None else tuple(begins)))
        try:
            _write(self._requests, request)
        except BrokenPipeError:
            raise self._ended() from None

    def take(self) -> Parsed:
        """See :class:`BlockParser`. :class:`UnavailableError` when the child has died."""
        result = _read(self._results)
        if result is None:
            raise self._ended()
        return _unpacked(result)

    def close(self) -> None:
        """End the child."""
        if self._pid:
            self._end()

    def _end(self) -> int:
        os.close(self._requests)
        os.close(self._results)
        self._blocks.close()
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def _ended(self) -> UnavailableError:
        return UnavailableError(
            f"the process that parses the log ended with status {self._end()}: what was written is safe; start again"
        )


def _serve(parser: ParseHere, blocks: mmap.mmap, requests: int, results: int) -> None:
    """Parse what is asked for until nobody asks any more."""
    gc.disable()  # nothing here makes cycles, and thousands of live tuples make each collection dear
    while (request := _read(requests)) is not None:
        start, length, begins = marshal.loads(request)  # noqa: S302 (our own child's pipe, as all of these)
        parser.give(blocks[start : start + length], None if begins is None else LogTime(*begins))
        try:
            _write(results, _packed(parser.take()))
        except BrokenPipeError:
            return


def _packed(parsed: Parsed) -> bytes:
    codes = bytes([_CODE.get(type(record), _PICKLED) for record in parsed.records])
    rows: list[Any] = []
    append = rows.append
    for code, record in zip(codes, parsed.records, strict=True):
        if not code:
            append(tuple(record))
        elif code != _PICKLED:
            append((*record[:2], *record[3:]))
        else:
            append(pickle.dumps(record))
    tally = parsed.tally
    counts = (
        tally.lines,
        tally.unparsed,
        dict(tally.records),
        dict(tally.shapes),
        tally.samples,
        dict(tally.sample_counts),
    )
    # Version 2 writes each string out: noting which ones are the same object costs more than it saves.
    return marshal.dumps((codes, rows, parsed.last_us, counts), 2)


def _unpacked(data: bytes) -> Parsed:
    codes, rows, last_us, (lines, unparsed, records, shapes, samples, sample_counts) = marshal.loads(data)  # noqa: S302
    return Parsed(
        [_record(code, row) for code, row in zip(codes, rows, strict=True)],
        last_us,
        Tally(lines, unparsed, Counter(records), Counter(shapes), samples, Counter(sample_counts)),
    )


def _record(code: int, row: Any) -> Any:
    if not code:
        return _new(Tried, row)
    if code != _PICKLED:
        return _new(_PLAIN[code], (row[0], row[1], _NO_PROGRAM, *row[2:]))
    return pickle.loads(row)  # noqa: S301


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int) -> bytes | None:
    """Return the next message; None when the other side is gone."""
    head = _exactly(descriptor, _LENGTH.size)
    return None if head is None else _exactly(descriptor, _LENGTH.unpack(head)[0])


def _exactly(descriptor: int, length: int) -> bytes | None:
    parts = []
    while length:
        part = os.read(descriptor, length)
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
