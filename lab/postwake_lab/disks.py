"""Small file systems, to fill up and to make read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


def mount(*arguments: str) -> bool:
    """Run mount(8); return whether it worked, as it does for root outside of a sandbox."""
    return os.geteuid() == 0 and subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[bool]:
    """Make *path* a file system of *size* (tmpfs's option, such as ``2m``) for a while; yields whether that worked."""
    path.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Fill *disk* to its last byte; return the file that does."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast
