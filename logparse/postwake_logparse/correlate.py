"""From records to the store's rows: who a queue ID stands for, and what became of each recipient.

A :class:`Correlator` keeps the queue IDs that are open. What it knows of them also stands in the store's ``queue``
table, written in the transaction that writes the events, so that nothing is known only here: after a crash or a
failed commit a new one starts from the table. Rows that the milter put there are picked up by their number.

How lines find their message:

- The milter commits its row before the MTA logs ``queue active``; a queue ID with no row by then is mail that the
  milter never saw, and the log makes the message.
- Queue IDs are used again. An ID is closed by ``removed`` (``Completed``); while the log lags behind the milter
  several messages may wait under one ID, and lines belong to the oldest that they are not too old for.
- A content filter hands mail back under a new queue ID. It is the same message: known by our stamp (the milter
  says so), by XFORWARD (``orig_queue_id``), or at last by ``queued as`` naming an ID that is ours. ``sent`` to the
  filter is then no delivery; the last hop decides. An alias that forwards (``forwarded as``) likewise.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from postwake.events import Direction, EventType, State
from postwake.store.accepted import MERGES
from postwake.store.bulk import Bulk, DeliveryRow, MessageRow
from postwake.store.counting import (
    Cohort,
    count_delivery,
    count_event,
    count_message,
    domain_of,
    load_cohort,
    recount_message,
)
from postwake.store.transaction import Transaction
from postwake_logparse.outcome import Outcomes
from postwake_logparse.record import (
    Arrival,
    Attempt,
    Client,
    Deleted,
    Held,
    HostSaid,
    MessageId,
    NonDelivery,
    Probe,
    Queued,
    QueueExpired,
    Record,
    Rejected,
    Released,
    Removed,
)

SAME_MAIL_US = 2_000_000
"""How much older than its message's row a line may be and still be about it: log stamps have whole seconds."""
CLOSED_REMEMBERED = 20_000
"""Queue IDs remembered after ``removed``, for the line of the hop before that names them only then."""
HANDED_OVER_WITHIN_US = 24 * 3600 * 1_000_000


@dataclass(slots=True, eq=False)
class QueueEntry:
    """What is known of one queue ID."""

    queue_id: str
    at_us: int
    row: int | None = None
    """Its number in the ``queue`` table."""
    message: MessageRow | None = None
    message_number: int | None = None
    """The message in the store, not loaded yet."""
    host: str = ""
    client: str | None = None
    client_ip: str | None = None
    sasl_username: str | None = None
    local: bool = False
    message_id: str | None = None
    orig_queue_id: str | None = None
    parent: int | None = None
    via: int | None = None
    """The delivery whose handing over made this queue ID."""
    dirty: bool = True
    newer: QueueEntry | None = None
    """The next message under the same ID, while the log lags behind the milter."""


_PERSISTED = ("host", "client", "client_ip", "sasl_username", "local", "message_id", "orig_queue_id", "parent", "via")


