"""Permission denied, then granted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake_logparse import file_reader

READER = """
import os, sys
from pathlib import Path
from postwake_logparse.source_file import FileSource

os.setgroups([]); os.setgid(65534); os.setuid(65534)
source = FileSource(Path(sys.argv[1]), None)
for line in sys.stdin:
    chunks = iter(source.read, None)
    data = b"".join(chunk.data for chunk in chunks)
    print(repr((data, source.stats.read_errors, source.stats.last_error)), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file that another user may not read")
def test_denied_then_granted_to_another_user(tmp_path: Path) -> None:
    """A reader running as nobody meets a log of mode 0600, says so, and reads all of it once it may."""
    for parent in [tmp_path, *tmp_path.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    path = tmp_path / "mail.log"
    path.write_bytes(b"one\n")
    path.chmod(0o600)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def poll() -> Any:
            print("poll", file=process.stdin, flush=True)
            return eval(process.stdout.readline())

        data, errors, text = poll()
        assert (data, errors) == (b"", 1)
        assert text == f"{path}: Permission denied"
        assert poll()[1] == 2
        path.chmod(0o644)
        assert poll()[0] == b"one\n"
        process.stdin.close()


def test_new_file_denied_after_rotation(log: Any, follow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """logrotate's `create` gives the mode a moment after the file: the old one is held until the new one opens.

    Root may read everything, so opening is made to fail at the system call.
    """
    follower = follow()
    log.write("one")
    follower.poll()
    log.rotate()
    log.write("two")
    follower.poll()
    follower.clock.now_s += 6
    real_open = os.open

    def denied(path: Path, flags: int) -> int:
        if Path(path) == log.path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_open(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(file_reader.os, "open", denied)
        assert follower.poll() == []
        assert "Permission denied" in follower.source.stats.last_error
        log.write("late", to=log.rotated(1))
        assert follower.poll() == ["late"]
    assert follower.after_grace() == ["two"]


def test_read_error_is_counted_and_retried(
    log: Any, follow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails for a moment costs a poll, not the service."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.write("two")

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(file_reader.os, "pread", failing)
        assert follower.poll() == []
    assert follower.source.stats.last_error == f"{log.path}: Input/output error"
    assert follower.poll() == ["two"]
