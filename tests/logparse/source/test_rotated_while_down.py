"""Rotations while the service was down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_rotated_once(log: Any, follow: Callable[..., Any]) -> None:
    """The rest of .1, then the live log."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    log.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_rotated_twice(log: Any, follow: Callable[..., Any]) -> None:
    """The rest of .2, all of .1, then the live log."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    log.write("three", "four")
    log.rotate()
    log.write("five")
    follower.restart()
    assert follower.after_grace() == ["two", "three", "four", "five"]
    assert follower.source.stats.files_lost == 0


def test_killed_in_the_middle_of_catching_up(log: Any, follow: Callable[..., Any]) -> None:
    """Each line of the backlog is committed on its own and the service restarted after each: still once, in order."""
    follower = follow()
    log.write("one")
    follower.poll()
    for number in range(3):
        log.write(f"{number} a", f"{number} b")
        log.rotate()
    log.write("live")
    received = []
    for _ in range(30):
        chunk = follower.source.read(1)
        if chunk is None:
            follower.clock.now_s += 6
            continue
        received += chunk.data.decode().splitlines()
        follower.cursor = chunk.cursor
        follower.restart()
        if chunk.file_id == "":
            break
    follower.lines = []
    received += follower.after_grace()
    assert received == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b", "live"]


@pytest.mark.parametrize(
    "names",
    [
        ["mail.log-20261121", "mail.log-20261122"],
        ["mail.log.2026-11-21", "mail.log.2026-11-22"],
        ["mail.log.20261121-235959", "mail.log.20261122-000001"],
        ["mail.log-1795225400", "mail.log-1795325400"],
        ["mail.log.02", "mail.log.01"],
        ["mail.2.log", "mail.1.log"],
        ["mail-20261121.log", "mail-20261122.log"],
    ],
    ids=lambda names: names[0],
)
def test_the_names_that_rotation_gives(log: Any, follow: Callable[..., Any], names: list[str]) -> None:
    """logrotate with and without dateext, its dateformats and extension; postfix logrotate; exicyclog."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    for number, name in enumerate(names):
        log.write(f"backlog {number}")
        log.path.rename(log.directory / name)
    log.write("live")
    follower.restart()
    assert follower.after_grace() == ["backlog 0", "backlog 1", "live"]


def test_our_file_was_deleted_meanwhile(log: Any, follow: Callable[..., Any]) -> None:
    """`rotate 1`: the file we stopped in is gone, and counted; newer ones are read, older ones not again."""
    follower = follow()
    log.write("ancient")
    follower.poll()
    log.rotate()
    follower.after_grace()
    log.write("one")
    assert follower.poll() == ["one"]
    follower.stop()
    log.rotate()
    log.write("two")
    log.rotate()
    log.write("three")
    log.rotated(2).unlink()  # held "one"
    follower.restart()
    assert follower.after_grace() == ["two", "three"]
    assert follower.source.stats.files_lost == 1


def test_empty_at_our_last_look_then_rotated_and_compressed(log: Any, follow: Callable[..., Any]) -> None:
    """A file that had no first line when we stopped is known by the one before it, which we finished."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.rotate()
    assert follower.after_grace() == []
    follower.stop()
    log.write("two")
    log.rotate()
    log.compress(1)
    log.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_rotated_files_from_before_the_first_start_are_left_alone(log: Any, follow: Callable[..., Any]) -> None:
    """Following begins with the live log; what was rotated before that is the backfill's."""
    log.write("ancient")
    log.rotate()
    log.write("one")
    follower = follow()
    assert follower.after_grace() == ["one"]
    log.rotate()
    log.write("two")
    follower.restart()
    assert follower.after_grace() == ["two"]
