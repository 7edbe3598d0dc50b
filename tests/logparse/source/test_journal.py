"""The systemd journal: the real journalctl on a journal made for the test, and a stand-in where it must misbehave."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import DataError
from postwake_logparse.source import Cursor
from postwake_logparse.source_journal import JournalSource, render_entry

REMOTE = next(
    (
        path
        for path in ("/lib/systemd/systemd-journal-remote", "/usr/lib/systemd/systemd-journal-remote")
        if Path(path).exists()
    ),
    "",
)
BOOT = "5a1d8b1c2e3f4a5b8c7d6e5f4a3b2c1d"

needs_journal = pytest.mark.skipif(
    not REMOTE or shutil.which("journalctl") is None,
    reason="needs journalctl and systemd-journal-remote (which writes a journal from an export)",
)


def exported(number: int, message: bytes, identifier: str = "postfix/smtp", facility: int = 2) -> bytes:
    """Return an entry in the journal export format, with the message in its binary form."""
    fields = (
        f"__REALTIME_TIMESTAMP={1795325400000000 + number}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={BOOT}\n"
        f"_HOSTNAME=mail\nSYSLOG_FACILITY={facility}\nSYSLOG_IDENTIFIER={identifier}\nSYSLOG_PID={number}\n"
    )
    return fields.encode() + b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"


class Journal:
    """A directory with a journal, and a source on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = 0
        self.number = 0
        self.cursor: Cursor | None = None
        self.source: JournalSource | None = None

    def write(self, *entries: bytes) -> None:
        """Add a journal file with *entries* (a later file continues the earlier ones)."""
        self.files += 1
        export = self.directory / "export"
        export.write_bytes(b"".join(entries))
        target = self.directory / f"system@{self.files}.journal"
        subprocess.run([REMOTE, f"--output={target}", str(export)], check=True, capture_output=True)
        export.unlink()

    def messages(self, *messages: bytes, **options: Any) -> None:
        """Add entries with the next numbers."""
        entries = []
        for message in messages:
            self.number += 1
            entries.append(exported(self.number, message, **options))
        self.write(*entries)

    def follow(self, **options: Any) -> JournalSource:
        """Start from the last committed cursor."""
        self.close()
        self.source = JournalSource(self.cursor, arguments=[f"--directory={self.directory}"], **options)
        return self.source

    def receive(self, count: int, max_bytes: int = 1 << 20) -> list[str]:
        """Return the next *count* lines, committing them; fail if they do not come."""
        assert self.source is not None
        lines: list[bytes] = []
        for _ in range(500):
            while (chunk := self.source.read(max_bytes)) is not None:
                assert not chunk.data or chunk.data.endswith(b"\n")
                lines += chunk.data.split(b"\n")[:-1]
                self.cursor = chunk.cursor
                if len(lines) >= count:
                    return [line.decode(errors="backslashreplace") for line in lines]
            self.source.wait(0.1)
        raise AssertionError(f"{len(lines)} of {count} lines: {self.source.stats}")

    def close(self) -> None:
        """Stop following."""
        if self.source is not None:
            self.source.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return an empty journal."""
    journal = Journal(tmp_path)
    yield journal
    journal.close()


@needs_journal
def test_entries_become_syslog_lines(journal: Journal) -> None:
    """Time with microseconds, host, identifier, process and message, as rsyslog's files have them."""
    journal.messages(b"4XyZ: to=<a@example.org>, status=sent (250 ok)")
    journal.follow()
    assert journal.receive(1) == [
        "2026-11-22T05:30:00.000001+00:00 mail postfix/smtp[1]: 4XyZ: to=<a@example.org>, status=sent (250 ok)"
    ]


