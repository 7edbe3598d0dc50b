"""From records to the store's rows: who a queue ID stands for, and what became of each recipient.

A :class:`Correlator` keeps the queue IDs that are open. What it knows of them also stands in the store's ``queue``
table, written in the transaction that writes the events, so that nothing is known only here: after a crash or a
failed commit a new one starts from the table. Rows that the milter put there are picked up by their number.

Which message a queue ID stands for is :mod:`postwake_logparse.messages`' business; a mail's lines go, in the order in
which an MTA writes them, to :mod:`~postwake_logparse.arrivals`, :mod:`~postwake_logparse.attempts` (and
:mod:`~postwake_logparse.hops`, where a mail goes on under another queue ID) and :mod:`~postwake_logparse.endings`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from postwake.config import Config
from postwake.domain_names import every_spelling
from postwake.events import EventType
from postwake.networks import Networks
from postwake.reply.load import load_classifier
from postwake.store.accepted import MERGES
from postwake.store.schema import HOUR_US
from postwake.store.transaction import Transaction
from postwake_logparse.arrivals import Arrivals
from postwake_logparse.attempt_reading import Tried
from postwake_logparse.attempts import Attempts
from postwake_logparse.endings import Endings
from postwake_logparse.hops import Hops
from postwake_logparse.messages import Messages, after_acceptance
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


class Correlator:
    """See the module. One batch at a time: :meth:`apply` inside a transaction, :meth:`reset` when it did not commit."""

    def __init__(
        self, outcomes: Outcomes, is_internal: Callable[[str], bool], local_domains: frozenset[str] = frozenset()
    ) -> None:
        """Take what understands replies, what tells our own networks (by IP text), and the domains whose mail ends
        here, in every spelling."""
        self.outcomes = outcomes
        self._is_internal = is_internal
        self._local_domains = local_domains
        self.reset()

    def reset(self) -> None:
        """Forget everything: the tables say what is known."""
        self._messages = messages = Messages(self._is_internal, self._local_domains)
        self._merges: str | None = None
        self._swept_hour = 0
        hops = Hops(messages)
        arrivals = Arrivals(messages)
        attempts = Attempts(messages, hops, self.outcomes)
        endings = Endings(messages, hops, self.outcomes)
        read = self.outcomes.reader.read
        self._handlers: dict[type, Callable[[Any], None]] = {
            Client: arrivals.client,
            MessageId: arrivals.message_id,
            Queued: arrivals.queued,
            Arrival: arrivals.arrival,
            Attempt: lambda record: attempts.take(read(record)),
            Tried: attempts.take,
            QueueExpired: endings.expired,
            NonDelivery: self._non_delivery,
            Removed: endings.removed,
            Deleted: endings.deleted,
            Held: self._held,
            Released: _nothing_to_note,  # the attempts that follow speak for themselves
            Rejected: endings.rejected,
            Probe: endings.probe,
            HostSaid: _nothing_to_note,  # one server's refusal within an attempt; the attempt's own line decides
        }

    def apply(self, transaction: Transaction, records: Iterable[Record]) -> None:
        """Write what *records* say, within *transaction*: :meth:`begin`, :meth:`feed` and :meth:`finish` in one."""
        self.begin(transaction)
        self.feed(records)
        self.finish()

    def begin(self, transaction: Transaction) -> None:
        """Start on *transaction*."""
        self._forget_what_changed(transaction)
        self.outcomes.begin(transaction)
        self._messages.begin(transaction)

    def feed(self, records: Iterable[Record | Tried]) -> None:
        """Take in what *records* say; may be called several times."""
        handlers = self._handlers
        record = None
        for record in records:
            handlers[type(record)](record)
        if record is not None and record.at_us // HOUR_US > self._swept_hour:
            self._swept_hour = record.at_us // HOUR_US
            self._messages.ids.sweep(record.at_us)

    def flush(self) -> None:
        """Write the rows so far, so that they do not pile up in memory; the transaction goes on."""
        self._messages.flush()

    def finish(self) -> None:
        """Write everything; the transaction can be committed then."""
        self._messages.finish()

    def _forget_what_changed(self, transaction: Transaction) -> None:
        """Read everything anew when rows from a spool have completed messages that are remembered here."""
        row = transaction.execute("SELECT value FROM meta WHERE key = ?", (MERGES,)).fetchone()
        merges = row[0] if row is not None else ""
        if self._merges is not None and merges != self._merges:
            self.reset()
        self._merges = merges

    def _non_delivery(self, record: NonDelivery) -> None:
        """Note that a sender was told, and of which message the notice is about."""
        messages = self._messages
        _, message = messages.of_line(record.queue_id, record.at_us, record.host)
        detail = json.dumps({"notice": record.notice, "audience": record.audience, "queue_id": record.new_queue_id})
        at_us = after_acceptance(message, record.at_us)
        messages.bulk.new_event(at_us, EventType.NOTIFIED, message.id, detail=detail)
        notice = messages.ids.open.get(record.new_queue_id)
        made = messages.of(notice) if notice is not None else None
        if notice is None:
            found = messages.ids.closed_lately(record.new_queue_id, messages.transaction, messages.bulk.next_message)
            made = messages.numbered(found[0]) if found is not None else None
            if made is None:
                notice = messages.ids.new(record.new_queue_id, record.at_us, record.host)
        if made is None:
            assert notice is not None
            notice.parent = message.id
            messages.ids.touch(notice)
        elif made.stored:
            messages.transaction.execute("UPDATE message SET parent = ? WHERE id = ?", (message.id, made.id))
        else:
            made.parent = message.id

    def _held(self, record: Held) -> None:
        messages = self._messages
        _, message = messages.of_line(record.queue_id, record.at_us, record.host)
        at_us = after_acceptance(message, record.at_us)
        messages.bulk.new_event(at_us, EventType.HELD, message.id, detail=json.dumps({"text": record.text}))


def make_correlator(config: Config) -> Correlator:
    """Return the correlator that *config* describes."""
    networks = Networks(config.mta.internal_networks)
    classifier = load_classifier(config.logparse.reply_rules)
    # The same few clients come again and again, and reading an address takes as long as reading a whole line.
    is_internal = lru_cache(maxsize=10_000)(networks.__contains__)
    return Correlator(Outcomes(classifier), is_internal, every_spelling(config.mta.local_domains))


def _nothing_to_note(_record: Any) -> None:
    pass
