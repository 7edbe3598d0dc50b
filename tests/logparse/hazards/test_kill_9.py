"""kill -9 of the real process, again and again, while a writer appends and rotates."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = 6


@pytest.mark.slow
def test_killed_in_a_loop_while_the_log_grows_and_is_rotated(world: Any, tmp_path: Path) -> None:
    """Whenever `postwake logparse` dies, the next one goes on: every line is in the store exactly once."""
    configuration = tmp_path / "postwake.toml"
    configuration.write_text(
        f'[store]\npath = "{world.store}"\n[tracking]\nurl = "https://t.example.org"\n'
        f'[logparse]\npath = "{world.path}"\nmta = "postfix"\n[metrics]\nlogparse = ""\n'
    )
    command = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), "logparse"]
    chance = random.Random(20261122)

    def wait_for(condition: Any, patience_s: float = 40.0) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < deadline, process.stderr and (tmp_path / "stderr").read_text()
            time.sleep(0.02)

    process: subprocess.Popen[bytes]
    for kill in range(KILLS + 1):
        with (tmp_path / "stderr").open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr)
        try:
            before = len(world.stored())
            world.write(chance.randrange(1, 2000))
            wait_for(lambda before=before: len(world.stored()) > before)
            world.write(chance.randrange(1, 3000))  # it dies somewhere in these
            if chance.random() < 0.5:
                world.rotate()
                world.write(chance.randrange(1, 100))
            if kill == KILLS:  # the last one may finish, the rest of a rotated file after its grace
                wait_for(lambda: len(world.stored()) == world.number)
            else:
                time.sleep(chance.random() * 0.05)
        finally:
            process.kill()
            process.wait()
    assert world.stored() == dict.fromkeys(range(world.number), 1)