@needs_journal
def test_resumes_behind_the_cursor(journal: Journal) -> None:
    """After a restart come the entries behind the committed cursor, all of them, each once, more than ten of them."""
    journal.messages(*(b"message %d" % number for number in range(40)))
    journal.follow()
    first = journal.receive(1, max_bytes=1)
    journal.follow()
    rest = journal.receive(39)
    assert [line.rpartition(" ")[2] for line in first + rest] == [str(number) for number in range(40)]
    journal.follow()
    journal.messages(b"message 40")
    assert [line.rpartition(" ")[2] for line in journal.receive(1)] == ["40"]


@needs_journal
def test_only_the_mail_facility_unless_told(journal: Journal) -> None:
    """Other facilities are left out; identifiers choose otherwise."""
    journal.messages(b"login", identifier="sshd", facility=10)
    journal.messages(b"mail", identifier="exim")
    journal.messages(b"more mail", identifier="postfix/qmgr")
    journal.follow()
    assert [line.split(": ")[1] for line in journal.receive(2)] == ["mail", "more mail"]
    journal.cursor = None
    journal.follow(identifiers=["sshd", "exim"])
    assert [line.split(": ")[1] for line in journal.receive(2)] == ["login", "mail"]


@needs_journal
def test_odd_messages(journal: Journal) -> None:
    """Newlines are escaped as rsyslog does, bytes that are not UTF-8 survive, and 4 KiB are no limit (they are, of
    journalctl's JSON without --all)."""
    journal.messages(b"two\nlines", b"caf\xe9", "café".encode(), b"x" * 20_000, b"y" * 70_000, b"last")
    source = journal.follow()
    lines = [line.partition("]: ")[2] for line in journal.receive(5)]
    assert lines == ["two#012lines", "caf\\xe9", "café", "x" * 20_000, "last"]
    assert source.stats.lines_discarded == 1, "the one over 64 KiB"


@needs_journal
def test_start_at_the_end_is_remembered_at_once(journal: Journal) -> None:
    """start="end" skips what is there; what comes before the first commit of a line is not skipped by a restart."""
    journal.messages(b"old")
    source = journal.follow(start="end")
    chunk = source.read()
    assert chunk is not None
    assert chunk.data == b""
    journal.cursor = chunk.cursor
    journal.close()
    journal.messages(b"new")
    journal.follow()
    assert [line.partition("]: ")[2] for line in journal.receive(1)] == ["new"]


@needs_journal
def test_journalctl_killed(journal: Journal, clock: Any) -> None:
    """A journalctl that dies is started again behind the last entry, after a pause."""
    journal.messages(b"one")
    source = journal.follow(clock=clock)
    journal.receive(1)
    assert source._process is not None
    source._process.kill()
    source._process.wait()
    assert source.read() is None
    assert "ended with status -9" in source.stats.last_error
    journal.messages(b"two")
    assert source.read() is None, "not before the pause is over"
    assert source.stats.opens == 1
    clock.now_s += 1.0
    assert [line.partition("]: ")[2] for line in journal.receive(1)] == ["two"]
    assert source.stats.opens == 2


