"""The disk with the store is full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake_lab.disks import fill


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A file system of two megabytes."""
    return make_disk("2m")


def test_log_waits_on_its_disk_while_the_stores_is_full(
    make_world: Callable[..., Any], tmp_path: Path, small_disk: Path
) -> None:
    """Nothing is lost and nothing doubled by a full disk, whether the process lives through it or is restarted."""
    world = make_world(tmp_path, store=small_disk / "postwake.db")
    world.write(200)
    world.run()
    ballast = fill(small_disk)
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
