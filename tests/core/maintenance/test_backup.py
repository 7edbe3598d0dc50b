"""Backups taken under load, on full disks, of damaged stores; integrity and checkpoint."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import CannotCreateError, DataError, UsageError
from postwake.events import Accepted
from postwake.store.connection import migrate_file, open_reader
from postwake.store.maintenance import backup, check_integrity, check_references, checkpoint

# Commits messages one by one as fast as it can, and says each number once it is committed.
_WRITER = """
import sys, time
from pathlib import Path
from postwake.events import Accepted, Direction
from postwake.store.apply import apply_event
from postwake.store.writer import Writer, wait
from postwake.tracking_id import make_tracking_id
writer, n = Writer(Path(sys.argv[1])), 0
while True:
    n += 1
    at_us = time.time_ns() // 1000
    event = Accepted(at_us,
                     make_tracking_id(at_us, n.to_bytes(10, "big")), Direction.OUTBOUND, f"Q{n}", "mail", f"{n}@x",
                     "a@example.com", "example.com", (f"r{n}@example.net",), subject="x" * 500)
    wait(writer.submit(lambda transaction: apply_event(transaction, event)), 20)
    print(n, flush=True)
"""


@pytest.fixture
def writing(store: Path) -> Iterator[Callable[[int], int]]:
    """Another process that commits messages; the call waits for so many, and returns how many there are."""
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout

    def wait_for(wanted: int) -> int:
        n = 0
        while n < wanted:
            n = int(output.readline())
        return n

    yield wait_for
    process.kill()
    process.communicate()


def test_under_load(store: Path, tmp_path: Path, writing: Callable[[int], int]) -> None:
    """Whatever was committed before it began is in it, nothing is half there, and one file for us alone."""
    target = tmp_path / "copy.db"
    committed = 0
    for turn in range(1, 6):
        committed = writing(committed + 50 * turn)
        made = backup(store, target)
        assert check_integrity(target) == []
        assert check_references(target) == []
        with closing(open_reader(target)) as connection:
            found = {row[0] for row in connection.execute("SELECT queue_id FROM message")}
            assert connection.execute("SELECT count(*) FROM delivery").fetchone()[0] == len(found)
            counted = (
                "SELECT n FROM rollup WHERE basis = 'event' AND span = 'all' AND dimension = 'all'"
                " AND measure = 'accepted'"
            )
            assert connection.execute(counted).fetchone()[0] == len(found)
        assert {f"Q{n}" for n in range(1, committed + 1)} <= found
        assert made.size_bytes == target.stat().st_size
        assert target.stat().st_mode & 0o777 == 0o600
        for leftover in target.parent.glob("copy.db-*"):  # the reader's: it opens as WAL again only when written
            leftover.unlink()
    assert sorted(path.name for path in tmp_path.glob("*.part*")) == []


def test_a_backup_restores(
    store: Path, tmp_path: Path, accepted: Callable[..., Accepted], apply: Callable[..., None]
) -> None:
    """Copied into place it is a store that is read and written as before."""
    apply(accepted(1))
    backup(store, tmp_path / "copy.db")
    restored = tmp_path / "restored" / "postwake.db"
    restored.parent.mkdir()
    shutil.copy(tmp_path / "copy.db", restored)
    assert migrate_file(restored) == []
    with closing(open_reader(restored)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("SELECT subject FROM message").fetchone()[0] == "Subject 1"


def test_no_room_keeps_the_old_backup(
    store: Path, make_disk: Callable[[str], Path], apply: Callable[..., None], accepted: Callable[..., Any]
) -> None:
    """A disk that cannot take it is said before it is filled; the backup there stays, and no half file."""
    disk = make_disk("1m")
    backup(store, disk / "copy.db")
    old = (disk / "copy.db").read_bytes()
    apply(accepted(1, subject="x" * 2_000_000))
    with pytest.raises(CannotCreateError, match="bytes free on its disk: expected"):
        backup(store, disk / "copy.db")
    assert [path.name for path in disk.iterdir()] == ["copy.db"]
    assert (disk / "copy.db").read_bytes() == old


def test_a_directory_that_is_not_there(store: Path, tmp_path: Path) -> None:
    """The target's directory is not made: it may be a disk that is not mounted."""
    with pytest.raises(CannotCreateError, match=r"nowhere/copy\.db: cannot write the backup: No such file"):
        backup(store, tmp_path / "nowhere" / "copy.db")


@pytest.mark.parametrize("name", ["postwake.db", "postwake.db-wal", "link.db"])
def test_the_store_itself_is_no_place_for_its_backup(store: Path, tmp_path: Path, name: str) -> None:
    """A copy renamed over what the services write to would lose what they write, and keep them out by its mode."""
    (tmp_path / "link.db").symlink_to(store)
    before = store.stat()
    with pytest.raises(UsageError, match=rf"{name}: a file of the store itself: expected another one"):
        backup(store, tmp_path / name)
    after = store.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_what_is_no_file_stays_what_it_is(store: Path, tmp_path: Path) -> None:
    """A device or a pipe is not replaced by a file of that name."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: not a regular file: expected one, or a new name"):
        backup(store, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def damage(store: Path) -> None:
    """Overwrite the middle of the file's table pages."""
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event_type'").fetchone()[0]
    with store.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def test_a_damaged_store_is_not_backed_up(store: Path, tmp_path: Path) -> None:
    """A copy that does not pass the check replaces nothing."""
    backup(store, tmp_path / "copy.db")
    old = (tmp_path / "copy.db").read_bytes()
    damage(store)
    with pytest.raises(DataError, match="its copy is damaged, nothing was replaced"):
        backup(store, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == old


def test_integrity(store: Path) -> None:
    """A whole file has nothing wrong, a damaged one says what, and one that is no SQLite file says so."""
    assert check_integrity(store) == []
    damage(store)
    assert check_integrity(store, quick=True) != []
    store.write_bytes(b"no database at all, but long enough to have a header of its own" * 100)
    assert check_integrity(store) == ["file is not a database"]


def test_references(store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted]) -> None:
    """A row whose message is gone is found and counted."""
    apply(accepted(1))
    assert check_references(store) == []
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM message")
    assert check_references(store) == [
        "1 rows of delivery: message names a row of message that is not there",
        "1 rows of event: message names a row of message that is not there",
    ]


def test_checkpoint(store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted]) -> None:
    """The write-ahead log is cut to nothing; while somebody reads an older moment it says that it is not complete."""
    apply(accepted(1))
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        apply(accepted(2))
        assert not checkpoint(store).complete
        reader.execute("COMMIT")
    assert checkpoint(store) == type(checkpoint(store))(complete=True, wal_bytes=0)
