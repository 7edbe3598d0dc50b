"""The milter's events: a message accepted, or met again under a new queue ID."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

from postwake.events import Accepted, Direction, EventType, Requeued, State
from postwake.store.counting import (
    Cohort,
    count_delivery,
    count_event,
    count_message,
    load_cohort,
    recount_events,
    recount_message,
)
from postwake.store.hits import JUDGED_UP_TO, domain_of_reader
from postwake.store.late_rows import account_for_rest, met_by_log
from postwake.store.many_rows import NotTogetherError, insert_rows
from postwake.store.schema import HOUR_US
from postwake.store.text import storable_event
from postwake.store.transaction import Transaction

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
_AT_ONCE = 16
"""Messages written together: the connection keeps the statements of each number of them prepared."""
_DELIVERY_COLUMNS = ("message", "recipient", "idx", "state", "at_us")
_UPDATE = f"UPDATE message SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?".replace(
    "size_bytes = ?",
    "size_bytes = coalesce(size_bytes, ?)",  # the log knows the whole mail's, the milter a body's
)


MERGES = "late_rows_merged"
"""The key in ``meta`` that counts rows which came so late that the log had made the message already. Whoever keeps
messages in memory (the log parser) reads them anew when it has changed."""


def apply_accepted(transaction: Transaction, event: Accepted) -> None:
    """Write the message, its deliveries and its event. Applying the same event twice writes it once."""
    known = transaction.execute(
        "SELECT id, queue_id FROM message WHERE tracking_id = ?", (event.tracking_id,)
    ).fetchone()
    if known is not None and known[1] is not None:
        return
    stub = None if known is None else int(known[0])
    met = met_by_log(transaction, event)
    if stub is None and met is None:
        _insert(transaction, [event])
        return
    _fill_in(transaction, event, stub, met)
    _count_reason(transaction, event)


def apply_together(transaction: Transaction, events: Sequence[Accepted]) -> None:
    """Write *events* as :func:`apply_accepted` does in turn, in a handful of statements whatever their number.

    :class:`NotTogetherError` where any of them may be there already, in part or whole, and an IntegrityError where one
    comes twice; what was written until then is to be undone by the caller.
    """
    for start in range(0, len(events), _AT_ONCE):
        some = [storable_event(event) for event in events[start : start + _AT_ONCE]]
        hour, *more = {event.at_us // HOUR_US for event in some}
        if more:
            raise NotTogetherError
        asked = (
            *(event.tracking_id for event in some),
            *(hour - 1, hour, hour + 1),
            *(event.queue_id for event in some),
        )
        if transaction.execute(_any_known(len(some)), asked).fetchone()[0]:
            raise NotTogetherError
        _insert(transaction, some)


@lru_cache(maxsize=_AT_ONCE)
def _any_known(count: int) -> str:
    """Return the question whether there is a row of any of *count* messages, or what the log may have made of them."""
    places = ", ".join("?" * count)
    return (
        f"SELECT EXISTS (SELECT 1 FROM message WHERE tracking_id IN ({places})) OR EXISTS (SELECT 1 FROM message"
        f" WHERE at_us / 3600000000 IN (?, ?, ?) AND queue_id IN ({places}) AND tracking_id IS NULL)"
    )


def _insert(transaction: Transaction, events: Sequence[Accepted]) -> None:
    """Write messages of which nothing is there yet."""
    rows: list[object] = []
    happened: list[object] = []
    queued: list[object] = []
    deliveries: list[object] = []
    message = transaction.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()[0]
    for event in events:
        message += 1
        kind = _kind(event)
        cohort = Cohort(message, event.at_us, event.direction, event.domain, event.tag)
        rows += (message, *_row(event))
        happened += (event.at_us, int(kind), message)
        queued += (event.queue_id, event.at_us, message)
        count_event(transaction.rollup, event.at_us, kind.label, cohort)
        count_message(transaction.rollup, cohort)
        for index, recipient in _numbered(event.recipients):
            deliveries += (message, recipient, index, int(State.QUEUED), event.at_us)
            count_delivery(transaction.rollup, cohort, recipient, State.QUEUED)
        _count_reason(transaction, event)
    insert_rows(transaction, "message", ("id", *_COLUMNS), rows)
    insert_rows(transaction, "event", ("at_us", "type", "message"), happened)
    insert_rows(transaction, "queue", ("queue_id", "at_us", "message"), queued)
    insert_rows(transaction, "delivery", _DELIVERY_COLUMNS, deliveries)


def _count_reason(transaction: Transaction, event: Accepted) -> None:
    if event.untracked_reason:
        transaction.rollup.add("event", event.at_us, "untracked", dimension="reason", key=event.untracked_reason)
    elif event.tracked:
        transaction.rollup.add("event", event.at_us, "tracked", dimension="reason")


def _fill_in(transaction: Transaction, event: Accepted, stub: int | None, met: int | None) -> None:
    """Complete what is there of a message whose row waited in a spool: a stub that a hit made, the log's, or both."""
    message = met if met is not None else stub
    assert message is not None
    for number in (stub, met):
        if number is not None:
            before = load_cohort(transaction, number)
            recount_message(transaction, before, -1)
            recount_events(transaction, before, -1)
    if met is not None and stub is not None:  # delivered and opened before the row came: two halves of one message
        for table in ("event", "engagement"):
            transaction.execute(f"UPDATE {table} SET message = ? WHERE message = ?", (met, stub))
        transaction.execute("DELETE FROM message WHERE id = ?", (stub,))
    if stub is not None:
        # Its hits were judged without the row, and perhaps without the delivery: they are to be looked at again.
        transaction.execute(
            "UPDATE meta SET value = min(CAST(value AS INTEGER), (SELECT coalesce(min(id) - 1, value) FROM event"
            " WHERE message = ? AND hit_id IS NOT NULL)) WHERE key = ?",
            (message, JUDGED_UP_TO),
        )
    transaction.execute(_UPDATE, (*_row(event), message))
    kind = _kind(event)
    if met is None:  # the mail is still to come through the log
        _insert_queue(transaction, event, message)
        transaction.execute("INSERT INTO event (at_us, type, message) VALUES (?, ?, ?)", (event.at_us, kind, message))
    else:
        transaction.execute(
            "UPDATE event SET type = ? WHERE message = ? AND type IN (?, ?)",
            (kind, message, EventType.ACCEPTED, EventType.RECEIVED),
        )
        transaction.execute(
            "INSERT INTO meta (key, value) VALUES (?, '1') ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) + 1",
            (MERGES,),
        )
    _add_deliveries(transaction, message, event)
    if met is not None:
        account_for_rest(transaction, message, event.at_us)
    transaction.execute(
        "UPDATE event SET delivery = (SELECT min(id) FROM delivery WHERE delivery.message = event.message"
        " AND idx = recipient_idx HAVING count(*) = 1)"
        " WHERE message = ? AND delivery IS NULL AND recipient_idx > 0",
        (message,),
    )
    for (reader,) in transaction.execute(
        "SELECT recipient_idx FROM engagement WHERE message = ? AND domain IS NULL", (message,)
    ).fetchall():
        transaction.execute(
            "UPDATE engagement SET domain = ? WHERE message = ? AND recipient_idx = ?",
            (domain_of_reader(transaction, message, reader), message, reader),
        )
    cohort = load_cohort(transaction, message)
    recount_message(transaction, cohort, 1)
    recount_events(transaction, cohort, 1)


