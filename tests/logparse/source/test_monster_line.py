"""Lines over the bound, NULs and bytes that are not UTF-8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.source import MAX_LINE_BYTES, scan_lines


@pytest.mark.parametrize("excess", [1, 70_000, 3_000_000], ids=["one byte", "two bounds", "three blocks"])
def test_monster_is_discarded_and_counted(log: Any, follow: Callable[..., Any], excess: int) -> None:
    """A line over 64 KiB is left out, the lines around it are not."""
    follower = follow()
    monster = b"m" * (MAX_LINE_BYTES + excess)
    log.write("one", monster, "two")
    assert follower.poll() == ["one", "two"]
    stats = follower.source.stats
    assert (stats.lines_discarded, stats.bytes_discarded) == (1, len(monster) + 1)


def test_longest_line_allowed(log: Any, follow: Callable[..., Any]) -> None:
    """A line of exactly 64 KiB is a line, whatever the block size asked for."""
    follower = follow()
    longest = "l" * MAX_LINE_BYTES
    log.write("one", longest, "two")
    assert follower.poll(max_bytes=10) == ["one", longest, "two"]


def test_killed_inside_a_monster(log: Any, follow: Callable[..., Any]) -> None:
    """The cursor knows that it is inside a line that is being discarded: its end is not taken for a line."""
    follower = follow()
    log.write_raw(b"one\n" + b"m" * 200_000)
    assert follower.poll() == ["one"]
    follower.restart()
    log.write_raw(b"end of the monster\ntwo\n")
    assert follower.poll() == ["two"]
    assert follower.source.stats.lines_discarded == 0, "it was counted when it began"


def test_bytes_pass_as_they_are(log: Any, follow: Callable[..., Any]) -> None:
    """NULs, invalid UTF-8, carriage returns and empty lines are content."""
    follower = follow()
    lines = [b"a\0b", b"\xff\xfe\xc3", b"cr\r", b"", b"\0\0\0"]
    log.write(*lines)
    follower.poll()
    assert follower.lines == lines


@given(
    lines=st.lists(st.integers(0, 40).map(lambda size: b"a" * size), max_size=12),
    rest=st.integers(0, 40),
    skipping=st.booleans(),
)
def test_scan_agrees_with_splitting(lines: list[bytes], rest: int, skipping: bool) -> None:
    """Following the scans through a block gives the lines within the bound, in order, and the counts of the others."""
    bound = 16
    block = b"".join(line + b"\n" for line in lines) + b"b" * rest
    taken: list[bytes] = []
    position, discarded, state = 0, 0, skipping
    while position < len(block):
        scan = scan_lines(block[position:], state, bound)
        taken += block[position + scan.skip : position + scan.skip + scan.take].split(b"\n")[:-1]
        position += scan.skip + scan.take
        discarded += scan.lines_discarded
        state = scan.skipping
        if not scan.skip and not scan.take:
            break
    whole = lines[1:] if skipping else lines
    assert taken == [line for line in whole if len(line) <= bound]
    unfinished_monster = rest > bound and not (skipping and not lines)
    assert discarded == sum(len(line) > bound for line in whole) + unfinished_monster
