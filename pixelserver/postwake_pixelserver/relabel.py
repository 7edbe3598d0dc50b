"""Judging stored hits again, once time and the message's other hits have spoken.

One thread in one process per store does it (:class:`Relabeler` takes a lock file): it looks at the opens and clicks
that came since it last looked, gives :func:`postwake_pixelserver.burst.judge` all hits of the messages concerned, and
has the store change the verdicts, which keeps the old ones. Where it stands is a row in ``meta`` that commits with the
relabelings, so that a crash repeats a look and changes nothing twice.

A hit may be older than the knowledge about it: the log parser reports the 250 a moment after the remote server said
it, and a sweep's last link comes after its first. So hits are looked at :data:`SETTLE_US` after they came, and a
message's earlier hits are looked at again with every new one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from postwake.errors import StoreUnavailableError
from postwake.events import EventType, State, Who
from postwake.store.hits import relabel
from postwake.store.transaction import Transaction
from postwake_pixelserver.burst import SWEEP_US, Relabeling, Seen, judge

log = logging.getLogger("postwake.pixelserver")

T = TypeVar("T")

SETTLE_US = SWEEP_US + 5_000_000
"""A sweep has ended and the log parser has told the delivery by then."""
MESSAGES_A_TURN = 50
"""So that one turn's transaction stays short."""
HITS_A_MESSAGE = 500
"""A message and recipient with more hits than this is judged on its first ones: a person's were among them."""
_META = "relabeled_up_to_event"
_HITS = (int(EventType.OPENED), int(EventType.CLICKED))


class Writer(Protocol):
    """What runs a job in a write transaction: :class:`postwake.store.writer.Writer`."""

    def submit(self, job: Callable[[Transaction], T]) -> Future[T]:
        """Queue *job*; the future gives its result after the commit."""


def turn(transaction: Transaction, now_us: int) -> tuple[int, int]:
    """Judge the messages of the next settled hits; return how many hits were looked at and how many relabeled."""
    start = transaction.execute("SELECT value FROM meta WHERE key = ?", (_META,)).fetchone()
    after = int(start[0]) if start else 0
    fresh = transaction.execute(
        "SELECT id, at_us, type, message, recipient_idx FROM event WHERE id > ? ORDER BY id LIMIT 2000", (after,)
    ).fetchall()
    groups: dict[tuple[int, int], None] = {}
    looked = 0
    for event, at_us, kind, message, recipient in fresh:
        if kind in _HITS:
            if at_us > now_us - SETTLE_US or len(groups) >= MESSAGES_A_TURN:
                break
            if message is not None:
                groups[message, recipient or 0] = None
        elif kind == EventType.SENT and message is not None:
            # The delivery became known after the hits (a log that was read late): look at them again.
            groups.update(dict.fromkeys(_engaged(transaction.connection, message)))
        after = event
        looked += 1
    changed = 0
    for message, recipient in groups:
        for relabeling in _judge_stored(transaction.connection, message, recipient):
            relabel(transaction, relabeling.event, relabeling.who, relabeling.reason, now_us)
            changed += 1
    if looked:
        transaction.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_META, str(after)),
        )
    return looked, changed


def _engaged(connection: sqlite3.Connection, message: int) -> list[tuple[int, int]]:
    """Return (message, recipient) of everybody who has hits on *message*."""
    rows = connection.execute("SELECT recipient_idx FROM engagement WHERE message = ?", (message,))
    return [(message, recipient) for (recipient,) in rows]


def _judge_stored(connection: sqlite3.Connection, message: int, recipient: int) -> list[Relabeling]:
    rows = connection.execute(
        "SELECT event.id, event.at_us, type, coalesce(link, 0), coalesce(who, 0), coalesce(client, ''),"
        " coalesce(user_agent.text, '')"
        " FROM event LEFT JOIN user_agent ON user_agent.id = event.user_agent"
        " WHERE message = ? AND coalesce(recipient_idx, 0) = ? AND type IN (?, ?) ORDER BY event.at_us LIMIT ?",
        (message, recipient, *_HITS, HITS_A_MESSAGE),
    ).fetchall()
    hits = [
        Seen(event, at_us, EventType(kind), link, Who(who), client, agent)
        for event, at_us, kind, link, who, client, agent in rows
    ]
    links = connection.execute("SELECT coalesce(links, 0) FROM message WHERE id = ?", (message,)).fetchone()
    delivered = connection.execute(
        "SELECT min(last_attempt_us) FROM delivery WHERE message = ? AND state = ? AND (? = 0 OR idx = ?)",
        (message, State.SENT, recipient, recipient),
    ).fetchone()
    return judge(hits, delivered_at_us=delivered[0], links=links[0] if links else 0, shared=recipient == 0)


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
                looked = 1
                while looked and not self._stop.is_set():
                    looked, changed = self._writer.submit(lambda transaction: turn(transaction, self._now_us())).result(
                        60
                    )
                    self._on_relabeled(changed)
            except (StoreUnavailableError, TimeoutError, sqlite3.Error) as error:
                log.warning("relabeling=postponed error=%s", error)
        if descriptor is not None:
            os.close(descriptor)

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
