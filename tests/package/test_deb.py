"""The Debian package where systemd does not run, as in a container: installs, works, and purging leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from postwake_lab.machine import base_root

DEB = os.environ.get("POSTWAKE_DEB", "")
# What apt, dpkg and the kernel keep for themselves.
_PRUNED = ("/proc", "/dev", "/tmp", "/var/lib/dpkg", "/var/cache", "/var/log", "/var/lib/apt")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A Debian 12 with Postfix, not booted, written to in a layer of its own."""
    layers = f"lowerdir={base_root()},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    path = tmp_path / "root"
    for part in ("root", "upper", "work"):
        (tmp_path / part).mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(path)], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(path / "proc")], check=True)
    shutil.copy(DEB, path / "tmp" / "postwake.deb")
    yield path
    subprocess.run(["umount", str(path / "proc"), str(path)], check=True)


def within(root: Path, script: str) -> str:
    """Run *script* in the root; return what it wrote."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
    done = subprocess.run(
        ["chroot", str(root), "sh", "-euc", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(root: Path) -> dict[str, bytes]:
    """Return every file of the root with its content, links and directories without."""
    found = {}
    for folder, folders, names in os.walk(root):
        inside = "/" + str(Path(folder).relative_to(root)).removeprefix(".")
        folders[:] = [name for name in folders if not f"{inside.rstrip('/')}/{name}".startswith(_PRUNED)]
        for path in (Path(folder) / name for name in (*folders, *names)):
            regular = path.is_file() and not path.is_symlink()
            found["/" + str(path.relative_to(root))] = path.read_bytes() if regular else b""
    return found


def test_install_use_purge(root: Path) -> None:
    """Installed, the command, users, modes and units are there; purged, every file is as before, Postfix's included."""
    before = files(root)

    within(root, "apt-get install --quiet --quiet --yes --no-install-recommends /tmp/postwake.deb")
    assert within(root, "echo '550 5.1.1 User unknown' | postwake classify").count('"hard"') == 1
    assert within(root, "stat -c '%A %U %G' /etc/postwake/keys") == "-rw-r----- root postwake\n"
    assert within(root, "stat -c '%A %U %G' /var/lib/postwake") == "drwxrws--- root postwake\n"
    assert "adm" in within(root, "id -Gn postwake-logparse")
    assert (root / "lib/systemd/system/postwake-milter.service").exists()
    within(root, "postwake setup postfix --url https://track.example.com --domain example.com --yes")
    assert "in order" in within(root, "postwake config check")
    assert "unix:postwake/milter.sock" in within(root, "postconf -h non_smtpd_milters")
    within(root, "setpriv --reuid postwake-logparse --regid postwake --clear-groups postwake db backup")

    within(root, "apt-get purge --quiet --quiet --yes postwake")
    after = files(root)
    accounts = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
    assert sorted(after.keys() - before.keys() - accounts) == []
    assert sorted(before.keys() - after.keys()) == []
    assert [name for name in before if before[name] != after[name] and name not in accounts] == []
    assert "postwake" not in (root / "etc/passwd").read_text() + (root / "etc/group").read_text()
