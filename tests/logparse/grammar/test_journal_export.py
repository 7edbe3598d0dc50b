"""What the real journalctl prints, in every output form that has all there is to know, makes the same events."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.journal_export import as_lines
from postwake_logparse.ndjson import parse_log

NOW_US = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
REMOTE = next(
    (path for folder in ("/lib", "/usr/lib") if (path := Path(folder, "systemd/systemd-journal-remote")).exists()), None
)
BODIES = (
    ("postfix/qmgr", b"4XyZ7b1: from=<news@example.com>, size=400, nrcpt=2 (queue active)"),
    ("kernel", b"two\nlines"),
    (
        "postfix/smtp",
        b"4XyZ7b1: to=<a@b.test>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced "
        b"(host mx[192.0.2.1] said: 550 5.1.1 gr\xc3\xbc\xc3\x9fe (in reply to RCPT TO command))",
    ),
    ("postfix/lmtp", b"4XyZ7b1: to=<c@d.test>, relay=x[private/lmtp], delay=1, dsn=2.0.0, status=sent (250 ok)"),
    ("postfix/qmgr", b"4XyZ7b1: removed"),
)


def exported(*, last_empty_line: bool = True) -> bytes:
    """The entries in the journal export format, messages with a newline in their binary form."""
    entries = []
    for number, (identifier, message) in enumerate(BODIES):
        fields = (
            f"__REALTIME_TIMESTAMP={1795325400250000 + number}\n__MONOTONIC_TIMESTAMP={number}\n"
            f"_BOOT_ID=5a1d8b1c2e3f4a5b8c7d6e5f4a3b2c1d\n_HOSTNAME=mail\nSYSLOG_FACILITY=2\n"
            f"SYSLOG_IDENTIFIER={identifier}\nSYSLOG_PID={number + 1}\n"
        ).encode()
        long = b"\n" in message
        fields += b"MESSAGE\n" + len(message).to_bytes(8, "little") + message if long else b"MESSAGE=" + message
        entries.append(fields + b"\n")
    return b"\n".join(entries) + (b"\n" if last_empty_line else b"")


def events_of(data: bytes, portion_bytes: int = 1 << 20) -> list[dict[str, object]]:
    """The events of a log that comes in portions, its statistics last."""
    portions = [data[at : at + portion_bytes] for at in range(0, len(data), portion_bytes)]
    return list(parse_log([("-", portions)], mta="auto", year=2026, timezone="UTC", now_us=NOW_US, stats=True))


def test_an_export_is_read_with_its_microseconds() -> None:
    """Entries of the export form become the events that they tell; what is not the MTA's is counted as such."""
    *events, stats = events_of(exported())
    assert [(event["type"], event["recipient"], event["at"], event["host"]) for event in events] == [
        ("accepted", None, "2026-11-22T05:30:00.250000Z", "mail"),
        ("bounced", "a@b.test", "2026-11-22T05:30:00.250002Z", "mail"),
        ("sent", "c@d.test", "2026-11-22T05:30:00.250003Z", "mail"),
    ]
    assert events[1]["reply"] == "host mx[192.0.2.1] said: 550 5.1.1 grüße (in reply to RCPT TO command)"
    assert (stats["lines"], stats["unparsed"], stats["shapes"]) == (5, 0, {"other program": 1})


@pytest.mark.parametrize("portion_bytes", [1, 7, 64, 333])
def test_how_an_export_is_cut_does_not_matter(portion_bytes: int) -> None:
    """The same events however the bytes come, and whether or not the last entry has its empty line."""
    whole = events_of(exported())
    assert events_of(exported(), portion_bytes) == whole
    assert events_of(exported(last_empty_line=False), portion_bytes) == whole


@pytest.mark.skipif(
    REMOTE is None or shutil.which("journalctl") is None,
    reason="needs journalctl and systemd-journal-remote (which writes a journal from an export)",
)
@pytest.mark.parametrize(
    ("form", "exact"),
    [
        ("export", True), ("json", True), ("json-seq", True), ("json-sse", True), ("short-unix", True),
        ("short-iso-precise", True), ("short-precise", True), ("short", False), ("short-iso", False),
        ("short-full", False),
    ],
)  # fmt: skip
def test_every_output_form_of_journalctl_makes_the_same_events(tmp_path: Path, form: str, exact: bool) -> None:
    """Forms with fractions of a second give the same times, the others the same seconds; all else is equal."""
    (tmp_path / "export").write_bytes(exported())
    journal = tmp_path / "system@1.journal"
    subprocess.run([str(REMOTE), f"--output={journal}", str(tmp_path / "export")], check=True, capture_output=True)
    command = ["journalctl", f"--file={journal}", f"--output={form}", "--all", "--quiet", "--no-pager", "--utc"]
    printed = subprocess.run(command, check=True, capture_output=True).stdout
    *expected, _ = events_of(exported())
    *events, stats = events_of(printed)
    if not exact:
        expected = [{**event, "at": "2026-11-22T05:30:00Z"} for event in expected]
    assert events == expected
    assert stats["unparsed"] <= ("short" in form)  # the kernel's second line has no prefix there


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_what_is_no_export_passes_unchanged(portions: list[bytes]) -> None:
    """Any other log, and any noise, goes through byte by byte."""
    data = b"".join(portions)
    if not data.lstrip().startswith((b"{", b"\x1e{", b"data: {", b"__")):
        assert b"".join(as_lines(portions)) == data


@given(st.sampled_from([b'{"', b'\x1e{"', b"__CURSOR=x\n", b"__REALTIME_TIMESTAMP=12\nMESSAGE\n"]), st.binary())
def test_damaged_exports_never_break_it(start: bytes, rest: bytes) -> None:
    """A damaged export makes lines or nothing, never an exception."""
    assert all(isinstance(block, bytes) for block in as_lines([start + rest]))
