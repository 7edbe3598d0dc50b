"""The directory does not exist at start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("start", ["beginning", "end"])
def test_log_appears_later(log: Any, follow: Callable[..., Any], start: str) -> None:
    """Directory and log come after the service: all of the log is read, even with start="end"."""
    log.directory.rmdir()
    follower = follow(start=start)
    assert follower.after_grace() == []
    log.directory.mkdir()
    log.write("one")
    assert follower.poll() == ["one"]
    assert follower.source.stats.read_errors == 0


def test_appeared_and_rotated_while_down(log: Any, follow: Callable[..., Any]) -> None:
    """The first look, at nothing, is remembered: what is rotated after it is ours."""
    log.directory.rmdir()
    follower = follow()
    follower.poll()
    follower.stop()
    log.directory.mkdir()
    log.write("one")
    log.rotate()
    log.write("two")
    follower.restart()
    assert follower.after_grace() == ["one", "two"]


def test_cursor_of_something_else_is_refused(log: Any, tmp_path: Path) -> None:
    """A stored position that is not a file's is an error that shows it, not a silent start from nothing."""
    from postwake.errors import DataError
    from postwake_logparse.source import Cursor
    from postwake_logparse.source_file import FileSource

    name = f"file:{log.path}"
    for state in ("", "s=abc;i=1", "[]", '{"v":1}', '{"v":99}'):
        with pytest.raises(DataError, match="stored position of file:"):
            FileSource(log.path, Cursor(name, state))
