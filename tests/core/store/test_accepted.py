"""The milter's events: once, whatever came before them."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.events import Accepted, Direction, EventType, Hit, Requeued, State, Who
from postwake.store import queries
from postwake.store.accepted import MERGES, apply_together
from postwake.store.apply import apply_event
from postwake.store.bulk import Bulk
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.counting import count_event
from postwake.store.dictionary import StoredReply
from postwake.store.many_rows import NotTogetherError
from postwake.store.transaction import Transactions
from postwake.store.writer import Writer

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Any]
HOUR_US = 3_600_000_000


@pytest.fixture
def log_says(transactions: Transactions, noon_us: int) -> Callable[..., int]:
    """Write a message as the log parser does that met it before the milter's row, each recipient's state given."""

    def write(queue_id: str, states: dict[str, State], at_us: int = noon_us, originals: dict[str, str] | None = None):
        with transactions.begin() as transaction:
            bulk = Bulk(transaction)
            row = bulk.new_message(at_us, Direction.OUTBOUND, "bounce.example.com")
            row.queue_id = queue_id
            bulk.new_event(at_us, EventType.ACCEPTED, row.id)
            for recipient, state in states.items():
                delivery = bulk.new_delivery(row, recipient, at_us)
                delivery.state = state
                delivery.original_recipient = (originals or {}).get(recipient)
                if state in (State.SENT, State.BOUNCED):
                    kind = EventType[state.name]
                    reply = (
                        StoredReply("no", 550, "5.1.1", "hard", "recipient", "bad-mailbox")
                        if state is State.BOUNCED
                        else StoredReply("ok", 250)
                    )
                    number = bulk.new_event(at_us, kind, row.id, delivery.id, reply=transaction.replies.id(reply))
                    delivery.last_event = number
                    count_event(transaction.rollup, at_us, kind.label, row.cohort, recipient=recipient)
                    if reply.category:
                        transaction.rollup.add("event", at_us, kind.label, dimension="category", key=reply.category)
                        transaction.rollup.add("event", at_us, kind.label, dimension="kind", key="hard")
            bulk.flush()
            transaction.execute(
                "INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", (queue_id, at_us, row.id)
            )
        return row.id

    return write


def rollups(ask: Ask) -> dict[tuple[str, ...], int]:
    """Return the rollups of all days together that are not zero."""
    rows = ask(
        "SELECT basis, dimension, key, measure, sum(n) FROM rollup WHERE span = 'day'"
        " GROUP BY basis, dimension, key, measure HAVING sum(n) <> 0"
    )
    return {row[:4]: row[4] for row in rows}


def test_everything_is_stored(apply: Make, accepted: Make, ask: Ask) -> None:
    """Every field of the event is in the message's row."""
    apply(
        accepted(
            tag="weekly",
            campaign="w47",
            metadata={"a": "ü"},
            size_bytes=5000,
            client="host[192.0.2.1]",
            sasl_username="news",
            pixels=1,
            links=7,
            links_skipped={"mailto": 2},
            parts_rewritten=1,
            rewrite_us=900,
        )
    )
    ((*row,),) = ask(
        "SELECT direction, host, queue_id, message_id, sender, domain, recipients, subject, tag, campaign, metadata,"
        " size_bytes, client, sasl_username, tracked, untracked_reason, privacy, pixels, links, links_skipped,"
        " parts_rewritten, rewrite_us FROM message"
    )
    assert row == [
        *(
            1,
            "mail",
            "4F2A81B3C1",
            "m1@example.com",
            "news@example.com",
            "example.com",
            1,
            "Subject 1",
            "weekly",
            "w47",
        ),
        *('{"a": "ü"}', 5000, "host[192.0.2.1]", "news", 1, None, 0, 1, 7, '{"mailto": 2}', 1, 900),
    ]
    assert ask("SELECT queue_id, message FROM queue") == [("4F2A81B3C1", 1)]


def test_twice_is_once(apply: Make, accepted: Make, ask: Ask) -> None:
    """The same event again changes nothing at all, whatever happened to the message meanwhile."""
    apply(accepted(), accepted(2, untracked_reason="no-html", tracked=False))
    tables = ("message", "delivery", "event", "queue", "rollup")
    before = {table: ask(f"SELECT * FROM {table}") for table in tables}
    apply(accepted(), accepted(2, untracked_reason="no-html", tracked=False))
    assert {table: ask(f"SELECT * FROM {table}") for table in tables} == before


