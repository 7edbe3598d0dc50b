"""A commit that succeeded although it was reported as failed, and a second reader of the same log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake_logparse.ingest import AnotherReaderError


def test_commit_that_succeeded_although_reported_as_failed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of which one cannot tell, the store is asked before the block is written again."""
    world.write(3)
    world.run()
    world.write(3)

    class Failing:
        """A connection whose COMMIT works and says that it did not."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, sql: str, *parameters: Any) -> Any:
            done = self._connection.execute(sql, *parameters)
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return done

    monkeypatch.setattr(world.ingester._transactions, "connection", Failing(world.ingester._transactions.connection))
    with pytest.raises(StoreUnavailableError, match="disk I/O"):
        world.run()
    assert len(world.stored()) == 6
    world.run()
    world.write(2)
    world.run()
    assert world.stored() == dict.fromkeys(range(8), 1)


def test_two_processes_follow_one_log(world: Any, make_world: Callable[..., Any]) -> None:
    """The second to commit finds the cursor moved and stops; no line is in the store twice."""
    other = make_world()
    world.write(3)
    world.run()
    other.follower.name = "file:elsewhere"  # it looked at the store before the first line was there
    with pytest.raises(AnotherReaderError, match=r"file:.*mail\.log: read into .* by another process"):
        other.run()
    assert world.stored() == dict.fromkeys(range(3), 1)
    world.write(1)
    world.run()
    assert world.stored() == dict.fromkeys(range(4), 1)
