"""Rename rotation: logrotate's default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_old_file_is_finished_before_the_new_one(log: Any, follow: Callable[..., Any]) -> None:
    """Lines written just before the rename come first, then, after the grace, those of the new file."""
    follower = follow()
    log.write("one")
    assert follower.poll() == ["one"]
    log.write("two")
    log.rotate()
    log.write("three")
    assert follower.poll() == ["two"]
    assert follower.after_grace() == ["three"]
    assert follower.source.stats.rotations == 1


def test_chunks_name_the_file_and_the_bytes(log: Any, follow: Callable[..., Any]) -> None:
    """A chunk's data is the content of its file from start to end, and the file's name follows the content."""
    follower = follow()
    log.write("one", "two")
    source = follower.source
    assert source.read().data == b""  # where we begin is worth a commit
    first = source.read(4)
    second = source.read(4)
    assert (first.data, first.start, first.end) == (b"one\n", 0, 4)
    assert (second.data, second.start, second.end) == (b"two\n", 4, 8)
    assert first.file_id == second.file_id != ""
    log.rotate()
    log.write("three")
    assert source.read() is None
    follower.clock.now_s += 6
    assert source.read().data == b""  # going on in another file is worth a commit, too
    third = source.read()
    assert (third.data, third.start, third.generation) == (b"three\n", 0, first.generation + 1)
    assert third.file_id != first.file_id


def test_new_file_that_comes_late(log: Any, follow: Callable[..., Any]) -> None:
    """Between the rename and the writer's next line there may be no file at all."""
    follower = follow()
    log.write("one")
    assert follower.poll() == ["one"]
    log.rotate(create=False)
    assert follower.after_grace() == []
    log.write("two")
    assert follower.after_grace() == ["two"]


def test_two_rotations_between_two_looks(log: Any, follow: Callable[..., Any]) -> None:
    """A file that came and went between two looks is found among the siblings."""
    follower = follow()
    log.write("one")
    assert follower.poll() == ["one"]
    log.write("two")
    log.rotate()
    log.write("three")
    log.rotate()
    log.write("four")
    assert follower.after_grace() + follower.after_grace() == ["two", "three", "four"]


def test_rotation_to_another_directory(log: Any, follow: Callable[..., Any]) -> None:
    """With logrotate's olddir the rotated files are elsewhere: archive_dirs says where."""
    old = log.directory / "old"
    old.mkdir()
    follower = follow(archive_dirs=[old])
    log.write("one")
    assert follower.poll() == ["one"]
    log.write("two")
    log.path.rename(old / "mail.log-20261122")
    log.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_every_empty_rotation_is_survived(log: Any, follow: Callable[..., Any]) -> None:
    """Files without a line have no identity but their inode; the next one with lines is read all the same."""
    follower = follow()
    log.write_raw(b"")
    follower.poll()
    for _ in range(3):
        log.rotate()
        assert follower.after_grace() == []
    log.write("one")
    assert follower.poll() == ["one"]


def test_lag_counts_what_is_left_in_both_files(log: Any, follow: Callable[..., Any]) -> None:
    """The lag is what is unread of the file that is open and all of the new one."""
    follower = follow()
    log.write("one")
    follower.poll()
    assert follower.source.lag_bytes() == 0
    log.write("two")
    log.rotate()
    log.write("three")
    assert follower.source.lag_bytes() == len("two\nthree\n")
    follower.after_grace()
    assert follower.source.lag_bytes() == 0