def test_repeated_recipients(apply: Make, accepted: Make, ask: Ask) -> None:
    """A recipient named twice, in whatever case, has one delivery, under the first index."""
    apply(accepted(recipients=("a@example.net", "B@example.net", "A@EXAMPLE.net", "b@example.net", "c@example.net")))
    assert ask("SELECT idx, recipient FROM delivery ORDER BY idx") == [
        (1, "a@example.net"),
        (2, "B@example.net"),
        (5, "c@example.net"),
    ]
    assert rollups(ask)["cohort", "all", "", "queued"] == 3


def test_inbound_is_counted_apart(apply: Make, accepted: Make, ask: Ask) -> None:
    """Inbound mail is counted under "inbound" and in no other dimension, its reason apart."""
    apply(accepted(direction=Direction.INBOUND, tag="x", tracked=False, untracked_reason="inbound"))
    assert rollups(ask) == {
        ("event", "inbound", "", "received"): 1,
        ("event", "reason", "inbound", "untracked"): 1,
        ("cohort", "inbound", "", "messages"): 1,
        ("cohort", "inbound", "", "queued"): 1,
    }
    assert ask("SELECT type FROM event") == [(EventType.RECEIVED,)]


@pytest.mark.parametrize("offset_us", [0, 59 * 60_000_000, -4_000_000])
def test_late_after_the_log(
    offset_us: int, log_says: Make, apply: Make, accepted: Make, ask: Ask, noon_us: int
) -> None:
    """A row that waited in the spool completes the message that the log has made: one message, its states kept."""
    log_says("4F2A81B3C1", {"ann@example.net": State.SENT, "bob@example.net": State.BOUNCED}, noon_us + offset_us)
    event = accepted(tag="weekly", recipients=("Ann@example.net", "bob@example.net", "cy@example.net"))
    apply(event, event)
    assert ask("SELECT id, tracking_id, subject, at_us FROM message") == [(1, event.tracking_id, "Subject 1", noon_us)]
    assert ask("SELECT idx, recipient, state FROM delivery ORDER BY idx") == [
        (1, "ann@example.net", State.SENT),
        (2, "bob@example.net", State.BOUNCED),
        (3, "cy@example.net", State.QUEUED),
    ]
    assert ask("SELECT count(*) FROM event WHERE type = ?", EventType.ACCEPTED) == [(1,)]
    assert ask("SELECT value FROM meta WHERE key = ?", MERGES) == [("1",)]
    found = rollups(ask)
    for dimension, key in (("all", ""), ("sender_domain", "example.com"), ("tag", "weekly")):
        assert {key_[3]: n for key_, n in found.items() if key_[:3] == ("cohort", dimension, key)} == {
            "messages": 1,
            "sent": 1,
            "bounced": 1,
            "queued": 1,
        }
        assert {key_[3]: n for key_, n in found.items() if key_[:3] == ("event", dimension, key)} == {
            "accepted": 1,
            "sent": 1,
            "bounced": 1,
        }
    assert not [key for key in found if key[2] == "bounce.example.com"]
    assert found["event", "category", "bad-mailbox", "bounced"] == 1


def test_not_the_same_mail(log_says: Make, apply: Make, accepted: Make, ask: Ask, noon_us: int) -> None:
    """A queue ID that was used moments ago, and one that is part of another message, are other mail."""
    log_says("4F2A81B3C1", {"ann@example.net": State.SENT}, noon_us - 10_000_000)
    apply(accepted())
    assert ask("SELECT count(*) FROM message") == [(2,)]
    apply(Requeued(noon_us, accepted().tracking_id, "SECOND1234"))
    apply(accepted(2, queue_id="SECOND1234"))
    assert ask("SELECT count(*) FROM messages") == [(3,)]


def test_late_and_the_log_says_inbound(log_says: Make, apply: Make, accepted: Make, ask: Ask) -> None:
    """When the milter knows that the log's message was inbound, all that was counted moves to "inbound"."""
    log_says("4F2A81B3C1", {"ann@example.net": State.BOUNCED})
    apply(accepted(direction=Direction.INBOUND, tracked=False))
    assert {key: n for key, n in rollups(ask).items() if key[1] not in ("inbound", "reply")} == {}
    assert rollups(ask)["event", "inbound", "", "bounced"] == 1
    assert ask("SELECT type FROM event ORDER BY id LIMIT 1") == [(EventType.RECEIVED,)]


