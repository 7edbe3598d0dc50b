"""Rows by the thousand: what the log parser writes in one transaction.

IDs are given out here, above the highest in the table, which nobody else can raise while the transaction holds the
write lock; so rows can refer to one another before any is inserted, and each table takes one ``executemany``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from postwake.events import EventType, State
from postwake.store.counting import Cohort
from postwake.store.transaction import Transaction


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
    queues: int = 0
    """How many queue IDs stand for it now."""
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

    def new_message(self, cohort: Cohort) -> MessageRow:
        """Return a new message; the cohort's own number is replaced by the one given out here."""
        row = MessageRow(self.next_message, cohort._replace(message=self.next_message))
        self.next_message += 1
        self.messages.append(row)
        return row

    def new_delivery(self, message: MessageRow, recipient: str, at_us: int) -> DeliveryRow:
        """Return a new delivery of *message*, entered under its recipient."""
        row = DeliveryRow(self.next_delivery, message, recipient, at_us=at_us)
        self.next_delivery += 1
        self.deliveries.append(row)
        message.deliveries[recipient.lower()] = row
        return row

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
            (number, at_us, kind, message, delivery, relay, reply, reply_part, delay_us, *delays_us, detail)
        )
        return number

    def touch(self, delivery: DeliveryRow) -> None:
        """Note that a delivery that is in the table has changed."""
        if delivery.stored:
            self.changed[delivery.id] = delivery

    def flush(self) -> None:
        """Write everything entered so far."""
        execute_many = self._transaction.executemany
        execute_many(
            "INSERT INTO message (id, at_us, direction, host, queue_id, message_id, sender, domain, recipients, size_bytes, client,"
            " sasl_username, subject, tag, parent, removed_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.id,
                    row.cohort.at_us,
                    row.cohort.direction,
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
        execute_many(
            "INSERT INTO delivery (id, message, recipient, original_recipient, idx, state, attempts, at_us, first_attempt_us,"
            " last_attempt_us, last_event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.id,
                    row.message.id,
                    row.recipient,
                    row.original_recipient,
                    row.idx,
                    row.state,
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
                    row.state,
                    row.attempts,
                    row.first_attempt_us,
                    row.last_attempt_us,
                    row.last_event,
                    row.id,
                )
                for row in self.changed.values()
            ],
        )
        execute_many(
            "INSERT INTO event (id, at_us, type, message, delivery, relay, reply, reply_part, delay_us, before_qmgr_us,"
            " in_qmgr_us, connect_us, transmit_us, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self.events,
        )
        for message in self.messages:
            message.stored = True
        for delivery in self.deliveries:
            delivery.stored = True
        self.messages, self.deliveries, self.changed, self.events = [], [], {}, []

    def _next(self, table: str) -> int:
        return int(self._transaction.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])
