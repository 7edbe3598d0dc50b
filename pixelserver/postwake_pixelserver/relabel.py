"""Judging stored hits again, once time and the message's other hits have spoken.

One thread in one process per store does it (:class:`Relabeler` takes a lock file): it looks at the opens and clicks
that came since it last looked, gives :func:`postwake_pixelserver.burst.judge` all hits of the messages concerned, and
has the store change the verdicts, which keeps the old ones. Where it stands is a row in ``meta`` that commits after the
relabelings, so that a crash repeats a look and changes nothing twice.

A hit may be older than the knowledge about it: the log parser reports the 250 a moment after the remote server said
it, and a sweep's last link comes after its first. So hits are looked at :data:`SETTLE_US` after they came, and a
message's earlier hits are looked at again with every new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from postwake.errors import PostwakeError
from postwake.events import EventType, Who
from postwake.store.connection import open_reader
from postwake.store.hits import JUDGED_UP_TO, delivered_at_us, relabel
from postwake.store.transaction import Transaction
from postwake_pixelserver.burst import MARGIN_US, OPEN_REACH_US, SWEEP_US, Relabeling, Seen, judge

log = logging.getLogger("postwake.pixelserver")

T = TypeVar("T")

SETTLE_US = SWEEP_US + 5_000_000
"""A sweep has ended and the log parser has told the delivery by then."""
EVENTS_A_TURN = 2000
MESSAGES_A_TURN = 50
RELABELINGS_A_JOB = 100
"""So that a write transaction stays in the low milliseconds."""
REST = 4
"""After each turn it rests so many times as long as that took of the processor: others are being answered."""
EARLIER_HITS = 500
"""Of a message's hits before the new ones, so many of the latest are looked at: a person's are among them."""
_HITS = (int(EventType.OPENED), int(EventType.CLICKED))


class Writer(Protocol):
    """What runs a job in a write transaction: :class:`postwake.store.writer.Writer`."""

    def submit(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Queue *job*; the future gives its result after the commit."""


@dataclass(slots=True)
class Look:
    """What one look found: from which event to which it went, over how many, and what has to change."""

    before: int
    after: int
    looked: int = 0
    relabelings: list[Relabeling] = field(default_factory=list)


def look(connection: sqlite3.Connection, now_us: int) -> Look:
    """Judge the messages of the next settled hits; only reads, so that nobody who writes waits for it."""
    start = connection.execute("SELECT value FROM meta WHERE key = ?", (JUDGED_UP_TO,)).fetchone()
    before = int(start[0]) if start else 0
    found = Look(before, before)
    fresh = connection.execute(
        "SELECT id, at_us, type, message, coalesce(recipient_idx, 0), delivery FROM event WHERE id > ?"
        " ORDER BY id LIMIT ?",
        (found.after, EVENTS_A_TURN),
    ).fetchall()
    groups: dict[tuple[int, int], tuple[int, int]] = {}
    """(message, recipient) → the times of the earliest and the latest hit to be judged."""
    for event, at_us, kind, message, recipient, delivery in fresh:
        if kind in (*_HITS, EventType.SENT) and len(groups) >= MESSAGES_A_TURN:
            break
        if kind in _HITS:
            # A hit that seems to be of the future came while the clock was wrong: none behind it waits until then.
            if abs(now_us - at_us) < SETTLE_US:
                break
            if message is not None:
                first_us, last_us = groups.get((message, recipient), (at_us, at_us))
                groups[message, recipient] = min(first_us, at_us), max(last_us, at_us)
        elif kind == EventType.SENT and message is not None:
            # The delivery became known after the hits (a log that was read late): look at all of them again.
            groups.update(dict.fromkeys(_engaged(connection, message, delivery), (0, now_us)))
        found.after = event
        found.looked += 1
    for (message, recipient), (first_us, last_us) in groups.items():
        found.relabelings += _judge_stored(connection, message, recipient, first_us, last_us)
    return found


def carry_out(found: Look, now_us: int) -> Iterator[Callable[[Transaction], None]]:
    """Yield the jobs that change the verdicts *found* says, few in each, and at last remember how far it went.

    A crash between two of them has the next look find the rest again.
    """
    for start in range(0, len(found.relabelings), RELABELINGS_A_JOB):
        yield partial(_relabel_all, found.relabelings[start : start + RELABELINGS_A_JOB], now_us)
    yield partial(_remember, found.before, found.after)