def apply_requeued(transaction: Transaction, event: Requeued) -> None:
    """Let the new queue ID stand for the message that carries our stamp. Twice is once."""
    found = transaction.execute("SELECT id FROM message WHERE tracking_id = ?", (event.tracking_id,)).fetchone()
    if found is None:
        return  # stamped by another server: the log will make a message of it
    row = (event.queue_id, event.at_us, found[0])
    # A row of its own, merged from the start: so the message is found by its second queue ID for ever, and a replay
    # is recognised after the queue has let go of it.
    if transaction.execute(
        "SELECT 1 FROM message WHERE queue_id = ? AND at_us = ? AND merged_into = ?", row
    ).fetchone():
        return
    transaction.execute("INSERT INTO message (queue_id, at_us, merged_into) VALUES (?, ?, ?)", row)
    transaction.execute("INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", row)


def _kind(event: Accepted) -> EventType:
    return EventType.RECEIVED if event.direction is Direction.INBOUND else EventType.ACCEPTED


def _insert_queue(transaction: Transaction, event: Accepted, message: int) -> None:
    transaction.execute(
        "INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", (event.queue_id, event.at_us, message)
    )


def _add_deliveries(transaction: Transaction, message: int, event: Accepted) -> None:
    """Insert the deliveries that are not there yet, number those that are."""
    known: dict[str, list[int]] = {}
    for recipient, original, delivery in transaction.execute(
        "SELECT recipient, original_recipient, id FROM delivery WHERE message = ?", (message,)
    ):
        known.setdefault((original or recipient).lower(), []).append(delivery)
        if original:
            known.setdefault(recipient.lower(), [delivery])
    for index, recipient in _numbered(event.recipients):
        rows = known.get(recipient.lower())
        if rows is None:
            insert_rows(
                transaction, "delivery", _DELIVERY_COLUMNS, (message, recipient, index, int(State.QUEUED), event.at_us)
            )
        else:
            # All that an alias led to belong to the recipient that was asked for.
            transaction.executemany("UPDATE delivery SET idx = ? WHERE id = ?", [(index, row) for row in rows])


def _numbered(recipients: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield *recipients* with their numbers, each once: the MTA delivers to a repeated recipient once."""
    seen: set[str] = set()
    for index, recipient in enumerate(recipients, 1):
        key = recipient.lower()
        if key not in seen:
            seen.add(key)
            yield index, recipient


def _row(event: Accepted) -> tuple[object, ...]:
    return (
        event.at_us,
        int(event.direction),  # the driver asks around for an adapter of everything that is not exactly an int
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
        int(event.tracked),
        event.untracked_reason or None,
        int(event.privacy),
        event.pixels,
        event.links,
        json.dumps(event.links_skipped) if event.links_skipped else None,
        event.parts_rewritten,
        event.rewrite_us,
    )
