"""The milter's events: a message accepted, or met again under a new queue ID."""

from __future__ import annotations

import json

from postwake.events import Accepted, Direction, EventType, Requeued, State
from postwake.store.counting import Cohort, count_delivery, count_event, count_message, load_cohort, recount_message
from postwake.store.schema import DAY_US
from postwake.store.transaction import Transaction

_NEAR_US = 3_600_000_000
"""The log's message with the same queue ID is the same message if it was queued within an hour of ours."""

_COLUMNS = (
    "at_us",
    "direction",
    "tracking_id",
    "host",
    "queue_id",
    "message_id",
    "sender",
    "domain",
    "recipients",
    "size_bytes",
    "client",
    "sasl_username",
    "subject",
    "tag",
    "campaign",
    "metadata",
    "tracked",
    "untracked_reason",
    "privacy",
    "pixels",
    "links",
    "links_skipped",
    "parts_rewritten",
    "rewrite_us",
)
_INSERT = f"INSERT INTO message ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) RETURNING id"
_UPDATE = f"UPDATE message SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"


def apply_accepted(transaction: Transaction, event: Accepted) -> None:
    """Write the message, its deliveries and its event. Applying the same event twice writes it once."""
    known = transaction.execute(
        "SELECT id, queue_id FROM message WHERE tracking_id = ?", (event.tracking_id,)
    ).fetchone()
    if known is not None and known[1] is not None:
        return
    message = known[0] if known is not None else _met_by_log(transaction, event)
    tracked_of = transaction.rollup
    if message is None:
        message = int(transaction.execute(_INSERT, _row(event)).fetchone()[0])
        cohort = Cohort(message, event.at_us, event.direction, event.domain, event.tag)
        kind = EventType.RECEIVED if event.direction is Direction.INBOUND else EventType.ACCEPTED
        transaction.execute("INSERT INTO event (at_us, type, message) VALUES (?, ?, ?)", (event.at_us, kind, message))
        transaction.execute(
            "INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", (event.queue_id, event.at_us, message)
        )
        count_event(tracked_of, event.at_us, kind.label, cohort)
        count_message(tracked_of, cohort)
        _add_deliveries(transaction, cohort, event, known={})
    else:
        recount_message(transaction, load_cohort(transaction, message), -1)
        transaction.execute(_UPDATE, (*_row(event), message))
        cohort = load_cohort(transaction, message)
        rows = transaction.execute(
            "SELECT recipient, original_recipient, id FROM delivery WHERE message = ?", (message,)
        )
        known_ids = {}
        for recipient, original, delivery in rows:
            known_ids[(original or recipient).lower()] = delivery
            known_ids.setdefault(recipient.lower(), delivery)
        recount_message(transaction, cohort, 1)
        if known is not None:  # a stub that a hit made: the mail is still to come through the log
            transaction.execute(
                "INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", (event.queue_id, event.at_us, message)
            )
            transaction.execute(
                "INSERT INTO event (at_us, type, message) VALUES (?, ?, ?)", (event.at_us, EventType.ACCEPTED, message)
            )
            count_event(tracked_of, event.at_us, EventType.ACCEPTED.label, cohort)
        _add_deliveries(transaction, cohort, event, known_ids)
    if event.untracked_reason:
        tracked_of.add("event", event.at_us, "untracked", dimension="reason", key=event.untracked_reason)
    elif event.tracked:
        tracked_of.add("event", event.at_us, "tracked", dimension="reason")


def apply_requeued(transaction: Transaction, event: Requeued) -> None:
    """Let the new queue ID stand for the message that carries our stamp."""
    found = transaction.execute("SELECT id FROM message WHERE tracking_id = ?", (event.tracking_id,)).fetchone()
    if found is None:
        return  # stamped by another server: the log will make a message of it
    row = (event.queue_id, event.at_us, found[0])
    if (
        transaction.execute("SELECT 1 FROM queue WHERE queue_id = ? AND at_us = ? AND message = ?", row).fetchone()
        is None
    ):
        transaction.execute("INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", row)


def _met_by_log(transaction: Transaction, event: Accepted) -> int | None:
    """Return the message that the log parser made because this event was late (it waited in the spool)."""
    day = event.at_us // DAY_US
    row = transaction.execute(
        "SELECT id FROM message WHERE at_us / 86400000000 IN (?, ?, ?) AND queue_id = ? AND tracking_id IS NULL"
        " AND abs(at_us - ?) < ? ORDER BY abs(at_us - ?) LIMIT 1",
        (day - 1, day, day + 1, event.queue_id, event.at_us, _NEAR_US, event.at_us),
    ).fetchone()
    return None if row is None else int(row[0])


def _add_deliveries(transaction: Transaction, cohort: Cohort, event: Accepted, known: dict[str, int]) -> None:
    seen: set[str] = set()
    for index, recipient in enumerate(event.recipients, 1):
        key = recipient.lower()
        if key in seen:  # the MTA delivers to a repeated recipient once
            continue
        seen.add(key)
        if key in known:
            transaction.execute("UPDATE delivery SET idx = ? WHERE id = ?", (index, known[key]))
            continue
        transaction.execute(
            "INSERT INTO delivery (message, recipient, idx, state, at_us) VALUES (?, ?, ?, ?, ?)",
            (cohort.message, recipient, index, State.QUEUED, event.at_us),
        )
        count_delivery(transaction.rollup, cohort, recipient, State.QUEUED)


def _row(event: Accepted) -> tuple[object, ...]:
    return (
        event.at_us,
        event.direction,
        event.tracking_id,
        event.host or None,
        event.queue_id,
        event.message_id or None,
        event.sender,
        event.domain or None,
        len(event.recipients),
        event.size_bytes,
        event.client or None,
        event.sasl_username or None,
        event.subject or None,
        event.tag or None,
        event.campaign or None,
        json.dumps(event.metadata, ensure_ascii=False) if event.metadata else None,
        event.tracked,
        event.untracked_reason or None,
        event.privacy,
        event.pixels,
        event.links,
        json.dumps(event.links_skipped) if event.links_skipped else None,
        event.parts_rewritten,
        event.rewrite_us,
    )
