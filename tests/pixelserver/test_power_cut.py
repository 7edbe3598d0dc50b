"""Killed at the worst moments, and the power cut: whatever was answered is there afterwards, once.

``disk_shim.c``, preloaded into the server, kills it right before or after a chosen fsync, or keeps a mirror of what the
disk has for certain.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from postwake.events import EventType, Hit
from postwake.store.connection import WriteLock, open_writer
from postwake.store.recorder import Recorder
from postwake.store.spool import Spool
from postwake.store.transaction import Transactions
from postwake.tokens import Purpose, Token
from postwake.tracking_id import make_tracking_id

URL = "https://example.com/"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    path = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    source = Path(__file__).with_name("disk_shim.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, source, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return path


def links(server) -> list[int]:
    """Return the link numbers of the stored clicks, in order."""
    return [link for (link,) in server.rows("SELECT link FROM event WHERE type = ? ORDER BY link", EventType.CLICKED)]


def click(server, tracking_id: bytes, link: int) -> bool:
    """Return whether the click *link* was answered."""
    token = server.keys.sign(Purpose.CLICK, Token(tracking_id, 1, link, URL))
    try:
        return server.get(f"/c/{token}").status == 307
    except (OSError, http.client.HTTPException):
        return False


def is_owned(path: Path) -> bool:
    """Return whether a process that lives (or is still dying) holds the spool file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def come_back(server, await_true) -> None:
    """Do what the next worker does first: open the store, replay every spool file whose owner is gone."""
    await_true(lambda: not any(map(is_owned, server.spooled())), "a killed process lives on")
    recorder = Recorder(server.store, server.spool, "pixelserver", synchronous="FULL")
    server.await_replay()
    recorder.close()


MOMENTS = {
    "in the spool, not yet answered": (".spool:after:1", True),
    "about to be safe in the spool": (".spool:before:1", True),
    "committed, not yet answered": ("-wal:after:4", False),
    "about to be committed": ("-wal:before:4", False),
}


@pytest.mark.parametrize(("plan", "lock"), MOMENTS.values(), ids=MOMENTS)
def test_killed_around_an_answer(make_server, await_true, shim: Path, plan: str, lock: bool) -> None:
    """All processes get kill -9 at that fsync: every answered hit is stored, the unanswered one at most once."""
    server = make_server(start=False, pixelserver={"store_timeout_ms": 200}, store={"busy_timeout_ms": 100})
    server.environment = {"LD_PRELOAD": str(shim), "SHIM_KILL": plan}
    server.start()
    tracking_id = os.urandom(16)
    blocker = server.lock_store() if lock else None
    answered = []
    for link in range(50):
        if not click(server, tracking_id, link):
            break
        answered.append(link)
    assert server.process.wait(10) == -signal.SIGKILL
    if blocker is not None:
        blocker.close()
    come_back(server, await_true)
    stored = links(server)
    assert len(stored) == len(set(stored))
    assert set(answered) <= set(stored) <= {*answered, len(answered)}
    if lock:  # it had been written, and the power was not cut
        assert stored == [*answered, len(answered)]


@pytest.mark.parametrize("plan", ["-wal:before:1", "-wal:after:2", "-wal:after:3"])
def test_killed_during_replay(make_server, await_true, shim: Path, plan: str) -> None:
    """A replay that is killed around one of its three commits is begun again and records every event once."""
    server = make_server(start=False)
    spool = Spool(server.spool, "pixelserver")
    now_us = time.time_ns() // 1000
    tracking_id = make_tracking_id(now_us, os.urandom(10))
    spool.append(
        [
            Hit(make_tracking_id(now_us + n, os.urandom(10)), now_us + n, EventType.CLICKED, tracking_id, 1, n, URL)
            for n in range(500)
        ]
    )
    spool.close()
    server.environment = {"LD_PRELOAD": str(shim), "SHIM_KILL": plan}
    server.await_ready = lambda: server.process.wait(30)
    server.start()
    assert server.process.returncode == -signal.SIGKILL
    assert server.spooled()
    come_back(server, await_true)
    assert links(server) == list(range(500))
    assert server.rows("SELECT clicks_unknown FROM engagement") == [(500,)]
    counted = "SELECT n FROM rollup WHERE basis = 'event' AND span = 'all' AND measure LIKE 'clicked%'"
    assert server.rows(counted) == [(500,)]


