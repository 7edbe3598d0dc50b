"""Who unsubscribed, whose address is dead, who never looks: exactly those the events name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.events import Accepted, Direction, EventType, State, Who
from postwake.store import recipients
from postwake.store.bulk import Bulk
from postwake.store.connection import open_reader
from postwake.store.dictionary import StoredReply
from postwake.store.transaction import Transactions
from postwake.tokens import Privacy
from postwake.tracking_id import make_tracking_id

Make = Callable[..., Any]
DAY_US = 86_400_000_000
SENT = StoredReply("ok", 250, "2.0.0")
NO_SUCH_USER = StoredReply("unknown", 550, "5.1.1", "hard", "recipient", "bad-mailbox", None, "a")
BLOCKED = StoredReply("blocked", 554, "5.7.1", "hard", "sender", "blocklisted", None, "b")
FULL = StoredReply("full", 452, "4.2.2", "soft", "recipient", "mailbox-full", None, "c")


@pytest.fixture
def deliver(transactions: Transactions) -> Callable[..., None]:
    """Let the log say what became of a stored message's one delivery, at that time."""

    def write(event: Accepted, at_us: int, state: State, reply: StoredReply) -> None:
        kinds = {State.SENT: EventType.SENT, State.BOUNCED: EventType.BOUNCED, State.DEFERRED: EventType.DEFERRED}
        with transactions.begin() as transaction:
            number = transaction.replies.id(reply)
            delivery, message = transaction.execute(
                "SELECT delivery.id, message FROM delivery JOIN message ON message.id = message WHERE tracking_id = ?",
                (event.tracking_id,),
            ).fetchone()
            bulk = Bulk(transaction)
            bulk.flush()
            (last,) = transaction.execute(
                "INSERT INTO event (at_us, type, message, delivery, reply) VALUES (?, ?, ?, ?, ?) RETURNING id",
                (at_us, kinds[state], message, delivery, number),
            ).fetchone()
            transaction.execute(
                "UPDATE delivery SET state = ?, last_attempt_us = ?, last_event = ? WHERE id = ?",
                (state, at_us, last, delivery),
            )

    return write


@pytest.fixture
def reader(store: Path) -> Iterator[sqlite3.Connection]:
    """The store, read as reports do."""
    connection = open_reader(store)
    yield connection
    connection.close()


def names(rows: Any) -> list[str | None]:
    """Return the addresses of *rows*."""
    return [row["recipient"] for row in rows]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param([(0, State.BOUNCED, NO_SUCH_USER)], True, id="no-such-user"),
        pytest.param([(0, State.BOUNCED, BLOCKED)], False, id="our-own-fault"),
        pytest.param([(0, State.DEFERRED, FULL)], False, id="may-change-its-mind"),
        pytest.param([(0, State.BOUNCED, NO_SUCH_USER), (1, State.SENT, SENT)], False, id="taken-since"),
        pytest.param([(-1, State.SENT, SENT), (0, State.BOUNCED, NO_SUCH_USER)], True, id="was-alive"),
        pytest.param([(0, State.BOUNCED, NO_SUCH_USER), (1, State.BOUNCED, BLOCKED)], True, id="then-our-fault"),
        pytest.param([(0, State.BOUNCED, NO_SUCH_USER), (0, State.BOUNCED, NO_SUCH_USER)], True, id="twice-is-one"),
        pytest.param([(-3, State.BOUNCED, NO_SUCH_USER)], False, id="before-the-period"),
        pytest.param([(0, State.BOUNCED, NO_SUCH_USER), (3, State.SENT, SENT)], False, id="taken-after-the-period"),
    ],
)
def test_dead(
    story: list[tuple[int, State, StoredReply]], expected: bool, apply: Make, accepted: Make, deliver: Make,
    reader: sqlite3.Connection, noon_us: int,
) -> None:  # fmt: skip
    """Dead is who was refused for good by their own fault in the period and whose mail nobody took since."""
    for number, (day, state, reply) in enumerate(story, 1):
        at_us = noon_us + day * DAY_US + number
        event = accepted(number, recipients=("Ann@Example.net" if number % 2 else "ann@example.net",), at_us=at_us)
        apply(event)
        deliver(event, at_us + 1000, state, reply)
    found = list(recipients.dead(reader, noon_us - DAY_US, noon_us + 2 * DAY_US))
    assert [name.lower() for name in names(found)] == (["ann@example.net"] if expected else [])


