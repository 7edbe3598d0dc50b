"""The log's name is a symbolic link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_link_to_a_log_elsewhere(log: Any, follow: Callable[..., Any], make_log: Any) -> None:
    """The link is followed, and rotated files are looked for beside the file it leads to."""
    target = log.directory / "data"
    target.mkdir()
    real = make_log(target)
    real.write("one")
    log.path.symlink_to(real.path)
    follower = follow()
    assert follower.poll() == ["one"]
    follower.stop()
    real.write("two")
    real.rotate()
    real.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_link_that_is_turned_to_another_file(log: Any, follow: Callable[..., Any]) -> None:
    """A link to the file of the day: the old day is finished, then the new one is read."""
    monday, tuesday = log.directory / "mail.log-20261123", log.directory / "mail.log-20261124"
    log.write("one", to=monday)
    log.path.symlink_to(monday.name)
    follower = follow()
    assert follower.poll() == ["one"]
    log.write("two", to=monday)
    log.write("three", to=tuesday)
    log.path.unlink()
    log.path.symlink_to(tuesday.name)
    log.write("late", to=monday)
    assert follower.after_grace() == ["two", "late", "three"]
    follower.restart()
    assert follower.after_grace() == []


def test_dangling_link(log: Any, follow: Callable[..., Any]) -> None:
    """A link to a file that is not there yet is a log that is not there yet."""
    log.path.symlink_to("not-there-yet")
    follower = follow()
    assert follower.after_grace() == []
    log.write("one", to=log.directory / "not-there-yet")
    assert follower.poll() == ["one"]
