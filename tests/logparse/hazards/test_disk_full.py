"""The disk with the store is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True).returncode
    ):
        pytest.skip("a small tmpfs can only be mounted by root outside of a sandbox")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_log_waits_on_its_disk_while_the_stores_is_full(
    make_world: Callable[..., Any], tmp_path: Path, small_disk: Path
) -> None:
    """Nothing is lost and nothing doubled by a full disk, whether the process lives through it or is restarted."""
    world = make_world(tmp_path, store=small_disk / "postwake.db")
    world.write(200)
    world.run()
    ballast = small_disk / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    world.write(2000)
    for attempt in range(3):
        with pytest.raises(StoreUnavailableError, match=r"full|disk I/O"):
            world.run()
        if attempt == 1:
            world.restart()
    assert set(world.stored().values()) == {1}
    ballast.unlink()
    world.run()
    assert world.stored() == dict.fromkeys(range(2200), 1)
