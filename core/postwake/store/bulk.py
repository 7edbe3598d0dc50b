"""Rows by the thousand: what the log parser writes in one transaction.

IDs are given out here, above the highest in the table, which nobody else can raise while the transaction holds the
write lock; so rows can refer to one another before any is inserted, and each table takes one ``executemany``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from postwake.events import Direction, EventType, State
from postwake.store.counting import Cohort, count_delivery, domain_of
from postwake.store.schema import HOUR_US
from postwake.store.transaction import Transaction

ROWS_A_STATEMENT = 50
"""More gain nothing; sixteen columns times this stay far below SQLite's limit of 32,766 variables."""

_LABELS = {state: state.label for state in State}
_FAILED = {int(kind): kind.label for kind in (EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED)}


@dataclass(slots=True, eq=False)
class MessageRow:
    """A message made from the log, as it will be inserted, or one that was loaded."""

    id: int
    cohort: Cohort
    host: str | None = None
    queue_id: str = ""
    message_id: str | None = None
    sender: str | None = None
    recipients: int | None = None
    size_bytes: int | None = None
    client: str | None = None
    sasl_username: str | None = None
    subject: str | None = None
    parent: int | None = None
    removed_us: int | None = None
    deliveries: dict[str, DeliveryRow] = field(default_factory=dict)
    """By recipient, lower case."""
    asked_for: dict[str, int] = field(default_factory=dict)
    """Index in the transaction by the recipient asked for, lower case, where an alias led to others."""
    tracked: bool = False
    """Whether the milter made it: it has a tracking ID."""
    stored: bool = False
    """Whether it is in the table already."""


@dataclass(slots=True, eq=False)
class DeliveryRow:
    """One message to one recipient."""

    id: int
    message: MessageRow
    recipient: str
    original_recipient: str | None = None
    idx: int = 0
    state: State = State.QUEUED
    attempts: int = 0
    at_us: int = 0
    first_attempt_us: int | None = None
    last_attempt_us: int | None = None
    last_event: int | None = None
    stored: bool = False
    domain: str = ""
    """The recipient's, under which it counts."""
    counted: State | None = None
    """The state that the rollups count it in; None before the first :meth:`Bulk.flush`, and when it was taken out."""


