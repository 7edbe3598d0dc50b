"""Truncation without a copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def test_reading_starts_again_at_the_beginning(log: Any, follow: Callable[..., Any]) -> None:
    """`> mail.log`: the next lines are read from offset 0, in a new generation, and it is counted."""
    follower = follow()
    log.write("one", "two")
    follower.poll()
    before = follower.source.read
    os.truncate(log.path, 0)
    chunk = before()
    assert chunk.data == b""
    generation = chunk.generation
    log.write("three")
    chunk = follower.source.read()
    assert (chunk.data, chunk.start, chunk.generation) == (b"three\n", 0, generation)
    assert generation == 1
    assert follower.source.stats.truncations == 1


def test_truncated_and_refilled_beyond_our_offset(log: Any, follow: Callable[..., Any]) -> None:
    """Between two looks the file was emptied and grew past where we were: the first line gives it away."""
    follower = follow()
    log.write("one")
    follower.poll()
    os.truncate(log.path, 0)
    log.write("this is another first line", "and a second")
    assert follower.poll() == ["this is another first line", "and a second"]
    assert follower.source.stats.truncations == 1


def test_same_first_line_but_other_content(log: Any, follow: Callable[..., Any]) -> None:
    """Even the same first line does not deceive: the bytes before our offset must be the same as well."""
    follower = follow()
    log.write("same", "one")
    follower.poll()
    os.truncate(log.path, 0)
    log.write("same", "two", "three")
    assert follower.poll() == ["same", "two", "three"]


def test_hole_left_by_a_writer_without_append(log: Any, follow: Callable[..., Any]) -> None:
    """Such a writer goes on at its old position: the NULs of the hole are skipped and the line behind them is read."""
    follower = follow()
    with log.path.open("wb", buffering=0) as writer:
        writer.write(b"one\n" + b"y" * 999 + b"\n" * 1)
        writer.seek(200_000)
        follower.poll()
        os.truncate(log.path, 0)
        writer.write(b"two\n")
        assert [line.lstrip("\0") for line in follower.poll()] == ["two"]
        writer.write(b"three\n")
        assert follower.poll() == ["three"]
    assert follower.source.stats.lines_discarded == 0
