"""The hops of one mail: a content filter hands mail back under a new queue ID, an alias forwards it.

It is the same message: known by our stamp (the milter says so), by XFORWARD (``orig_queue_id``, see
:mod:`postwake_logparse.messages`), by ``queued as`` or ``forwarded as`` naming an ID that is ours, or at last by a
Message-ID that a pipe took. ``sent`` to the filter is then no delivery; the last hop decides.
"""

from __future__ import annotations

from postwake.events import EventType, State
from postwake.store.bulk import DeliveryRow, MessageRow
from postwake.store.counting import count_event, count_message, recount_events
from postwake.store.schema import HOUR_US
from postwake_logparse.attempt_reading import Tried
from postwake_logparse.messages import Messages
from postwake_logparse.queue_ids import QueueEntry

HANDED_OVER_WITHIN_US = 24 * HOUR_US
_NEAR = ", ".join(f"?1 + {hours}" for hours in range(-24, 25))

_FINAL = (State.SENT, State.BOUNCED, State.EXPIRED)
_UNDECIDED = (State.QUEUED, State.DEFERRED, State.HANDED_OVER)


class Hops:
    """Follows mail from hop to hop among *messages*."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def join_what_a_pipe_took(self, message: MessageRow, record: Tried) -> MessageRow:
        """Return the message of which *message*, submitted by a local program, is a later hop; or *message* itself."""
        assert message.message_id is not None
        number = self._messages.resubmitted.piped(
            message.message_id, self._messages.transaction, self._messages.bulk.next_message
        )
        first = self._messages.numbered(number) if number is not None else None
        if first is None or first is message:
            return message
        delivery = first.deliveries.get(record.key)
        if delivery is None or delivery.state is not State.SENT:
            return message  # a copy that goes elsewhere: a mail of its own
        self._take_back(first, delivery)
        return self._merge(first, message, delivery).message

    def join_what_a_pipe_submitted(self, message: MessageRow, delivery: DeliveryRow) -> DeliveryRow:
        """Return *delivery*, which a pipe took, joined with what was submitted anew already and has a fate."""
        assert message.message_id is not None
        number = self._messages.resubmitted.local(
            message.message_id, self._messages.transaction, self._messages.bulk.next_message
        )
        self._messages.resubmitted.note_piped(message.message_id, message.id)
        last = self._messages.numbered(number) if number is not None else None
        if last is None or last is message or delivery.recipient.lower() not in last.deliveries:
            return delivery
        return self._merge(message, last, delivery)

    def judge(self, entry: QueueEntry, message: MessageRow, delivery: DeliveryRow, kind: EventType) -> EventType:
        """Return what an attempt for a delivery that has a fate already is: the last hop decides.

        For filters that do not say what queue ID they handed the mail on under: a pipe to a program that submits it
        anew, a proxy with a reply of its own. Our stamp tells that the new queue ID is the same mail.
        """
        if entry.queue_id == message.queue_id:
            if kind is EventType.SENT and delivery.state in _FINAL and self._has_hops(message):
                return EventType.HANDED_OVER  # the filter's answer was logged after the last hop's fate
        elif delivery.state is State.SENT and not (entry.local and entry.orig_queue_id):  # requeued: no filter took it
            self._take_back(message, delivery)
        return kind

    def _has_hops(self, message: MessageRow) -> bool:
        found = self._messages.transaction.execute("SELECT 1 FROM message WHERE merged_into = ? LIMIT 1", (message.id,))
        return found.fetchone() is not None

    def _take_back(self, message: MessageRow, delivery: DeliveryRow) -> None:
        """What was taken for a delivery was a filter that took the mail."""
        self._messages.bulk.flush()
        row = self._messages.transaction.execute(
            "SELECT at_us FROM event WHERE id = ? AND type = ?", (delivery.last_event, EventType.SENT)
        ).fetchone()
        if row is None:
            return
        self._messages.transaction.execute(
            "UPDATE event SET type = ? WHERE id = ?", (EventType.HANDED_OVER, delivery.last_event)
        )
        count_event(self._messages.rollup, row[0], "sent", message.cohort, recipient=delivery.recipient, n=-1)
        delivery.attempts -= 1
        delivery.first_attempt_us = delivery.last_attempt_us = delivery.last_event = None
        self._messages.bulk.set_state(delivery, State.QUEUED)

    def hand_over(
        self, record: Tried, entry: QueueEntry, message: MessageRow, delivery: DeliveryRow
    ) -> DeliveryRow | None:
        """Follow *record*'s ``queued as`` if it names a queue ID of ours.

        Return the delivery that lives on (it is *delivery* unless messages were merged), or None if it was no
        hand-over.
        """
        queue_id = record.next_queue_id
        assert queue_id is not None
        if queue_id == entry.queue_id:
            return None
        after_entry = self._messages.ids.open.get(queue_id)
        if after_entry is not None:
            after_us = after_entry.at_us
            after = self._messages.of(after_entry)
            message_id = after.message_id if after is not None else after_entry.message_id
        else:
            found = self._messages.ids.closed_lately(
                queue_id, self._messages.transaction, self._messages.bulk.next_message
            )
            after = self._messages.numbered(found[0]) if found is not None else None
            if after is None or found is None:
                return None
            after_us, message_id = found[1], after.message_id
        if abs(after_us - record.at_us) > HANDED_OVER_WITHIN_US:
            return None
        if message_id and message.message_id and message_id != message.message_id:
            return None  # another server's queue ID that happens to be like one of ours
        if after is not None and after is not message:
            if after.tracked and message.tracked:
                return None  # two mails, each with a stamp of its own
            if self._holds_part_of(after, message) and delivery.recipient.lower() in after.deliveries:
                return self._split_off(message, after, delivery)
            delivery = self._merge(message, after, delivery)
        elif after is None:
            assert after_entry is not None
            self._messages.adopt(after_entry, message)
        if after_entry is not None and after_entry.via is None:
            after_entry.via = delivery.id
            self._messages.ids.touch(after_entry)
        if delivery.state is State.QUEUED and record.agent == "local":  # an alias: it lives on under other addresses
            self._messages.bulk.set_state(delivery, State.HANDED_OVER)
        return delivery

    def _merge(self, first: MessageRow, last: MessageRow, via: DeliveryRow) -> DeliveryRow:
        """Make one message of two that were two hops of the same mail; return the delivery that *via* becomes.

        The first hop's message stays, unless the milter knows only the last hop's, which readers' hits are about.
        """
        self._messages.bulk.flush()
        transaction, execute = self._messages.transaction, self._messages.transaction.execute
        for recipient, delivery in first.deliveries.items():
            if delivery.state is State.SENT and recipient in last.deliveries:
                self._take_back(first, delivery)  # to a filter that did not say under what queue ID
        self._messages.bulk.flush()
        kept, gone = (last, first) if last.tracked else (first, last)
        for message in (kept, gone):
            recount_events(transaction, message.cohort, -1)
            for delivery in message.deliveries.values():
                self._messages.bulk.uncount(delivery)
        count_message(self._messages.rollup, gone.cohort, -1)
        execute(
            "UPDATE event SET message = ? WHERE message = ? AND type NOT IN (?, ?)",
            (kept.id, gone.id, EventType.ACCEPTED, EventType.RECEIVED),
        )
        before, after = dict(first.deliveries), dict(last.deliveries)
        # An alias leads to addresses that nobody asked for; who is there by name was asked for.
        is_alias = via.original_recipient is None and via.recipient.lower() not in after
        kept.deliveries.clear()
        for delivery in after.values():
            asked = before.get((delivery.original_recipient or delivery.recipient).lower())
            if asked is None and is_alias and via.state in _UNDECIDED and via in before.values():
                asked = via
            if asked is not None:
                del before[asked.recipient.lower()]
                row, other = (delivery, asked) if kept is last else (asked, delivery)
                _join(row, asked, delivery)
                execute("UPDATE event SET delivery = ? WHERE delivery = ? AND message = ?", (row.id, other.id, kept.id))
                execute("DELETE FROM delivery WHERE id = ?", (other.id,))
                if asked is via:
                    via = row
                delivery = row
            delivery.message = kept
            kept.deliveries[delivery.recipient.lower()] = delivery
            self._messages.bulk.touch(delivery)
        for delivery in before.values():
            delivery.message = kept
            kept.deliveries.setdefault(delivery.recipient.lower(), delivery)
            self._messages.bulk.touch(delivery)
        execute("UPDATE message SET merged_into = ? WHERE id = ? OR merged_into = ?", (kept.id, gone.id, gone.id))
        self._messages.bulk.flush()
        self._messages.replace(gone, kept)
        recount_events(transaction, kept.cohort, 1)
        return via

    @staticmethod
    def _holds_part_of(last: MessageRow, first: MessageRow) -> bool:
        """Return whether the milter saw, under *last*, only some of the recipients that *first* was queued for.

        That is how mail is split for the milter (contrib/postfix/main.cf.split): each part has a tracking ID of its own
        and is a message of its own.
        """
        return last.tracked and not first.tracked and (first.recipients or 0) > len(last.deliveries)

    def _split_off(self, first: MessageRow, last: MessageRow, via: DeliveryRow) -> DeliveryRow:
        """Move the delivery *via* of *first* to *last*, the part of the mail that it went on in; return it there."""
        self._messages.bulk.flush()
        transaction, execute = self._messages.transaction, self._messages.transaction.execute
        if via.state is State.SENT:
            self._take_back(first, via)
            self._messages.bulk.flush()
        row = last.deliveries[via.recipient.lower()]
        for message in (first, last):
            recount_events(transaction, message.cohort, -1)
        self._messages.bulk.uncount(via)
        self._messages.bulk.uncount(row)
        _join(row, via, row)
        execute("UPDATE event SET message = ?, delivery = ? WHERE delivery = ?", (last.id, row.id, via.id))
        execute("DELETE FROM delivery WHERE id = ?", (via.id,))
        del first.deliveries[via.recipient.lower()]
        self._messages.bulk.touch(row)
        self._messages.bulk.flush()
        for message in (first, last):
            recount_events(transaction, message.cohort, 1)
        return row

    def dissolve(self, message: MessageRow) -> None:
        """Let a message that was split to its last recipient be part of one of the messages it was split into."""
        self._messages.bulk.flush()
        row = self._messages.transaction.execute(
            f"SELECT id FROM message WHERE at_us / 3600000000 IN ({_NEAR}) AND message_id = ?2"  # noqa: S608
            " AND message_id IS NOT NULL AND tracking_id IS NOT NULL AND merged_into IS NULL AND abs(at_us - ?3) < ?4"
            " ORDER BY id LIMIT 1",
            (message.cohort.at_us // HOUR_US, message.message_id, message.cohort.at_us, HANDED_OVER_WITHIN_US),
        ).fetchone()
        if row is None:
            return
        recount_events(self._messages.transaction, message.cohort, -1)
        count_message(self._messages.rollup, message.cohort, -1)
        self._messages.transaction.execute("UPDATE message SET merged_into = ? WHERE id = ?", (row[0], message.id))
        self._messages.forget(message)


def _join(row: DeliveryRow, asked: DeliveryRow, delivered: DeliveryRow) -> None:
    """Make *row*, one of the two, what a recipient's delivery on two hops was in all."""
    name = asked.recipient if asked.recipient.lower() != delivered.recipient.lower() else None
    row.original_recipient = delivered.original_recipient or asked.original_recipient or name
    row.recipient, row.domain = delivered.recipient, delivered.domain
    row.idx = asked.idx or delivered.idx
    row.state = delivered.state
    row.attempts = asked.attempts + delivered.attempts
    row.first_attempt_us = asked.first_attempt_us or delivered.first_attempt_us
    row.last_attempt_us = delivered.last_attempt_us or asked.last_attempt_us
    row.last_event = delivered.last_event or asked.last_event
