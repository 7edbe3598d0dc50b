"""Truncation while the service was down."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("lines", [["n"], ["this is longer than what was there before"]], ids=["shorter", "longer"])
def test_saved_offset_is_not_trusted(log: Any, follow: Callable[..., Any], lines: list[str]) -> None:
    """The saved offset only counts in a file that still says what we read: nothing skipped, nothing re-read."""
    follower = follow()
    log.write("one", "two")
    follower.poll()
    follower.stop()
    os.truncate(log.path, 0)
    log.write(*lines)
    follower.restart()
    assert follower.poll() == lines
    assert (follower.source.stats.truncations, follower.source.stats.files_lost) == (1, 0)
    follower.restart()
    assert follower.poll() == [], "ingested once, also after the next start (filebeat #38070)"


def test_truncated_and_still_empty(log: Any, follow: Callable[..., Any]) -> None:
    """An empty log at start is followed from its beginning."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    os.truncate(log.path, 0)
    follower.restart()
    assert follower.poll() == []
    log.write("two")
    assert follower.poll() == ["two"]