def recover(server, mirror: Path, written: Path, what_is_left: str) -> None:
    """Make the server's files what a power cut left of them.

    What was fsynced is in *mirror* and there in any case, under its name only if the directory was fsynced afterwards.
    Of what was only *written*, *what_is_left* names the file that had the luck to reach the disk: none, the store
    itself (a checkpoint that was going on), or its log.
    """
    store = server.store
    lucky = {"nothing": (), "the store": (store.name,), "the log": (f"{store.name}-wal",)}[what_is_left]
    for name in (store.name, f"{store.name}-wal", *(path.name for path in (written / "spool").glob("*.spool"))):
        path = (store.parent if name.startswith(store.name) else server.spool) / name
        if name in lucky:
            shutil.copyfile(written / name, path)
            continue
        if (mirror / name).exists() and ((mirror / f"{name}@").exists() or name == store.name):
            shutil.copyfile(mirror / name, path)
        elif name != store.name:
            path.unlink(missing_ok=True)
    store.with_name(f"{store.name}-shm").unlink(missing_ok=True)


def test_power_cut(make_server, await_true, shim: Path, tmp_path: Path) -> None:
    """Hits are answered, stored or (the store is locked) spooled; then everything that was not fsynced is lost."""
    server = make_server(start=False, pixelserver={"store_timeout_ms": 300}, store={"busy_timeout_ms": 100})
    transactions = Transactions(open_writer(server.store), WriteLock(server.store))
    with transactions.begin() as transaction:  # a store that has lived, and was closed in peace
        transaction.execute("INSERT INTO meta (key, value) VALUES ('lived', '1')")
    transactions.checkpoint("TRUNCATE")
    transactions.close()
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copyfile(server.store, mirror / server.store.name)
    server.environment = {"LD_PRELOAD": str(shim), "SHIM_MIRROR": str(mirror)}
    server.start()
    tracking_id = os.urandom(16)
    answered: list[int] = []
    unlocked, locked = iter(range(400)), iter(range(1000, 1040))

    def load(numbers) -> None:
        answered.extend(link for link in numbers if click(server, tracking_id, link))

    def from_all_sides(numbers) -> None:
        threads = [threading.Thread(target=load, args=(numbers,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    from_all_sides(unlocked)
    blocker = server.lock_store()
    from_all_sides(locked)
    assert server.spooled()
    server.stop(signal.SIGKILL)
    written = tmp_path / "written"
    shutil.copytree(server.store.parent, written)
    blocker.close()  # which is the last to let go of the store, and tidies it up
    assert len(answered) == 440
    for what_is_left in ("nothing", "the store", "the log"):
        recover(server, mirror, written, what_is_left)
        come_back(server, await_true)
        assert links(server) == sorted(answered), what_is_left
        assert server.rows("PRAGMA integrity_check") == [("ok",)]


def test_lines_that_cannot_be_replayed_survive_a_power_cut(shim: Path, tmp_path: Path) -> None:
    """When the spool file goes, its bad lines are on the disk, and so is the name of the file that keeps them."""
    spool_dir, mirror = tmp_path / "spool", tmp_path / "mirror"
    spool_dir.mkdir()
    mirror.mkdir()
    (spool_dir / "old-1-1.spool").write_text("no event\n")
    imports = "from pathlib import Path; from postwake.store.spool import Spool"
    replay = f"{imports}; Spool(Path({str(spool_dir)!r}), 'x').replay(print)"
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SHIM_MIRROR": str(mirror)}
    subprocess.run([sys.executable, "-c", replay], env=environment, check=True)
    assert [path.name for path in spool_dir.iterdir()] == ["old-1-1.bad"]
    assert (mirror / "old-1-1.bad").read_text() == "no event\n"
    assert (mirror / "old-1-1.bad@").exists()
