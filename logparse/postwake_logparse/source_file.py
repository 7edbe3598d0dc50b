r"""Following one log file through everything that happens to log files.

The file is read by descriptor and position; a directory watch only ends the wait between two looks. At the end of
what there is, the name is looked at again:

- **Renamed away** (logrotate's default): the old file is read on for as long as a writer that was not told yet may
  still write to it (``grace_s`` without news, twelve times that at most), read a last time, and then left for the
  new one. Files that were rotated in between are found among the siblings and read in order.
- **Deleted**: the open file is read on until there is a new one under the name.
- **Shorter, or other content under the same inode** (``truncate``, ``copytruncate``, an inode number given again):
  if a sibling is a copy of what we were reading, it is finished first from our offset; then the file is read from its
  start. ``generation`` goes up.

At start the same search runs with the cursor from the store: the file that we stopped in is found by what it says,
under its own name or as a rotated, dated or compressed sibling; it is finished, then the newer ones, then the live one.

Losses this accepts, all of them counted: a rotated file that was deleted before we could read it (``files_lost``);
what was written between logrotate's copy and its truncation, or in a file truncated without a copy (``truncations``);
a last line that never got its ``\n`` (``partial_lines_abandoned``); lines over 64 KiB (``lines_discarded``). Not seen
at all: a file emptied and refilled between two looks with the same first 256 bytes *and* the same 256 bytes before
our offset; what a writer adds to a rotated file after the grace.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from postwake_logparse.file_identity import (
    FINGERPRINT_BYTES,
    FileState,
    Fingerprint,
    first_line_head,
)
from postwake_logparse.file_plan import OpenLog, Planned, Planner
from postwake_logparse.source import (
    DEFAULT_BLOCK_BYTES,
    MAX_LINE_BYTES,
    Chunk,
    Cursor,
    SourceStats,
    cut_block,
    scan_lines,
)
from postwake_logparse.wake import DirectoryWaker, Waker

GRACE_S = 5.0
"""rsyslog and postlogd write to the renamed file until logrotate's postrotate script tells them: a second or two."""

_GRACE_ROUNDS = 12
"""A writer that never lets go of the old file must not keep us from the new one for ever."""

_FINISHED_KEPT = 8
"""Finished files remembered in the cursor. One would do but for empty ones and copies."""