def test_late_after_a_hit(apply: Make, accepted: Make, hit: Make, ask: Ask) -> None:
    """A reader who was faster than the spool: the stub becomes the message, the hit finds its recipient."""
    apply(hit(1, who=Who.HUMAN), hit(2, EventType.UNSUBSCRIBED))
    assert ask("SELECT queue_id, tracked FROM message") == [(None, 1)]
    apply(accepted(tag="weekly"))
    assert ask("SELECT id, queue_id, subject FROM message") == [(1, "4F2A81B3C1", "Subject 1")]
    assert ask("SELECT recipient FROM opens") == [("ann@example.net",)]
    assert ask("SELECT queue_id, message FROM queue") == [("4F2A81B3C1", 1)]
    found = rollups(ask)
    for dimension, key in (("all", ""), ("sender_domain", "example.com"), ("tag", "weekly")):
        assert found["event", dimension, key, "opened.human"] == 1
        assert found["event", dimension, key, "accepted"] == 1
        assert found["cohort", dimension, key, "unsubscribed"] == 1
        assert found["cohort", dimension, key, "messages"] == 1


def test_late_after_the_log_and_a_hit(log_says: Make, apply: Make, accepted: Make, hit: Make, ask: Ask) -> None:
    """Delivered and opened before the row came: the log's message and the hit's stub become one, counted once."""
    log_says("4F2A81B3C1", {"ann@example.net": State.SENT})
    apply(hit(1, who=Who.HUMAN), hit(2, EventType.CLICKED, who=Who.MACHINE, url="https://example.com/"))
    assert ask("SELECT count(*) FROM message") == [(2,)]
    apply(accepted(), accepted())
    assert ask("SELECT id, queue_id, lower(hex(tracking_id)) FROM message") == [
        (1, "4F2A81B3C1", accepted().tracking_id.hex())
    ]
    assert ask("SELECT recipient, state FROM delivery") == [("ann@example.net", State.SENT)]
    assert ask("SELECT recipient FROM opens UNION ALL SELECT recipient FROM clicks") == [("ann@example.net",)] * 2
    assert ask("SELECT message, opens_human, clicks_machine FROM engagement") == [(1, 1, 1)]
    found = rollups(ask)
    expected = {"messages": 1, "sent": 1, "opened_human": 1, "opened_possible": 1, "opened_any": 1, "clicked_any": 1}
    assert {key[3]: n for key, n in found.items() if key[:3] == ("cohort", "all", "")} == expected
    apply(hit(3))
    assert ask("SELECT message, opens_unknown FROM engagement") == [(1, 1)]


def test_an_alias_is_known_by_what_was_asked_for(log_says: Make, apply: Make, accepted: Make, ask: Ask) -> None:
    """A recipient that the log knows under the address it led to gets the index, and no second delivery."""
    log_says("4F2A81B3C1", {"joe@mailbox": State.SENT}, originals={"joe@mailbox": "ann@example.net"})
    apply(accepted())
    assert ask("SELECT idx, recipient, original_recipient FROM delivery") == [(1, "joe@mailbox", "ann@example.net")]


def test_requeued(apply: Make, accepted: Make, ask: Ask, store: Path, noon_us: int) -> None:
    """A second queue ID is the same message, is found by either for ever, and is noted once."""
    again = Requeued(noon_us + 1_000_000, accepted().tracking_id, "SECOND1234")
    apply(accepted(), again, again)
    assert ask("SELECT queue_id, message FROM queue ORDER BY id") == [("4F2A81B3C1", 1), ("SECOND1234", 1)]
    ask("DELETE FROM queue")
    apply(again)
    with closing(open_reader(store)) as connection:
        assert queries.find_messages(connection, "SECOND1234") == [1]
        assert queries.find_messages(connection, "4F2A81B3C1") == [1]
    assert ask("SELECT count(*) FROM messages") == [(1,)]
    assert rollups(ask)["cohort", "all", "", "messages"] == 1


def test_requeued_with_anothers_stamp(apply: Make, tracking_id: Make, ask: Ask, noon_us: int) -> None:
    """A stamp that is not ours is left to the log."""
    apply(Requeued(noon_us, tracking_id(99), "SECOND1234"))
    assert ask("SELECT * FROM queue") == ask("SELECT * FROM message") == []