# From here on a stand-in is executed in journalctl's place, because the real one cannot be made to behave so.


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that makes an executable of a shell script."""

    def make(script: str) -> str:
        path = tmp_path / "journalctl"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def until_error(source: JournalSource) -> str:
    """Read until an error was counted; return its text."""
    before = source.stats.read_errors
    for _ in range(500):
        source.read()
        if source.stats.read_errors > before:
            return source.stats.last_error
        source.wait(0.1)
    raise AssertionError("no error")


def test_pauses_grow_while_it_keeps_dying(stand_in: Callable[[str], str], clock: Any) -> None:
    """1, 2, 5, 10, 30 and then 60 seconds between starts; its complaint is repeated."""
    source = JournalSource(None, program=stand_in("echo 'No journal files were found.' >&2; exit 1"), clock=clock)
    for pause_s in (1, 2, 5, 10, 30, 60, 60):
        assert until_error(source).endswith("ended with status 1: No journal files were found.; starting it again")
        opens = source.stats.opens
        clock.now_s += pause_s - 0.5
        source.read()
        assert source.stats.opens == opens
        clock.now_s += 0.5
    source.close()


def test_no_journalctl_at_all(tmp_path: Path, clock: Any) -> None:
    """A machine without it: an error that names it, no exception."""
    source = JournalSource(None, program=str(tmp_path / "none"), clock=clock)
    assert source.read() is None
    assert "cannot be run" in source.stats.last_error


def test_output_that_is_not_an_entry(stand_in: Callable[[str], str], clock: Any) -> None:
    """Damaged output is counted and the next entry read; half an entry at its death is not an entry."""
    entry = json.dumps({"__CURSOR": "s=1;i=1", "__REALTIME_TIMESTAMP": "1795325400000000", "MESSAGE": "good"})
    source = JournalSource(None, program=stand_in(f"echo garbage; echo '{entry}'; printf '{{\"__CUR'"), clock=clock)
    data = b""
    for _ in range(500):
        chunk = source.read()
        data += chunk.data if chunk else b""
        if source.stats.read_errors == 2:
            break
        source.wait(0.1)
    assert data.endswith(b" localhost -: good\n")
    assert source.stats.lines_discarded == 1
    source.close()


def test_entry_without_end_is_discarded_in_bounded_memory(stand_in: Callable[[str], str], clock: Any) -> None:
    """An entry of several megabytes of JSON is dropped as it comes, the one after it is read."""
    entry = json.dumps({"__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1795325400000000", "MESSAGE": "good"})
    source = JournalSource(
        None, program=stand_in(f"head -c 5000000 /dev/zero | tr '\\0' x; echo; echo '{entry}'; sleep 60"), clock=clock
    )
    for _ in range(2000):
        chunk = source.read()
        if chunk is not None:
            break
        source.wait(0.1)
    assert chunk is not None
    assert chunk.data.endswith(b"good\n")
    assert (source.stats.lines_discarded, source.stats.bytes_discarded) == (1, 5_000_001)
    source.close()


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"MESSAGE": [104, 105, 255]}, b"- - : hi\xff"),
        ({"MESSAGE": ["first", "second"], "_HOSTNAME": "h", "_COMM": "exim4"}, b"h exim4: first"),
        ({"MESSAGE": [[104, 105], "second"], "SYSLOG_IDENTIFIER": "exim", "_PID": "7"}, b"localhost exim[7]: hi"),
        ({"MESSAGE": None, "SYSLOG_IDENTIFIER": "exim", "SYSLOG_PID": "7", "_PID": "8"}, b"localhost exim[7]: "),
        ({"MESSAGE": "a\r\nb\0"}, b"localhost -: a#015#012b#000"),
    ],
    ids=["bytes", "twice", "bytes twice", "left out", "breaks"],
)
def test_forms_of_fields(fields: dict[str, Any], line: bytes) -> None:
    """journalctl's JSON has strings, lists of bytes, lists of either, and null."""
    expected = line.replace(b"- - :", b"localhost -:")
    assert render_entry({"__REALTIME_TIMESTAMP": "1795325400000001", **fields}) == (
        b"2026-11-22T05:30:00.000001+00:00 " + expected + b"\n"
    )


def test_the_senders_time_is_preferred() -> None:
    """When journald was late, the time is when the program spoke."""
    line = render_entry({"__REALTIME_TIMESTAMP": "1795325409000000", "_SOURCE_REALTIME_TIMESTAMP": "1795325400000000"})
    assert line.startswith(b"2026-11-22T05:30:00.000000+00:00 ")


@pytest.mark.parametrize("state", ["", "s=1;i=2", '{"v":2,"cursor":"s=1;i=2"}', '{"v":1,"cursor":"--vacuum-size=1"}'])
def test_cursor_of_something_else_is_refused(state: str) -> None:
    """A stored position that is not a journal cursor is not passed to journalctl."""
    with pytest.raises(DataError, match="stored position of journal:mail"):
        JournalSource(Cursor("journal:mail", state))
