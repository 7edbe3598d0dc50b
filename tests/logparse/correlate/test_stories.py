"""What a story says in the end: whose hits were whose, and what came after what."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from postwake.events import Accepted, Direction, EventType, Hit, Who

MIDNIGHT_US = 1_795_305_600_000_000
TRACKING_ID = b"0123456789abcdef"


def line(second: int, program: str, text: str, queue_id: str = "AAAA1") -> str:
    """Return a line of the log."""
    return f"2026-11-22T00:00:0{second}+00:00 mx postfix/{program}[77]: {queue_id}: {text}\n"


def row(recipient: str) -> Accepted:
    """Return the milter's row of a mail to one recipient."""
    return Accepted(
        at_us=MIDNIGHT_US + 200_000,
        tracking_id=TRACKING_ID,
        direction=Direction.OUTBOUND,
        queue_id="AAAA1",
        host="mx",
        message_id="1@example.com",
        sender="s@example.com",
        domain="example.com",
        recipients=(recipient,),
        tracked=True,
    )


OPENED = Hit(
    hit_id=b"0" * 16,
    at_us=MIDNIGHT_US + 3_000_000,
    type=EventType.OPENED,
    tracking_id=TRACKING_ID,
    recipient=1,
    who=Who.HUMAN,
)
QUEUED = line(0, "qmgr", "from=<s@example.com>, size=500, nrcpt=1 (queue active)")
SENT = "to=<{}>, relay=mx.x.test[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent ({})"
REMOVED = line(4, "qmgr", "removed")
NEXT = "250 2.0.0 Ok: queued as AAAA2"
HANDED_ON = (
    line(1, "cleanup", "message-id=<1@example.com>", "AAAA2"),
    line(1, "qmgr", "from=<s@example.com>, size=500, nrcpt=1 (queue active)", "AAAA2"),
    line(2, "smtp", SENT.format("a@x.test", "250 ok"), "AAAA2"),
)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ("Anna@x.test", (QUEUED, line(1, "smtp", SENT.format("a@x.test", "250 ok")), OPENED, REMOVED)),
        ("anna@x.test", (QUEUED, OPENED, line(3, "smtp", SENT.format("a@x.test>, orig_to=<anna@x.test", "250 ok")))),
        ("a@x.test", (QUEUED, *HANDED_ON, OPENED, line(3, "smtp", SENT.format("a@x.test", NEXT)), REMOVED)),
    ],
    ids=["rewritten-unnamed", "alias", "filter"],
)
def test_a_hit_stays_with_its_recipient(asked: str, steps: tuple[Any, ...], make_world: Callable[..., Any]) -> None:
    """The reader is named by the address that the mail was delivered to, once it is known."""
    world = make_world()
    world.run((row(asked), *steps))
    with closing(sqlite3.connect(world.path)) as connection:
        assert connection.execute("SELECT recipient, who FROM opens").fetchall() == [("a@x.test", "human")]


def test_nothing_comes_before_acceptance(make_world: Callable[..., Any]) -> None:
    """Lines with stamps of whole seconds are told after the row of the same second that they are about."""
    world = make_world()
    refused = "to=<a@x.test>, relay=mx.x.test[192.0.2.1]:25, delay=0.1, dsn=5.1.1, status=bounced (550 5.1.1 no)"
    log = (
        line(0, "smtp", refused),
        line(0, "bounce", "sender non-delivery notification: AAAA2"),
        line(0, "qmgr", "removed"),
    )
    world.run((row("a@x.test"), QUEUED, *log))
    with closing(sqlite3.connect(world.path)) as connection:
        told = [name for (name,) in connection.execute("SELECT type FROM events WHERE message = 1 ORDER BY at_us, id")]
    assert told == ["accepted", "bounced", "notified"]
