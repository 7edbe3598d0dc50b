"""Following one log: a block, its records, a commit; again, or wait.

:meth:`Follower.step` is one round, so that a test can drive it without threads or sleeping.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from postwake.config import LogParse
from postwake_logparse.ingest import Grammar, Ingester
from postwake_logparse.record import Record
from postwake_logparse.source import Chunk, Cursor, Source
from postwake_logparse.source_file import FileSource
from postwake_logparse.source_journal import JournalSource
from postwake_logparse.source_stream import StreamSource, socket_source, stdin_source
from postwake_logparse.stamp import StampReader

_FIRST_PASSED_FD = 3
"""SD_LISTEN_FDS_START."""

BLOCK_BYTES = 128 * 1024
"""Some thousand lines: under 20 ms of write lock, so that the other services are not kept waiting."""


def open_source(
    settings: LogParse, cursor: Cursor | None, *, ingested: Callable[[str], str | None] = lambda _file_id: None
) -> Source:
    """Return the source that the configuration names, standing at *cursor*.

    *ingested* tells, by its ``file_id``, how far a backfill has read a file: see
    :class:`~postwake_logparse.source_file.FileSource`.
    """
    if settings.source == "journal":
        return JournalSource(cursor, start=settings.start, identifiers=settings.journal_identifiers)
    if settings.source == "socket":
        datagram = settings.listen_type == "datagram"
        return socket_source(settings.listen, cursor, datagram=datagram, listener=activated_socket())
    if settings.source == "stdin":
        return stdin_source(cursor)
    return FileSource(
        settings.path, cursor, start=settings.start, archive_dirs=settings.archive_dirs, ingested=ingested
    )


def activated_socket() -> socket.socket | None:
    """Return the socket that systemd opened for this process (sd_listen_fds(3)), None if it did not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    return socket.socket(fileno=_FIRST_PASSED_FD)


def source_name(settings: LogParse) -> str:
    """Return the name of that source, under which its cursor is stored."""
    names = {"journal": "journal:mail", "socket": f"socket:{settings.listen}", "stdin": "stdin"}
    return names.get(settings.source, f"file:{settings.path}")


class Follower:
    """Drives one source into the store. The source is opened, from the committed cursor, with the first step."""

    def __init__(
        self,
        opener: Callable[[Cursor | None], Source],
        grammar: Grammar,
        ingester: Ingester,
        *,
        timezone: str | None,
        now_us: Callable[[], int],
        name: str = "",
    ) -> None:
        """Take what opens the source, what reads its lines, what writes, and the clock."""
        self._opener = opener
        self._timezone = timezone
        self._now_us = now_us
        self._ingester = ingester
        self._pending: tuple[Sequence[Record], Chunk] | None = None
        self._clock: StampReader | None = None
        self.grammar = grammar
        self.source: Source | None = None
        self.name = name

    def step(self, timeout_s: float) -> bool:
        """Read, commit, or else wait up to *timeout_s*; return whether there was something.

        :class:`StoreUnavailableError` when the commit failed: the next step tries the same block again.
        """
        source = self._open()
        assert self._clock is not None
        if self._pending is None:
            chunk = source.read(BLOCK_BYTES)
            if chunk is None:
                self._ingester.idle()
                source.wait(timeout_s)
                return False
            self._clock.reference_us = self._now_us()
            self._pending = (list(self.grammar.parse_block(chunk.data, self._clock)), chunk)
        records, chunk = self._pending
        self._ingester.commit(records, chunk, self._clock.last_us)
        self._pending = None
        return True

    @property
    def ended(self) -> bool:
        """Whether there will never be more: standard input came to its end."""
        return isinstance(self.source, StreamSource) and self.source.ended

    def lag_bytes(self) -> int:
        """Return how many bytes of the log are not in the store yet; another thread may ask, for metrics."""
        source, pending = self.source, self._pending
        unread = 0 if source is None else source.lag_bytes()
        return unread + (0 if pending is None else len(pending[1].data))

    def close(self) -> None:
        """Close source and store."""
        if self.source is not None:
            self.source.close()
        self._ingester.close()

    def _open(self) -> Source:
        if self.source is None:
            cursor, last_us = self._ingester.cursor(self.name)
            self._clock = StampReader(reference_us=self._now_us(), timezone=self._timezone, last_us=last_us)
            self.source = self._opener(cursor)
        return self.source
