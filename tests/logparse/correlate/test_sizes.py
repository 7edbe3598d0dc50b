"""How large a message is: what the queue manager says, whoever made the row and whichever came first."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from postwake.events import Accepted, Direction

MIDNIGHT_US = 1_795_305_600_000_000
ROW = Accepted(
    at_us=MIDNIGHT_US + 200_000,
    tracking_id=b"0123456789abcdef",
    direction=Direction.OUTBOUND,
    queue_id="AAAA1",
    host="mx",
    message_id="",
    sender="s@example.com",
    domain="example.com",
    recipients=("a@x.test",),
    size_bytes=81,  # the body's
    tracked=True,
)
QUEUED = (
    "2026-11-22T00:00:00+00:00 mx postfix/qmgr[77]: AAAA1: from=<s@example.com>, size=500, nrcpt=1 (queue active)\n"
)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((ROW, QUEUED), 500),
        ((QUEUED, ROW), 500),
        ((ROW, QUEUED, QUEUED), 500),
        ((QUEUED,), 500),
        ((ROW,), 81),
    ],
    ids=["milter-first", "milter-late", "retried", "log-alone", "milter-alone"],
)
def test_the_size_is_the_queues(steps: tuple[Any, ...], expected: int, make_world: Callable[..., Any]) -> None:
    """A message is as large as it is in the queue; only while no line has said it, as the body the milter saw."""
    world = make_world()
    world.run(steps)
    with closing(sqlite3.connect(world.path)) as connection:
        assert connection.execute("SELECT size_bytes FROM messages").fetchall() == [(expected,)]
