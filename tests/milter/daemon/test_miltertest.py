"""OpenDKIM's miltertest, a milter client written by others, against the daemon."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = sorted(Path(__file__).parent.glob("*.lua"))


@pytest.mark.skipif(shutil.which("miltertest") is None, reason="not installed: miltertest")
@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_script(daemon: Any, script: Path) -> None:
    """The script runs to its end; each of its checks names what failed."""
    done = subprocess.run(
        ["miltertest", "-s", str(script), "-D", f"socket=unix:{daemon.socket}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_there_are_scripts() -> None:
    """The scripts are where this test looks for them."""
    assert [path.stem for path in SCRIPTS] == ["inbound", "tracked"]
