r"""Log lines that are sent to us: standard input, or syslog messages on a UNIX socket.

For rsyslog (``omuxsock``, ``omprog``, ``omfwd``), for syslog-ng, and for containers, where the MTA's log comes down a
pipe. Framing and forms are those of :mod:`postwake_logparse.syslog_frame`; what arrives becomes lines as a log file has
them.

A stream cannot be read twice, so this is at most once where a file is exactly once. What a crash loses: the chunk that
was read and not committed yet (as many bytes as ``read`` was asked for), what is in the socket's buffer (the kernel
drops it with the socket, unless systemd holds it: socket activation), and what is sent while nobody listens, unless
the sender queues it (rsyslog does with ``queue.type="LinkedList" action.resumeRetryCount="-1"``). The cursor is a
counter of messages and leads nowhere. Who has the choice follows a file or the journal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from postwake.errors import DataError, UnavailableError
from postwake_logparse.source import DEFAULT_BLOCK_BYTES, MAX_LINE_BYTES, Chunk, Cursor, SourceStats
from postwake_logparse.syslog_frame import is_counted, render_frame, split_frames

_RECEIVE_BYTES = 1 << 16
_DATAGRAM_BYTES = 1 << 18  # more than any sender's default buffer, so that none is cut unnoticed
_MAX_CONNECTIONS = 64
_STATE_VERSION = 1


class _Inlet:
    """One file descriptor that bytes come from, and the frame that is not complete yet."""

    def __init__(self, descriptor: int, owner: socket.socket | None = None) -> None:
        self.descriptor = descriptor
        self.owner = owner
        self.rest = b""
        self.skip = 0
        self.skipping_line = False

    def fileno(self) -> int:
        return self.descriptor


class StreamSource:
    """Reads one descriptor, or a listening socket's connections. See :func:`stdin_source` and :func:`socket_source`.

    Implements :class:`~postwake_logparse.source.Source`. *host* names this machine in messages that name none; *now*
    returns Unix seconds, for messages without a stamp.
    """

    def __init__(
        self,
        name: str,
        cursor: Cursor | None,
        *,
        descriptor: int | None = None,
        listener: socket.socket | None = None,
        unlink: Path | None = None,
        host: str = "",
        now: Callable[[], float] = time.time,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.stats = SourceStats(opens=1)
        self.ended = False
        """Whether standard input has come to its end: there will never be more."""
        self._name = name
        self._messages = 0 if cursor is None else _messages(name, cursor.state)
        self._host = (host or socket.gethostname()).encode()
        self._now = now
        self._bound = max_line_bytes
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._unlink = unlink
        self._pipe: _Inlet | None = None
        self._connections = 0
        self._closed = False
        self._pending: list[bytes] = []  # rendered lines over what the last read was asked for
        if listener is not None:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, None)
        elif descriptor is not None:
            # Left in blocking mode, which is shared with whoever else has it open; it is only read when ready.
            self._pipe = _Inlet(descriptor)
            # A regular file cannot be waited for, and is always ready.
            with contextlib.suppress(PermissionError):
                self._selector.register(descriptor, selectors.EVENT_READ, self._pipe)

    @property
    def name(self) -> str:
        """``stdin`` or ``socket:`` and its path."""
        return self._name

    @property
    def cursor(self) -> Cursor:
        """How many messages came this way so far."""
        return Cursor(self._name, json.dumps({"v": _STATE_VERSION, "messages": self._messages}, separators=(",", ":")))

    def read(self, max_bytes: int = DEFAULT_BLOCK_BYTES) -> Chunk | None:
        """See :class:`~postwake_logparse.source.Source`."""
        size = sum(map(len, self._pending))
        while size < max_bytes and not self._closed:
            try:
                received = self._receive()
            except OSError as error:
                self.stats.error(f"{self._name}: {error.strerror or error}")
                break
            if received is None:
                break
            self._pending += received
            size += sum(map(len, received))
        if not self._pending:
            return None
        taken = count = 0
        for line in self._pending:
            if count and taken + len(line) > max_bytes:
                break
            taken += len(line)
            count += 1
        lines, self._pending = self._pending[:count], self._pending[count:]
        self._messages += count
        return Chunk(b"".join(lines), self.cursor)

    def wait(self, timeout_s: float) -> None:
        """See :class:`~postwake_logparse.source.Source`."""
        if self._selector.get_map():
            self._selector.select(timeout_s)
        elif not self.ended:
            time.sleep(timeout_s)

    def lag_bytes(self) -> int:
        """What the kernel holds for us already, of all connections (of datagrams: of the first)."""
        lag = 0
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            for key in list(self._selector.get_map().values()):
                if key.data is not None or self._is_datagram():
                    lag += struct.unpack("i", fcntl.ioctl(key.fd, termios.FIONREAD, b"\0" * 4))[0]
        return lag

    def close(self) -> None:
        """Close the socket and its connections, and remove its file; standard input is left open."""
        if self._closed:
            return
        self._closed = True
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Inlet) and key.data.owner is not None:
                key.data.owner.close()
        self._selector.close()
        if self._listener is not None:
            self._listener.close()
        if self._unlink is not None:
            self._unlink.unlink(missing_ok=True)

    def _is_datagram(self) -> bool:
        return self._listener is not None and self._listener.type == socket.SOCK_DGRAM

    def _receive(self) -> list[bytes] | None:
        """Return the lines of what is there to read, from every inlet once; None when nothing is there."""
        lines: list[bytes] = []
        busy = False
        if self._pipe is not None and not self._selector.get_map():
            return self._take(self._pipe) if not self.ended else None
        for key, _ in self._selector.select(0):
            if isinstance(key.data, _Inlet):
                taken = self._take(key.data)
                busy |= taken is not None
                lines += taken or []
            elif self._is_datagram():
                busy = True
                lines += self._datagram()
            else:
                busy = True
                self._accept()
        return lines if busy else None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._connections >= _MAX_CONNECTIONS:
            connection.close()
            self.stats.error(f"{self._name}: more than {_MAX_CONNECTIONS} connections at once: one was refused")
            return
        connection.setblocking(False)
        self._connections += 1
        self._selector.register(connection, selectors.EVENT_READ, _Inlet(connection.fileno(), connection))

    def _datagram(self) -> list[bytes]:
        assert self._listener is not None
        try:
            frame = self._listener.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return []
        if len(frame) > self._bound:
            self.stats.lines_discarded += 1
            self.stats.bytes_discarded += len(frame)
            return []
        return self._render([frame])

    def _take(self, inlet: _Inlet) -> list[bytes] | None:
        try:
            data = os.read(inlet.descriptor, _RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            self._hang_up(inlet)
            return None
        if inlet.skip:
            gone = min(inlet.skip, len(data))
            self.stats.bytes_discarded += gone
            inlet.skip -= gone
            data = data[gone:]
        if inlet.skipping_line:
            newline = data.find(b"\n")
            gone = len(data) if newline < 0 else newline + 1
            self.stats.bytes_discarded += gone
            inlet.skipping_line = newline < 0
            data = data[gone:]
        if not data:
            return []
        frames, inlet.rest, inlet.skip, lines_discarded, bytes_discarded = split_frames(inlet.rest + data, self._bound)
        self.stats.lines_discarded += lines_discarded
        self.stats.bytes_discarded += bytes_discarded
        if len(inlet.rest) > self._bound and not is_counted(inlet.rest):
            self.stats.lines_discarded += 1
            self.stats.bytes_discarded += len(inlet.rest)
            inlet.rest, inlet.skipping_line = b"", True
        return self._render(frames)

    def _hang_up(self, inlet: _Inlet) -> None:
        r"""The other side closed. A line without its ``\n`` may be half a line: it is not used, but counted."""
        if inlet.rest:
            self.stats.partial_lines_abandoned += 1
            self.stats.bytes_discarded += len(inlet.rest)
            inlet.rest = b""
        if inlet.owner is not None:
            self._selector.unregister(inlet.owner)
            inlet.owner.close()
            self._connections -= 1
        else:
            self.ended = True
            with contextlib.suppress(KeyError):
                self._selector.unregister(inlet.descriptor)

    def _render(self, frames: list[bytes]) -> list[bytes]:
        stamp = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="microseconds").encode()
        return [render_frame(frame, self._host, stamp) for frame in frames if frame.strip(b"\n\r\0")]


def stdin_source(cursor: Cursor | None = None, *, descriptor: int = 0, host: str = "") -> StreamSource:
    """Return a source that reads *descriptor*, standard input, until its end (``ended``)."""
    return StreamSource("stdin", cursor, descriptor=descriptor, host=host)


def socket_source(
    path: Path,
    cursor: Cursor | None = None,
    *,
    datagram: bool = False,
    mode: int = 0o660,
    listener: socket.socket | None = None,
    host: str = "",
    now: Callable[[], float] = time.time,
) -> StreamSource:
    """Return a source that listens on the UNIX socket *path*, a datagram or a stream socket, with permissions *mode*.

    A socket that was left behind is replaced. *listener* is a socket that somebody else opened (systemd's socket
    activation): its type counts and its file is left alone. :class:`~postwake.errors.UnavailableError` when *path* is
    in use, is something else than a socket, or cannot be created.
    """
    name = f"socket:{path}"
    if cursor is not None:
        _messages(name, cursor.state)  # refused before anything is opened
    if listener is not None:
        return StreamSource(name, cursor, listener=listener, host=host, now=now)
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    try:
        _clear_the_way(path, kind)
        listener = socket.socket(socket.AF_UNIX, kind)
        try:
            making = path.with_name(path.name + ".new")  # nobody finds it before it listens
            making.unlink(missing_ok=True)
            listener.bind(str(making))
            making.chmod(mode)
            if not datagram:
                listener.listen(_MAX_CONNECTIONS)
            making.rename(path)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise UnavailableError(f"{path}: cannot listen there for log lines: {error.strerror or error}") from None
    return StreamSource(name, cursor, listener=listener, unlink=path, host=host, now=now)


def _clear_the_way(path: Path, kind: socket.SocketKind) -> None:
    """Remove a socket that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnavailableError(f"{path}: cannot listen there for log lines: it exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        status = probe.connect_ex(str(path))
    if status == errno.ECONNREFUSED:
        path.unlink()
    else:
        why = "another process listens there" if status in (0, errno.EAGAIN) else os.strerror(status)
        raise UnavailableError(f"{path}: cannot listen there for log lines: {why}")


def _messages(name: str, state: str) -> int:
    try:
        fields = json.loads(state)
        if fields["v"] != _STATE_VERSION:
            raise ValueError("version")
        return int(fields["messages"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the stored position of {name} is not one of a stream: {state[:200]!r} ({error!r})") from None
