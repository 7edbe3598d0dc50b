"""make demo, as a test: its exit status says whether every figure adds up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_demo_adds_up_and_leaves_nothing() -> None:
    """The demo ends with status 0, tells the story, and leaves no process or file behind."""
    before = set(Path("/tmp").glob("postwake-demo-*"))

    done = subprocess.run(
        [sys.executable, "-m", "postwake_lab.demo"],
        cwd=ROOT,
        env={"PYTHONPATH": "lab", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything adds up." in done.stdout
    assert "deferred     goran@later.test" in done.stdout
    assert set(Path("/tmp").glob("postwake-demo-*")) == before
    left = subprocess.run(["pgrep", "-f", "postwake-demo-"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
