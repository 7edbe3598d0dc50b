"""systemd units: no mistakes that systemd would only say at start, and exposure rated "OK" or better."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted(path.name for path in (ROOT / "systemd").glob("*.service"))
LIMIT = 4.9
"""systemd-analyze calls exposure below 5 "OK": above are "MEDIUM", "EXPOSED" and "UNSAFE"."""


@pytest.fixture
def unit_folder(tmp_path: Path) -> Path:
    """The units, with the command where it is certain to be, so that verify complains of nothing else."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for path in (ROOT / "systemd").iterdir():
        if path.suffix in (".service", ".timer", ".socket"):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"/usr/(?:s?bin|lib/postwake\S*)/postwake\b", "/bin/true", text)
            # A machine without man pages or users of ours is no mistake of the unit's.
            (tmp_path / path.name).write_text(re.sub(r"^Documentation=.*$", "", text, flags=re.MULTILINE))
    return tmp_path


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_understood(unit: str, unit_folder: Path) -> None:
    """Every setting exists, every value parses, every unit it names is there or need not be."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit_folder / unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if unit in line or "Unknown" in line]
    assert complaints == []


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_confined(unit: str, unit_folder: Path) -> None:
    """Each service is confined well enough for systemd-analyze security to say "OK" or better."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit_folder / unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= LIMIT, f"{unit}: {level[1]} {level[2]}"


def test_units_exist_for_every_service() -> None:
    """Each long-running service has a unit, with its own user, and restarts."""
    for service in ("milter", "logparse", "pixelserver"):
        text = (ROOT / f"systemd/postwake-{service}.service").read_text(encoding="utf-8")
        assert f"User=postwake-{service}" in text
        assert f"ExecStart=/usr/bin/postwake {service}" in text
        assert "Restart=always" in text
        assert "Type=notify" in text
