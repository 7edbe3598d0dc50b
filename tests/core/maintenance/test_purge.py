"""What goes by age, what stays, and that nobody is kept waiting."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.config import Retention
from postwake.events import Accepted, Direction, EventType, Hit, Requeued
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, open_writer
from postwake.store.maintenance import check_integrity, check_references
from postwake.store.purge import Limits, purge
from postwake.store.transaction import Transactions
from postwake.store.writer import Writer, wait

DAY_US = 86_400_000_000
NOTHING = Limits(None, None, None)
Ask = Callable[..., list[tuple[Any, ...]]]


def no_pause(_seconds: float) -> None:
    """Do not wait."""


def whole(store: Path) -> list[str]:
    """Return everything that is wrong with the store."""
    return [*check_integrity(store), *check_references(store)]


def test_limits_come_from_retention() -> None:
    """Days count back from now; 0 days is no limit."""
    limits = Limits.of(Retention(events_days=2, client_days=0, rollup_hours_days=1), 10 * DAY_US)
    assert limits == Limits(8 * DAY_US, None, 9 * DAY_US)


def test_without_limits_nothing_goes(store: Path, past: int, rows: Callable[[str], int]) -> None:
    """For ever is for ever."""
    before = {table: rows(table) for table in ("message", "event", "rollup", "user_agent")}
    assert purge(store, NOTHING, pause=no_pause).rows() == 0
    assert {table: rows(table) for table in before} == before


def test_old_messages_go_with_everything_of_theirs(store: Path, past: int, ask: Ask) -> None:
    """Message, deliveries, events, engagement, unused texts go; the younger stay whole; all rollups stay."""
    rollups = ask("SELECT * FROM rollup ORDER BY 1, 2, 3, 4, 5, 6")
    limit = past - 5 * DAY_US + 3_600_000_000
    found = purge(store, Limits(limit, None, None), pause=no_pause)

    assert (found.messages, found.deliveries, found.events) == (5, 5, 5 * 4)
    assert ask("SELECT count(*), min(at_us) >= ? FROM message", limit) == [(5, 1)]
    assert ask("SELECT count(*) FROM engagement") == [(5,)]
    assert ask("SELECT text FROM user_agent ORDER BY id") == [(f"Browser/{n}",) for n in range(6, 11)]
    assert (ask("SELECT count(*) FROM reply"), ask("SELECT count(*) FROM relay")) == ([(5,)], [(5,)])
    assert ask("SELECT * FROM rollup ORDER BY 1, 2, 3, 4, 5, 6") == rollups
    assert whole(store) == []


def test_a_dry_run_counts_what_a_run_does(store: Path, past: int, rows: Callable[[str], int]) -> None:
    """The same numbers, and nothing changed."""
    limits = Limits(past - 5 * DAY_US + 1, past - 2 * DAY_US, past - 3 * DAY_US)
    before = {table: rows(table) for table in ("message", "event", "rollup")}
    said = purge(store, limits, dry_run=True)
    assert {table: rows(table) for table in before} == before
    done = purge(store, limits, pause=no_pause)
    assert (said.messages, said.deliveries, said.events, said.clients, said.hourly_rollups) == (
        done.messages, done.deliveries, done.events, done.clients, done.hourly_rollups,
    )  # fmt: skip
    assert said.messages


@pytest.mark.parametrize("state", [0, 2], ids=["queued", "deferred"])
def test_mail_in_the_queue_stays(store: Path, past: int, finish: Callable[..., None], ask: Ask, state: int) -> None:
    """However old: what is still queued or deferred is not touched, and is counted."""
    finish(2, state=state)
    found = purge(store, Limits(past - DAY_US, None, None), pause=no_pause)
    assert found.kept_in_queue == 1
    assert ask("SELECT id FROM message WHERE at_us < ?", past - DAY_US) == [(2,)]
    assert ask("SELECT count(*) FROM event WHERE message = 2") == [(5,)]
    assert whole(store) == []


def test_a_queue_id_whose_end_was_never_logged_does_not_keep_a_message(
    store: Path, past: int, transactions: Transactions, ask: Ask
) -> None:
    """All recipients have their last word: the message goes, and what stood for its queue ID too."""
    with transactions.begin() as transaction:
        transaction.execute("INSERT INTO queue (queue_id, at_us, message) VALUES ('LOST', 1, 3)")
    purge(store, Limits(past - DAY_US, None, None), pause=no_pause)
    assert ask("SELECT count(*) FROM queue WHERE message = 3") == [(0,)]
    assert whole(store) == []


def test_parts_of_a_message_go_with_it(
    store: Path, past: int, apply: Callable[..., None], tracking_id: Callable[..., bytes], ask: Ask
) -> None:
    """A second queue ID lives and goes with the message that it turned out to be, though its row is younger."""
    limit = past - 5 * DAY_US + 1
    apply(Requeued(limit + 5, tracking_id(5, past - 5 * DAY_US), "SECOND"))
    assert ask("SELECT count(*) FROM message WHERE queue_id = 'SECOND'") == [(1,)]
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM queue")
        connection.execute("INSERT INTO message (at_us, queue_id) VALUES (?, 'NEWEST')", (past,))
    purge(store, Limits(limit, None, None), pause=no_pause)
    assert ask("SELECT count(*) FROM message WHERE queue_id = 'SECOND'") == [(0,)]
    assert whole(store) == []


def test_a_bounce_outlives_the_mention_of_its_mail(store: Path, past: int, ask: Ask) -> None:
    """The younger notification no longer names its purged original."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE message SET parent = 5 WHERE id = 6")
    purge(store, Limits(past - 5 * DAY_US + 1, None, None), pause=no_pause)
    assert ask("SELECT parent FROM message WHERE id = 6") == [(None,)]


