"""A last line that is not finished yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_nothing_before_the_newline(log: Any, follow: Callable[..., Any]) -> None:
    """A partial line is never returned, and the cursor stays before it."""
    follower = follow()
    log.write_raw(b"one\ntw")
    assert follower.poll() == ["one"]
    follower.restart()
    assert follower.poll() == []
    log.write_raw(b"o\n")
    assert follower.poll() == ["two"]


def test_byte_by_byte(log: Any, follow: Callable[..., Any]) -> None:
    """However a line arrives, it is returned once and whole."""
    follower = follow()
    received = []
    for byte in b"first line\nsecond\n":
        log.write_raw(bytes([byte]))
        received += follower.poll()
    assert received == ["first line", "second"]


def test_identity_is_provisional_until_the_first_newline(log: Any, follow: Callable[..., Any]) -> None:
    """A beginning that is rewritten before it was a line is not a truncation: nothing had been read."""
    follower = follow()
    log.write_raw(b"abc")
    follower.poll()
    log.path.write_bytes(b"xyz\n")
    assert follower.poll() == ["xyz"]
    assert follower.source.stats.truncations == 0


def test_abandoned_partial_is_counted(log: Any, follow: Callable[..., Any]) -> None:
    """A writer that died in a line: when its file is left behind, the rest is counted."""
    follower = follow()
    log.write_raw(b"one\nhalf")
    assert follower.poll() == ["one"]
    log.rotate()
    log.write("two")
    assert follower.after_grace() == ["two"]
    stats = follower.source.stats
    assert (stats.partial_lines_abandoned, stats.bytes_discarded) == (1, 4)


def test_start_at_the_end_begins_with_a_whole_line(log: Any, follow: Callable[..., Any]) -> None:
    """start="end" skips the whole lines that are there and keeps the one being written; the cursor is there at once."""
    log.write_raw(b"old\nolder\nhal")
    follower = follow(start="end")
    assert follower.poll() == []
    assert follower.cursor is not None
    follower.stop()
    log.write_raw(b"f\n")
    follower.restart()
    assert follower.poll() == ["half"]
