"""How a mail ends in the log: removed from the queue, expired in it, deleted or refused as a whole."""

from __future__ import annotations

import json

from postwake.events import Direction, EventType, State
from postwake.store.bulk import DeliveryRow, MessageRow
from postwake.store.counting import count_event
from postwake.store.late_rows import UNNAMED
from postwake_logparse.hops import Hops
from postwake_logparse.messages import Messages, after_acceptance
from postwake_logparse.outcome import Outcomes
from postwake_logparse.queue_ids import QueueEntry
from postwake_logparse.record import Deleted, Probe, QueueExpired, Rejected, Removed

_WHOLE_MAIL = ("END-OF-MESSAGE", "header", "body", "DATA")
_UNTOLD = json.dumps({"note": "no line of the log says what became of this recipient"})
_BOUNCES_LOCAL = ("reject", "milter-reject")


class Endings:
    """Takes in the lines after which a queue ID is done with."""

    def __init__(self, messages: Messages, hops: Hops, outcomes: Outcomes) -> None:
        self._messages = messages
        self._hops = hops
        self._outcomes = outcomes

    def removed(self, record: Removed) -> None:
        """The queue is done with a mail."""
        at_us, _, _, queue_id, _ = record
        messages = self._messages
        entry = messages.ids.open.get(queue_id)
        if entry is None:
            return
        message = entry.message or messages.of(entry)
        if message is not None:
            is_last = len(messages.ids.standing[message.id]) == 1
            if is_last:
                self._account_for_rest(message, at_us)
            self._note_removed(message, at_us)
            if is_last and not message.deliveries and not message.tracked and (message.recipients or 0) > 1:
                self._hops.dissolve(message)
        messages.close(entry)

    def expired(self, record: QueueExpired) -> None:
        """The queue manager gave a mail up."""
        messages = self._messages
        entry, message = messages.of_line(record.queue_id, record.at_us, record.host, record.sender)
        reply, category, kind = self._outcomes.expired(record.forced)
        detail = json.dumps({"forced": True}) if record.forced else None
        for delivery in self._waiting_under(entry, message):
            number = messages.bulk.new_event(
                record.at_us, EventType.EXPIRED, message.id, delivery.id, reply=reply, detail=detail
            )
            delivery.last_event = number
            messages.bulk.set_state(delivery, State.EXPIRED)
            count_event(messages.rollup, record.at_us, "expired", message.cohort, recipient=delivery.recipient)
            if category is not None and message.cohort.direction is not Direction.INBOUND:
                messages.rollup.add("event", record.at_us, "expired", dimension="category", key=category)
                messages.rollup.add("event", record.at_us, "expired", dimension="kind", key=kind or "unknown")

    def deleted(self, record: Deleted) -> None:
        """The operator deleted a mail."""
        entry = self._messages.ids.open.get(record.queue_id)
        if entry is None:
            return
        message = self._messages.of(entry)
        if message is not None:
            self._take_out(entry, message, record.at_us, json.dumps({"text": record.text}, ensure_ascii=False))
        self._messages.close(entry)

    def probe(self, record: Probe) -> None:
        """An address probe is no mail: forget its queue ID."""
        entry = self._messages.ids.open.get(record.queue_id)
        if entry is not None and self._messages.of(entry) is None:
            self._messages.close(entry)

    def rejected(self, record: Rejected) -> None:
        """A recipient, or the whole mail, was refused."""
        messages = self._messages
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
        entry = messages.ids.open.get(record.queue_id) if record.queue_id else None
        message = messages.of(entry) if entry is not None else None
        is_whole = entry is not None and record.stage in _WHOLE_MAIL
        if is_whole and entry is not None and entry.local and record.action in _BOUNCES_LOCAL:
            # No client waits for an answer: cleanup bounces what a program submitted, by a line a recipient.
            if message is None:
                message = messages.make(entry, record.at_us, record.sender, record.host)
            is_whole, entry.refused = False, True
            messages.ids.touch(entry)
        messages.bulk.new_event(
            record.at_us, EventType.REJECTED, message.id if message is not None else None, detail=text
        )
        count_event(
            messages.rollup, record.at_us, EventType.REJECTED.label, message.cohort if message is not None else None
        )
        if is_whole and entry is not None:
            # The whole mail was refused, perhaps by a milter behind ours: nothing of it will be queued.
            if message is not None:
                self._take_out(entry, message, record.at_us, None)
            messages.close(entry)

    def _waiting_under(self, entry: QueueEntry, message: MessageRow) -> list[DeliveryRow]:
        """Return the deliveries of *message* that have no fate yet and wait under this queue ID, not another hop's."""
        messages = self._messages
        standing = messages.ids.standing.get(message.id, ())
        if not standing:  # ``removed`` was read first, and left those that had been put off without a fate
            return [row for row in message.deliveries.values() if row.state is State.HANDED_OVER and row.attempts]
        waiting = [row for row in message.deliveries.values() if row.state in (State.QUEUED, State.DEFERRED)]
        if len(standing) == 1:
            return waiting
        messages.bulk.flush()
        handed_over = {
            row[0]
            for row in messages.transaction.execute(
                "SELECT delivery FROM event WHERE message = ? AND type = ?", (message.id, EventType.HANDED_OVER)
            )
        }
        is_first = entry.queue_id == message.queue_id
        return [row for row in waiting if (row.id in handed_over) is not is_first]

    def _note_removed(self, message: MessageRow, at_us: int) -> None:
        message.removed_us = at_us
        if message.stored:
            self._messages.transaction.execute("UPDATE message SET removed_us = ? WHERE id = ?", (at_us, message.id))

    def _account_for_rest(self, message: MessageRow, at_us: int) -> None:
        """The queue is done with a message, and nothing of it waits any more.

        Recipients that no line named went somewhere under another name; of one that was put off the last line was lost.
        """
        at_us = after_acceptance(message, at_us)
        deliveries = message.deliveries.values()
        waiting = [row for row in deliveries if row.state in (State.QUEUED, State.DEFERRED)]
        if not waiting:
            return
        extra = [row for row in deliveries if not row.idx and row.original_recipient is None and row.attempts]
        bulk = self._messages.bulk
        for delivery in waiting:
            if len(waiting) == len(extra) == 1 and delivery.idx and delivery.state is State.QUEUED:
                self._replace(delivery, extra[0])
                return
            detail = UNNAMED if delivery.state is State.QUEUED else _UNTOLD
            bulk.new_event(at_us, EventType.HANDED_OVER, message.id, delivery.id, detail=detail)
            bulk.set_state(delivery, State.HANDED_OVER)

    def _replace(self, asked: DeliveryRow, found: DeliveryRow) -> None:
        """One recipient was asked for, one address was delivered to: the same, rewritten by the MTA."""
        found.idx, found.original_recipient = asked.idx, asked.recipient
        message, bulk = asked.message, self._messages.bulk
        bulk.uncount(asked)
        del message.deliveries[asked.recipient.lower()]
        if asked.stored:
            bulk.changed.pop(asked.id, None)
            execute = self._messages.transaction.execute
            execute(
                "UPDATE event SET delivery = ? WHERE delivery = ? AND message = ?", (found.id, asked.id, message.id)
            )
            execute("DELETE FROM delivery WHERE id = ?", (asked.id,))
        else:
            bulk.deliveries.remove(asked)
        bulk.touch(found)

    def _take_out(self, entry: QueueEntry, message: MessageRow, at_us: int, detail: str | None) -> None:
        """What waits under *entry* will not be delivered to anybody."""
        messages = self._messages
        if not message.deliveries:  # held before any line named a recipient
            messages.bulk.new_event(at_us, EventType.DELETED, message.id, detail=detail)
            count_event(messages.rollup, at_us, "deleted", message.cohort)
        for delivery in self._waiting_under(entry, message):
            messages.bulk.new_event(at_us, EventType.DELETED, message.id, delivery.id, detail=detail)
            messages.bulk.set_state(delivery, State.DELETED)
            count_event(messages.rollup, at_us, "deleted", message.cohort)
        self._note_removed(message, at_us)
