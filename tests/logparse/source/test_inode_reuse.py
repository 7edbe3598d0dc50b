"""The old file's inode number is given to the new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from postwake_logparse.file_identity import FileState
from postwake_logparse.source import Cursor


def reuse(follower: Any, log: Any) -> None:
    """Make the cursor speak of the present log's inode.

    Which number the file system gives next is its own affair (ext4 mostly the same one, tmpfs and XFS not), so the
    cursor is edited instead of hoping: what the source meets is the same.
    """
    info = log.path.stat()
    state = FileState.from_json(follower.source.name, follower.cursor.state)
    state = dataclasses.replace(state, device=info.st_dev, inode=info.st_ino)
    follower.cursor = Cursor(follower.cursor.source, state.to_json())


def test_longer_file_under_our_inode_is_not_ours(log: Any, follow: Callable[..., Any]) -> None:
    """Same device, same inode, longer than our offset: the first line differs, so it is read from its start."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.path.unlink()
    log.write("quite another file with quite another content")
    reuse(follower, log)
    follower.restart()
    assert follower.poll() == ["quite another file with quite another content"]


def test_the_real_one_was_compressed(log: Any, follow: Callable[..., Any]) -> None:
    """Rotated, compressed (a new inode), and ours given to the live log: both are read where they should be."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    log.compress(1)
    log.write("three")
    reuse(follower, log)
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_file_system_that_really_reuses(log: Any, follow: Callable[..., Any]) -> None:
    """Delete and create until the number comes back, if it does: the new content is read, once."""
    follower = follow()
    log.write("one")
    follower.poll()
    inode = log.path.stat().st_ino
    follower.stop()
    log.path.unlink()
    spare = 0
    while True:
        log.write("two, longer than one")
        if log.path.stat().st_ino == inode or spare == 50:
            break
        log.path.rename(log.directory / f"spare{spare}")
        spare += 1
    follower.restart()
    assert follower.poll() == ["two, longer than one"]
