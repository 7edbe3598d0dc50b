"""Backfill into a real store: what was read of a file, by whomever, is not read again."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import PostwakeError
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.transaction import Transactions
from postwake_logparse.backfill import order_files


def once(*numbers: int) -> dict[int, int]:
    """Return what a store says that has each of the mails once."""
    return dict.fromkeys(numbers, 1)


def test_files_are_read_oldest_first_whatever_their_order_and_packing(past: Any) -> None:
    """The order is that of the first lines; a mail whose lines stand in two files is one mail."""
    newest = past.write("c.log", 3, day="Nov 21")
    oldest = past.write("a.log.gz", 1, day="Nov 19")
    middle = past.write("b.log", 2, day="Nov 20")
    assert [file.path for file in order_files([newest, oldest, middle], year=2026, timezone="UTC")] == [
        oldest,
        middle,
        newest,
    ]
    summary = past.backfill(newest, oldest, middle)
    assert (summary.files, summary.lines, summary.unparsed, summary.errors) == (3, 15, 0, ())
    assert past.stored() == once(1, 2, 3)


def test_again_changes_nothing_also_under_another_name_and_compressed(past: Any) -> None:
    """A file is known by its content; one that has grown gives only what is new."""
    first = past.write("mail.log.1", 1, 2)
    past.backfill(first)
    with closing(sqlite3.connect(past.store)) as connection:
        before = list(connection.iterdump())
    first.rename(past.directory / "old")
    summary = past.backfill(past.directory / "old", past.write("again.gz", 1, 2))
    assert (summary.files_skipped, summary.lines) == (0, 0)
    with closing(sqlite3.connect(past.store)) as connection:
        assert list(connection.iterdump()) == before
    past.write("old", 3)
    assert past.backfill(past.directory / "old").lines == 5
    assert past.stored() == once(1, 2, 3)


def test_sqlite_copies_no_pages_to_take_single_statements_back(past: Any) -> None:
    """A transaction that fails goes as a whole: no statement journal in a temporary file beside it."""
    numbers = random.Random(1).sample(range(1 << 30), 3000)
    temporary = set()

    def look(_statement: str) -> None:
        for descriptor in Path("/proc/self/fd").iterdir():
            name = str(descriptor.readlink()) if descriptor.is_symlink() else ""
            if "etilqs_" in name:  # SQLite's own, as they are called in its sources
                temporary.add(name)

    past.backfill(past.write("mail.log", *numbers), on_statement=look)
    assert past.stored() == once(*numbers)
    assert not temporary


def test_interrupted_it_goes_on_where_it_was(past: Any) -> None:
    """Whatever was committed is not read again, and what was not is read."""
    path = past.write("mail.log.1", *range(10_000))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        past.backfill(path, on_progress=interrupt)
    some = past.stored()
    assert 0 < len(some) < 10_000
    assert set(some.values()) == {1}
    past.backfill(path)
    assert past.stored() == once(*range(10_000))


def test_a_file_and_its_copy_in_one_run(past: Any) -> None:
    """Where the second of two copies is read from depends on what was read of the first, however far ahead it is."""
    first = past.write("mail.log", *range(2000))
    copy = past.directory / "copy.log"
    copy.write_bytes(first.read_bytes() + past.write("more.log", *range(2000, 2100)).read_bytes())
    past.backfill(first, copy, past.write("other.log.gz", *range(3000, 3100), day="Nov 22"))
    assert past.stored() == once(*range(2100), *range(3000, 3100))


def test_following_goes_on_where_the_backfill_ended(past: Any) -> None:
    """The live log was backfilled, then it is followed: each line once."""
    past.write("mail.log", 1, 2)
    past.backfill(past.path)
    past.write("mail.log", 3)
    past.follow().close()
    assert past.stored() == once(1, 2, 3)
    assert past.backfill(past.path).lines == 0
    assert past.stored() == once(1, 2, 3)


def test_backfill_of_a_log_that_is_followed_from_its_end_reads_what_was_before(past: Any) -> None:
    """Whoever starts at the end can have the beginning later, and no line twice."""
    past.write("mail.log", 1, 2)
    follower = past.follow("end")
    past.write("mail.log", 3)
    while follower.step(0):
        pass
    assert past.stored() == once(3)
    assert past.backfill(past.path).lines == 10
    assert past.stored() == once(1, 2, 3)
    past.write("mail.log", 4)
    while follower.step(0):
        pass
    follower.close()
    assert past.backfill(past.path).lines == 0
    assert past.stored() == once(1, 2, 3, 4)


def test_backfill_leaves_what_was_followed_and_rotated_long_ago(past: Any) -> None:
    """Files that the follower has finished are remembered for ever, not only the last few."""
    follower = past.follow()
    for number in range(12):
        past.write("mail.log", number)
        while follower.step(0):
            pass
        follower.close()
        past.path.rename(past.directory / f"kept{number}")
        follower = past.follow()
    past.write("mail.log", 12)
    past.follow().close()
    summary = past.backfill(*sorted(past.directory.glob("kept*")))
    assert (summary.lines, summary.files_skipped) == (0, 12)
    assert past.stored() == once(*range(13))


def test_rotated_files_that_were_backfilled_while_the_follower_was_down(past: Any) -> None:
    """Coming back, the follower takes from them only what the backfill has not read."""
    past.write("mail.log", 1)
    past.follow().close()
    past.write("mail.log", 2)
    past.path.rename(past.directory / "mail.log.2")
    past.write("mail.log.1", 3, 4)
    past.write("mail.log", 5)
    past.backfill(past.directory / "mail.log.1")
    past.write("mail.log.1", 6)
    past.follow().close()
    past.follow().close()
    assert past.stored() == once(1, 2, 3, 4, 5, 6)


def test_year_counts_from_each_files_first_line(past: Any) -> None:
    """Logs older than a year say so with the year of their first line; New Year within is followed."""
    path = past.write("old", 1, day="Dec 31")
    past.write("old", 2, day="Jan  1")
    past.backfill(path, year=2019)
    with closing(open_reader(past.store)) as connection:
        days = [row[0][:10] for row in connection.execute("SELECT at FROM deliveries ORDER BY at")]
    assert days == ["2019-12-31", "2020-01-01"]


def test_live_writer_waits_little(past: Any) -> None:
    """While a backfill runs, another service's transaction waits for the block in hand, not for the batch."""
    path = past.write("mail.log.1", *range(40_000))
    waits: list[float] = []
    done = threading.Event()

    def live() -> None:
        connection = open_writer(past.store)
        transactions = Transactions(connection, WriteLock(past.store))
        while not done.wait(0.02):
            started = time.perf_counter()
            with transactions.begin() as transaction:
                transaction.execute("INSERT INTO meta VALUES ('live', '1') ON CONFLICT DO UPDATE SET value = value")
            waits.append(time.perf_counter() - started)
        transactions.close()

    writer = threading.Thread(target=live)
    writer.start()
    begun = time.perf_counter()
    try:
        past.backfill(path)
    finally:
        took = time.perf_counter() - begun
        done.set()
        writer.join()
    assert past.stored() == once(*range(40_000))
    assert waits
    # Some 50 ms on an idle machine (bench/logparse.py measures it); in one batch it would be the whole time.
    assert sorted(waits)[len(waits) // 2] < took / 3


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        pytest.param(lambda path: None, 66, "cannot be read: No such file", id="missing"),
        pytest.param(lambda path: path.mkdir(), 66, "is a directory: expected a log file", id="directory"),
        pytest.param(lambda path: path.write_bytes(b"\x1f\x8b\x08rubbish"), 65, "log", id="not gzip"),
    ],
)
def test_file_that_is_no_log(past: Any, tmp_path: Path, make: Callable[[Path], Any], status: int, said: str) -> None:
    """What cannot be read is said with its name and the fitting exit status, before anything is read."""
    path = tmp_path / "log"
    make(path)
    with pytest.raises(PostwakeError, match=said) as caught:
        order_files([path], year=None, timezone=None)
    assert caught.value.exit_status == status