def test_a_late_hit_does_not_bring_a_message_back(
    store: Path,
    past: int,
    apply: Callable[..., None],
    hit: Callable[..., Hit],
    tracking_id: Callable[..., bytes],
    ask: Ask,
) -> None:
    """A hit on purged mail is recorded, without a message; a hit that was there and is young stays the same way."""
    apply(hit(98, EventType.CLICKED, at_us=past, tracking_id=tracking_id(1, past - 9 * DAY_US)))
    apply(hit(97, at_us=past))  # number 10's, so that 98 is not the newest event
    purge(store, Limits(past - DAY_US, None, None), pause=no_pause)
    apply(hit(99, EventType.CLICKED, at_us=past, tracking_id=tracking_id(1, past - 9 * DAY_US)))
    late = ask(
        "SELECT message, delivery FROM event WHERE hit_id IN (?, ?)", (98).to_bytes(16, "big"), (99).to_bytes(16, "big")
    )
    assert late == [(None, None), (None, None)]
    assert ask("SELECT count(*) FROM message WHERE id < 9") == [(0,)]
    assert whole(store) == []


def test_numbers_are_not_given_out_again(
    store: Path, past: int, accepted: Callable[..., Accepted], apply: Callable[..., None], ask: Ask
) -> None:
    """Even when everything is too old, who looked up to a number finds the next event behind it, rollups a reply."""
    numbers = ", ".join(f"(SELECT max(id) FROM {table})" for table in ("event", "message", "delivery", "reply"))
    ask("INSERT INTO reply (text) VALUES ('said once')")  # no event refers to it
    highest = ask(f"SELECT {numbers}")[0]
    purge(store, Limits(past + 50 * DAY_US, None, None), pause=no_pause)
    apply(accepted(50, at_us=past + 60 * DAY_US))
    ask("INSERT INTO reply (text) VALUES ('another')")
    after = ask(f"SELECT {numbers}")[0]
    assert all(new > old for new, old in zip(after, highest, strict=True))
    assert whole(store) == []


