"""A store that is locked or whose disk is full: the log waits, nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.store.connection import open_writer

Make = Callable[..., Any]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a megabyte."""
    if os.geteuid():
        pytest.skip("needs root to mount a file system")
    path = Path(tempfile.mkdtemp(prefix="postwake-test-"))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        path.rmdir()
        pytest.skip("cannot mount a file system here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
    shutil.rmtree(path, ignore_errors=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def follow(follower: Any) -> None:
    """Take in all there is."""
    while follower.step(0):
        pass


def test_a_lock_held_for_long(
    make_log: Make, busy_log: tuple[str, ...], contents: Callable[[Path], Any], miscounted: Callable[[Path], Any]
) -> None:
    """While another connection keeps the store locked every try fails; when it lets go all is there, once."""
    whole, log = make_log(), make_log()
    for part in busy_log:
        whole.write(part)
    followers = whole.follower(), log.follower(busy_timeout_ms=1)
    follow(followers[0])
    log.write(busy_log[0])
    follow(followers[1])
    with contextlib.closing(open_writer(log.store)) as other:
        other.execute("BEGIN IMMEDIATE")
        for part in busy_log[1:]:
            log.write(part)
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="locked"):
                    followers[1].step(0)
        other.execute("ROLLBACK")
    follow(followers[1])
    for follower in followers:
        follower.close()
    assert contents(log.store) == contents(whole.store)
    assert miscounted(log.store) == {}


def test_a_full_disk(
    make_log: Make,
    busy_log: tuple[str, ...],
    small_disk: Path,
    contents: Callable[[Path], Any],
    miscounted: Callable[[Path], Any],
) -> None:
    """With no space left every try fails, as often as it is tried; with space again all is there, once."""
    whole, log = make_log(), make_log(small_disk / "postwake.db")
    for part in busy_log:
        whole.write(part)
    followers = whole.follower(), log.follower()
    follow(followers[0])
    log.write(busy_log[0])
    follow(followers[1])
    filler = small_disk / "filler"
    fill(filler)
    for part in busy_log[1:]:
        log.write(part)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                followers[1].step(0)
    filler.unlink()
    follow(followers[1])
    for follower in followers:
        follower.close()
    assert contents(log.store) == contents(whole.store)
    assert miscounted(log.store) == {}
