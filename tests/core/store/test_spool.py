"""The spool: what was acknowledged is in it, whole, until it is in the store."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.events import Requeued, encode
from postwake.store import spool as spool_module
from postwake.store.spool import BATCH, Spool

Make = Callable[..., Any]


def event(n: int) -> Requeued:
    """Return event number *n*."""
    return Requeued(n, bytes(16), f"Q{n}")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool in a directory that is not there yet."""
    return Spool(tmp_path / "a" / "spool", "test")


def replayed(spool: Spool) -> list[int]:
    """Replay everything; return the events' numbers."""
    found: list[int] = []
    spool.replay(lambda events: found.extend(one.at_us for one in events))
    return found


def test_in_and_out(spool: Spool, tmp_path: Path) -> None:
    """What is appended is replayed once, in order, in batches, and the files are gone."""
    spool.append([event(n) for n in range(BATCH * 2 + 1)])
    spool.append([event(1000)])
    assert spool.pending()
    assert spool.depth()[0] == 1
    sizes: list[int] = []
    assert spool.replay(lambda events: sizes.append(len(events))) == BATCH * 2 + 2
    assert sizes == [BATCH, BATCH, 2]
    assert (spool.appended, spool.replayed, spool.pending(), spool.depth()) == (402, 402, False, (0, 0))
    assert replayed(spool) == []


def test_modes(spool: Spool, tmp_path: Path) -> None:
    """Spool files are writable by the services' group: another service may replay them."""
    spool.append([event(1)])
    (file,) = (tmp_path / "a" / "spool").iterdir()
    assert file.stat().st_mode & 0o777 == 0o660
    assert file.name.startswith(f"test-{os.getpid()}-")


def test_a_store_that_goes_away_again(spool: Spool) -> None:
    """When the store fails in the middle of a replay nothing is lost: the file is replayed again from its start."""
    spool.append([event(n) for n in range(BATCH + 5)])
    taken: list[int] = []

    def apply(events: Any) -> None:
        if taken:
            raise StoreUnavailableError("locked")
        taken.extend(one.at_us for one in events)

    with pytest.raises(StoreUnavailableError):
        spool.replay(apply)
    assert len(taken) == BATCH
    assert replayed(spool) == list(range(BATCH + 5))


