r"""Following the systemd journal, through ``journalctl --output=json --follow --after-cursor=…``.

The journal is read by the program that ships with it: its file format is journald's own affair, and journalctl knows
rotation, vacuuming and several journal files. What it prints becomes lines as rsyslog would have written them,
``2026-11-22T05:30:00.123456+00:00 host identifier[pid]: message``, so that one grammar reads both; control characters
that would break a line are written as rsyslog does (``#012`` for a newline).

By default all entries of the mail facility are read, as a mail.log has them. Filtering by unit would lose lines:
journald attributes an entry to a unit by looking the process up, and Postfix's are often gone by then.

Loss this accepts: none but journald's own (its rate limit, and entries vacuumed away before they were read).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

from postwake.errors import DataError
from postwake_logparse.source import DEFAULT_BLOCK_BYTES, MAX_LINE_BYTES, Chunk, Cursor, SourceStats

MAIL_FACILITY = "SYSLOG_FACILITY=2"
"""Postfix's and Exim's default facility, LOG_MAIL, as a journal match."""

_FIELDS = "MESSAGE,_HOSTNAME,SYSLOG_IDENTIFIER,_COMM,SYSLOG_PID,_PID,_SOURCE_REALTIME_TIMESTAMP"
_MAX_ENTRY_BYTES = 1 << 20  # JSON of a binary message takes up to five bytes for each of its own
_READ_BYTES = 1 << 16
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_CURSOR = re.compile(r"s=[0-9a-f]+;i=[0-9a-f]+(?:;[a-z]=[0-9a-f]+)*")
_BREAKS_LINES = re.compile(rb"[\n\r\0]")
_STATE_VERSION = 1


class JournalSource:
    """Follows the journal (see the module for what of it). Implements :class:`~postwake_logparse.source.Source`.

    *identifiers* are syslog identifiers (``postfix/smtp``, ``exim``), *units* systemd units, which may be patterns;
    each list is an "or", and both together an "and". *matches* are journal matches (``FIELD=value``); None means the
    mail facility if neither list says anything. *arguments* go to journalctl as they are (``--directory=…``,
    ``--namespace=…``). *clock* returns seconds and never goes back; it times the restarts of a journalctl that died.

    Without *cursor*, *start* says whether to begin with the oldest entry or behind the newest.
    Raises :class:`~postwake.errors.DataError` for a cursor that is not one of a journal.
    """

    def __init__(
        self,
        cursor: Cursor | None,
        *,
        start: Literal["beginning", "end"] = "beginning",
        identifiers: Sequence[str] = (),
        units: Sequence[str] = (),
        matches: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
        name: str = "journal:mail",
        program: str = "journalctl",
        clock: Callable[[], float] = time.monotonic,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.stats = SourceStats()
        self._name = name
        self._position = None if cursor is None else _position(name, cursor.state)
        self._from_end = cursor is None and start == "end"
        self._announce = False
        if matches is None:
            matches = () if identifiers or units else (MAIL_FACILITY,)
        self._filter = [f"--identifier={text}" for text in identifiers]
        self._filter += [f"--unit={text}" for text in units]
        self._filter += matches
        self._command = [program, "--output=json", "--all", "--quiet", "--no-pager", *arguments]
        self._clock = clock
        self._max_line_bytes = max_line_bytes

        self._process: subprocess.Popen[bytes] | None = None
        self._entries: deque[bytes] = deque()
        self._partial = b""
        self._discarding = False
        self._failures = 0
        self._not_before_s = 0.0

    @property
    def name(self) -> str:
        """``journal:mail``, or what it was given."""
        return self._name

    @property
    def cursor(self) -> Cursor:
        """The position after everything that ``read`` has returned; journald's own cursor string is in its state."""
        return Cursor(self._name, json.dumps({"v": _STATE_VERSION, "cursor": self._position}, separators=(",", ":")))

    def read(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """See :class:`~postwake_logparse.source.Source`."""
        if self._process is None and (self._clock() < self._not_before_s or not self._start()):
            return None
        if self._announce:
            self._announce = False
            return Chunk(b"", self.cursor)
        before = self._position
        lines: list[bytes] = []
        size = 0
        while size < max_bytes and (self._entries or self._fill()):
            if self._entries:
                line = self._render(self._entries.popleft())
                if line:
                    lines.append(line)
                    size += len(line)
        if self._position == before:
            return None
        return Chunk(b"".join(lines), self.cursor)

    def wait(self, timeout_s: float) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        if self._process is not None:
            assert self._process.stdout is not None
            select.select([self._process.stdout], [], [], timeout_s)
        else:
            time.sleep(min(timeout_s, max(0.0, self._not_before_s - self._clock())))

    def lag_bytes(self) -> int:
        """How much of journalctl's output is unread. What journalctl itself has not read yet is not known."""
        process = self._process
        if process is None or process.stdout is None:
            return 0
        try:
            answer = fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4)
        except (OSError, ValueError):
            return 0
        return int(struct.unpack("i", answer)[0]) + sum(map(len, tuple(self._entries)))

    def close(self) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        if self._process is not None:
            self._end()

    # The subprocess

    def _start(self) -> bool:
        where = [f"--after-cursor={self._position}"] if self._position else []
        try:
            if self._from_end:
                self._find_end()
                where = [f"--after-cursor={self._position}"] if self._position else []
            # --no-tail: all entries there are, instead of the last ten.
            command = [*self._command, "--follow", "--no-tail", f"--output-fields={_FIELDS}", *where, *self._filter]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._failed(f"{self._command[0]}: cannot be run: {error}")
            return False
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stderr.fileno(), False)
        self._entries.clear()  # of the one before: they come again
        self._partial, self._discarding = b"", False
        self.stats.opens += 1
        return True

    def _find_end(self) -> None:
        """Take the newest entry as the position, so that a restart before our first line does not skip anything."""
        command = [*self._command, "--lines=1", "--output-fields=_HOSTNAME"]
        output = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False).stdout
        lines = output.splitlines()
        if lines:
            self._position = str(json.loads(lines[-1])["__CURSOR"])
            self._announce = True
        self._from_end = False

    def _fill(self) -> bool:
        """Read more of journalctl's output; tell whether there was any."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            data = os.read(self._process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._died()
            return False
        *whole, self._partial = (self._partial + data).split(b"\n")
        if whole and self._discarding:
            self.stats.bytes_discarded += len(whole[0]) + 1
            self._discarding = False
            del whole[0]
        self._entries.extend(whole)
        if len(self._partial) > _MAX_ENTRY_BYTES:
            self.stats.lines_discarded += not self._discarding
            self.stats.bytes_discarded += len(self._partial)
            self._partial, self._discarding = b"", True
        return True

    def _died(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        try:
            complaint = os.read(self._process.stderr.fileno(), 4096)
        except OSError:
            complaint = b""
        status = self._end()
        text = complaint.decode(errors="replace").strip().splitlines()
        said = f": {text[-1]}" if text else ""
        self._failed(f"{self._command[0]}: ended with status {status}{said}; starting it again")

    def _failed(self, text: str) -> None:
        self.stats.error(text)
        self._not_before_s = self._clock() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1

    def _end(self) -> int:
        process = self._process
        assert process is not None
        self._process = None
        process.terminate()
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    # Entries

    def _render(self, entry: bytes) -> bytes:
        """Return *entry*, JSON, as a line; empty if it is none or over the bound. Moves the position behind it."""
        try:
            fields = json.loads(entry)
            position = fields["__CURSOR"]
            line = render_entry(fields)
        except (ValueError, KeyError, TypeError) as error:
            self.stats.lines_discarded += 1
            self.stats.bytes_discarded += len(entry) + 1
            self.stats.error(f"{self._command[0]}: not a journal entry: {entry[:200]!r} ({error!r})")
            return b""
        self._position = str(position)
        self._failures = 0
        if len(line) > self._max_line_bytes + 1:
            self.stats.lines_discarded += 1
            self.stats.bytes_discarded += len(line)
            return b""
        return line


def render_entry(fields: dict[str, Any]) -> bytes:
    r"""Return a journal entry as a syslog-like line with ``\n``.

    *fields* are journalctl's JSON object: strings, lists of byte values for what is not UTF-8, lists of those for
    fields given several times (the first counts), None for what journalctl left out. The time is the sender's
    (``_SOURCE_REALTIME_TIMESTAMP``) if known, else journald's, in UTC with microseconds.
    Raises :class:`KeyError` or :class:`ValueError` when there is no usable time.
    """
    stamp_us = int(fields.get("_SOURCE_REALTIME_TIMESTAMP") or fields["__REALTIME_TIMESTAMP"])
    seconds, micros = divmod(stamp_us, 1_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}+00:00"
    host = _field(fields, "_HOSTNAME") or b"localhost"
    identifier = _field(fields, "SYSLOG_IDENTIFIER") or _field(fields, "_COMM") or b"-"
    pid = _field(fields, "SYSLOG_PID") or _field(fields, "_PID")
    tag = identifier + b"[" + pid + b"]: " if pid else identifier + b": "
    text = b"%b %b %b%b" % (stamp.encode(), host, tag, _field(fields, "MESSAGE"))
    return escape_breaks(text) + b"\n"


def escape_breaks(text: bytes) -> bytes:
    """Write newlines, carriage returns and NULs in *text* as rsyslog does: ``#`` and three octal digits."""
    if _BREAKS_LINES.search(text) is None:
        return text
    return _BREAKS_LINES.sub(lambda match: b"#%03o" % match[0][0], text)


def _field(fields: dict[str, Any], name: str) -> bytes:
    value = fields.get(name)
    if isinstance(value, list):
        if value and not isinstance(value[0], int):
            value = value[0]  # given several times
        if isinstance(value, list):
            return bytes(value)
    return b"" if value is None else str(value).encode("utf-8", "surrogatepass")


def _position(name: str, state: str) -> str | None:
    try:
        fields = json.loads(state)
        position = fields["cursor"]
        if fields["v"] != _STATE_VERSION or not (position is None or _CURSOR.fullmatch(position)):
            raise ValueError("version or form")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the stored position of {name} is not one of a journal: {state[:200]!r} ({error!r})") from None
    return None if position is None else str(position)
