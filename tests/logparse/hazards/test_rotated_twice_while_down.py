"""The log is rotated twice while the process is down."""

from __future__ import annotations

from typing import Any


def test_rotated_twice_while_down(world: Any) -> None:
    """The file we stopped in is finished first, then the one between, then the live one; each line once."""
    world.write(5)
    world.run()
    world.die()
    world.write(5)
    world.rotate()
    world.write(5)
    world.rotate()
    world.write(5)
    world.follower = world.start()
    world.run()
    assert world.stored() == dict.fromkeys(range(20), 1)
    assert world.follower.source.stats.files_lost == 0
    world.restart()
    world.run()
    assert world.stored() == dict.fromkeys(range(20), 1)
