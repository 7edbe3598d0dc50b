"""The log is deleted, and created again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_open_file_is_read_on_until_there_is_a_new_one(log: Any, follow: Callable[..., Any]) -> None:
    """A writer that holds the deleted file goes on writing: its lines are still ours."""
    follower = follow()
    log.write("one")
    follower.poll()
    with log.path.open("ab", buffering=0) as writer:
        log.path.unlink()
        writer.write(b"two\n")
        assert follower.after_grace() == ["two"]
        writer.write(b"three\n")
        assert follower.after_grace() == ["three"]
    log.write("four")
    assert follower.after_grace() == ["four"]
    assert follower.source.stats.files_lost == 0


def test_deleted_while_down(log: Any, follow: Callable[..., Any]) -> None:
    """The unread rest is lost and counted; the new log is read from its beginning."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.path.unlink()
    follower.restart()
    assert follower.after_grace() == []
    log.write("two")
    assert follower.after_grace() == ["two"]
    # The new file may have been given the old one's inode: then it looks like a truncation.
    assert follower.source.stats.files_lost + follower.source.stats.truncations == 1


def test_directory_deleted_and_created_again(log: Any, follow: Callable[..., Any]) -> None:
    """The same when the directory goes with it."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.path.unlink()
    log.directory.rmdir()
    assert follower.after_grace() == []
    log.directory.mkdir()
    log.write("two")
    assert follower.after_grace() == ["two"]


def test_descriptors_are_not_kept(log: Any, follow: Callable[..., Any]) -> None:
    """After many rotations as many files are open as before: deleted logs must not fill the disk (P25)."""
    follower = follow()
    log.write("one")
    follower.poll()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        log.rotate(keep=3)
        log.write(f"{number}")
        assert follower.after_grace() == [f"{number}"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
