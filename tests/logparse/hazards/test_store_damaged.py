"""The store's file is found damaged under the running log parser."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.store.connection import open_writer


def test_log_waits_until_a_whole_store_is_there_again(make_world: Callable[..., Any], tmp_path: Path) -> None:
    """It is unavailable, whichever process meets it; with the backup put back all lines are there, once."""
    world = make_world(tmp_path)
    world.write(200)
    world.run()
    with closing(open_writer(world.store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = world.store.read_bytes()
    with world.store.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (len(backup) - 4096))
    world.write(300)
    for attempt in range(3):
        with pytest.raises(StoreUnavailableError, match=r"malformed|not a database"):
            world.run()
        if attempt == 1:
            world.restart()
    for name in ("postwake.db-wal", "postwake.db-shm"):
        world.store.with_name(name).unlink(missing_ok=True)
    world.store.unlink()
    world.store.write_bytes(backup)
    world.run()
    assert world.stored() == dict.fromkeys(range(500), 1)
