"""How a mail begins in the log: client, Message-ID, ``queue active``; Exim's ``<=``, which is all of them in one."""

from __future__ import annotations

import json

from postwake.events import EventType
from postwake_logparse.messages import SAME_MAIL_US, Messages
from postwake_logparse.queue_ids import QueueEntry
from postwake_logparse.record import Arrival, Client, MessageId, Queued


class Arrivals:
    """Takes in the lines that come before any attempt."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def client(self, record: Client) -> None:
        """Note where a queue ID's mail comes from."""
        at_us, host, _, queue_id, name, ip, _, sasl_username, _, orig_queue_id, _, uid, _, _ = record
        messages = self._messages
        entry = messages.ids.open.get(queue_id)
        if entry is not None and _is_another(entry, at_us):
            # The ID is used again and its ``removed`` line was lost.
            newer = entry.newer
            messages.close(entry)
            entry = newer
        if entry is None:
            entry = messages.entry(queue_id, at_us, host)
        entry.host = host
        if name is not None:
            entry.client = f"{name}[{ip}]"
        entry.client_ip = ip
        entry.sasl_username = sasl_username
        entry.local = uid is not None
        entry.orig_queue_id = orig_queue_id
        if not entry.dirty:
            messages.ids.touch(entry)
        before = messages.ids.open.get(orig_queue_id) if entry.local and orig_queue_id else None
        if before is not None and before is not entry:
            messages.close(before)  # requeued by the operator: the mail goes on under the new ID alone

    def message_id(self, record: MessageId) -> None:
        """Note a queue ID's Message-ID."""
        at_us, host, _, queue_id, message_id, resent, _ = record
        messages = self._messages
        entry = messages.ids.open.get(queue_id)
        if entry is None or entry.newer is not None:
            entry = messages.entry(queue_id, at_us, host)
        if resent or not message_id:
            return
        message = messages.of(entry) if entry.message_number is not None else None
        if message is None:
            entry.message_id = message_id
            if not entry.dirty:
                messages.ids.touch(entry)
        elif message.message_id is None:
            messages.name(message, message_id)

    def queued(self, record: Queued) -> None:
        """The queue manager took a mail up: now it is a message. Repeated at every retry."""
        at_us, host, _, queue_id, sender, size_bytes, nrcpt, _ = record
        messages = self._messages
        entry = messages.ids.open.get(queue_id)
        if entry is None or entry.newer is not None:
            entry = messages.entry(queue_id, at_us, host)
        message = entry.message or messages.of(entry)
        if message is None:
            if sender.startswith("double-bounce@") and entry.client is None and entry.parent is None:
                return  # an address probe or a bounce of a bounce: no mail of anybody's, unless an attempt says so
            message = messages.make(entry, at_us, sender, host)
            if not message.stored and message.queue_id == queue_id:
                message.recipients = nrcpt
        elif entry.bare:
            messages.complete(entry, message, sender, size_bytes, nrcpt)
        if message.size_bytes != size_bytes and message.queue_id == queue_id:
            messages.weigh(message, size_bytes)

    def arrival(self, record: Arrival) -> None:
        """Take in an Exim message."""
        messages = self._messages
        entry = messages.entry(record.queue_id, record.at_us, record.host)
        if record.client_name is not None or record.client_ip is not None:
            entry.client = f"{record.client_name or record.helo or ''}[{record.client_ip or ''}]"
        entry.client_ip = record.client_ip
        entry.sasl_username = record.sasl_username
        entry.local = record.local_user is not None or record.protocol == "local"
        entry.message_id = record.message_id
        about = messages.under(record.parent_id, record.at_us) if record.parent_id is not None else None
        if about is not None:
            entry.parent = about.id
            messages.bulk.new_event(
                record.at_us, EventType.NOTIFIED, about.id, detail=json.dumps({"queue_id": record.queue_id})
            )
        sender = record.sender
        if sender == "" and record.parent_id is not None:
            entry.local = False  # Exim's own notice, coming back to one of ours
        count = len(record.recipients) if record.recipients is not None else None
        message = messages.of(entry)
        if message is not None:
            if entry.bare:  # cut-through delivery is logged before the arrival
                messages.complete(entry, message, sender, record.size_bytes, count)
            return
        message = messages.make(entry, record.at_us, sender, record.host)
        message.size_bytes = record.size_bytes
        message.subject = record.subject
        message.recipients = count
        for recipient in record.recipients or ():
            if recipient.lower() not in message.deliveries:
                messages.bulk.new_delivery(message, recipient, record.at_us)


def _is_another(entry: QueueEntry, at_us: int) -> bool:
    """Return whether a mail that begins at *at_us* cannot be the one *entry* stands for."""
    if entry.client is not None or entry.local:
        return True
    return entry.message_number is not None and entry.at_us < at_us - SAME_MAIL_US
