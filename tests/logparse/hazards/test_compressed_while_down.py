"""The file we stopped in was rotated and compressed while the process was down."""

from __future__ import annotations

from typing import Any


def test_compressed_while_down(world: Any) -> None:
    """What is compressed meanwhile is read on from where we were: neither again from its start nor left out."""
    world.write(5)
    world.run()
    world.die()
    world.write(5)
    world.rotate()
    world.compress(1)
    world.write(5)
    world.follower = world.start()
    world.run()
    assert world.stored() == dict.fromkeys(range(15), 1)
    assert world.follower.source.stats.files_lost == 0
