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
from collections.abc import Callable, Iterable
from typing import Any

from postwake.events import Direction, EventType, State
from postwake.store.accepted import MERGES
from postwake.store.bulk import Bulk, DeliveryRow, MessageRow
from postwake.store.counting import (
    count_event,
    count_message,
    domain_of,
    load_cohort,
    recount_events,
)
from postwake.store.schema import DAY_US, HOUR_US
from postwake.store.transaction import Transaction
from postwake_logparse.outcome import Outcomes
from postwake_logparse.queue_ids import QueueEntry, QueueIds
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
from postwake_logparse.resubmitted import Resubmitted, is_pipe

SAME_MAIL_US = 2_000_000
"""How much older than its message's row a line may be and still be about it: log stamps have whole seconds."""
HANDED_OVER_WITHIN_US = 24 * 3600 * 1_000_000


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
        self._ids = QueueIds()
        self._messages: dict[int, MessageRow] = {}
        self._loaded: list[int] = []
        self._done: list[MessageRow] = []
        self._merges: str | None = None
        self._resubmitted = Resubmitted()
        self._swept_hour = 0

    def apply(self, transaction: Transaction, records: Iterable[Record]) -> None:
        """Write what *records* say, within *transaction*: :meth:`begin`, :meth:`feed` and :meth:`finish` in one."""
        self.begin(transaction)
        self.feed(records)
        self.finish()

    def begin(self, transaction: Transaction) -> None:
        """Start on *transaction*."""
        self._transaction = transaction
        self._forget_what_changed()
        self._rollup = transaction.rollup
        self._outcomes.begin(transaction)
        self._ids.pick_up(transaction)
        self._bulk = Bulk(transaction)

    def feed(self, records: Iterable[Record]) -> None:
        """Take in what *records* say; may be called several times."""
        handlers = self._handlers
        record = None
        for record in records:
            handlers[type(record)](record)
        if record is not None and record.at_us // HOUR_US > self._swept_hour:
            self._swept_hour = record.at_us // HOUR_US
            self._ids.sweep(record.at_us)

    def finish(self) -> None:
        """Write everything; the transaction can be committed then."""
        self._bulk.flush()
        self._ids.write(self._transaction)
        for number in self._loaded:
            if number not in self._ids.standing:
                self._messages.pop(number, None)
        self._loaded.clear()
        for message in self._done:
            if self._messages.get(message.id) is not message:
                message.deliveries.clear()  # which refer to it: so the garbage collector has nothing to find
        self._done.clear()

    def _forget_what_changed(self) -> None:
        """Read everything anew when rows from a spool have completed messages that are remembered here."""
        row = self._transaction.execute("SELECT value FROM meta WHERE key = ?", (MERGES,)).fetchone()
        merges = row[0] if row is not None else ""
        if self._merges is not None and merges != self._merges:
            self.reset()
        self._merges = merges

    # Queue IDs

    def _entry(self, record: Any) -> QueueEntry:
        """Return what the record's queue ID stands for, making it known if it is not."""
        entry = self._ids.open.get(record.queue_id)
        if entry is None:
            return self._ids.new(record.queue_id, record.at_us, record.host)
        while entry.newer is not None and entry.newer.at_us <= record.at_us and not self._is_open(entry):
            newer = entry.newer
            self._close(entry)  # its ``removed`` line never came
            entry = newer
        return entry

    def _is_open(self, entry: QueueEntry) -> bool:
        message = self._message(entry)
        return message is None or any(
            delivery.state in (State.QUEUED, State.DEFERRED) for delivery in message.deliveries.values()
        )

    def _close(self, entry: QueueEntry) -> None:
        self._ids.close(entry)
        number = entry.message_number
        if number is not None and number not in self._ids.standing:
            message = self._messages.pop(number, None)
            if message is not None:
                self._done.append(message)

    # Messages

    def _message(self, entry: QueueEntry) -> MessageRow | None:
        """Return the message that *entry* stands for, loading it from the store, or None if there is none yet."""
        if entry.message is None and entry.message_number is not None:
            message = self._numbered(entry.message_number)
            if message is None:  # purged meanwhile
                self._ids.forget_message(entry)
                return None
            if message.id != entry.message_number:
                self._ids.stand_for(entry, message.id)
            entry.message = message
            if message.message_id is None and entry.message_id:  # the MTA gave it one after the milter had seen it
                self._name(message, entry.message_id)
        return entry.message

    def _name(self, message: MessageRow, message_id: str) -> None:
        message.message_id = message_id
        if message.stored:
            self._transaction.execute("UPDATE message SET message_id = ? WHERE id = ?", (message_id, message.id))

    def _numbered(self, number: int) -> MessageRow | None:
        """Return the message of that number, or what it was merged into; None if it was purged."""
        return self._messages.get(number) or self._load(number)

    def _load(self, number: int) -> MessageRow | None:
        self._bulk.flush()
        execute = self._transaction.execute
        row = execute(
            "SELECT merged_into, queue_id, message_id, sender, tracking_id IS NOT NULL, recipients FROM message"
            " WHERE id = ?",
            (number,),
        ).fetchone()
        if row is None:
            return None
        if row[0] is not None:
            return self._numbered(row[0])
        message = MessageRow(number, load_cohort(self._transaction, number), stored=True)
        message.queue_id, message.message_id, message.sender, message.tracked = row[1], row[2], row[3], bool(row[4])
        message.recipients = row[5]
        for fields in execute(
            "SELECT id, recipient, original_recipient, idx, state, attempts, at_us, first_attempt_us, last_attempt_us,"
            " last_event FROM delivery WHERE message = ? ORDER BY id",
            (number,),
        ):
            delivery = DeliveryRow(fields[0], message, *fields[1:])
            delivery.state = delivery.counted = State(delivery.state)
            delivery.domain = domain_of(delivery.recipient)
            delivery.stored = True
            message.deliveries[delivery.recipient.lower()] = delivery
            if delivery.original_recipient and delivery.idx:
                message.asked_for[delivery.original_recipient.lower()] = delivery.idx
        self._messages[number] = message
        self._loaded.append(number)
        return message

    def _stand_for(self, entry: QueueEntry, message: MessageRow) -> None:
        self._ids.stand_for(entry, message.id)
        entry.message = message
        self._ids.touch(entry)

    def _make_message(
        self, entry: QueueEntry, at_us: int, sender: str | None, host: str, *, bare: bool = False
    ) -> MessageRow:
        """Make the message of a queue ID that the milter never saw, or find which one it is a later hop of.

        *bare*: the line that asks for it is not the mail's first; :meth:`_complete` fills in what is missing when
        that comes.
        """
        known = self._by_orig_queue_id(entry)
        if known is not None:
            self._adopt(entry, known)
            return known
        direction = self._direction(entry, sender)
        domain = domain_of(sender or "")
        message = self._bulk.new_message(at_us, direction, domain)
        message.host = host or None
        message.queue_id = entry.queue_id
        message.message_id = entry.message_id
        message.sender = sender
        message.client = entry.client
        message.sasl_username = entry.sasl_username
        message.parent = entry.parent
        entry.bare = bare
        if entry.local and entry.message_id and entry.parent is None:
            self._resubmitted.note_local(entry.message_id, message.id)
        self._messages[message.id] = message
        self._stand_for(entry, message)
        kind = EventType.RECEIVED if direction is Direction.INBOUND else EventType.ACCEPTED
        self._bulk.new_event(at_us, kind, message.id)
        return message

    def _adopt(self, entry: QueueEntry, message: MessageRow) -> None:
        """Let *entry*, a later hop, stand for *message*."""
        self._stand_for(entry, message)
        if message.message_id is None and entry.message_id:
            self._name(message, entry.message_id)
        # A row of its own, merged from the start, as the milter writes one for a stamp that it meets again: so the
        # message is found by its later queue IDs for ever.
        number = self._bulk.next_message
        self._bulk.next_message += 1
        self._transaction.execute(
            "INSERT INTO message (id, queue_id, at_us, merged_into) VALUES (?, ?, ?, ?)",
            (number, entry.queue_id, entry.at_us, message.id),
        )

    def _complete(
        self, entry: QueueEntry, message: MessageRow, sender: str, size_bytes: int | None, nrcpt: int | None
    ) -> None:
        """Fill in what the first line of a mail says, when other lines came before it."""
        entry.bare = False
        self._ids.touch(entry)
        if message.tracked:
            return
        self._bulk.flush()
        transaction, before = self._transaction, message.cohort
        for delivery in message.deliveries.values():
            self._bulk.uncount(delivery)
            self._bulk.touch(delivery)
        count_message(self._rollup, before, -1)
        recount_events(transaction, before, -1)
        direction = self._direction(entry, sender)
        message.cohort = before._replace(direction=direction, domain=domain_of(sender))
        message.sender, message.message_id = sender, entry.message_id or message.message_id
        transaction.execute(
            "UPDATE message SET sender = ?, domain = ?, direction = ?, message_id = ?, client = ?, sasl_username = ?,"
            " size_bytes = ?, recipients = ?, parent = coalesce(parent, ?) WHERE id = ?",
            (
                sender,
                message.cohort.domain or None,
                direction,
                message.message_id,
                entry.client,
                entry.sasl_username,
                size_bytes,
                nrcpt,
                entry.parent,
                message.id,
            ),
        )
        kinds = (EventType.ACCEPTED, EventType.RECEIVED)
        transaction.execute(
            "UPDATE event SET type = ? WHERE message = ? AND type IN (?, ?)",
            (kinds[direction is Direction.INBOUND], message.id, *kinds),
        )
        count_message(self._rollup, message.cohort)
        recount_events(transaction, message.cohort, 1)

    def _direction(self, entry: QueueEntry, sender: str | None) -> Direction:
        if entry.sasl_username or entry.local:
            return Direction.OUTBOUND
        if entry.client_ip is not None:
            return Direction.OUTBOUND if self._is_internal(entry.client_ip) else Direction.INBOUND
        # No client line: made by the MTA itself. A notice (null sender) comes back to one of ours.
        return Direction.INBOUND if sender == "" else Direction.OUTBOUND

    def _by_orig_queue_id(self, entry: QueueEntry) -> MessageRow | None:
        if entry.orig_queue_id is None or entry.orig_queue_id == entry.queue_id:
            return None
        return self._message_under(entry.orig_queue_id, entry.at_us)

    def _message_under(self, queue_id: str, at_us: int) -> MessageRow | None:
        """Return the message that *queue_id*, open or closed, stands or stood for."""
        entry = self._ids.open.get(queue_id)
        if entry is not None and entry.message_number is not None:
            return self._message(entry)
        self._bulk.flush()
        number = self._ids.closed_ever(queue_id, at_us, self._transaction)
        return None if number is None else self._numbered(number)

    def _message_of(self, record: Any, sender: str | None = None) -> tuple[QueueEntry, MessageRow]:
        entry = self._entry(record)
        message = entry.message or self._message(entry)
        if message is None:
            message = self._make_message(entry, record.at_us, sender, record.host, bare=True)
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
        elif delivery.original_recipient:
            delivery.idx = message.asked_for.get(delivery.original_recipient.lower(), 0)
        return delivery

    def _rename(self, delivery: DeliveryRow, recipient: str) -> None:
        message = delivery.message
        self._bulk.uncount(delivery)
        del message.deliveries[delivery.recipient.lower()]
        delivery.original_recipient, delivery.recipient = delivery.recipient, recipient
        delivery.domain = domain_of(recipient)
        message.deliveries[recipient.lower()] = delivery
        if delivery.idx:
            message.asked_for[delivery.original_recipient.lower()] = delivery.idx
        self._bulk.touch(delivery)

    def _set_state(self, delivery: DeliveryRow, state: State) -> None:
        delivery.state = state
        self._bulk.touch(delivery)

    # One method a kind of record

    def _client(self, record: Client) -> None:
        entry = self._ids.open.get(record.queue_id)
        if entry is not None and self._is_another(entry, record.at_us):
            # The ID is used again and its ``removed`` line was lost.
            newer = entry.newer
            self._close(entry)
            entry = newer
        if entry is None:
            entry = self._entry(record)
        entry.host = record.host
        if record.client_name is not None:
            entry.client = f"{record.client_name}[{record.client_ip}]"
        entry.client_ip = record.client_ip
        entry.sasl_username = record.sasl_username
        entry.local = record.uid is not None
        entry.orig_queue_id = record.orig_queue_id
        self._ids.touch(entry)
        before = self._ids.open.get(record.orig_queue_id) if entry.local and record.orig_queue_id else None
        if before is not None and before is not entry:
            self._close(before)  # requeued by the operator: the mail goes on under the new ID alone

    def _is_another(self, entry: QueueEntry, at_us: int) -> bool:
        """Return whether a mail that begins at *at_us* cannot be the one *entry* stands for."""
        if entry.client is not None or entry.local:
            return True
        return entry.message_number is not None and entry.at_us < at_us - SAME_MAIL_US

    def _message_id(self, record: MessageId) -> None:
        entry = self._entry(record)
        if record.resent or not record.message_id:
            return
        message = self._message(entry)
        if message is None:
            entry.message_id = record.message_id
            self._ids.touch(entry)
        elif message.message_id is None:
            self._name(message, record.message_id)

    def _queued(self, record: Queued) -> None:
        entry = self._entry(record)
        if entry.message is None and self._message(entry) is None:
            if record.sender.startswith("double-bounce@") and entry.client is None:
                return  # an address probe or a bounce of a bounce: no mail of anybody's, unless an attempt says so
            message = self._make_message(entry, record.at_us, record.sender, record.host)
            if not message.stored and message.queue_id == entry.queue_id:
                message.size_bytes = record.size_bytes
                message.recipients = record.nrcpt
        elif entry.bare:
            message = self._message_of(record)[1]
            self._complete(entry, message, record.sender, record.size_bytes, record.nrcpt)

    def _arrival(self, record: Arrival) -> None:
        entry = self._entry(record)
        if record.client_name is not None or record.client_ip is not None:
            entry.client = f"{record.client_name or record.helo or ''}[{record.client_ip or ''}]"
        entry.client_ip = record.client_ip
        entry.sasl_username = record.sasl_username
        entry.local = record.local_user is not None or record.protocol == "local"
        entry.message_id = record.message_id
        about = self._message_under(record.parent_id, record.at_us) if record.parent_id is not None else None
        if about is not None:
            entry.parent = about.id
            self._bulk.new_event(
                record.at_us, EventType.NOTIFIED, about.id, detail=json.dumps({"queue_id": record.queue_id})
            )
        sender = record.sender
        if sender == "" and record.parent_id is not None:
            entry.local = False  # Exim's own notice, coming back to one of ours
        count = len(record.recipients) if record.recipients is not None else None
        message = self._message(entry)
        if message is not None:
            if entry.bare:  # cut-through delivery is logged before the arrival
                self._complete(entry, message, sender, record.size_bytes, count)
            return
        message = self._make_message(entry, record.at_us, sender, record.host)
        message.size_bytes = record.size_bytes
        message.subject = record.subject
        message.recipients = count
        for recipient in record.recipients or ():
            if recipient.lower() not in message.deliveries:
                self._bulk.new_delivery(message, recipient, record.at_us)

    def _attempt(self, record: Attempt) -> None:
        entry, message = self._message_of(record, record.sender)
        if record.retry_only and not self._is_first_word(message, record):
            return
        if entry.local and not message.deliveries and message.message_id and not message.tracked:
            message = self._join_what_a_pipe_took(message, record)
        delivery = self._delivery(entry, message, record)
        outcome = self._outcomes.of(record)
        kind = outcome.kind
        if record.relay.ip is None and kind is EventType.SENT and message.message_id and is_pipe(record.relay.text):
            delivery = self._join_what_a_pipe_submitted(message, delivery)
            message = delivery.message
        if delivery.state is not State.QUEUED:
            kind = self._judge_hops(entry, message, delivery, kind)
        if kind is EventType.SENT and record.next_queue_id is not None:
            next_hop = self._hand_over(record, entry, message, delivery)
            if next_hop is not None:
                kind, delivery, message = EventType.HANDED_OVER, next_hop, next_hop.message
        at_us = record.at_us
        if at_us < message.cohort.at_us < at_us + 1_000_000:
            at_us = message.cohort.at_us  # a stamp of whole seconds; no mail is delivered before it is accepted
        handed_over = kind is EventType.HANDED_OVER
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
            json.dumps({"next_queue_id": record.next_queue_id}) if handed_over and record.next_queue_id else None,
        )
        if handed_over:
            return
        if not record.retry_only:
            delivery.attempts += 1
            if delivery.first_attempt_us is None:
                delivery.first_attempt_us = at_us
            delivery.last_attempt_us = at_us
        delivery.last_event = number
        self._set_state(delivery, _STATE[kind])
        _, _, direction, domain, tag = message.cohort
        inbound, label = direction is Direction.INBOUND, _LABEL[kind]
        self._rollup.counted.append(("event", at_us // HOUR_US, label, inbound, domain, tag, delivery.domain))
        if outcome.category is not None and not inbound:
            self._rollup.add("event", at_us, label, dimension="category", key=outcome.category)
            self._rollup.add("event", at_us, label, dimension="kind", key=outcome.reply_kind or "unknown")

    def _is_first_word(self, message: MessageRow, record: Attempt) -> bool:
        """Return whether Exim's ``retry time not reached``, which it repeats at every queue run, is news.

        It is for a recipient whose server is known not to answer and that was never tried: that one is deferred.
        """
        known = message.deliveries.get(record.recipient.lower())
        if known is None and record.original_recipient:
            known = message.deliveries.get(record.original_recipient.lower())
        return known is None or known.state is State.QUEUED

    def _join_what_a_pipe_took(self, message: MessageRow, record: Attempt) -> MessageRow:
        """Return the message of which *message*, submitted by a local program, is a later hop; or *message* itself."""
        assert message.message_id is not None
        number = self._resubmitted.piped(message.message_id, self._transaction, self._bulk.next_message)
        first = self._numbered(number) if number is not None else None
        if first is None or first is message:
            return message
        delivery = first.deliveries.get(record.recipient.lower())
        if delivery is None or delivery.state is not State.SENT:
            return message  # a copy that goes elsewhere: a mail of its own
        self._take_back(first, delivery)
        return self._merge(first, message, delivery).message

    def _join_what_a_pipe_submitted(self, message: MessageRow, delivery: DeliveryRow) -> DeliveryRow:
        """Return *delivery*, which a pipe took, joined with what was submitted anew already and has a fate."""
        assert message.message_id is not None
        number = self._resubmitted.local(message.message_id, self._transaction, self._bulk.next_message)
        self._resubmitted.note_piped(message.message_id, message.id)
        last = self._numbered(number) if number is not None else None
        if last is None or last is message or delivery.recipient.lower() not in last.deliveries:
            return delivery
        return self._merge(message, last, delivery)

    def _judge_hops(self, entry: QueueEntry, message: MessageRow, delivery: DeliveryRow, kind: EventType) -> EventType:
        """Return what an attempt for a delivery that has a fate already is: the last hop decides.

        For filters that do not say what queue ID they handed the mail on under: a pipe to a program that submits it
        anew, a proxy with a reply of its own. Our stamp tells that the new queue ID is the same mail.
        """
        if entry.queue_id == message.queue_id:
            if kind is EventType.SENT and delivery.state in _FINAL and self._has_hops(message):
                return EventType.HANDED_OVER  # the filter's answer was logged after the last hop's fate
        elif delivery.state is State.SENT:
            self._take_back(message, delivery)
        return kind

    def _has_hops(self, message: MessageRow) -> bool:
        found = self._transaction.execute("SELECT 1 FROM message WHERE merged_into = ? LIMIT 1", (message.id,))
        return found.fetchone() is not None

    def _take_back(self, message: MessageRow, delivery: DeliveryRow) -> None:
        """What was taken for a delivery was a filter that took the mail."""
        self._bulk.flush()
        row = self._transaction.execute(
            "SELECT at_us FROM event WHERE id = ? AND type = ?", (delivery.last_event, EventType.SENT)
        ).fetchone()
        if row is None:
            return
        self._transaction.execute(
            "UPDATE event SET type = ? WHERE id = ?", (EventType.HANDED_OVER, delivery.last_event)
        )
        count_event(self._rollup, row[0], "sent", message.cohort, recipient=delivery.recipient, n=-1)
        delivery.attempts -= 1
        delivery.first_attempt_us = delivery.last_attempt_us = delivery.last_event = None
        self._set_state(delivery, State.QUEUED)

    def _hand_over(
        self, record: Attempt, entry: QueueEntry, message: MessageRow, delivery: DeliveryRow
    ) -> DeliveryRow | None:
        """Follow *record*'s ``queued as`` if it names a queue ID of ours.

        Return the delivery that lives on (it is *delivery* unless messages were merged), or None if it was no
        hand-over.
        """
        queue_id = record.next_queue_id
        assert queue_id is not None
        if queue_id == entry.queue_id:
            return None
        after_entry = self._ids.open.get(queue_id)
        if after_entry is not None:
            after_us = after_entry.at_us
            after = self._message(after_entry)
            message_id = after.message_id if after is not None else after_entry.message_id
        else:
            found = self._ids.closed_lately(queue_id, self._transaction, self._bulk.next_message)
            after = self._numbered(found[0]) if found is not None else None
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
            self._adopt(after_entry, message)
        if after_entry is not None and after_entry.via is None:
            after_entry.via = delivery.id
            self._ids.touch(after_entry)
        if delivery.state is State.QUEUED and record.agent == "local":  # an alias: it lives on under other addresses
            self._set_state(delivery, State.HANDED_OVER)
        return delivery

    def _merge(self, first: MessageRow, last: MessageRow, via: DeliveryRow) -> DeliveryRow:
        """Make one message of two that were two hops of the same mail; return the delivery that *via* becomes.

        The first hop's message stays, unless the milter knows only the last hop's, which readers' hits are about.
        """
        self._bulk.flush()
        transaction, execute = self._transaction, self._transaction.execute
        for recipient, delivery in first.deliveries.items():
            if delivery.state is State.SENT and recipient in last.deliveries:
                self._take_back(first, delivery)  # to a filter that did not say under what queue ID
        self._bulk.flush()
        kept, gone = (last, first) if last.tracked else (first, last)
        for message in (kept, gone):
            recount_events(transaction, message.cohort, -1)
            for delivery in message.deliveries.values():
                self._bulk.uncount(delivery)
        count_message(self._rollup, gone.cohort, -1)
        execute(
            "UPDATE event SET message = ? WHERE message = ? AND type NOT IN (?, ?)",
            (kept.id, gone.id, EventType.ACCEPTED, EventType.RECEIVED),
        )
        before, after = dict(first.deliveries), dict(last.deliveries)
        kept.deliveries.clear()
        for delivery in after.values():
            asked = before.get((delivery.original_recipient or delivery.recipient).lower())
            if asked is None and via.original_recipient is None and via.state in _UNDECIDED and via in before.values():
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
            self._bulk.touch(delivery)
        for delivery in before.values():
            delivery.message = kept
            kept.deliveries.setdefault(delivery.recipient.lower(), delivery)
            self._bulk.touch(delivery)
        execute("UPDATE message SET merged_into = ? WHERE id = ? OR merged_into = ?", (kept.id, gone.id, gone.id))
        self._bulk.flush()
        for entry in tuple(self._ids.standing.get(gone.id, ())):
            entry.message = None
            self._ids.stand_for(entry, kept.id)
            self._ids.touch(entry)
        self._messages.pop(gone.id, None)
        self._messages[kept.id] = kept
        self._loaded.append(kept.id)
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
        self._bulk.flush()
        transaction, execute = self._transaction, self._transaction.execute
        if via.state is State.SENT:
            self._take_back(first, via)
            self._bulk.flush()
        row = last.deliveries[via.recipient.lower()]
        for message in (first, last):
            recount_events(transaction, message.cohort, -1)
        self._bulk.uncount(via)
        self._bulk.uncount(row)
        _join(row, via, row)
        execute("UPDATE event SET message = ?, delivery = ? WHERE delivery = ?", (last.id, row.id, via.id))
        execute("DELETE FROM delivery WHERE id = ?", (via.id,))
        del first.deliveries[via.recipient.lower()]
        self._bulk.touch(row)
        self._bulk.flush()
        for message in (first, last):
            recount_events(transaction, message.cohort, 1)
        return row

    def _dissolve(self, message: MessageRow) -> None:
        """Let a message that was split to its last recipient be part of one of the messages it was split into."""
        self._bulk.flush()
        day = message.cohort.at_us // DAY_US
        row = self._transaction.execute(
            "SELECT id FROM message WHERE at_us / 86400000000 IN (?, ?, ?) AND message_id = ?"
            " AND message_id IS NOT NULL AND tracking_id IS NOT NULL AND merged_into IS NULL AND abs(at_us - ?) < ?"
            " ORDER BY id LIMIT 1",
            (day - 1, day, day + 1, message.message_id, message.cohort.at_us, HANDED_OVER_WITHIN_US),
        ).fetchone()
        if row is None:
            return
        recount_events(self._transaction, message.cohort, -1)
        count_message(self._rollup, message.cohort, -1)
        self._transaction.execute("UPDATE message SET merged_into = ? WHERE id = ?", (row[0], message.id))
        self._messages.pop(message.id, None)

    def _queue_expired(self, record: QueueExpired) -> None:
        entry, message = self._message_of(record, record.sender)
        reply, category, kind = self._outcomes.expired(record.forced)
        detail = json.dumps({"forced": True}) if record.forced else None
        for delivery in self._waiting_under(entry, message):
            number = self._bulk.new_event(
                record.at_us, EventType.EXPIRED, message.id, delivery.id, reply=reply, detail=detail
            )
            delivery.last_event = number
            self._set_state(delivery, State.EXPIRED)
            count_event(self._rollup, record.at_us, "expired", message.cohort, recipient=delivery.recipient)
            if category is not None and message.cohort.direction is not Direction.INBOUND:
                self._rollup.add("event", record.at_us, "expired", dimension="category", key=category)
                self._rollup.add("event", record.at_us, "expired", dimension="kind", key=kind or "unknown")

    def _waiting_under(self, entry: QueueEntry, message: MessageRow) -> list[DeliveryRow]:
        """Return the deliveries of *message* that have no fate yet and wait under this queue ID, not another hop's."""
        waiting = [row for row in message.deliveries.values() if row.state in (State.QUEUED, State.DEFERRED)]
        if len(self._ids.standing[message.id]) == 1:
            return waiting
        self._bulk.flush()
        handed_over = {
            row[0]
            for row in self._transaction.execute(
                "SELECT delivery FROM event WHERE message = ? AND type = ?", (message.id, EventType.HANDED_OVER)
            )
        }
        is_first = entry.queue_id == message.queue_id
        return [row for row in waiting if (row.id in handed_over) is not is_first]

    def _non_delivery(self, record: NonDelivery) -> None:
        _, message = self._message_of(record)
        detail = json.dumps({"notice": record.notice, "audience": record.audience, "queue_id": record.new_queue_id})
        self._bulk.new_event(record.at_us, EventType.NOTIFIED, message.id, detail=detail)
        notice = self._ids.open.get(record.new_queue_id)
        made = self._message(notice) if notice is not None else None
        if notice is None:
            found = self._ids.closed_lately(record.new_queue_id, self._transaction, self._bulk.next_message)
            made = self._numbered(found[0]) if found is not None else None
            if made is None:
                notice = self._ids.new(record.new_queue_id, record.at_us, record.host)
        if made is None:
            assert notice is not None
            notice.parent = message.id
            self._ids.touch(notice)
        elif made.stored:
            self._transaction.execute("UPDATE message SET parent = ? WHERE id = ?", (message.id, made.id))
        else:
            made.parent = message.id

    def _removed(self, record: Removed) -> None:
        entry = self._ids.open.get(record.queue_id)
        if entry is None:
            return
        message = entry.message or self._message(entry)
        if message is not None:
            if len(self._ids.standing[message.id]) == 1:
                self._account_for_rest(message, record.at_us)
            self._note_removed(message, record.at_us)
            if not message.deliveries and not message.tracked and (message.recipients or 0) > 1:
                self._dissolve(message)
        self._close(entry)

    def _note_removed(self, message: MessageRow, at_us: int) -> None:
        if message.stored:
            self._transaction.execute("UPDATE message SET removed_us = ? WHERE id = ?", (at_us, message.id))
        else:
            message.removed_us = at_us

    def _account_for_rest(self, message: MessageRow, at_us: int) -> None:
        """The queue is done with a message: recipients that no line named went somewhere under another name."""
        waiting = [row for row in message.deliveries.values() if row.state is State.QUEUED]
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
        self._bulk.uncount(asked)
        del message.deliveries[asked.recipient.lower()]
        if asked.stored:
            self._bulk.changed.pop(asked.id, None)
            self._transaction.execute("DELETE FROM delivery WHERE id = ?", (asked.id,))
        else:
            self._bulk.deliveries.remove(asked)
        self._bulk.touch(found)

    def _deleted(self, record: Deleted) -> None:
        entry = self._ids.open.get(record.queue_id)
        if entry is None:
            return
        message = self._message(entry)
        if message is not None:
            self._take_out(entry, message, record.at_us, json.dumps({"text": record.text}, ensure_ascii=False))
        self._close(entry)

    def _take_out(self, entry: QueueEntry, message: MessageRow, at_us: int, detail: str | None) -> None:
        """What waits under *entry* will not be delivered to anybody."""
        for delivery in self._waiting_under(entry, message):
            self._bulk.new_event(at_us, EventType.DELETED, message.id, delivery.id, detail=detail)
            self._set_state(delivery, State.DELETED)
            count_event(self._rollup, at_us, "deleted", message.cohort)
        self._note_removed(message, at_us)

    def _held(self, record: Held) -> None:
        _, message = self._message_of(record)
        self._bulk.new_event(record.at_us, EventType.HELD, message.id, detail=json.dumps({"text": record.text}))

    def _released(self, record: Released) -> None:
        """Nothing to note: the attempts that follow speak for themselves."""

    def _host_said(self, record: HostSaid) -> None:
        """One server's refusal within an attempt; the attempt's own line decides."""

    def _probe(self, record: Probe) -> None:
        """An address probe is no mail: forget its queue ID."""
        entry = self._ids.open.get(record.queue_id)
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
        entry = self._ids.open.get(record.queue_id) if record.queue_id else None
        message = self._message(entry) if entry is not None else None
        self._bulk.new_event(record.at_us, EventType.REJECTED, message.id if message is not None else None, detail=text)
        count_event(
            self._rollup, record.at_us, EventType.REJECTED.label, message.cohort if message is not None else None
        )
        if entry is not None and record.stage in _WHOLE_MAIL:
            # The whole mail was refused, perhaps by a milter behind ours: nothing of it will be queued.
            if message is not None:
                self._take_out(entry, message, record.at_us, None)
            self._close(entry)


_LABEL = {kind: kind.label for kind in EventType}
_STATE = {
    EventType.SENT: State.SENT,
    EventType.DEFERRED: State.DEFERRED,
    EventType.BOUNCED: State.BOUNCED,
    EventType.EXPIRED: State.EXPIRED,
}
_FINAL = (State.SENT, State.BOUNCED, State.EXPIRED)
_UNDECIDED = (State.QUEUED, State.DEFERRED, State.HANDED_OVER)
_WHOLE_MAIL = ("END-OF-MESSAGE", "header", "body", "DATA")


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