def test_command(past: Any, tmp_path: Path) -> None:
    """`postwake logparse --backfill` reads the files and says how much; wrong uses are refused."""
    path = past.write("mail.log.1", 1, 2)
    configuration = tmp_path / "postwake.toml"
    configuration.write_text(f'[store]\npath = "{past.store}"\n[tracking]\nurl = "https://t.example.org"\n')
    command = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), "logparse"]
    done = subprocess.run(
        [*command, "--backfill", "--year", "2026", "--timezone", "UTC", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 files (0 with nothing new), 10 lines, 10 about mail, 0 not understood, ")
    assert done.stderr == ""
    assert past.stored() == once(1, 2)
    for arguments in (["--backfill"], [str(path)], ["--year", "2026"]):
        assert subprocess.run([*command, *arguments], capture_output=True).returncode == 64


def saved_journal(form: str, lines: list[bytes]) -> bytes:
    """Return *lines* of a log, written at 10:00:00.25 and later, as ``journalctl -o`` *form* prints its entries."""
    printed = []
    for number, line in enumerate(lines):
        _, _, tag_and_body = line.decode().rstrip("\n").partition(" mx ")
        tag, _, body = tag_and_body.partition("[7]: ")
        fields = {
            "__CURSOR": f"s=1;i={number:x}",
            "__REALTIME_TIMESTAMP": str(1_795_255_200_250_000 + number),
            "_HOSTNAME": "mx",
            "SYSLOG_IDENTIFIER": tag,
            "_PID": "7",
            "MESSAGE": body,
        }
        if form == "json":
            printed.append(json.dumps(fields) + "\n")
        else:
            printed.append("".join(f"{name}={value}\n" for name, value in fields.items()) + "\n")
    return "".join(printed).encode()


@pytest.mark.parametrize("form", ["json", "export"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_saved_journal_is_read_like_a_log(
    past: Any, make_mail: Callable[[int], bytes], form: str, packed: bool
) -> None:
    """What journalctl printed as JSON or in the export form: each mail once, what was added to it later, too."""
    lines = [line for number in (1, 2, 3) for line in make_mail(number).splitlines(keepends=True)]
    journal = saved_journal(form, lines)
    cut = len(saved_journal(form, lines[:7])) + 30
    path = past.directory / "journal"
    for some in (journal[:cut], journal):  # the first was copied while journalctl was writing
        path.write_bytes(gzip.compress(some) if packed else some)
        summary = past.backfill(path)
    assert (summary.unparsed, summary.lines) == (0, 8)
    assert past.stored() == once(1, 2, 3)
    with closing(open_reader(past.store)) as connection:
        assert connection.execute("SELECT min(at_us) FROM message").fetchone()[0] == 1_795_255_200_250_002
    assert past.backfill(path).lines == 0
