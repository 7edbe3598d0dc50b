"""Syslog messages on sockets and standard input."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake.errors import DataError, UnavailableError
from postwake_logparse.source import MAX_LINE_BYTES, Cursor
from postwake_logparse.source_stream import StreamSource, socket_source, stdin_source
from postwake_logparse.syslog_frame import render_frame, split_frames

NOW_S = 1795325400.5  # 2026-11-22T05:30:00.5Z


def lines_of(source: StreamSource, max_bytes: int = 1 << 20) -> list[bytes]:
    """Return what is there now."""
    lines: list[bytes] = []
    while (chunk := source.read(max_bytes)) is not None:
        assert chunk.data.endswith(b"\n")
        lines += chunk.data.split(b"\n")[:-1]
    return lines


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[..., StreamSource]]:
    """Return a function that listens on log.sock."""
    sources: list[StreamSource] = []

    def start(**options: Any) -> StreamSource:
        sources.append(socket_source(tmp_path / "log.sock", host="here", now=lambda: NOW_S, **options))
        return sources[-1]

    yield start
    for source in sources:
        source.close()


def connect(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a connected client."""
    client = socket.socket(socket.AF_UNIX, kind)
    client.connect(str(path))
    return client


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (b"<22>Nov  2 05:30:00 mail postfix/smtp[12]: 4X: text", b"Nov  2 05:30:00 mail postfix/smtp[12]: 4X: text"),
        (b"<22>Nov 22 05:30:00 postfix/smtp[12]: 4X: text", b"Nov 22 05:30:00 here postfix/smtp[12]: 4X: text"),
        (
            b"<22>2026-11-22T05:30:00.123456+01:00 mail exim[7]: text",
            b"2026-11-22T05:30:00.123456+01:00 mail exim[7]: text",
        ),
        (b"<22>exim[7]: text", b"2026-11-22T05:30:00.500000+00:00 here exim[7]: text"),
        (
            b"<22>1 2026-11-22T05:30:00.123456Z mail postfix/smtp 12 - - 4X: text",
            b"2026-11-22T05:30:00.123456Z mail postfix/smtp[12]: 4X: text",
        ),
        (
            b'<22>1 2026-11-22T05:30:00Z mail exim 7 ID [a@1 k="v\\]\\"w"][b@1] \xef\xbb\xbftext',
            b"2026-11-22T05:30:00Z mail exim[7]: text",
        ),
        (b"<22>1 - - exim - - - text", b"2026-11-22T05:30:00.500000+00:00 here exim: text"),
        (b"<22>1 2026-11-22T05:30:00Z mail exim 7 - -", b"2026-11-22T05:30:00Z mail exim[7]: "),
        (b"<22>Nov 22 05:30:00 mail exim: a\nb\0c\n\0", b"Nov 22 05:30:00 mail exim: a#012b#000c"),
        (b"2026-11-22 05:30:00 1abcde-000001-AB Completed", b"2026-11-22 05:30:00 1abcde-000001-AB Completed"),
        (b"<22>Nov 22 05:30:00 mail exim: caf\xe9", b"Nov 22 05:30:00 mail exim: caf\xe9"),
    ],
    ids=[
        "3164",
        "3164 without host",
        "rsyslog forward",
        "no stamp",
        "5424",
        "5424 structured data and BOM",
        "5424 nil values",
        "5424 without message",
        "breaks",
        "a file's line",
        "not UTF-8",
    ],
)
def test_message_forms(frame: bytes, line: bytes) -> None:
    """Whatever form a message has, it becomes the line that a log file would hold."""
    assert render_frame(frame, b"here", b"2026-11-22T05:30:00.500000+00:00") == line + b"\n"


