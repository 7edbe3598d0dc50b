"""A line on standard error that says how far a backfill is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from postwake_logparse.backfill_files import Progress

TERMINAL_EVERY_S = 0.2
FILE_EVERY_S = 10.0
"""Where standard error is no terminal a line is written now and then, not one over the other."""
_BAR_WIDTH = 20


class ProgressLine:
    """Shows a backfill's progress on *stream*, not more often than anyone can read."""

    def __init__(self, stream: TextIO) -> None:
        """Start the clock."""
        self._stream = stream
        self._terminal = stream.isatty()
        self._every_s = TERMINAL_EVERY_S if self._terminal else FILE_EVERY_S
        self._started = self._shown = time.monotonic()
        self._drawn = False

    def show(self, progress: Progress, lines: int) -> None:
        """Say how far it is after *lines* lines."""
        now = time.monotonic()
        if now - self._shown < self._every_s:
            return
        self._shown = now
        text = progress_text(progress, lines, now - self._started)
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._drawn = self._terminal

    def end(self) -> None:
        """Leave the line."""
        if self._drawn:
            self._stream.write("\n")
            self._stream.flush()


def progress_text(progress: Progress, lines: int, seconds: float) -> str:
    """Return the line: a bar, per cent, the file, the rate and how long it will still take."""
    share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 1.0
    filled = round(share * _BAR_WIDTH)
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    left_s = seconds * (1 - share) / share if share else 0.0
    name = "" if progress.path is None else f" {progress.path.name}"
    return (
        f"[{bar}] {share:4.0%} file {min(progress.files_done + 1, progress.files)}/{progress.files}{name}"
        f" {lines / max(seconds, 1e-9):,.0f} lines/s, {int(left_s // 60)}:{int(left_s % 60):02d} left"
    )
