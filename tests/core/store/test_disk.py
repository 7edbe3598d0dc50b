"""A disk that is full or read-only, for real: a small tmpfs as root, else a limit on the size of files."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.events import Accepted, decode
from postwake.store.apply import apply_event
from postwake.store.connection import migrate_file, open_reader
from postwake.store.spool import Spool
from postwake.store.writer import Writer, wait
from postwake_lab.disks import fill, mount


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A file system of one megabyte."""
    return make_disk("1m")


def test_store_on_a_full_disk(small_disk: Path, accepted: Callable[..., Accepted]) -> None:
    """With a full disk the store is unavailable and whole; with room again writing goes on."""
    path = small_disk / "postwake.db"
    migrate_file(path)
    writer = Writer(path)
    wait(writer.submit(lambda transaction: apply_event(transaction, accepted(1))), 20)
    ballast = fill(small_disk)
    big = accepted(2, subject="x" * 200_000)
    with pytest.raises(StoreUnavailableError, match="full"):
        wait(writer.submit(lambda transaction: apply_event(transaction, big)), 20)
    ballast.unlink()
    wait(writer.submit(lambda transaction: apply_event(transaction, accepted(3))), 20)
    writer.close()
    with contextlib.closing(open_reader(path)) as connection:
        assert [row[0] for row in connection.execute("SELECT subject FROM message")] == ["Subject 1", "Subject 3"]
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_spool_on_a_full_disk(small_disk: Path, accepted: Callable[..., Accepted]) -> None:
    """An event that does not fit is refused and leaves no half line; those before and after it are whole."""
    spool = Spool(small_disk / "spool", "test")
    spool.append([accepted(1)])
    ballast = fill(small_disk)
    with pytest.raises(StoreUnavailableError, match="cannot write the spool: No space left on device"):
        spool.append([accepted(2, subject="x" * 100_000)])
    ballast.unlink()
    spool.append([accepted(3)])
    (file,) = (small_disk / "spool").glob("*.spool")
    assert [decode(line) for line in file.read_text().splitlines()] == [accepted(1), accepted(3)]
    assert spool.appended == 2
    spool.close()


def test_spool_with_a_limit_on_files(tmp_path: Path) -> None:
    """The same where the limit is the process's: the half line is cut off."""
    script = """
import resource, signal, sys
from pathlib import Path
from postwake.errors import StoreUnavailableError
from postwake.events import Requeued
from postwake.store.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
spool = Spool(Path(sys.argv[1]), "test")
n = 0
while True:
    try:
        spool.append([Requeued(n, bytes(16), "4F2A81B3C5")])
    except StoreUnavailableError as error:
        print(n, error)
        break
    n += 1
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    count, said = done.stdout.split(" ", 1)
    assert "File too large" in said
    (file,) = tmp_path.glob("*.spool")
    assert [decode(line).at_us for line in file.read_text().splitlines()] == list(range(int(count)))
    assert file.read_bytes().endswith(b"\n")


def test_a_read_only_directory(make_disk: Callable[[str], Path], accepted: Callable[..., Any]) -> None:
    """On a file system that has become read-only the store and the spool say so."""
    disk = make_disk("4m")
    path = disk / "postwake.db"
    migrate_file(path)
    assert mount("-o", "remount,ro", str(disk))
    writer = Writer(path)
    with pytest.raises(StoreUnavailableError, match=r"readonly|unable to open"):
        wait(writer.submit(lambda transaction: apply_event(transaction, accepted())), 20)
    with pytest.raises(StoreUnavailableError, match="Read-only file system"):
        Spool(disk / "spool", "test").append([accepted()])
    assert mount("-o", "remount,rw", str(disk))
    wait(writer.submit(lambda transaction: apply_event(transaction, accepted())), 20)
    writer.close()
