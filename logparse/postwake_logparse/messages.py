"""Which message a queue ID stands for: found, loaded, made, or completed when the line that tells comes late.

- The milter commits its row before the MTA logs ``queue active``; a queue ID with no row by then is mail that the
  milter never saw, and the log makes the message.
- Which way a mail goes is told by where it comes from. Of what the MTA made itself (notices), and of mail whose first
  lines are not in the log, no line says that: then the first attempt tells, by where it goes.
- Queue IDs are used again. An ID is closed by ``removed`` (``Completed``); while the log lags behind the milter
  several messages may wait under one ID, and lines belong to the oldest that they are not too old for.
"""

from __future__ import annotations

from collections.abc import Callable

from postwake.domain_names import plain
from postwake.events import Direction, EventType, State
from postwake.store.bulk import Bulk, DeliveryRow, MessageRow
from postwake.store.counting import count_message, domain_of, load_cohort, recount_events
from postwake.store.transaction import Transaction
from postwake_logparse.attempt_reading import Tried
from postwake_logparse.queue_ids import QueueEntry, QueueIds
from postwake_logparse.resubmitted import Resubmitted

_UNKNOWN = Direction.UNKNOWN.label
_TO_MAILBOXES = frozenset({"local", "virtual", "lmtp", "file"})
"""Agents that deliver to mailboxes here: Postfix's, and Exim's."""
SAME_MAIL_US = 2_000_000
"""How much older than its message's row a line may be and still be about it: log stamps have whole seconds."""


def after_acceptance(message: MessageRow, at_us: int) -> int:
    """Return the time of a line about what became of *message*: log stamps may have whole seconds, its row has not."""
    accepted_us = message.cohort.at_us
    return accepted_us if at_us < accepted_us < at_us + 1_000_000 else at_us