def test_readers_addresses_go_and_their_hits_stay(store: Path, past: int, ask: Ask) -> None:
    """Address and agent are NULL past their limit; who, when and what stay; a second run finds nothing."""
    before = ask("SELECT id, at_us, type, who, url FROM event ORDER BY id")
    limits = Limits(None, past - 2 * DAY_US, None)
    assert purge(store, limits, pause=no_pause).clients == 14
    left = ask("SELECT DISTINCT event.client, user_agent.text FROM event JOIN user_agent ON user_agent.id = user_agent")
    assert sorted(left) == [("192.0.2.10", "Browser/10"), ("192.0.2.8", "Browser/8"), ("192.0.2.9", "Browser/9")]
    assert ask("SELECT count(*) FROM user_agent") == [(3,)]
    assert ask("SELECT id, at_us, type, who, url FROM event ORDER BY id") == before
    assert purge(store, limits, pause=no_pause).clients == 0
    assert purge(store, Limits(None, past + DAY_US, None), pause=no_pause).clients == 6
    assert ask("SELECT count(*) FROM event WHERE client IS NOT NULL OR user_agent IS NOT NULL") == [(0,)]


def test_hourly_rollups_go_and_daily_ones_stay(store: Path, past: int, ask: Ask) -> None:
    """Only span hour, only past the limit."""
    others = ask(
        "SELECT * FROM rollup WHERE span <> 'hour' OR start_us >= ? ORDER BY 1, 2, 3, 4, 5, 6", past - 3 * DAY_US
    )
    assert purge(store, Limits(None, None, past - 3 * DAY_US), pause=no_pause).hourly_rollups
    assert ask("SELECT * FROM rollup ORDER BY 1, 2, 3, 4, 5, 6") == others


def test_a_writer_looks_a_deleted_text_up_anew(store: Path, past: int, transactions: Transactions, ask: Ask) -> None:
    """A process that remembers a text's number enters it again after the purge: no event names a text that is gone."""
    with transactions.begin() as transaction:
        number = transaction.relays.id("mx1.example.net")
    purge(store, Limits(past - DAY_US, None, None), pause=no_pause)
    assert ask("SELECT count(*) FROM relay WHERE id = ?", number) == [(0,)]
    with transactions.begin() as transaction:
        transaction.execute(
            "INSERT INTO event (at_us, type, relay) VALUES (?, 3, ?)", (past, transaction.relays.id("mx1.example.net"))
        )
    assert whole(store) == []


def test_beside_a_writer(
    store: Path, past: int, accepted: Callable[..., Accepted], hit: Callable[..., Hit], ask: Ask
) -> None:
    """While another connection writes, old mail goes, nothing new is lost, nothing dangles."""
    with closing(Transactions(open_writer(store), WriteLock(store))) as bulk, bulk.begin() as transaction:
        for n in range(100, 1600):
            apply_event(transaction, accepted(n, at_us=past - 400 * DAY_US, recipients=(f"old{n}@example.net",)))
        transaction.execute("UPDATE delivery SET state = 1 WHERE state = 0")
        transaction.execute("DELETE FROM queue")
    writer = Writer(store)
    stop = threading.Event()
    begun = threading.Event()
    written = []

    def write() -> None:
        n = 10_000
        while not stop.is_set():
            message = accepted(n, at_us=past)
            event = hit(
                n, EventType.CLICKED, at_us=past, tracking_id=message.tracking_id, url=f"https://example.com/{n % 7}"
            )
            wait(writer.submit(lambda transaction, m=message: apply_event(transaction, m)), 20)
            wait(writer.submit(lambda transaction, e=event: apply_event(transaction, e)), 20)
            written.append(n)
            begun.set()
            n += 1

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(20)
    try:
        found = purge(store, Limits(past - 5 * DAY_US, None, None), pause=no_pause)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert found.messages == 1500 + 4
    assert len(written) > 1
    assert ask("SELECT count(*) FROM event WHERE type = 8 AND at_us = ?", past) == [(len(written),)]
    assert ask("SELECT count(*) FROM message WHERE at_us = ? AND direction = ?", past, Direction.OUTBOUND) == [
        (len(written) + 1,)
    ]
    assert whole(store) == []
    assert found.longest_ms < 1000  # 50 on an idle machine; this one may be anything but
