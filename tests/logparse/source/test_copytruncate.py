"""copytruncate: the log is copied, then emptied under its writer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest


def test_copy_is_finished_from_our_offset(log: Any, follow: Callable[..., Any]) -> None:
    """What we had not read when the log was emptied is in the copy: it comes first, and nothing of it twice."""
    follower = follow()
    log.write("one")
    assert follower.poll() == ["one"]
    log.write("two")
    log.copytruncate()
    log.write("three")
    assert follower.after_grace() == ["two", "three"]
    stats = follower.source.stats
    assert (stats.truncations, stats.files_lost) == (1, 0)


@pytest.mark.parametrize("extension", ["", ".gz"])
def test_copytruncate_while_down(log: Any, follow: Callable[..., Any], extension: str) -> None:
    """The same when the service was not running, and when the copy was compressed meanwhile."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.copytruncate()
    log.write("three")
    if extension:
        log.compress(1, extension)
    follower.restart()
    assert follower.after_grace() == ["two", "three"]


def test_log_that_outgrew_our_offset_again(log: Any, follow: Callable[..., Any]) -> None:
    """Emptied and longer than before by the time we look: the size says nothing, the first line does."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.copytruncate()
    log.write("something much longer than the first line was")
    assert follower.after_grace() == ["something much longer than the first line was"]


def test_copied_and_emptied_before_its_first_line_was_read(log: Any, follow: Callable[..., Any]) -> None:
    """A log that was empty at our last look, filled, copied, emptied and filled again since."""
    follower = follow()
    log.write_raw(b"")
    follower.poll()
    log.write("one")
    log.copytruncate()
    log.write("two")
    assert follower.after_grace() + follower.after_grace() == ["one", "two"]


def test_copy_that_is_not_finished_yet(log: Any, follow: Callable[..., Any]) -> None:
    """While logrotate copies there are two files with the same first line: the live one is ours."""
    follower = follow()
    log.write("one", "two")
    shutil.copyfile(log.path, log.rotated(1))
    assert follower.poll() == ["one", "two"]
    follower.restart()
    log.write("three")
    assert follower.poll() == ["three"]
    assert follower.source.stats.truncations == 0


def test_twice_between_two_looks(log: Any, follow: Callable[..., Any]) -> None:
    """Two rounds of copytruncate: the rest of the first copy, the second copy, the live log."""
    follower = follow()
    log.write("one")
    follower.poll()
    log.write("two")
    log.copytruncate()
    log.write("three")
    log.copytruncate()
    log.write("four")
    assert follower.after_grace() == ["two", "three", "four"]