class Correlator:
    """See the module. One batch at a time: :meth:`apply` inside a transaction, :meth:`reset` when it did not commit."""

    def __init__(self, outcomes: Outcomes, is_internal: Callable[[str], bool], local_domains: frozenset[str]) -> None:
        """Take what understands replies, and what tells our own networks (by IP text) and domains."""
        self._outcomes = outcomes
        self._is_internal = is_internal
        self._local_domains = local_domains
        self._handlers: dict[type, Callable[[Any], None]] = {
            Client: self._client,
            MessageId: self._message_id,
            Queued: self._queued,
            Arrival: self._arrival,
            Attempt: self._attempt,
            QueueExpired: self._queue_expired,
            NonDelivery: self._non_delivery,
            Removed: self._removed,
            Deleted: self._deleted,
            Held: self._held,
            Released: self._released,
            Rejected: self._rejected,
            Probe: self._probe,
            HostSaid: self._host_said,
        }
        self.reset()

    def reset(self) -> None:
        """Forget everything: the tables say what is known."""
        self._open: dict[str, QueueEntry] = {}
        self._closed: OrderedDict[str, QueueEntry] = OrderedDict()
        self._messages: dict[int, MessageRow] = {}
        self._last_row = 0
        self._merges: str | None = None
        self._gone: list[int] = []
        self._touched: list[QueueEntry] = []

    def apply(self, transaction: Transaction, records: Iterable[Record]) -> None:
        """Write what *records* say, within *transaction*."""
        self._transaction = transaction
        self._forget_what_changed()
        self._rollup = transaction.rollup
        self._outcomes.begin(transaction)
        self._pick_up_rows()
        self._bulk = Bulk(transaction)
        handlers = self._handlers
        for record in records:
            handlers[type(record)](record)
        self._bulk.flush()
        self._write_queue()

    def _forget_what_changed(self) -> None:
        """Read everything anew when rows from a spool have completed messages that are remembered here."""
        row = self._transaction.execute("SELECT value FROM meta WHERE key = ?", (MERGES,)).fetchone()
        merges = row[0] if row is not None else ""
        if self._merges is not None and merges != self._merges:
            self.reset()
        self._merges = merges

    # Queue IDs

    def _pick_up_rows(self) -> None:
        rows = self._transaction.execute(
            "SELECT id, queue_id, at_us, message, state FROM queue WHERE id > ? ORDER BY id", (self._last_row,)
        ).fetchall()
        for number, queue_id, at_us, message, state in rows:
            entry = QueueEntry(queue_id, at_us, number, message_number=message, dirty=False)
            if state:
                for name, value in json.loads(state).items():
                    setattr(entry, name, value)
            self._last_row = number
            self._enter(entry)

    def _enter(self, entry: QueueEntry) -> None:
        known = self._open.get(entry.queue_id)
        if known is None:
            self._open[entry.queue_id] = entry
        elif known.message is None and known.message_number is None and known.newer is None:
            # The log's client and message-id lines came first; the milter's row is about the same mail.
            known.message_number, known.via = entry.message_number, entry.via
            if known.row is not None and entry.row is not None:
                self._gone.append(known.row)
            known.row, known.at_us = entry.row, entry.at_us
        else:
            while known.newer is not None:
                known = known.newer
            known.newer = entry

    def _entry(self, record: Any) -> QueueEntry:
        """Return what the record's queue ID stands for, making it known if it is not."""
        entry = self._open.get(record.queue_id)
        if entry is None:
            entry = QueueEntry(record.queue_id, record.at_us, host=record.host)
            self._open[record.queue_id] = entry
            self._touched.append(entry)
            return entry
        while entry.newer is not None and entry.newer.at_us <= record.at_us and not self._is_open(entry):
            entry = self._drop(entry)
        return entry

    def _is_open(self, entry: QueueEntry) -> bool:
        message = self._message(entry)
        return message is None or any(
            delivery.state in (State.QUEUED, State.DEFERRED) for delivery in message.deliveries.values()
        )

    def _drop(self, entry: QueueEntry) -> QueueEntry:
        """Close *entry*, whose ``removed`` line never came, and return the one after it."""
        newer = entry.newer
        assert newer is not None
        self._close(entry)
        return newer

    def _close(self, entry: QueueEntry) -> None:
        if entry.newer is not None:
            self._open[entry.queue_id] = entry.newer
            entry.newer = None
        else:
            self._open.pop(entry.queue_id, None)
        if entry.row is not None:
            self._gone.append(entry.row)
            entry.row = None
        entry.dirty = False
        self._closed[entry.queue_id] = entry
        if len(self._closed) > CLOSED_REMEMBERED:
            self._closed.popitem(last=False)
        message = entry.message
        if message is not None:
            message.queues -= 1
            if not message.queues:
                self._messages.pop(message.id, None)

    def _touch(self, entry: QueueEntry) -> None:
        if not entry.dirty:
            entry.dirty = True
            self._touched.append(entry)

    def _write_queue(self) -> None:
        execute = self._transaction.execute
        self._transaction.executemany("DELETE FROM queue WHERE id = ?", [(number,) for number in self._gone])
        for entry in self._touched:
            if not entry.dirty:
                continue
            entry.dirty = False
            state = {name: value for name in _PERSISTED if (value := getattr(entry, name)) not in (None, "", False)}
            message = entry.message.id if entry.message is not None else entry.message_number
            text = json.dumps(state) if state else None
            if entry.row is None:
                row = execute(
                    "INSERT INTO queue (queue_id, at_us, message, state) VALUES (?, ?, ?, ?) RETURNING id",
                    (entry.queue_id, entry.at_us, message, text),
                ).fetchone()
                entry.row = row[0]
                self._last_row = max(self._last_row, row[0])
            else:
                execute("UPDATE queue SET message = ?, state = ? WHERE id = ?", (message, text, entry.row))
        self._gone, self._touched = [], []

    # Messages

    def _message(self, entry: QueueEntry) -> MessageRow | None:
        """Return the message that *entry* stands for, loading it from the store, or None if there is none yet."""
        if entry.message is None and entry.message_number is not None:
            message = self._messages.get(entry.message_number) or self._load(entry.message_number)
            if message is None:  # purged meanwhile
                entry.message_number = None
                return None
            self._stand_for(entry, message)
            if message.message_id is None and entry.message_id:  # the MTA gave it one after the milter had seen it
                message.message_id = entry.message_id
                self._transaction.execute(
                    "UPDATE message SET message_id = ? WHERE id = ?", (entry.message_id, message.id)
                )
        return entry.message

    def _stand_for(self, entry: QueueEntry, message: MessageRow) -> None:
        entry.message = message
        entry.message_number = message.id
        message.queues += 1

    def _load(self, number: int) -> MessageRow | None:
        self._bulk.flush()
        execute = self._transaction.execute
        row = execute(
            "SELECT merged_into, queue_id, message_id, sender FROM message WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        if row[0] is not None:
            return self._messages.get(row[0]) or self._load(row[0])
        message = MessageRow(number, load_cohort(self._transaction, number), stored=True)
        message.queue_id, message.message_id, message.sender = row[1], row[2], row[3]
        for fields in execute(
            "SELECT id, recipient, original_recipient, idx, state, attempts, at_us, first_attempt_us, last_attempt_us,"
            " last_event FROM delivery WHERE message = ?",
            (number,),
        ):
            delivery = DeliveryRow(fields[0], message, *fields[1:])
            delivery.state = State(delivery.state)
            delivery.stored = True
            message.deliveries[delivery.recipient.lower()] = delivery
        self._messages[number] = message
        return message

    def _make_message(self, entry: QueueEntry, at_us: int, sender: str | None, host: str) -> MessageRow:
        """Make the message of a queue ID that the milter never saw."""
        known = self._by_orig_queue_id(entry)
        if known is not None:
            self._stand_for(entry, known)
            self._touch(entry)
            return known
        direction = self._direction(entry, sender)
        domain = domain_of(sender or "")
        message = self._bulk.new_message(Cohort(0, at_us, direction, domain, ""))
        message.host = host or None
        message.queue_id = entry.queue_id
        message.message_id = entry.message_id
        message.sender = sender
        message.client = entry.client
        message.sasl_username = entry.sasl_username
        message.parent = entry.parent
        self._messages[message.id] = message
        self._stand_for(entry, message)
        self._touch(entry)
        kind = EventType.RECEIVED if direction is Direction.INBOUND else EventType.ACCEPTED
        self._bulk.new_event(at_us, kind, message.id)
        count_event(self._rollup, at_us, kind.label, message.cohort)
        count_message(self._rollup, message.cohort)
        return message

    def _direction(self, entry: QueueEntry, sender: str | None) -> Direction:
        if entry.sasl_username or entry.local:
            return Direction.OUTBOUND
        if entry.client_ip is not None:
            return Direction.OUTBOUND if self._is_internal(entry.client_ip) else Direction.INBOUND
        # No client line: made by the MTA itself. A notice (null sender) comes back to one of ours.
        return Direction.INBOUND if sender == "" else Direction.OUTBOUND

    def _by_orig_queue_id(self, entry: QueueEntry) -> MessageRow | None:
        if entry.orig_queue_id is None:
            return None
        before = self._open.get(entry.orig_queue_id) or self._closed.get(entry.orig_queue_id)
        if before is None or abs(before.at_us - entry.at_us) > HANDED_OVER_WITHIN_US:
            return None
        message = self._message(before)
        if message is not None and message.id not in self._messages:
            self._messages[message.id] = message
        return message

    def _message_of(self, record: Any, sender: str | None = None) -> tuple[QueueEntry, MessageRow]:
        entry = self._entry(record)
        message = entry.message or self._message(entry)
        if message is None:
            message = self._make_message(entry, record.at_us, sender, record.host)
        return entry, message

    # Deliveries

    def _delivery(self, entry: QueueEntry, message: MessageRow, record: Attempt) -> DeliveryRow:
        """Return the delivery that an attempt is about."""
        recipient = record.recipient
        delivery = message.deliveries.get(recipient.lower())
        if delivery is not None:
            return delivery
        original = record.original_recipient
        asked = message.deliveries.get(original.lower()) if original else None
        if asked is None and entry.via is not None:
            asked = next((found for found in message.deliveries.values() if found.id == entry.via), None)
            original = original or (asked.recipient if asked is not None else None)
        if asked is not None and asked.original_recipient is None and asked.state in (State.QUEUED, State.HANDED_OVER):
            # The first address that an alias leads to takes the place of the one that was asked for.
            self._rename(asked, recipient)
            return asked
        delivery = self._bulk.new_delivery(message, recipient, record.at_us)
        delivery.original_recipient = original if original and original.lower() != recipient.lower() else None
        if asked is not None:
            delivery.idx = asked.idx
        count_delivery(self._rollup, message.cohort, recipient, State.QUEUED)
        return delivery

    def _rename(self, delivery: DeliveryRow, recipient: str) -> None:
        message = delivery.message
        count_delivery(self._rollup, message.cohort, delivery.recipient, delivery.state, -1)
        del message.deliveries[delivery.recipient.lower()]
        delivery.original_recipient, delivery.recipient = delivery.recipient, recipient
        message.deliveries[recipient.lower()] = delivery
        count_delivery(self._rollup, message.cohort, recipient, delivery.state, 1)
        self._bulk.touch(delivery)

    def _set_state(self, delivery: DeliveryRow, state: State) -> None:
        if delivery.state is not state:
            cohort = delivery.message.cohort
            count_delivery(self._rollup, cohort, delivery.recipient, delivery.state, -1)
            count_delivery(self._rollup, cohort, delivery.recipient, state)
            delivery.state = state
        self._bulk.touch(delivery)

    # One method a kind of record

    def _client(self, record: Client) -> None:
        entry = self._open.get(record.queue_id)
        if entry is not None and self._is_another(entry, record.at_us):
            # The ID is used again and its ``removed`` line was lost.
            if entry.newer is not None:
                entry = self._drop(entry)
            else:
                self._close(entry)
                entry = None
        if entry is None:
            entry = self._entry(record)
        entry.host = record.host
        if record.client_name is not None:
            entry.client = f"{record.client_name}[{record.client_ip}]"
        entry.client_ip = record.client_ip
        entry.sasl_username = record.sasl_username
        entry.local = record.uid is not None
        entry.orig_queue_id = record.orig_queue_id
        self._touch(entry)

    def _is_another(self, entry: QueueEntry, at_us: int) -> bool:
        """Return whether a mail that begins at *at_us* cannot be the one *entry* stands for."""
        if entry.client is not None or entry.local:
            return True
        return (entry.message is not None or entry.message_number is not None) and entry.at_us < at_us - SAME_MAIL_US

    def _message_id(self, record: MessageId) -> None:
        entry = self._entry(record)
        if entry.message is None and not record.resent:
            entry.message_id = record.message_id or None
            self._touch(entry)

    def _queued(self, record: Queued) -> None:
        entry = self._entry(record)
        if entry.message is None and self._message(entry) is None:
            if record.sender.startswith("double-bounce@") and entry.client is None:
                return  # an address probe or a bounce of a bounce: no mail of anybody's, unless an attempt says so
            message = self._make_message(entry, record.at_us, record.sender, record.host)
            if not message.stored and message.queues == 1:
                message.size_bytes = record.size_bytes
                message.recipients = record.nrcpt

    def _arrival(self, record: Arrival) -> None:
        entry = self._entry(record)
        if record.client_name is not None or record.client_ip is not None:
            entry.client = f"{record.client_name or record.helo or ''}[{record.client_ip or ''}]"
        entry.client_ip = record.client_ip
        entry.sasl_username = record.sasl_username
        entry.local = record.local_user is not None or record.protocol == "local"
        entry.message_id = record.message_id
        if record.parent_id is not None:
            parent = self._open.get(record.parent_id) or self._closed.get(record.parent_id)
            about = self._message(parent) if parent is not None else None
            if about is not None:
                entry.parent = about.id
                self._bulk.new_event(
                    record.at_us, EventType.NOTIFIED, about.id, detail=json.dumps({"queue_id": record.queue_id})
                )
        if self._message(entry) is not None:
            return
        sender = record.sender
        if sender == "" and record.parent_id is not None:
            entry.local = False  # Exim's own notice, coming back to one of ours
        message = self._make_message(entry, record.at_us, sender, record.host)
        message.size_bytes = record.size_bytes
        message.subject = record.subject
        if record.recipients is not None:
            message.recipients = len(record.recipients)

    def _attempt(self, record: Attempt) -> None:
        if record.retry_only:
            return
        entry, message = self._message_of(record, record.sender)
        delivery = self._delivery(entry, message, record)
        outcome = self._outcomes.of(record)
        kind = outcome.kind
        if kind is EventType.SENT and record.next_queue_id is not None and self._hand_over(record, message, delivery):
            kind = EventType.HANDED_OVER
        at_us = record.at_us
        if at_us < message.cohort.at_us < at_us + 1_000_000:
            at_us = message.cohort.at_us  # a stamp of whole seconds; no mail is delivered before it is accepted
        detail = record.next_queue_id and json.dumps({"next_queue_id": record.next_queue_id})
        number = self._bulk.new_event(
            at_us,
            kind,
            message.id,
            delivery.id,
            outcome.relay,
            outcome.reply,
            outcome.reply_part,
            outcome.delay_us,
            outcome.delays_us,
            detail if kind is EventType.HANDED_OVER else None,
        )
        delivery.attempts += 1
        if delivery.first_attempt_us is None:
            delivery.first_attempt_us = at_us
        if kind is EventType.HANDED_OVER:
            self._bulk.touch(delivery)
            return
        delivery.last_attempt_us = at_us
        delivery.last_event = number
        self._set_state(delivery, _STATE[kind])
        count_event(self._rollup, at_us, kind.label, message.cohort, recipient=record.recipient)
        if outcome.category is not None and message.cohort.direction is not Direction.INBOUND:
            self._rollup.add("event", at_us, kind.label, dimension="category", key=outcome.category)
            self._rollup.add("event", at_us, kind.label, dimension="kind", key=outcome.reply_kind or "unknown")

    def _hand_over(self, record: Attempt, message: MessageRow, delivery: DeliveryRow) -> bool:
        """Follow *record*'s ``queued as`` if it names a queue ID of ours; return whether it did."""
        queue_id = record.next_queue_id
        assert queue_id is not None
        entry = self._open.get(queue_id) or self._closed.get(queue_id)
        if (
            entry is None
            or entry.queue_id == record.queue_id
            or abs(entry.at_us - record.at_us) > HANDED_OVER_WITHIN_US
        ):
            return False
        if (
            entry.message is not None
            and entry.message_id
            and message.message_id
            and entry.message_id != message.message_id
        ):
            return False  # another server's queue ID that happens to be like one of ours
        after = self._message(entry)
        if after is None:
            entry.via = delivery.id
            self._stand_for(entry, message)
            self._touch(entry)
        elif after is not message:
            self._merge(after, message, entry, delivery)
        elif entry.via is None:
            entry.via = delivery.id
            self._touch(entry)
        if delivery.state is State.QUEUED and delivery.attempts == 0 and self._is_alias(record):
            self._set_state(delivery, State.HANDED_OVER)
        return True

    @staticmethod
    def _is_alias(record: Attempt) -> bool:
        return record.agent == "local"

    def _merge(self, after: MessageRow, message: MessageRow, entry: QueueEntry, via: DeliveryRow) -> None:
        """Make *after*, which the log took for a message of its own, part of *message*."""
        self._bulk.flush()
        transaction, execute = self._transaction, self._transaction.execute
        recount_message(transaction, after.cohort, -1)
        recount_message(transaction, message.cohort, -1)
        kind = EventType.RECEIVED if after.cohort.direction is Direction.INBOUND else EventType.ACCEPTED
        count_event(self._rollup, after.cohort.at_us, kind.label, after.cohort, n=-1)
        for delivery in list(after.deliveries.values()):
            asked = message.deliveries.get((delivery.original_recipient or delivery.recipient).lower())
            if asked is None and via.original_recipient is None and via.recipient.lower() in message.deliveries:
                asked = via
            if asked is not None and asked.state in (State.QUEUED, State.DEFERRED, State.HANDED_OVER):
                # The row of the hop before gives way; its events now belong to the last hop's.
                execute(
                    "UPDATE event SET delivery = ? WHERE message = ? AND delivery = ?",
                    (delivery.id, message.id, asked.id),
                )
                execute("DELETE FROM delivery WHERE id = ?", (asked.id,))
                del message.deliveries[asked.recipient.lower()]
                delivery.idx = asked.idx
                delivery.attempts += asked.attempts
                delivery.first_attempt_us = asked.first_attempt_us or delivery.first_attempt_us
                if asked.recipient.lower() != delivery.recipient.lower():
                    delivery.original_recipient = delivery.original_recipient or asked.recipient
                # What still holds the old row now means the new one.
                asked.id = delivery.id
            delivery.message = message
            message.deliveries[delivery.recipient.lower()] = delivery
            self._bulk.touch(delivery)
        execute("UPDATE message SET merged_into = ? WHERE id = ?", (message.id, after.id))
        self._bulk.flush()
        recount_message(transaction, message.cohort, 1)
        self._messages.pop(after.id, None)
        for other in self._open.values():
            if other.message is after:
                other.message, other.message_number = message, message.id
                message.queues += 1
                self._touch(other)
        if entry.message is after:
            entry.message, entry.message_number = message, message.id

    def _queue_expired(self, record: QueueExpired) -> None:
        _, message = self._message_of(record, record.sender)
        detail = json.dumps({"forced": True}) if record.forced else None
        for delivery in list(message.deliveries.values()):
            if delivery.state in (State.QUEUED, State.DEFERRED):
                number = self._bulk.new_event(record.at_us, EventType.EXPIRED, message.id, delivery.id, detail=detail)
                delivery.last_event = number
                self._set_state(delivery, State.EXPIRED)
                count_event(
                    self._rollup, record.at_us, EventType.EXPIRED.label, message.cohort, recipient=delivery.recipient
                )
                if message.cohort.direction is not Direction.INBOUND:
                    self._rollup.add("event", record.at_us, "expired", dimension="category", key="expired")
                    self._rollup.add("event", record.at_us, "expired", dimension="kind", key="soft")

    def _non_delivery(self, record: NonDelivery) -> None:
        _, message = self._message_of(record)
        detail = json.dumps({"notice": record.notice, "audience": record.audience, "queue_id": record.new_queue_id})
        self._bulk.new_event(record.at_us, EventType.NOTIFIED, message.id, detail=detail)
        notice = self._open.get(record.new_queue_id)
        if notice is None:
            notice = QueueEntry(record.new_queue_id, record.at_us, host=record.host)
            self._open[record.new_queue_id] = notice
            self._touched.append(notice)
        notice.parent = message.id
        made = self._message(notice)
        if made is None:
            self._touch(notice)
        elif made.stored:
            self._transaction.execute("UPDATE message SET parent = ? WHERE id = ?", (message.id, made.id))
        else:
            made.parent = message.id

    def _removed(self, record: Removed) -> None:
        entry = self._open.get(record.queue_id)
        if entry is None:
            return
        message = self._message(entry)
        if message is not None:
            if message.queues == 1:
                self._account_for_rest(message, record.at_us)
            if message.stored:
                self._transaction.execute("UPDATE message SET removed_us = ? WHERE id = ?", (record.at_us, message.id))
            else:
                message.removed_us = record.at_us
        self._close(entry)

    def _account_for_rest(self, message: MessageRow, at_us: int) -> None:
        """The queue is done with a message: recipients that no line named went somewhere under another name."""
        waiting = [row for row in message.deliveries.values() if row.state is State.QUEUED and not row.attempts]
        if not waiting:
            return
        extra = [
            row
            for row in message.deliveries.values()
            if not row.idx and row.original_recipient is None and row.attempts
        ]
        for delivery in waiting:
            if len(waiting) == len(extra) == 1:
                self._replace(delivery, extra[0])
                return
            detail = json.dumps({"note": "no line of the log named this recipient"})
            self._bulk.new_event(at_us, EventType.HANDED_OVER, message.id, delivery.id, detail=detail)
            self._set_state(delivery, State.HANDED_OVER)

    def _replace(self, asked: DeliveryRow, found: DeliveryRow) -> None:
        """One recipient was asked for, one address was delivered to: the same, rewritten by the MTA."""
        found.idx, found.original_recipient = asked.idx, asked.recipient
        message = asked.message
        count_delivery(self._rollup, message.cohort, asked.recipient, asked.state, -1)
        del message.deliveries[asked.recipient.lower()]
        if asked.stored:
            self._bulk.changed.pop(asked.id, None)
            self._transaction.execute("DELETE FROM delivery WHERE id = ?", (asked.id,))
        else:
            self._bulk.deliveries.remove(asked)
        self._bulk.touch(found)

    def _deleted(self, record: Deleted) -> None:
        entry = self._open.get(record.queue_id)
        message = self._message(entry) if entry is not None else None
        if entry is None or message is None:
            return
        for delivery in message.deliveries.values():
            if delivery.state in (State.QUEUED, State.DEFERRED):
                self._bulk.new_event(
                    record.at_us, EventType.DELETED, message.id, delivery.id, detail=json.dumps({"text": record.text})
                )
                self._set_state(delivery, State.DELETED)
                count_event(self._rollup, record.at_us, "deleted", message.cohort)
        self._close(entry)

    def _held(self, record: Held) -> None:
        _, message = self._message_of(record)
        self._bulk.new_event(record.at_us, EventType.HELD, message.id, detail=json.dumps({"text": record.text}))

    def _released(self, record: Released) -> None:
        """Nothing to note: the attempts that follow speak for themselves."""

    def _host_said(self, record: HostSaid) -> None:
        """One server's refusal within an attempt; the attempt's own line decides."""

    def _probe(self, record: Probe) -> None:
        """An address probe is no mail: forget its queue ID."""
        entry = self._open.get(record.queue_id)
        if entry is not None and self._message(entry) is None:
            self._close(entry)

    def _rejected(self, record: Rejected) -> None:
        detail = {
            "action": record.action,
            "stage": record.stage,
            "client": f"{record.client_name}[{record.client_ip}]" if record.client_ip else None,
            "code": record.code,
            "dsn": record.dsn,
            "text": record.text,
            "sender": record.sender,
            "recipient": record.recipient,
        }
        text = json.dumps({key: value for key, value in detail.items() if value not in (None, "")}, ensure_ascii=False)
        entry = self._open.get(record.queue_id) if record.queue_id else None
        message = self._message(entry) if entry is not None else None
        self._bulk.new_event(record.at_us, EventType.REJECTED, message.id if message is not None else None, detail=text)
        count_event(
            self._rollup, record.at_us, EventType.REJECTED.label, message.cohort if message is not None else None
        )
        if entry is not None and message is None and record.stage in ("END-OF-MESSAGE", "header", "body", "DATA"):
            self._close(entry)  # the whole mail was refused: nothing of it will be queued


_STATE = {
    EventType.SENT: State.SENT,
    EventType.DEFERRED: State.DEFERRED,
    EventType.BOUNCED: State.BOUNCED,
    EventType.EXPIRED: State.EXPIRED,
}