def test_a_living_owners_file_is_not_stolen(spool: Spool, tmp_path: Path) -> None:
    """A file that another process holds is left alone, and taken when that process is gone."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom postwake.events import Requeued\n"
        "from postwake.store.spool import Spool\nspool = Spool(Path(sys.argv[1]), 'other')\n"
        "spool.append([Requeued(7, bytes(16), 'Q')])\nprint('written', flush=True)\nsys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "a" / "spool"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    spool.append([event(1)])
    assert replayed(spool) == [1]
    assert spool.pending()
    child.kill()
    child.communicate()
    assert replayed(spool) == [7]


def test_a_file_that_was_taken_away_before_it_was_locked(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replays may find our new file empty and remove it before we hold its lock: we make another."""
    flock, taken = fcntl.flock, []

    def flock_late(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not taken:
            taken.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            taken[0].unlink()
        flock(descriptor, how)

    monkeypatch.setattr(spool_module.fcntl, "flock", flock_late)
    spool.append([event(1)])
    assert taken
    assert replayed(spool) == [1]


def test_appending_while_others_replay(tmp_path: Path) -> None:
    """With several spools of one directory appending and replaying at once, every event is replayed exactly once."""
    seen: list[int] = []
    stop = threading.Event()
    spools = [Spool(tmp_path, f"s{n}") for n in range(3)]

    def append(number: int) -> None:
        for n in range(60):
            spools[number].append([event(number * 1000 + n)])

    def replay() -> None:
        while not stop.is_set():
            for one in spools:
                one.replay(lambda events: seen.extend(item.at_us for item in events))

    replayer = threading.Thread(target=replay)
    replayer.start()
    writers = [threading.Thread(target=append, args=(number,)) for number in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    replayer.join()
    for one in spools:
        one.close()
    seen += replayed(spools[0])
    assert sorted(seen) == sorted(number * 1000 + n for number in range(3) for n in range(60))


def test_a_deleted_directory(spool: Spool, tmp_path: Path) -> None:
    """When the directory is removed under us the next event makes it anew, instead of going into a ghost."""
    spool.append([event(1)])
    for file in (tmp_path / "a" / "spool").iterdir():
        file.unlink()
    (tmp_path / "a" / "spool").rmdir()
    spool.append([event(2)])
    assert replayed(spool) == [2]


def test_bad_lines_are_kept(spool: Spool, tmp_path: Path) -> None:
    """Lines that are no events are counted and kept beside, half a last line is dropped, the rest is replayed."""
    directory = tmp_path / "a" / "spool"
    directory.mkdir(parents=True)
    good = encode(event(1)).encode()
    damaged = [b"", b"\xff\xfe", b"{}", good[:-5], b'{"kind":"hit"}']
    lines = [good, *damaged, encode(event(2)).encode()]
    (directory / "old-1-1.spool").write_bytes(b"\n".join(lines) + b"\n" + good[:20])
    assert replayed(spool) == [1, 2]
    assert (directory / "old-1-1.bad").read_bytes() == b"\n".join(damaged) + b"\n"
    assert (directory / "old-1-1.bad").stat().st_mode & 0o777 == 0o660
    assert spool.bad_lines == len(damaged)
    assert not spool.pending()


def test_events_that_are_refused(spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An event that cannot be applied goes into the .bad file, not the log; its batch's others are applied once."""
    spool.append([event(n) for n in range(20)])
    taken: list[int] = []

    def apply(events: Any) -> None:
        if any(one.at_us in (3, 17) for one in events):
            raise OverflowError("no such number")
        taken.extend(one.at_us for one in events)

    assert spool.replay(apply) == 18
    assert sorted(taken) == [n for n in range(20) if n not in (3, 17)]
    (bad,) = (tmp_path / "a" / "spool").iterdir()
    assert bad.read_text() == f"{encode(event(3))}\n{encode(event(17))}\n"
    assert "no such number kind=requeued" in caplog.text
    assert "Q17" not in caplog.text
    assert spool.bad_lines == 2


def test_a_file_that_cannot_be_finished(spool: Spool, tmp_path: Path) -> None:
    """A file whose bad lines cannot be kept stays, and does not hold up the others."""
    directory = tmp_path / "a" / "spool"
    directory.mkdir(parents=True)
    (directory / "a-1-1.spool").write_text("bad\n")
    (directory / "a-1-1.bad").mkdir()
    (directory / "b-1-1.spool").write_text(encode(event(5)) + "\n")
    assert replayed(spool) == [5]
    assert (directory / "a-1-1.spool").exists()


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    """A spool directory that cannot be made is StoreUnavailableError with its name; looking at it is harmless."""
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / "file" / "spool", "test")
    assert (spool.pending(), spool.depth(), replayed(spool)) == (False, (0, 0), [])
    with pytest.raises(StoreUnavailableError, match=r"file/spool: cannot write the spool: Not a directory"):
        spool.append([event(1)])


def test_half_a_line_that_cannot_be_cut_off(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither writing nor cutting off works the file is given up: what comes next is whole, in another."""
    spool.append([event(1)])
    write, fail = os.write, [True]

    def write_half(descriptor: int, data: Any) -> int:
        if fail:
            fail.pop()
            write(descriptor, bytes(data)[:10])
            raise OSError(5, "Input/output error")
        return write(descriptor, data)

    def no_truncate(*_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(spool_module.os, "write", write_half)
    monkeypatch.setattr(spool_module.os, "ftruncate", no_truncate)
    with pytest.raises(StoreUnavailableError, match="Input/output error"):
        spool.append([event(2)])
    spool.append([event(3)])
    monkeypatch.undo()
    assert replayed(spool) == [1, 3]
    assert spool.bad_lines == 0
