"""What every log source offers: whole lines, and a cursor that says where the next unread byte is.

Exactly once is a bargain between two parties. A source reads forward and never remembers anything outside the
process; the ingester writes ``chunk.cursor`` in the same transaction as the events of ``chunk.data``. A crash before
that commit reads the bytes again from the last committed cursor; after it, never again. So a source is always built
from the cursor found in the store, and nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

MAX_LINE_BYTES = 64 * 1024
"""Longer lines are discarded and counted. Postfix cuts its lines at 2,000 bytes (rsyslog at 8 KiB, journald at 48 KiB)
and Exim's longest, with thousands of recipients, stay below this."""

DEFAULT_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next unread byte is.

    ``source`` is the stable name of the source (``file:/var/log/mail.log``), the key in the store; ``state`` is
    versioned JSON that only the source itself reads.
    """

    source: str
    state: str


class Chunk(NamedTuple):
    r"""Some whole lines, and the cursor to commit with what was made of them.

    ``data`` holds whole lines only, each ending in ``\n``. It can be empty: then there is nothing to parse, but the
    position changed (another file, a truncation, a discarded line) and ``cursor`` is worth committing.

    For files, ``data`` is exactly the bytes from ``start`` on (uncompressed) of the file whose content is named by
    ``file_id``, so that a line's own byte offset is known and a file is recognised wherever else it turns up (renamed,
    compressed, backfilled). ``file_id`` is empty as long as the file has no first line, and for what is not a file.
    ``end`` is where the next unread byte is. ``generation`` counts the files that stood under the source's name.
    """

    data: bytes
    cursor: Cursor
    start: int = 0
    end: int = 0
    file_id: str = ""
    generation: int = 0


@dataclasses.dataclass(slots=True)
class SourceStats:
    """What happened to a source since it was opened: counters only grow; texts are the latest."""

    opens: int = 0
    """Files opened, or subprocesses or listening sockets started."""
    rotations: int = 0
    """Times that reading went on in a newer file."""
    truncations: int = 0
    """Times that the file was shorter, or not the same any more, under the same inode."""
    files_lost: int = 0
    """Times that the file we stopped in could not be found any more: its unread rest, if any, is lost."""
    partial_lines_abandoned: int = 0
    r"""Last lines without ``\n`` in files that are not written any more."""
    lines_discarded: int = 0
    """Lines longer than the bound, or messages that are not what the source promises."""
    bytes_discarded: int = 0
    """Bytes in what is counted by the two counters above."""
    read_errors: int = 0
    last_error: str = ""
    """The latest error, in a sentence that names the file or program; empty if there never was one."""

    def error(self, text: str) -> None:
        """Count a read error and remember its *text*."""
        self.read_errors += 1
        self.last_error = text


class Source(Protocol):
    """A log that is followed. Not for use by several threads at once; only ``wait`` blocks."""

    @property
    def name(self) -> str:
        """The stable name: the ``source`` of its cursors."""

    @property
    def stats(self) -> SourceStats:
        """Counters, for the metrics."""

    def read(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """Return the next lines, about *max_bytes* at most, or None when there is nothing now. Never blocks.

        A single line that is longer than *max_bytes* but within the bound is returned whole. I/O errors are counted
        in ``stats`` and lead to None, not to an exception: the next call tries again.
        """

    def wait(self, timeout_s: float) -> None:
        """Return after *timeout_s* seconds, or earlier when there may be something to read."""

    def lag_bytes(self) -> int:
        """How many bytes there are that ``read`` has not returned yet; an estimate where files are compressed.

        The one method that another thread may call, for metrics.
        """

    def close(self) -> None:
        """Release files, threads and subprocesses. Calling it twice is fine."""


def cut_block(block: bytes, max_bytes: int, skipping: bool = False) -> bytes:
    """Return the start of *block*: *max_bytes* of it, or more when its first line needs more.

    *skipping* says that it starts inside a line that is being discarded, which needs nothing.
    """
    if len(block) <= max_bytes or skipping or block.rfind(b"\n", 0, max_bytes) >= 0:
        return block[:max_bytes]
    newline = block.find(b"\n", max_bytes)
    return block if newline < 0 else block[: newline + 1]


class Scan(NamedTuple):
    """What :func:`scan_lines` found at the start of a block."""

    skip: int
    """Bytes to discard first."""
    take: int
    """Bytes of whole lines after those."""
    skipping: bool
    """Whether the block ended inside a line that is being discarded."""
    lines_discarded: int
    """Lines found to be over the bound in this block (counted where the discarding begins)."""


def scan_lines(block: bytes, skipping: bool = False, bound: int = MAX_LINE_BYTES) -> Scan:
    r"""Find the whole lines at the start of *block*, leaving out those over *bound* bytes (without their ``\n``).

    *skipping* says that the block starts inside a line that is being discarded. The work is a search per *bound*
    bytes, not per line. A line over the bound that starts with NULs has only those taken away: that is the hole which
    a writer without O_APPEND leaves after somebody truncated its file, and a good line may follow it.
    """
    skip = discarded = 0
    size = len(block)
    while True:
        if skipping:
            newline = block.find(b"\n", skip)
            if newline < 0:
                return Scan(size, 0, True, discarded)
            skip, skipping = newline + 1, False
        end = skip
        while end < size:
            # The last newline that a line of allowed length could still reach: all lines up to it are short enough.
            newline = block.rfind(b"\n", end, end + bound + 1)
            if newline < 0:
                break
            end = newline + 1
        if end > skip or size - end <= bound:
            return Scan(skip, end - skip, False, discarded)
        if block[end] == 0:
            skip = size - len(block[end:].lstrip(b"\0"))
        else:
            skipping = True
            discarded += 1