class FileSource:
    """Follows the log at *path* (see the module for how). Implements :class:`~postwake_logparse.source.Source`.

    *cursor* comes from the store. Without one, *start* says where to begin in a file that exists already: at its
    ``"beginning"`` or after its last whole line (``"end"``); a file that appears later is read from its beginning.
    *ingested* is asked then for the state of the live file in a backfill's cursor (by its ``file_id``): following goes
    on where the backfill ended. *archive_dirs* are further directories with rotated files (logrotate's ``olddir``).
    *clock* returns seconds and never goes back. A *waker* that is passed in is closed with the source.

    Raises :class:`~postwake.errors.DataError` for a cursor that is not one of a file source.
    """

    def __init__(
        self,
        path: Path,
        cursor: Cursor | None,
        *,
        start: Literal["beginning", "end"] = "beginning",
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
        waker: Waker | None = None,
        archive_dirs: Iterable[Path] = (),
        ingested: Callable[[str], str | None] = lambda _file_id: None,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.path = path
        self.stats = SourceStats()
        self._name = f"file:{path}"
        self._state = FileState() if cursor is None else FileState.from_json(self._name, cursor.state)
        self._fresh = cursor is None
        self._looked = cursor is not None
        self._from_end = cursor is None and start == "end" and os.path.exists(path)  # noqa: PTH110 - False if forbidden
        self._grace_s = grace_s
        self._clock = clock
        self._waker = waker
        self._ingested = ingested
        self._max_line_bytes = max_line_bytes
        self._planner = Planner(path, archive_dirs, self.stats, max_line_bytes)

        self._current: OpenLog | None = None
        self._queue: deque[Planned] = deque()
        self._head: bytes | None = None  # the bytes behind state.fingerprint
        self._tail = b""  # the bytes behind state.tail
        self._announce = False  # the position moved without data: worth a commit
        self._left_at: float | None = None  # when the name was first seen to lead elsewhere
        self._news_at = 0.0  # when the file left behind last had something new
        self._newest_sibling: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """``file:`` and the path as it was given."""
        return self._name

    @property
    def cursor(self) -> Cursor:
        """The position after everything that ``read`` has returned."""
        return Cursor(self._name, self._state.to_json())

    def read(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """See :class:`~postwake_logparse.source.Source`."""
        try:
            return self._read(max_bytes)
        except OSError as error:
            self.stats.error(f"{error.filename or self.path}: {error.strerror or error}")
            return None

    def wait(self, timeout_s: float) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        if self._waker is None:
            self._waker = DirectoryWaker({self.path, Path(os.path.realpath(self.path))})
        self._waker.wait(timeout_s)

    def lag_bytes(self) -> int:
        """See :class:`~postwake_logparse.source.Source`."""
        lag = 0
        try:
            # Metrics ask from a thread of their own: look at copies, and forgive what was closed meanwhile.
            current = self._current
            lag += sum(item.file.reader.remaining_bytes(0) for item in tuple(self._queue))
            if current is not None:
                lag += current.reader.remaining_bytes(self._state.offset)
            info = self.path.stat()
            if current is None or (info.st_dev, info.st_ino) != current.identity:
                lag += info.st_size
        except (OSError, ValueError):
            pass  # nothing under the name now, or closed: what was added up so far is all there is
        return lag

    def close(self) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        self._close_files()
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    # Reading

    def _read(self, max_bytes: int) -> Chunk | None:
        while True:
            ready = self._current is not None or self._make_plan(drained=None)
            if self._announce:
                self._announce = False
                return self._chunk(b"")
            if not ready:
                return None
            assert self._current is not None
            chunk = self._read_current(self._current, max_bytes)
            if chunk is not None:
                return chunk
            # Closed means that it was not the same any more: the next round makes a new plan.
            if self._current is not None and not self._at_end(self._current):
                return None

    def _read_current(self, file: OpenLog, max_bytes: int) -> Chunk | None:
        """Return the next lines of the open file; None at its end, or when it is not the same any more."""
        state = self._state
        margin = len(self._tail)
        wanted = max(max_bytes, self._max_line_bytes + 1)
        block = file.reader.pread(margin + wanted, state.offset - margin)
        if file.plain and not self._unchanged(file, block[:margin]):
            self._close_files()
            return None
        if len(block) <= margin:
            return None
        if self._head is None:
            head = first_line_head(block[:FINGERPRINT_BYTES])  # the offset is 0: without a head nothing was read
            if head is None:
                return None
            if self._copied_away():
                self._close_files()
                return None
            self._head = head
            self._state = state = dataclasses.replace(state, fingerprint=Fingerprint.of(head))
        data = block[margin:] if margin else block
        scan = scan_lines(cut_block(data, max_bytes, state.skipping), state.skipping, self._max_line_bytes)
        if scan.skip:
            self.stats.lines_discarded += scan.lines_discarded
            self.stats.bytes_discarded += scan.skip
            self._moved(file, data[: scan.skip], scan.skipping)
            if not scan.take:
                return self._chunk(b"")
        if not scan.take:
            return None
        lines = data[scan.skip : scan.skip + scan.take]
        start = self._state.offset
        self._moved(file, lines, scan.skipping)
        if self._left_at is not None:
            self._news_at = self._clock()
        return self._chunk(lines, start)

    def _unchanged(self, file: OpenLog, tail: bytes) -> bool:
        """Tell whether *file* still says what it said where we have read it already. *tail*: just before our offset."""
        if tail != self._tail:
            return False
        return self._head is None or file.reader.pread(len(self._head), 0) == self._head

    def _moved(self, file: OpenLog, passed: bytes, skipping: bool) -> None:
        """Go on behind *passed*, the bytes at the present offset."""
        self._tail = (self._tail + passed[-FINGERPRINT_BYTES:])[-FINGERPRINT_BYTES:]
        self._state = dataclasses.replace(
            self._state,
            offset=self._state.offset + len(passed),
            tail=Fingerprint.of(self._tail),
            skipping=skipping,
            mtime_us=file.reader.stat().st_mtime_ns // 1000 if file.plain else file.mtime_us,
        )

    def _chunk(self, data: bytes, start: int | None = None) -> Chunk:
        state = self._state
        file_id = "" if state.fingerprint is None else str(state.fingerprint)
        return Chunk(
            data, self.cursor, state.offset if start is None else start, state.offset, file_id, state.generation
        )

    # Going on to another file

    def _at_end(self, file: OpenLog) -> bool:
        """Nothing more in *file* now: tell whether reading goes on at once, in another file."""
        if file.reader.error and not self._grace_is_over():
            return False  # a compressor may still be writing it
        if self._queue:
            self._leave(file)
            self._enter(self._queue.popleft())
            return True
        try:
            info = self.path.stat()
            under_the_name = (info.st_dev, info.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            under_the_name = None
        if under_the_name == file.identity:
            self._left_at = None
            if self._head is None and self._copied_away():
                self._close_files()
                return True
            return False
        # It may have been renamed a moment ago, by something that has not told its writer yet.
        if file.plain and not self._grace_is_over():
            return False
        return self._make_plan(drained=file)

    def _grace_is_over(self) -> bool:
        now = self._clock()
        if self._left_at is None:
            self._left_at = self._news_at = now
        return now - self._news_at >= self._grace_s or now - self._left_at >= self._grace_s * _GRACE_ROUNDS

    def _copied_away(self) -> bool:
        """In a file without a first line: tell whether a sibling is new (``copytruncate`` between two looks)."""
        siblings = self._planner.siblings()
        return bool(siblings) and (siblings[0].device, siblings[0].inode) != self._newest_sibling

    def _leave(self, file: OpenLog) -> None:
        """Close *file*, which was read to its end, and remember that it was."""
        rest = file.reader.pread(self._max_line_bytes, self._state.offset)
        if rest:
            self.stats.partial_lines_abandoned += 1
            self.stats.bytes_discarded += len(rest)
        if file.reader.error:
            self.stats.error(file.reader.error)
        file.reader.close()
        self._current = None
        self.stats.rotations += 1
        self._remember_finished()

    def _remember_finished(self) -> None:
        if self._state.fingerprint is not None:
            finished = (*self._state.finished, str(self._state.fingerprint))[-_FINISHED_KEPT:]
            self._state = dataclasses.replace(self._state, finished=finished)

    def _enter(self, item: Planned) -> None:
        """Go on in the planned file."""
        file, resume = item.file, item.resume
        self._current = file
        self._left_at = None
        self.stats.opens += 1
        self._head, self._tail = item.head, b""
        before = self._state
        if resume is None:
            self._state = FileState(
                file.device,
                file.inode,
                None if item.head is None else Fingerprint.of(item.head),
                generation=before.generation + (not self._fresh),
                mtime_us=file.mtime_us,
                finished=before.finished,
            )
        else:
            self._state = dataclasses.replace(resume, device=file.device, inode=file.inode)
            if resume.fingerprint is not None:
                # Only plain files are compared again, so a compressed one need not be rewound for its first bytes.
                self._head = file.reader.pread(resume.fingerprint.length, 0) if file.plain else b""
            elif item.head is not None:
                self._state = dataclasses.replace(self._state, fingerprint=Fingerprint.of(item.head))
            if resume.tail is not None:
                self._tail = file.reader.pread(resume.tail.length, resume.offset - resume.tail.length)
        self._announce = self._fresh or self._state != before
        self._fresh = False

    def _close_files(self) -> None:
        if self._current is not None:
            self._current.reader.close()
            self._current = None
        for item in self._queue:
            item.file.reader.close()
        self._queue.clear()
        self._left_at = None

    def _make_plan(self, drained: OpenLog | None) -> bool:
        """Find the files to read now and enter the first; tell whether there is one.

        *drained* is the open file that was read to its end; without one, the file that the state speaks of is looked
        for, to be finished.
        """
        if self._looked:
            plan = self._planner.go_on(self._state, drained, fresh=self._fresh)
        else:
            plan = self._planner.begin(self._state, self._from_end, self._ingested_state)
        if plan is None:
            return False
        if plan.state is not None:
            self._state = plan.state
        if not plan.items:
            self._announce = not self._looked  # that nothing was there is worth remembering as well
            self._looked = True
            return False
        self._looked = True
        self._newest_sibling = plan.newest_sibling
        if drained is not None:
            self._leave(drained)
        elif plan.truncated or plan.lost:
            self._remember_finished()  # what is left of it, if anything, is not to be read again
            self.stats.truncations += plan.truncated
            self.stats.files_lost += plan.lost and not plan.truncated
        self._queue = deque(plan.items)
        self._enter(self._queue.popleft())
        return True

    def _ingested_state(self, file_id: str) -> FileState | None:
        state = self._ingested(file_id)
        return None if state is None else FileState.from_json(self._name, state)
