"""No hit lost: many connections, other writers on the same store, and trouble in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "pixel_holds.py"


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["none", "lock", "kill"])
def test_every_answered_hit_is_there_once(trouble: str) -> None:
    """All answered hits are stored, none twice, no 5xx: undisturbed, with the store locked, with a kill -9."""
    command = [sys.executable, str(BENCH), "--hits", "2000", "--trouble", trouble, "--lock-seconds", "3"]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parents[1] / "lab")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing 0, double 0, not 307 0" in done.stdout
