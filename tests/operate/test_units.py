"""The units of the timers are hardened and run commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from postwake.config import LogParse

SYSTEMD = Path(__file__).parents[2] / "systemd"


UNITS = pytest.mark.parametrize("name", ["postwake-maintenance", "postwake-report"])


@UNITS
def test_exposure(name: str) -> None:
    """systemd-analyze rates it OK or better."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = SYSTEMD / f"{name}.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) (\w+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot rate a file here: {done.stderr.strip()}")
    assert float(found[1]) < 5
    assert found[2] in ("OK", "SAFE")


def test_timer_names_a_unit() -> None:
    """The timer starts the service of its own name, every day, also after a day off."""
    timer = (SYSTEMD / "postwake-maintenance.timer").read_text()
    assert "OnCalendar=daily" in timer
    assert "Persistent=yes" in timer
    assert (SYSTEMD / "postwake-maintenance.service").exists()


@UNITS
def test_its_commands_exist(name: str) -> None:
    """Every ExecStart is a verb of the command, and its options are ones it has."""
    unit = (SYSTEMD / f"{name}.service").read_text()
    lines = [line.lstrip("# ").partition("=")[2].split() for line in unit.splitlines() if "/usr/bin/postwake" in line]
    assert len(lines) == {"postwake-maintenance": 4, "postwake-report": 1}[name]
    for _, *arguments in lines:
        verbs = [word for word in arguments if word.isalpha()]
        command = [sys.executable, "-m", "postwake_cli", *verbs, "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, arguments
        assert [word for word in arguments if word.startswith("--") and word not in done.stdout] == []


def test_sockets_have_a_directory() -> None:
    """Where sockets are by default, or by the shipped nginx configuration, is a directory that the unit makes."""
    nginx = (SYSTEMD.parent / "contrib/nginx/postwake.conf").read_text()
    web = re.search(r"^    server unix:(/\S+)", nginx, re.MULTILINE)
    assert web is not None
    for name, path in (("logparse", LogParse().listen), ("pixelserver", Path(web[1]))):
        unit = (SYSTEMD / f"postwake-{name}.service").read_text()
        assert f"\nRuntimeDirectory={path.parent.relative_to('/run')}\n" in unit
    assert f'listen = "unix:{web[1]}"' in nginx
