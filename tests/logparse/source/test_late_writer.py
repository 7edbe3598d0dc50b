"""The late writer: rsyslog and postlogd keep the renamed file open until somebody tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_lines_written_after_the_rename_are_read(log: Any, follow: Callable[..., Any]) -> None:
    """During the grace the old file is read on, and once more at its end."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.rotate()
    log.write("late", to=log.rotated(1))
    assert follower.poll() == ["late"]
    follower.clock.now_s += 4.9
    assert follower.poll() == []
    log.write("later", to=log.rotated(1))
    log.write("new")
    follower.clock.now_s += 0.2
    assert follower.poll() == ["later"], "the last look at the old file comes before the new one"
    assert follower.after_grace() == ["new"]


def test_grace_counts_from_the_last_news(log: Any, follow: Callable[..., Any]) -> None:
    """As long as the old file grows, its writer has not been told."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.rotate()
    log.write("new")
    received = []
    for number in range(5):
        log.write(f"late {number}", to=log.rotated(1))
        follower.clock.now_s += 4.0
        received += follower.poll()
    assert received == [f"late {number}" for number in range(5)]


def test_writer_that_never_lets_go_does_not_keep_us(log: Any, follow: Callable[..., Any]) -> None:
    """After twelve graces the new file is read, whatever still happens to the old one."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.rotate()
    log.write("new")
    received: list[str] = []
    for number in range(30):
        log.write(f"late {number}", to=log.rotated(1))
        follower.clock.now_s += 4.0
        received += follower.poll()
    assert received[-1] == "new"
    assert received[:-1] == [f"late {number}" for number in range(len(received) - 1)]
    assert 15 <= len(received) <= 18


def test_late_writer_after_a_restart(log: Any, follow: Callable[..., Any]) -> None:
    """A service that starts just after the rotation waits for the late writer as well."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.rotate()
    log.write("new")
    follower.restart()
    assert follower.poll() == []
    log.write("late", to=log.rotated(1))
    assert follower.poll() == ["late"]
    assert follower.after_grace() == ["new"]


def test_line_finished_after_the_rename(log: Any, follow: Callable[..., Any]) -> None:
    """A line that was half written at the rename and finished during the grace is one line."""
    follower = follow()
    log.write_raw(b"one\nhal")
    assert follower.poll() == ["one"]
    log.rotate()
    log.write_raw(b"f\n", to=log.rotated(1))
    assert follower.after_grace() == ["half"]
