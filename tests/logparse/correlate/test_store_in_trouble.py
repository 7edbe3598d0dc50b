"""A store that is locked or whose disk is full: the log waits, nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.store.connection import open_writer
from postwake_lab.disks import fill

Make = Callable[..., Any]


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A file system of a megabyte."""
    return make_disk("1m")


def follow(follower: Any) -> None:
    """Take in all there is."""
    while follower.step(0):
        pass


def test_a_lock_held_for_long(
    make_log: Make, busy_log: tuple[str, ...], contents: Callable[[Path], Any], miscounted: Callable[[Path], Any]
) -> None:
    """While another connection keeps the store locked every try fails; when it lets go all is there, once."""
    whole, log = make_log(), make_log()
    for part in busy_log:
        whole.write(part)
    followers = whole.follower(), log.follower(busy_timeout_ms=1)
    follow(followers[0])
    log.write(busy_log[0])
    follow(followers[1])
    with contextlib.closing(open_writer(log.store)) as other:
        other.execute("BEGIN IMMEDIATE")
        for part in busy_log[1:]:
            log.write(part)
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="locked"):
                    followers[1].step(0)
        other.execute("ROLLBACK")
    follow(followers[1])
    for follower in followers:
        follower.close()
    assert contents(log.store) == contents(whole.store)
    assert miscounted(log.store) == {}


def test_a_full_disk(
    make_log: Make,
    busy_log: tuple[str, ...],
    small_disk: Path,
    contents: Callable[[Path], Any],
    miscounted: Callable[[Path], Any],
) -> None:
    """With no space left every try fails, as often as it is tried; with space again all is there, once."""
    whole, log = make_log(), make_log(small_disk / "postwake.db")
    for part in busy_log:
        whole.write(part)
    followers = whole.follower(), log.follower()
    follow(followers[0])
    log.write(busy_log[0])
    follow(followers[1])
    filler = fill(small_disk)
    for part in busy_log[1:]:
        log.write(part)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                followers[1].step(0)
    filler.unlink()
    follow(followers[1])
    for follower in followers:
        follower.close()
    assert contents(log.store) == contents(whole.store)
    assert miscounted(log.store) == {}
