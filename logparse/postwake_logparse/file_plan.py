"""Finding out which of a log's files are to be read now, and from where.

At start the file that we stopped in is found by what it says, under its own name or as a rotated, dated or compressed
sibling; it is finished, then the newer ones, then the live one. The same search runs when a file was read to its end
and its name leads elsewhere. What becomes of a plan is :mod:`postwake_logparse.source_file`'s business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from postwake.errors import UnavailableError
from postwake_logparse.file_identity import (
    FINGERPRINT_BYTES,
    FileState,
    Fingerprint,
    fingerprint_of_head,
    first_line_head,
    holds_what_was_read,
)
from postwake_logparse.file_reader import PlainReader, Reader, open_reader
from postwake_logparse.siblings import Sibling, list_siblings
from postwake_logparse.source import SourceStats

_ATTEMPTS = 5
"""A rotation renames files for a few milliseconds; a directory that never holds still is looked at again next time."""


@dataclasses.dataclass(slots=True)
class OpenLog:
    """A log file held open."""

    reader: Reader
    path: Path
    device: int
    inode: int
    mtime_us: int
    plain: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    def head(self) -> bytes:
        """Return its first bytes, from which it is known."""
        return self.reader.pread(FINGERPRINT_BYTES, 0)


@dataclasses.dataclass(slots=True)
class Planned:
    """A file to read, from a known position or, without one, from its start."""

    file: OpenLog
    resume: FileState | None = None
    head: bytes | None = None
    """What identifies it, as far as it is known when the plan is made; always None for a resumed one that has read."""


@dataclasses.dataclass(slots=True)
class Plan:
    """What to read now, in order. Without a live file among them, the name is looked at again after the last."""

    items: list[Planned]
    lost: bool = False
    """The file that the state speaks of is nowhere."""
    truncated: bool = False
    """It is where it was, by device and inode, and does not hold any more what we read."""
    state: FileState | None = None
    """What is known from the start on, without a position."""
    newest_sibling: tuple[int, int] | None = None
    """Device and inode."""


class Planner:
    """Makes the plans for the log at *path*; *archive_dirs* have rotated files, too. Errors are counted in *stats*."""

    def __init__(self, path: Path, archive_dirs: Iterable[Path], stats: SourceStats, max_line_bytes: int) -> None:
        self._path = path
        self._archive_dirs = tuple(archive_dirs)
        self._stats = stats
        self._max_line_bytes = max_line_bytes

    def go_on(self, state: FileState, drained: OpenLog | None, *, fresh: bool) -> Plan | None:
        """Return what to read after *drained*, the open file that was read to its end.

        Without one, the file that *state* speaks of is looked for, to be finished; *fresh*: it speaks of none yet. None
        when the directory does not hold still, or a file went away meanwhile.
        """
        return self._settled(lambda live, siblings, opened: self._choose(state, live, siblings, drained, opened, fresh))

    def begin(self, state: FileState, from_end: bool, ingested: Callable[[str], FileState | None]) -> Plan | None:
        """Return what to read without a position: see :class:`~postwake_logparse.source_file.FileSource`."""
        return self._settled(
            lambda live, siblings, opened: self._choose_first(state, live, siblings, opened, from_end, ingested)
        )

    def siblings(self) -> list[Sibling]:
        """Return the rotated files, newest first."""
        try:
            return list_siblings(self._path, self._archive_dirs)
        except PermissionError as error:
            # A directory that one may pass but not list (mode --x): the log can be followed, rotated files not found.
            self._stats.error(f"{error.filename}: {error.strerror}: rotated logs cannot be found")
            return []

    def _settled(self, choose: Callable[[OpenLog | None, list[Sibling], list[OpenLog]], Plan]) -> Plan | None:
        """Return a plan for a directory that looks the same before and after: a rotation may be going on in it."""
        for _ in range(_ATTEMPTS):
            opened: list[OpenLog] = []
            plan: Plan | None = None
            try:
                live = self._open_live()
                if live is not None:
                    opened.append(live)
                siblings = self.siblings()
                plan = choose(live, siblings, opened)
                plan.newest_sibling = (siblings[0].device, siblings[0].inode) if siblings else None
                if _names(siblings) != _names(self.siblings()) or not self._is_live(live):
                    plan = None
            except FileNotFoundError:
                plan = None
            finally:
                kept = [] if plan is None else [item.file for item in plan.items]
                for file in opened:
                    if file not in kept:
                        file.reader.close()
            if plan is not None:
                return plan
        return None

    def _choose(
        self,
        state: FileState,
        live: OpenLog | None,
        siblings: Sequence[Sibling],
        drained: OpenLog | None,
        opened: list[OpenLog],
        fresh: bool,
    ) -> Plan:
        """Return what to read. Every file that this opens is added to *opened*."""
        searching = drained is None and not fresh
        live_head = None if live is None else first_line_head(live.head())
        resumes_live = live is not None and searching and _is_file_of(state, live)
        if live is not None and resumes_live and state.fingerprint is not None:
            return Plan([Planned(live, state)])

        ours: OpenLog | None = None
        newer: list[Planned] = []
        bounded = False
        known = {state.fingerprint, None if live_head is None else Fingerprint.of(live_head)}  # copies are no news
        for sibling in siblings:
            file = self._open_sibling(sibling, opened)
            if file is None:
                continue
            held = drained is not None and file.identity == drained.identity
            # Without a first line nothing was read of our file, and copies made of it meanwhile are as new as it is:
            # then all are new as far as the last finished one.
            if state.fingerprint is not None and (held or (not fresh and _is_file_of(state, file))):
                ours = file
                break
            head = first_line_head(file.head())
            if held:
                continue
            if head is None:
                # Without a whole line: only a late writer can still give the newest one of those any.
                if sibling is siblings[0] and not sibling.compression and file.mtime_us >= state.mtime_us:
                    newer.append(Planned(file))
                continue
            fingerprint = Fingerprint.of(head)
            if str(fingerprint) in state.finished:
                bounded = True
                break
            if fingerprint not in known:
                known.add(fingerprint)
                newer.append(Planned(file, head=head))
        if ours is None and not bounded:
            # Nothing there tells the new ones from those read long ago but when they were last written to.
            newer = [item for item in newer if item.file.mtime_us >= state.mtime_us]
        items = list(reversed(newer))
        if searching and ours is not None:
            items.insert(0, Planned(ours, state))
        if live is not None and not items:
            items = [Planned(live, state if resumes_live else None, live_head)]
        return Plan(
            items,
            lost=searching and ours is None and state.fingerprint is not None,
            truncated=searching
            and live is not None
            and state.fingerprint is not None
            and live.identity == (state.device, state.inode),
        )

    def _choose_first(
        self,
        state: FileState,
        live: OpenLog | None,
        siblings: Sequence[Sibling],
        opened: list[OpenLog],
        from_end: bool,
        ingested: Callable[[str], FileState | None],
    ) -> Plan:
        """Begin without a position: rotated files that exist already are not ours to read, later ones are."""
        boundary = self._open_sibling(siblings[0], opened) if siblings else None
        if boundary is not None:
            fingerprint = str(fingerprint_of_head(boundary.head()))
            state = FileState(mtime_us=boundary.mtime_us, finished=(fingerprint,))
        if live is None:
            return Plan([], state=state)
        head = first_line_head(live.head())
        known = None if head is None else ingested(str(Fingerprint.of(head)))
        if known is not None and _is_file_of(known, live):
            return Plan([Planned(live, dataclasses.replace(known, finished=state.finished))], state=state)
        if not from_end:
            return Plan([Planned(live, head=head)], state=state)
        size = live.reader.stat().st_size
        last = live.reader.pread(self._max_line_bytes, max(0, size - self._max_line_bytes))
        endless = b"\n" not in last and size > self._max_line_bytes  # inside a line over the bound
        offset = size if endless else size - len(last) + last.rfind(b"\n") + 1
        length = min(offset, FINGERPRINT_BYTES)
        at_end = dataclasses.replace(
            state,
            device=live.device,
            inode=live.inode,
            fingerprint=fingerprint_of_head(live.head()),
            tail=Fingerprint.of(live.reader.pread(length, offset - length)) if length else None,
            offset=offset,
            skipping=endless,
            mtime_us=live.mtime_us,
            begin=offset,
        )
        return Plan([Planned(live, at_end)], state=state)

    def _open_live(self) -> OpenLog | None:
        try:
            return _open(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _is_live(self, live: OpenLog | None) -> bool:
        try:
            info = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return live is None
        return live is not None and (info.st_dev, info.st_ino) == live.identity

    def _open_sibling(self, sibling: Sibling, opened: list[OpenLog]) -> OpenLog | None:
        """Open *sibling*; None when it may not be read, or not decompressed: counted, and not waited for."""
        try:
            file = _open(sibling.path, sibling.compression)
        except PermissionError as error:
            self._stats.error(f"{sibling.path}: {error.strerror}")
            return None
        except UnavailableError as error:
            self._stats.error(str(error))
            return None
        opened.append(file)
        return file


def _open(path: Path, compression: str = "") -> OpenLog:
    reader = open_reader(path, compression)
    info = reader.stat()
    return OpenLog(reader, path, info.st_dev, info.st_ino, info.st_mtime_ns // 1000, isinstance(reader, PlainReader))


def _names(siblings: Sequence[Sibling]) -> list[tuple[Path, int, int]]:
    return [(sibling.path, sibling.device, sibling.inode) for sibling in siblings]


def _is_file_of(state: FileState, file: OpenLog) -> bool:
    """Tell whether *file* holds, up to the offset, what was read when *state* was saved."""
    if state.fingerprint is None:
        return (state.device, state.inode) == file.identity
    return holds_what_was_read(state, file.reader.pread)