class Bulk:
    """The rows of one transaction, inserted by :meth:`flush`."""

    def __init__(self, transaction: Transaction) -> None:
        """Look up where the IDs begin."""
        self._transaction = transaction
        self.next_message = self._next("message")
        self.next_delivery = self._next("delivery")
        self.next_event = self._next("event")
        self.messages: list[MessageRow] = []
        self.deliveries: list[DeliveryRow] = []
        self.changed: dict[int, DeliveryRow] = {}
        self.events: list[tuple[Any, ...]] = []

    def new_message(self, at_us: int, direction: Direction, domain: str) -> MessageRow:
        """Return a new message of a sender at *domain*; it is counted when it is written."""
        number = self.next_message
        self.next_message = number + 1
        row = MessageRow(number, Cohort(number, at_us, direction, domain, ""))
        self.messages.append(row)
        return row

    def new_delivery(
        self, message: MessageRow, recipient: str, at_us: int, key: str = "", domain: str | None = None
    ) -> DeliveryRow:
        """Return a new delivery of *message*, entered under its recipient; it is counted when it is written.

        *key* and *domain* are the recipient in lower case and its domain, where the caller has them already.
        """
        number = self.next_delivery
        self.next_delivery = number + 1
        row = DeliveryRow(number, message, recipient, at_us=at_us)
        row.domain = domain_of(recipient) if domain is None else domain
        self.deliveries.append(row)
        message.deliveries[key or recipient.lower()] = row
        return row

    def uncount(self, delivery: DeliveryRow) -> None:
        """Take *delivery* out of the rollups; the next :meth:`flush` counts it anew, under what it says then."""
        if delivery.counted is not None:
            count_delivery(self._transaction.rollup, delivery.message.cohort, delivery.recipient, delivery.counted, -1)
            delivery.counted = None

    def new_event(
        self,
        at_us: int,
        kind: EventType,
        message: int | None,
        delivery: int | None = None,
        relay: int | None = None,
        reply: int | None = None,
        reply_part: str | None = None,
        delay_us: int | None = None,
        delays_us: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None),
        detail: str | None = None,
    ) -> int:
        """Enter an event; return its number."""
        number = self.next_event
        self.next_event = number + 1
        self.events.append(
            (number, at_us, int(kind), message, delivery, relay, reply, reply_part, delay_us, *delays_us, detail)
        )
        return number

    def touch(self, delivery: DeliveryRow) -> None:
        """Note that a delivery that is in the table has changed."""
        if delivery.stored:
            self.changed[delivery.id] = delivery

    def set_state(self, delivery: DeliveryRow, state: State) -> None:
        """Note what *delivery* has come to."""
        delivery.state = state
        if delivery.stored:
            self.changed[delivery.id] = delivery

    def flush(self) -> None:
        """Write everything entered so far.

        Enumeration members go in as plain numbers: SQLite's module looks for an adapter for each one that is not.
        """
        self._count()
        execute_many = self._transaction.executemany
        self._insert(
            "message (id, at_us, direction, host, queue_id, message_id, sender, domain, recipients, size_bytes, client,"
            " sasl_username, subject, tag, parent, removed_us)",
            [
                (
                    row.id,
                    row.cohort.at_us,
                    int(row.cohort.direction),
                    row.host,
                    row.queue_id,
                    row.message_id,
                    row.sender,
                    row.cohort.domain or None,
                    row.recipients,
                    row.size_bytes,
                    row.client,
                    row.sasl_username,
                    row.subject,
                    row.cohort.tag or None,
                    row.parent,
                    row.removed_us,
                )
                for row in self.messages
            ],
        )
        self._insert(
            "delivery (id, message, recipient, original_recipient, idx, state, attempts, at_us, first_attempt_us,"
            " last_attempt_us, last_event)",
            [
                (
                    row.id,
                    row.message.id,
                    row.recipient,
                    row.original_recipient,
                    row.idx,
                    int(row.state),
                    row.attempts,
                    row.at_us,
                    row.first_attempt_us,
                    row.last_attempt_us,
                    row.last_event,
                )
                for row in self.deliveries
            ],
        )
        execute_many(
            "UPDATE delivery SET message = ?, recipient = ?, original_recipient = ?, idx = ?, state = ?, attempts = ?,"
            " first_attempt_us = ?, last_attempt_us = ?, last_event = ? WHERE id = ?",
            [
                (
                    row.message.id,
                    row.recipient,
                    row.original_recipient,
                    row.idx,
                    int(row.state),
                    row.attempts,
                    row.first_attempt_us,
                    row.last_attempt_us,
                    row.last_event,
                    row.id,
                )
                for row in self.changed.values()
            ],
        )
        self._insert(
            "event (id, at_us, type, message, delivery, relay, reply, reply_part, delay_us, before_qmgr_us,"
            " in_qmgr_us, connect_us, transmit_us, detail)",
            self.events,
        )
        for message in self.messages:
            message.stored = True
        for delivery in self.deliveries:
            delivery.stored = True
        self.messages, self.deliveries, self.changed, self.events = [], [], {}, []

    def _insert(self, into: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert *rows*, fifty with a statement: it takes half the time of as many statements.

        OR FAIL: what such a statement has inserted before an error stays, and goes with the transaction. To be able to
        take it back alone SQLite would copy each page to a temporary file first, twenty times as many as it writes.
        """
        if not rows:
            return
        one = f"({', '.join('?' * len(rows[0]))})"
        whole = len(rows) - len(rows) % ROWS_A_STATEMENT
        if whole:
            sql = f"INSERT OR FAIL INTO {into} VALUES {', '.join([one] * ROWS_A_STATEMENT)}"
            for start in range(0, whole, ROWS_A_STATEMENT):
                self._transaction.execute(sql, list(chain.from_iterable(rows[start : start + ROWS_A_STATEMENT])))
        self._transaction.executemany(f"INSERT INTO {into} VALUES {one}", rows[whole:])

    def _count(self) -> None:
        """Count new messages, failed attempts by reply, and deliveries in the state that they have come to, once each."""
        counted = self._transaction.rollup.counted
        for message in self.messages:
            _, at_us, direction, domain, tag = message.cohort
            hour, inbound = at_us // HOUR_US, direction is Direction.INBOUND
            counted.append(("cohort", hour, "messages", inbound, domain, tag, ""))
            counted.append(("event", hour, "received" if inbound else "accepted", inbound, domain, tag, ""))
        for row in self.deliveries:
            _, at_us, direction, domain, tag = row.message.cohort
            state = row.counted = row.state
            inbound = direction is Direction.INBOUND
            counted.append(("cohort", at_us // HOUR_US, _LABELS[state], inbound, domain, tag, row.domain))
        rollup = self._transaction.rollup
        for _, at_us, kind, _, _, _, reply, *_ in self.events:
            if kind in _FAILED and reply is not None:
                rollup.add("event", at_us, _FAILED[kind], dimension="reply", key=str(reply))
        for row in self.changed.values():
            if row.counted is not row.state:
                self.uncount(row)
                count_delivery(rollup, row.message.cohort, row.recipient, row.state)
                row.counted = row.state

    def _next(self, table: str) -> int:
        return int(self._transaction.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])
