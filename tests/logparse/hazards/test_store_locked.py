"""Somebody else's transaction keeps the store for a minute."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError


def test_store_locked_for_a_minute(world: Any) -> None:
    """The log waits: each try is refused, one block is held in memory and no more, and then everything arrives."""
    world.write(10)
    world.run()
    with closing(sqlite3.connect(world.store, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        world.write(5000)
        for _ in range(60):
            world.now_s += 1.0
            with pytest.raises(StoreUnavailableError, match="locked"):
                world.follower.step(0)
            world.write(1)
        assert world.ingester.stats.failures == 60
        assert world.follower.lag_bytes() > 5000 * 100
        assert len(world.stored()) == 10
        shell.execute("ROLLBACK")
    world.run()
    assert world.stored() == dict.fromkeys(range(5070), 1)