def _relabel_all(relabelings: Sequence[Relabeling], now_us: int, transaction: Transaction) -> None:
    for relabeling in relabelings:
        relabel(transaction, relabeling.event, relabeling.who, relabeling.reason, now_us)


def _remember(before: int, after: int, transaction: Transaction) -> None:
    # Unless somebody has set it back in the meantime, to have hits judged again.
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        " WHERE CAST(value AS INTEGER) = ?3",
        (JUDGED_UP_TO, str(after), before),
    )


def _engaged(connection: sqlite3.Connection, message: int, delivery: int | None) -> list[tuple[int, int]]:
    """Return (message, recipient) of everybody with hits on *message* whom the *delivery* is about."""
    rows = connection.execute(
        "SELECT recipient_idx FROM engagement WHERE message = ?1 AND recipient_idx IN"
        " (0, coalesce((SELECT nullif(idx, 0) FROM delivery WHERE id = ?2), recipient_idx))",
        (message, delivery),
    )
    return [(message, recipient) for (recipient,) in rows]


def _judge_stored(
    connection: sqlite3.Connection, message: int, recipient: int, first_us: int, last_us: int
) -> list[Relabeling]:
    """Judge the hits from *first_us* to *last_us*, seen with those that a burst among them may reach."""
    select = (
        "SELECT event.id, event.at_us, type, coalesce(link, 0), coalesce(who, 0), coalesce(client, ''),"
        " coalesce(user_agent.text, ''), coalesce(reason, '')"
        " FROM event LEFT JOIN user_agent ON user_agent.id = event.user_agent"
        " WHERE message = ? AND coalesce(recipient_idx, 0) = ? AND type IN (?, ?) AND event.at_us BETWEEN ? AND ?"
        " ORDER BY event.at_us {} LIMIT ?"
    )
    key = (message, recipient, *_HITS)
    rows = connection.execute(
        select.format("DESC"), (*key, first_us - OPEN_REACH_US, first_us - 1, EARLIER_HITS)
    ).fetchall()
    # All the new ones are among these, however a machine hammers: a turn has no more than EVENTS_A_TURN.
    rows += connection.execute(
        select.format("ASC"), (*key, first_us, last_us + MARGIN_US, EVENTS_A_TURN + EARLIER_HITS)
    ).fetchall()
    hits = [
        Seen(event, at_us, EventType(kind), link, Who(who), client, agent, reason)
        for event, at_us, kind, link, who, client, agent, reason in rows
    ]
    links = connection.execute("SELECT coalesce(links, 0) FROM message WHERE id = ?", (message,)).fetchone()
    return judge(
        hits,
        delivered_at_us=delivered_at_us(connection, message, recipient),
        links=links[0] if links else 0,
        shared=recipient == 0,
    )


class Relabeler:
    """The thread. At most one process per store runs it: the others' try again whenever that one is gone."""

    def __init__(
        self,
        writer: Writer,
        store: Path,
        now_us: Callable[[], int],
        on_relabeled: Callable[[int], Any],
        every_s: float = 5.0,
    ) -> None:
        """Start looking every *every_s* seconds; *on_relabeled* is told how many verdicts changed."""
        self._writer = writer
        self._store = store
        self._lock_path = store.with_name(store.name + "-relabel-lock")
        self._now_us = now_us
        self._on_relabeled = on_relabeled
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relabel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the turn that runs now."""
        self._stop.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        descriptor: int | None = None
        while not self._stop.wait(self._every_s):
            if descriptor is None:
                descriptor = self._lock()
            if descriptor is None:
                continue
            try:
                self._catch_up()
            except (PostwakeError, TimeoutError, sqlite3.Error) as error:
                log.warning("relabeling=postponed error=%s", error)
        if descriptor is not None:
            os.close(descriptor)

    def _catch_up(self) -> None:
        with contextlib.closing(open_reader(self._store)) as connection:
            found = None
            rest_s = 0.0
            while (found is None or found.looked) and not self._stop.wait(rest_s):
                started_s = time.thread_time()
                now_us = self._now_us()
                found = look(connection, now_us)
                if found.looked:
                    for job in carry_out(found, now_us):
                        self._writer.submit(job).result(60)
                self._on_relabeled(len(found.relabelings))
                rest_s = REST * (time.thread_time() - started_s)

    def _lock(self) -> int | None:
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