@pytest.mark.parametrize("at_us", [-1, -HOUR_US * 30, 0, 1, 2**62], ids=["before-1970", "days-before", "0", "1", "far"])
def test_wild_times(
    at_us: int, apply: Make, accepted: Callable[..., Accepted], hit: Callable[..., Hit], ask: Ask
) -> None:
    """A clock that is wrong by centuries is stored and counted in its own hour and day, below and above zero."""
    apply(accepted(at_us=at_us, tracking_id=bytes(15) + b"1"), hit(tracking_id=bytes(15) + b"1", at_us=at_us))
    hour_us, day_us = at_us - at_us % HOUR_US, at_us - at_us % (24 * HOUR_US)
    assert {row[0] for row in ask("SELECT start_us FROM rollup WHERE span = 'hour'")} == {hour_us}
    assert {row[0] for row in ask("SELECT start_us FROM rollup WHERE span = 'day'")} == {day_us}
    assert len(ask("SELECT at FROM messages UNION ALL SELECT at FROM opens")) == 2


@pytest.mark.parametrize("count", [1, 5, 40], ids=["alone", "a few", "more than one statement"])
def test_together_is_one_by_one(count: int, empty_store: Path, tmp_path: Path, accepted: Make) -> None:
    """Messages written together leave the rows that they leave one by one, numbers and counts among them."""
    events = [
        accepted(
            n,
            recipients=("a@example.net", "b@example.org", "A@example.net")[: n % 4],
            tag="weekly" if n % 2 else "",
            direction=Direction.INBOUND if n % 7 == 3 else Direction.OUTBOUND,
            tracked=n % 3 > 0,
            untracked_reason="" if n % 3 else "no-html",
            subject="a\0b",
        )
        for n in range(1, count + 1)
    ]
    found = []
    for together in (True, False):
        path = Path(shutil.copy(empty_store, tmp_path / f"{together}.db"))
        transactions = Transactions(open_writer(path), WriteLock(path))
        with transactions.begin() as transaction:
            if together:
                apply_together(transaction, events)
            else:
                for event in events:
                    apply_event(transaction, event)
        transactions.close()
        with closing(open_reader(path)) as connection:
            tables = ("message", "event", "queue", "delivery", "rollup")
            found.append([[tuple(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables])
    assert found[0] == found[1]
    assert len(found[0][0]) == count


def test_together_only_where_nothing_is_known(
    transactions: Transactions, accepted: Make, log_says: Make, noon_us: int
) -> None:
    """What is there already, in whole or as the log made it, comes twice, or lies in two hours, goes one by one."""
    with transactions.begin() as transaction:
        apply_event(transaction, accepted(1))
    log_says("LOGMADE", {"a@example.net": State.SENT})
    groups = (
        [accepted(1), accepted(2)],
        [accepted(3), accepted(4, queue_id="LOGMADE")],
        [accepted(5), accepted(5)],
        [accepted(6), accepted(7, at_us=noon_us + HOUR_US)],
    )
    for group in groups:
        with pytest.raises((NotTogetherError, sqlite3.IntegrityError)), transactions.begin() as transaction:
            apply_together(transaction, group)


class Group:
    """Events that wait together."""

    def __init__(self, events: Sequence[Accepted]) -> None:
        self.events = events
        self.told = threading.Event()
        self.problems: Mapping[int, Exception] | None = None

    def take(self) -> Sequence[Accepted]:
        return self.events

    def written(self, problems: Mapping[int, Exception]) -> None:
        self.problems = problems
        self.told.set()

    def refused(self, error: StoreUnavailableError) -> None:
        self.told.set()


def test_a_group_with_one_that_is_there_already(store: Path, accepted: Make, ask: Ask) -> None:
    """A message that comes again among new ones is written once, and so are they."""
    writer = Writer(store)
    try:
        writer.submit(lambda transaction: apply_event(transaction, accepted(1))).result(20)
        group = Group([accepted(n) for n in (2, 1, 3)])
        writer.submit_batch(group, 3)
        assert group.told.wait(20)
        assert group.problems == {}
    finally:
        writer.close()
    assert ask("SELECT count(*), count(DISTINCT tracking_id) FROM message") == [(3, 3)]
    assert ask("SELECT n FROM rollup WHERE span = 'all' AND dimension = 'all' AND measure = 'accepted'") == [(3,)]
