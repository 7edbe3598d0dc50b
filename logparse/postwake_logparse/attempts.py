"""What became of a recipient: one attempt at a delivery, and the deliveries that attempts are about."""

from __future__ import annotations

import json

from postwake.events import Direction, EventType, State
from postwake.store.bulk import DeliveryRow, MessageRow
from postwake.store.schema import HOUR_US
from postwake_logparse.attempt_reading import Tried
from postwake_logparse.hops import Hops
from postwake_logparse.messages import Messages, after_acceptance
from postwake_logparse.outcome import Outcomes
from postwake_logparse.queue_ids import QueueEntry

_LABEL = {kind: kind.label for kind in EventType}
_STATE = {
    EventType.SENT: State.SENT,
    EventType.DEFERRED: State.DEFERRED,
    EventType.BOUNCED: State.BOUNCED,
    EventType.EXPIRED: State.EXPIRED,
}
_KIND = {int(kind): kind for kind in _STATE}


class Attempts:
    """Takes attempts in, one after the other."""

    def __init__(self, messages: Messages, hops: Hops, outcomes: Outcomes) -> None:
        self._messages = messages
        self._hops = hops
        self._outcomes = outcomes

    def take(self, record: Tried) -> None:
        """Enter the attempt's event, and what its delivery has come to."""
        messages, hops = self._messages, self._hops
        at_us = record.at_us
        entry, message = messages.of_line(record.queue_id, at_us, record.host, record.sender)
        if record.retry_only and not _is_first_word(message, record):
            return
        if entry.local and not message.deliveries and message.message_id and not message.tracked:
            message = hops.join_what_a_pipe_took(message, record)
        delivery = message.deliveries.get(record.key) or self._delivery(entry, message, record)
        if record.original_recipient and not delivery.idx:
            self._note_asked(delivery, record.original_recipient)
        kind = _KIND[record.kind]
        if record.to_pipe and kind is EventType.SENT and message.message_id:
            delivery = hops.join_what_a_pipe_submitted(message, delivery)
            message = delivery.message
        if delivery.state is not State.QUEUED:
            kind = hops.judge(entry, message, delivery, kind)
        next_queue_id = record.next_queue_id
        if next_queue_id is not None and kind is EventType.SENT:
            next_hop = hops.hand_over(record, entry, message, delivery)
            if next_hop is not None:
                kind, delivery, message = EventType.HANDED_OVER, next_hop, next_hop.message
        if entry.way is not None:
            messages.first_attempt(entry, message, record, kind)
        _, _, direction, domain, tag = message.cohort
        at_us = after_acceptance(message, at_us)
        handed_over = kind is EventType.HANDED_OVER
        bulk = messages.bulk
        number = bulk.next_event
        bulk.next_event = number + 1
        reply = self._outcomes.reply(record)
        bulk.events.append(
            (
                number,
                at_us,
                int(kind),
                message.id,
                delivery.id,
                self._outcomes.relay(record.relay),
                reply,
                record.reply_part,
                *record[_DELAY : _DELAY + 5],
                json.dumps({"next_queue_id": next_queue_id}) if handed_over and next_queue_id else None,
            )
        )
        if handed_over:
            return
        if not record.retry_only:
            delivery.attempts += 1
            if delivery.first_attempt_us is None:
                delivery.first_attempt_us = at_us
            delivery.last_attempt_us = at_us
        if kind is EventType.DEFERRED and delivery.state is State.EXPIRED:
            bulk.touch(delivery)  # the queue manager's line has overtaken that of the last attempt
        else:
            delivery.last_event = number
            bulk.set_state(delivery, _STATE[kind])
        inbound, label = direction is Direction.INBOUND, _LABEL[kind]
        rollup = messages.rollup
        rollup.counted.append(("event", at_us // HOUR_US, label, inbound, domain, tag, delivery.domain))
        if record.verdict is not None and reply is not None and not inbound:
            reply_kind, _, category, _ = record.verdict
            if category is not None:
                rollup.add("event", at_us, label, dimension="category", key=category)
                rollup.add("event", at_us, label, dimension="kind", key=reply_kind or "unknown")

    def _delivery(self, entry: QueueEntry, message: MessageRow, record: Tried) -> DeliveryRow:
        """Return the delivery that an attempt is about, when it is not known by its recipient."""
        recipient = record.recipient
        original = record.original_recipient
        asked = message.deliveries.get(original.lower()) if original else None
        if asked is None and entry.via is not None:
            asked = next((found for found in message.deliveries.values() if found.id == entry.via), None)
            original = original or (asked.recipient if asked is not None else None)
        if asked is not None and asked.original_recipient is None and asked.state in (State.QUEUED, State.HANDED_OVER):
            # The first address that an alias leads to takes the place of the one that was asked for.
            self._rename(asked, record)
            return asked
        delivery = self._messages.bulk.new_delivery(message, recipient, record.at_us, record.key, record.domain)
        if original and original.lower() != record.key:
            delivery.original_recipient = original
        if asked is not None:
            delivery.idx = asked.idx
        elif message.asked_for:
            delivery.idx = message.asked_for.get((delivery.original_recipient or recipient).lower(), 0)
        return delivery

    def _note_asked(self, delivery: DeliveryRow, original: str) -> None:
        """Note whose recipient *delivery* is that only a later hop, which knows of no alias, had named so far."""
        idx = delivery.message.asked_for.get(original.lower(), 0)
        if idx and delivery.original_recipient is None:
            delivery.original_recipient, delivery.idx = original, idx
            self._messages.bulk.touch(delivery)

    def _rename(self, delivery: DeliveryRow, record: Tried) -> None:
        message = delivery.message
        self._messages.bulk.uncount(delivery)
        del message.deliveries[delivery.recipient.lower()]
        delivery.original_recipient, delivery.recipient = delivery.recipient, record.recipient
        delivery.domain = record.domain
        message.deliveries[record.key] = delivery
        if delivery.idx:
            message.asked_for[delivery.original_recipient.lower()] = delivery.idx
        self._messages.bulk.touch(delivery)


_DELAY = Tried._fields.index("delay_us")
"""Five columns of an event, one after the other, as in the record."""


def _is_first_word(message: MessageRow, record: Tried) -> bool:
    """Return whether Exim's ``retry time not reached``, which it repeats at every queue run, is news.

    It is for a recipient whose server is known not to answer and that was never tried: that one is deferred.
    """
    known = message.deliveries.get(record.key)
    if known is None and record.original_recipient:
        known = message.deliveries.get(record.original_recipient.lower())
    return known is None or known.state is State.QUEUED