def test_taken_after_days_in_the_queue(
    apply: Make, accepted: Make, deliver: Make, reader: sqlite3.Connection, noon_us: int
) -> None:
    """Mail that was queued long before the period, and taken after the address was refused, says that it is alive."""
    old = accepted(1, recipients=("ann@example.net",), at_us=noon_us - 9 * DAY_US)
    new = accepted(2, recipients=("ann@example.net",), at_us=noon_us)
    apply(old, new)
    deliver(new, noon_us + 1000, State.BOUNCED, NO_SUCH_USER)
    assert names(recipients.dead(reader, noon_us, noon_us + DAY_US)) == ["ann@example.net"]
    deliver(old, noon_us + 2000, State.SENT, SENT)
    assert names(recipients.dead(reader, noon_us, noon_us + DAY_US)) == []


def test_dead_is_about_mail_that_goes_out(
    apply: Make, accepted: Make, deliver: Make, reader: sqlite3.Connection, noon_us: int
) -> None:
    """Inbound mail that bounced here says nothing about anybody we write to."""
    event = accepted(1, direction=Direction.INBOUND)
    apply(event)
    deliver(event, noon_us, State.BOUNCED, NO_SUCH_USER)
    assert list(recipients.dead(reader, 0, noon_us + DAY_US)) == []


@pytest.mark.parametrize(
    ("count", "options", "hits", "expected"),
    [
        pytest.param(3, {}, [], ("ann@example.net", 3, 0), id="took-three-and-looked-at-none"),
        pytest.param(2, {}, [], None, id="two-are-too-few"),
        pytest.param(3, {}, [(2, EventType.OPENED, Who.HUMAN)], None, id="opened-one"),
        pytest.param(3, {}, [(3, EventType.CLICKED, Who.HUMAN)], None, id="clicked-in-one"),
        pytest.param(3, {}, [(1, EventType.OPENED, Who.MACHINE), (1, EventType.CLICKED, Who.UNKNOWN)],
                     ("ann@example.net", 3, 2), id="machines-looked"),
        pytest.param(3, {"tracked": False, "pixels": 0, "links": 0}, [], None, id="not-tracked"),
        pytest.param(3, {"recipients": ("ann@example.net", "bob@example.net")}, [], None, id="shared-bodies"),
        pytest.param(3, {"privacy": Privacy.ANONYMOUS}, [], None, id="anonymous-says-nothing"),
        pytest.param(3, {"direction": Direction.INBOUND}, [], None, id="inbound"),
    ],
)  # fmt: skip
def test_inactive(
    count: int, options: dict[str, Any], hits: list[Any], expected: Any, apply: Make, accepted: Make, hit: Make,
    deliver: Make, reader: sqlite3.Connection, noon_us: int, tracking_id: Make,
) -> None:  # fmt: skip
    """Inactive is who took several messages that would have told, and of which no human opened one."""
    events = [
        accepted(n, **({"recipients": ("ann@example.net",), "pixels": 1, "links": 1} | options))
        for n in range(1, count + 1)
    ]
    apply(*events)
    for event in events:
        deliver(event, noon_us + 1, State.SENT, SENT)
    for number, (message, kind, who) in enumerate(hits):
        apply(hit(number, kind, message, who=who))
    rows = list(recipients.inactive(reader, noon_us - DAY_US, noon_us + DAY_US))
    assert [(row["recipient"], row["messages"], row["other_hits"]) for row in rows] == ([expected] if expected else [])
    assert list(recipients.inactive(reader, noon_us + DAY_US, noon_us + 2 * DAY_US)) == []


def test_unsubscribed(apply: Make, accepted: Make, hit: Make, reader: sqlite3.Connection, noon_us: int) -> None:
    """Who unsubscribed in the period, once, unless they came back; a shared body's reader is unknown."""
    apply(
        accepted(1, recipients=("ann@example.net",)),
        accepted(2, recipients=("ANN@example.net",)),
        accepted(3, recipients=("bob@example.net",)),
        accepted(4, recipients=("cy@example.net", "dan@example.net")),
        accepted(5, recipients=("eve@example.net",)),
        accepted(6, recipients=("fay@example.net",), privacy=Privacy.ANONYMOUS),
        hit(7, EventType.UNSUBSCRIBED, 6, recipient=0, at_us=noon_us + 7),
        *(hit(n, EventType.UNSUBSCRIBED, n, at_us=noon_us + n) for n in (1, 2, 3)),
        hit(4, EventType.UNSUBSCRIBED, 4, recipient=0, at_us=noon_us + 4),
        hit(5, EventType.UNSUBSCRIBED, 5, at_us=noon_us + 2 * DAY_US),
        hit(6, EventType.RESUBSCRIBED, 3, at_us=noon_us + 5),
    )
    found = names(recipients.unsubscribed(reader, noon_us, noon_us + DAY_US))
    assert found[:2] == ["fay@example.net", None]
    assert [name and name.lower() for name in found[2:]] == ["ann@example.net"]