@given(
    messages=st.lists(st.tuples(st.booleans(), st.binary(min_size=0, max_size=30)), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_framing_however_the_stream_is_cut(messages: list[tuple[bool, bytes]], cuts: list[int]) -> None:
    """Counted and newline-ended messages, mixed, arrive whole and in order wherever the stream is torn."""
    stream, expected = b"", []
    for counted, text in messages:
        frame = b"<22>" + (text if counted else text.replace(b"\n", b" "))
        stream += b"%d %b" % (len(frame), frame) if counted else frame + b"\n"
        expected.append(frame)
    received: list[bytes] = []
    rest, start = b"", 0
    for cut in [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]:
        frames = split_frames(rest + stream[start:cut])
        received += frames.frames
        rest, start = frames.rest, cut
    assert received == expected
    assert rest == b""


def test_stream_socket(listen: Callable[..., StreamSource], tmp_path: Path) -> None:
    """Several senders at once, messages torn apart, both framings; the order of each sender is kept."""
    source = listen()
    with connect(tmp_path / "log.sock") as first, connect(tmp_path / "log.sock") as second:
        first.sendall(b"<22>Nov 22 05:30:00 mail exim: one\n<22>Nov 22 05:30:01 mail ex")
        second.sendall(b"34 <22>Nov 22 05:30:00 mail exim: two")
        assert sorted(lines_of(source)) == [b"Nov 22 05:30:00 mail exim: one", b"Nov 22 05:30:00 mail exim: two"]
        first.sendall(b"im: three\n")
        assert lines_of(source) == [b"Nov 22 05:30:01 mail exim: three"]
        first.sendall(b"<22>half a li")
    assert lines_of(source) == []
    assert source.stats.partial_lines_abandoned == 1
    assert source.cursor.state == '{"v":1,"messages":3}'


def test_datagram_socket(listen: Callable[..., StreamSource], tmp_path: Path) -> None:
    """One message a datagram, as syslog(3) and omuxsock send; one over the bound is counted."""
    source = listen(datagram=True)
    with connect(tmp_path / "log.sock", socket.SOCK_DGRAM) as client:
        client.send(b"<22>Nov 22 05:30:00 exim[1]: one\0")
        client.send(b"<22>Nov 22 05:30:00 exim[1]: " + b"x" * MAX_LINE_BYTES)
        client.send(b"<22>Nov 22 05:30:00 exim[1]: two\nlines\n")
        assert source.lag_bytes() > 0
        assert lines_of(source) == [
            b"Nov 22 05:30:00 here exim[1]: one",
            b"Nov 22 05:30:00 here exim[1]: two#012lines",
        ]
    assert source.stats.lines_discarded == 1


@pytest.mark.parametrize("counted", [True, False])
def test_monster_message(listen: Callable[..., StreamSource], tmp_path: Path, counted: bool) -> None:
    """A message over the bound is dropped as it comes, in bounded memory, and the next one read."""
    source = listen()
    monster = b"<22>" + b"x" * 300_000
    with connect(tmp_path / "log.sock") as client:
        client.settimeout(10)
        data = (b"%d " % len(monster) + monster) if counted else monster + b"\n"
        received = []
        for start in range(0, len(data), 50_000):
            client.sendall(data[start : start + 50_000])
            received += lines_of(source)
        client.sendall(b"<22>Nov 22 05:30:00 mail exim: after\n")
        assert received + lines_of(source) == [b"Nov 22 05:30:00 mail exim: after"]
    assert (source.stats.lines_discarded, source.stats.bytes_discarded) == (1, len(data))


def test_small_chunks(listen: Callable[..., StreamSource], tmp_path: Path) -> None:
    """What does not fit into the chunk asked for comes with the next; the counter counts what was returned."""
    source = listen()
    with connect(tmp_path / "log.sock") as client:
        client.sendall(b"".join(b"<22>Nov 22 05:30:00 mail exim: %d\n" % number for number in range(5)))
        chunk = source.read(1)
        assert chunk is not None
        assert chunk.data == b"Nov 22 05:30:00 mail exim: 0\n"
        assert chunk.cursor == Cursor(source.name, '{"v":1,"messages":1}')
        assert len(lines_of(source, 60)) == 4


def test_the_count_goes_on(listen: Callable[..., StreamSource], tmp_path: Path) -> None:
    """A restart continues the counter; a cursor of something else is refused."""
    name = f"socket:{tmp_path / 'log.sock'}"
    source = listen(cursor=Cursor(name, '{"v":1,"messages":41}'))
    with connect(tmp_path / "log.sock") as client:
        client.sendall(b"a line\n")
        chunk = source.read()
    assert chunk is not None
    assert chunk.cursor.state == '{"v":1,"messages":42}'
    source.close()
    with pytest.raises(DataError, match="stored position of socket:"):
        listen(cursor=Cursor(name, "s=1"))


def test_left_over_socket_is_replaced_and_others_are_not(listen: Callable[..., StreamSource], tmp_path: Path) -> None:
    """A dead socket is in nobody's way; one that is listened on, or a file, is an error that says so."""
    path = tmp_path / "log.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    source = listen()
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(UnavailableError, match="another process listens there"):
        socket_source(path)
    source.close()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="not a socket"):
        socket_source(path)
    with pytest.raises(UnavailableError, match="No such file or directory"):
        socket_source(tmp_path / "none" / "log.sock")


def test_socket_from_systemd(tmp_path: Path) -> None:
    """A socket that was opened for us is used and its file left alone: what waited in it is not lost."""
    path = tmp_path / "log.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    with connect(path, socket.SOCK_DGRAM) as client:
        client.send(b"<22>Nov 22 05:30:00 exim[1]: sent before we started")
        source = socket_source(path, listener=listener, host="here")
        assert lines_of(source) == [b"Nov 22 05:30:00 here exim[1]: sent before we started"]
        source.close()
    assert path.exists()


def test_standard_input_to_its_end() -> None:
    """Lines of a pipe until it is closed; then there will be no more."""
    reading, writing = os.pipe()
    source = stdin_source(descriptor=reading)
    assert source.read() is None
    os.write(writing, b"2026-11-22 05:30:00 1abcde-000001-AB Completed\nhalf")
    assert lines_of(source) == [b"2026-11-22 05:30:00 1abcde-000001-AB Completed"]
    assert not source.ended
    os.close(writing)
    assert lines_of(source) == []
    assert source.ended
    assert source.stats.partial_lines_abandoned == 1
    source.close()
    os.close(reading)


def test_standard_input_from_a_file(tmp_path: Path) -> None:
    """`postwake … < mail.log`: a regular file cannot be waited for, and is read all the same."""
    (tmp_path / "mail.log").write_bytes(b"one\n" * 50_000)
    with (tmp_path / "mail.log").open("rb") as file:
        source = stdin_source(descriptor=file.fileno())
        assert len(lines_of(source)) == 50_000
        assert source.ended
        source.close()