class Messages:
    """The messages of one log, in memory in front of the tables. Made anew when memory can no longer be trusted."""

    def __init__(self, is_internal: Callable[[str], bool], local_domains: frozenset[str]) -> None:
        """Take what tells our own networks (by IP text), and the domains whose mail ends here, in every spelling."""
        self._is_internal = is_internal
        self._local_domains = local_domains
        self.ids = QueueIds()
        self.resubmitted = Resubmitted()
        self._messages: dict[int, MessageRow] = {}
        self._loaded: list[int] = []
        self._done: list[MessageRow] = []

    def begin(self, transaction: Transaction) -> None:
        """Start on *transaction*."""
        self.transaction = transaction
        self.rollup = transaction.rollup
        self.ids.pick_up(transaction)
        self.bulk = Bulk(transaction)

    def flush(self) -> None:
        """Write the rows entered so far."""
        self.bulk.flush()
        self.rollup.gather()
        self.ids.forget_closed()
        for message in self._done:
            if self._messages.get(message.id) is not message:
                message.deliveries.clear()  # which refer to it: so the garbage collector has nothing to find
        self._done.clear()

    def finish(self) -> None:
        """Write everything; the transaction can be committed then."""
        self.flush()
        self.ids.write(self.transaction)
        for number in self._loaded:
            if number not in self.ids.standing:
                self._messages.pop(number, None)
        self._loaded.clear()

    # Queue IDs

    def entry(self, queue_id: str, at_us: int, host: str) -> QueueEntry:
        """Return what *queue_id* stands for in a line of *at_us*, making it known if it is not."""
        entry = self.ids.open.get(queue_id)
        if entry is None:
            return self.ids.new(queue_id, at_us, host)
        while entry.newer is not None and entry.newer.at_us <= at_us and not self._is_open(entry):
            newer = entry.newer
            self.close(entry)  # its ``removed`` line never came
            entry = newer
        return entry

    def _is_open(self, entry: QueueEntry) -> bool:
        message = self.of(entry)
        return message is None or any(
            delivery.state in (State.QUEUED, State.DEFERRED) for delivery in message.deliveries.values()
        )

    def close(self, entry: QueueEntry) -> None:
        """Nothing more will follow under *entry*."""
        self.ids.close(entry)
        number = entry.message_number
        if number is not None and number not in self.ids.standing:
            message = self._messages.pop(number, None)
            if message is not None:
                self._done.append(message)

    # Messages

    def of(self, entry: QueueEntry) -> MessageRow | None:
        """Return the message that *entry* stands for, loading it from the store, or None if there is none yet."""
        if entry.message is None and entry.message_number is not None:
            message = self.numbered(entry.message_number)
            if message is None:  # purged meanwhile
                self.ids.forget_message(entry)
                return None
            if message.id != entry.message_number:
                self.ids.stand_for(entry, message.id)
            entry.message = message
            if message.message_id is None and entry.message_id:  # the MTA gave it one after the milter had seen it
                self.name(message, entry.message_id)
        return entry.message

    def of_line(self, queue_id: str, at_us: int, host: str, sender: str | None = None) -> tuple[QueueEntry, MessageRow]:
        """Return what a line's *queue_id* stands for, making a message that is not known yet."""
        entry = self.ids.open.get(queue_id)
        if entry is None:
            overtaken = self._overtaken(queue_id, at_us, host)
            if overtaken is not None:
                return overtaken
        if entry is None or entry.newer is not None:
            entry = self.entry(queue_id, at_us, host)
        message = entry.message or self.of(entry)
        if message is None:
            message = self.make(entry, at_us, sender, host, bare=True)
        return entry, message

    def _overtaken(self, queue_id: str, at_us: int, host: str) -> tuple[QueueEntry, MessageRow] | None:
        """Return the mail that a line written before ``removed`` is about, if ``removed`` was read first.

        A collecting syslog server with several threads, or UDP, changes the order of lines; their stamps keep it.
        """
        found = self.ids.closed_lately(queue_id, self.transaction, self.bulk.next_message)
        if found is None or at_us < found[1] - SAME_MAIL_US:
            return None
        message = self.numbered(found[0])
        if message is None or message.removed_us is None or at_us > message.removed_us:
            return None
        entry = QueueEntry(queue_id, found[1], message=message, host=host, dirty=True)  # never written: it is closed
        return entry, message

    def name(self, message: MessageRow, message_id: str) -> None:
        """Give *message* the Message-ID that it lacks."""
        message.message_id = message_id
        if message.stored:
            self.transaction.execute("UPDATE message SET message_id = ? WHERE id = ?", (message_id, message.id))

    def weigh(self, message: MessageRow, size_bytes: int) -> None:
        """Give *message* the size that it has in the queue, header and our links included; the milter sees a body."""
        message.size_bytes = size_bytes
        if message.stored:
            self.transaction.execute("UPDATE message SET size_bytes = ? WHERE id = ?", (size_bytes, message.id))

    def numbered(self, number: int) -> MessageRow | None:
        """Return the message of that number, or what it was merged into; None if it was purged."""
        return self._messages.get(number) or self._load(number)

    def under(self, queue_id: str, at_us: int) -> MessageRow | None:
        """Return the message that *queue_id*, open or closed, stands or stood for."""
        entry = self.ids.open.get(queue_id)
        if entry is not None and entry.message_number is not None:
            return self.of(entry)
        self.bulk.flush()
        number = self.ids.closed_ever(queue_id, at_us, self.transaction)
        return None if number is None else self.numbered(number)

    def replace(self, gone: MessageRow, kept: MessageRow) -> None:
        """Let every queue ID of *gone*, which was merged into *kept*, stand for *kept*."""
        for entry in tuple(self.ids.standing.get(gone.id, ())):
            entry.message = entry.way = None
            self.ids.stand_for(entry, kept.id)
            self.ids.touch(entry)
        self._messages.pop(gone.id, None)
        self._messages[kept.id] = kept
        self._loaded.append(kept.id)

    def forget(self, message: MessageRow) -> None:
        """Drop *message*: it is part of another now."""
        self._messages.pop(message.id, None)

    def _load(self, number: int) -> MessageRow | None:
        self.bulk.flush()
        execute = self.transaction.execute
        row = execute(
            "SELECT merged_into, queue_id, message_id, sender, tracking_id IS NOT NULL, recipients, removed_us,"
            " size_bytes FROM message WHERE id = ?",
            (number,),
        ).fetchone()
        if row is None:
            return None
        if row[0] is not None:
            return self.numbered(row[0])
        message = MessageRow(number, load_cohort(self.transaction, number), stored=True)
        message.queue_id, message.message_id, message.sender, message.tracked = row[1], row[2], row[3], bool(row[4])
        message.recipients, message.removed_us, message.size_bytes = row[5], row[6], row[7]
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

    # Mail that the milter never saw

    def make(self, entry: QueueEntry, at_us: int, sender: str | None, host: str, *, bare: bool = False) -> MessageRow:
        """Make the message of a queue ID that the milter never saw, or find which one it is a later hop of.

        *bare*: the line that asks for it is not the mail's first; :meth:`complete` fills in what is missing when
        that comes.
        """
        if entry.orig_queue_id is not None and entry.orig_queue_id != entry.queue_id:
            known = self.under(entry.orig_queue_id, entry.at_us)
            if known is not None:
                self.adopt(entry, known)
                return known
        direction = self._by_client(entry)
        if direction is None:
            entry.way = _UNKNOWN
            direction = _as_notice(entry, sender)
        message = self.bulk.new_message(at_us, direction, domain_of(sender) if sender else "")
        message.host = host or None
        message.queue_id = entry.queue_id
        message.message_id = entry.message_id
        message.sender = sender
        message.client = entry.client
        message.sasl_username = entry.sasl_username
        message.parent = entry.parent
        entry.bare = bare
        if entry.local and entry.message_id and entry.parent is None:
            self.resubmitted.note_local(entry.message_id, message.id)
        self._messages[message.id] = message
        self._stand_for(entry, message)
        kind = EventType.RECEIVED if direction is Direction.INBOUND else EventType.ACCEPTED
        self.bulk.new_event(at_us, kind, message.id)
        return message

    def adopt(self, entry: QueueEntry, message: MessageRow) -> None:
        """Let *entry*, a later hop, stand for *message*."""
        self._stand_for(entry, message)
        if message.message_id is None and entry.message_id:
            self.name(message, entry.message_id)
        # A row of its own, merged from the start, as the milter writes one for a stamp that it meets again: so the
        # message is found by its later queue IDs for ever.
        number = self.bulk.next_message
        self.bulk.next_message += 1
        self.transaction.execute(
            "INSERT INTO message (id, queue_id, at_us, merged_into) VALUES (?, ?, ?, ?)",
            (number, entry.queue_id, entry.at_us, message.id),
        )

    def complete(
        self, entry: QueueEntry, message: MessageRow, sender: str, size_bytes: int | None, nrcpt: int | None
    ) -> None:
        """Fill in what the first line of a mail says, when other lines came before it."""
        entry.bare = False
        self.ids.touch(entry)
        if message.tracked:
            return
        direction = self._by_client(entry)
        if direction is not None:
            entry.way = None
        elif entry.way is not None and entry.way != _UNKNOWN:
            direction = Direction[entry.way.upper()]
        else:
            direction = _as_notice(entry, sender)
        self._move(message, direction, domain_of(sender))
        message.sender, message.message_id = sender, entry.message_id or message.message_id
        message.size_bytes = size_bytes
        self.transaction.execute(
            "UPDATE message SET sender = ?, message_id = ?, client = ?, sasl_username = ?, size_bytes = ?,"
            " recipients = ?, parent = coalesce(parent, ?) WHERE id = ?",
            (
                sender,
                message.message_id,
                entry.client,
                entry.sasl_username,
                size_bytes,
                nrcpt,
                entry.parent,
                message.id,
            ),
        )

    def first_attempt(self, entry: QueueEntry, message: MessageRow, attempt: Tried, kind: EventType) -> None:
        """Let the first attempt tell which way *message* goes, of which no line says where it comes from.

        *kind* is what the attempt turned out to be: a filter may take mail by LMTP.
        """
        if entry.way != _UNKNOWN:
            return
        entry.way = None
        self.ids.touch(entry)
        if message.tracked:
            return
        ends_here = attempt.agent in _TO_MAILBOXES and (attempt.agent != "lmtp" or kind is not EventType.HANDED_OVER)
        if ends_here or plain(attempt.domain) in self._local_domains:
            direction = Direction.INBOUND
        elif self._local_domains:
            direction = Direction.OUTBOUND
        else:
            return
        entry.way = direction.label
        if direction is not message.cohort.direction:
            self._move(message, direction, message.cohort.domain)

    def _move(self, message: MessageRow, direction: Direction, domain: str) -> None:
        """Count *message*, and what happened to it so far, under another direction or sender's domain."""
        self.bulk.flush()
        transaction, before = self.transaction, message.cohort
        for delivery in message.deliveries.values():
            self.bulk.uncount(delivery)
            self.bulk.touch(delivery)
        count_message(self.rollup, before, -1)
        recount_events(transaction, before, -1)
        message.cohort = before._replace(direction=direction, domain=domain)
        transaction.execute(
            "UPDATE message SET domain = ?, direction = ? WHERE id = ?", (domain or None, direction, message.id)
        )
        kinds = (EventType.ACCEPTED, EventType.RECEIVED)
        transaction.execute(
            "UPDATE event SET type = ? WHERE message = ? AND type IN (?, ?)",
            (kinds[direction is Direction.INBOUND], message.id, *kinds),
        )
        count_message(self.rollup, message.cohort)
        recount_events(transaction, message.cohort, 1)

    def _stand_for(self, entry: QueueEntry, message: MessageRow) -> None:
        self.ids.stand_for(entry, message.id)
        entry.message = message
        self.ids.touch(entry)

    def _by_client(self, entry: QueueEntry) -> Direction | None:
        """Return which way the mail goes by where it comes from; None if no line says that."""
        if entry.sasl_username or entry.local:
            return Direction.OUTBOUND
        if entry.client_ip is not None:
            return Direction.OUTBOUND if self._is_internal(entry.client_ip) else Direction.INBOUND
        return None


def _as_notice(entry: QueueEntry, sender: str | None) -> Direction:
    """A notice (null sender, or about a mail) comes back to one of ours, as far as anybody knows."""
    return Direction.INBOUND if sender == "" or entry.parent is not None else Direction.OUTBOUND