UN, RE = EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED


@pytest.mark.parametrize(
    ("said", "listed"),
    [
        pytest.param([(UN, 1, 0, 1), (RE, 2, 0, 2)], False, id="came back by a later mail"),
        pytest.param([(UN, 2, 0, 1), (RE, 1, 0, 2)], False, id="came back by an earlier mail"),
        pytest.param([(RE, 2, 0, 1), (UN, 1, 0, 2)], True, id="came back before"),
        pytest.param([(UN, 1, 0, 1), (RE, 2, 0, 2), (UN, 2, 0, 3)], True, id="left again"),
        pytest.param([(UN, 1, 0, 1), (RE, 2, 0, 2), (UN, 1, 0, 3)], True, id="left again by the first mail"),
        pytest.param([(UN, 1, 0, 1), (UN, 2, 0, 2), (RE, 2, 0, 3)], False, id="left twice and came back"),
        pytest.param([(UN, 1, 0, 1), (RE, 3, 0, 2)], True, id="came back to another domain"),
        pytest.param([(UN, 1, 0, 1), (RE, 4, 0, 2)], True, id="somebody else came back"),
        pytest.param([(UN, 1, 0, 1), (RE, 2, 3, 2)], False, id="came back days later, after the period"),
        pytest.param([(UN, 1, 0, 1), (RE, 2, -3, 2)], True, id="came back days before"),
        pytest.param([(UN, 1, 0, 1), (RE, 5, 0, 2)], False, id="under a token that names nobody"),
        pytest.param([(UN, 1, 0, 1), (RE, 6, 0, 2)], False, id="by an alias"),
    ],
)
@pytest.mark.parametrize("hours", [True, False], ids=["hours-kept", "hours-purged"])
def test_the_last_word_counts(
    said: list[tuple[EventType, int, int, int]], listed: bool, hours: bool, apply: Make, accepted: Make, hit: Make,
    store: Path, reader: sqlite3.Connection, noon_us: int,
) -> None:  # fmt: skip
    """Who comes back by whichever mail of the sender domain is not listed, until they unsubscribe once more."""
    apply(
        accepted(1, recipients=("Ann@example.net",)),
        accepted(2, recipients=("ann@example.net",)),
        accepted(3, recipients=("ann@example.net",), domain="example.org"),
        accepted(4, recipients=("bob@example.net",)),
        accepted(5, recipients=("ann@example.net",), privacy=Privacy.ANONYMOUS),
        accepted(6, recipients=("ann@example.net",)),
    )
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(
            "UPDATE delivery SET original_recipient = recipient, recipient = 'x@elsewhere.example' WHERE message = 6"
        )
    for number, (kind, message, day, second) in enumerate(said):
        at_us = noon_us + day * DAY_US + second * 1_000_000
        hit_id = make_tracking_id(at_us, bytes([number] * 10))
        apply(hit(1, kind, message, at_us=at_us, hit_id=hit_id, recipient=int(message != 5)))
    if not hours:
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("DELETE FROM rollup WHERE span = 'hour'")
    found = names(recipients.unsubscribed(reader, noon_us, noon_us + DAY_US))
    assert [name and name.lower() for name in found] == (["ann@example.net"] if listed else [])


def test_summary_counts_all_and_keeps_some() -> None:
    """Everybody is counted, by domain too; the first few are kept."""
    rows = [{"recipient": f"u{n}@{'a' if n % 3 else 'b'}.example", "messages": n} for n in range(30)]
    group = recipients.summarise([*rows, {"recipient": None, "messages": 99}], 4, lambda row: row["messages"])
    assert (group.count, group.domains) == (31, (("a.example", 20), ("b.example", 10), ("", 1)))
    assert [row["messages"] for row in group.rows] == [99, 29, 28, 27]
