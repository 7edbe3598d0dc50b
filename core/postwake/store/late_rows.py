"""A milter's row that waited in the spool: what the log made of its mail meanwhile, and how the two become one."""

from __future__ import annotations

import json

from postwake.events import Accepted, EventType, State
from postwake.store.counting import load_cohort, recount_events, recount_message
from postwake.store.schema import HOUR_US
from postwake.store.transaction import Transaction

_NEAR_US = 3_600_000_000
"""The log's message with the same queue ID is the same message if the queue manager took it up within an hour of ours."""
_BEFORE_US = 5_000_000
"""How much earlier it may be all the same (log stamps have whole seconds): what is older had the queue ID before."""

UNNAMED = json.dumps({"note": "no line of the log named this recipient"})
"""The detail of the event that a recipient's delivery is given who went somewhere under another name."""


def met_by_log(transaction: Transaction, event: Accepted) -> int | None:
    """Return the message that the log parser made because this event was late (it waited in the spool)."""
    hour = event.at_us // HOUR_US
    row = transaction.execute(
        "SELECT hop.id, whole.id, whole.recipients, whole.queue_id, whole.at_us FROM message AS hop"
        " JOIN message AS whole ON whole.id = coalesce(hop.merged_into, hop.id)"
        " WHERE hop.at_us / 3600000000 IN (?, ?, ?) AND hop.queue_id = ? AND hop.at_us BETWEEN ? AND ?"
        " AND hop.tracking_id IS NULL AND whole.tracking_id IS NULL"
        " AND whole.merged_into IS NULL ORDER BY abs(hop.at_us - ?) LIMIT 1",
        (
            *(hour - 1, hour, hour + 1, event.queue_id),
            *(event.at_us - _BEFORE_US, event.at_us + _NEAR_US, event.at_us),
        ),
    ).fetchone()
    if row is None:
        return None
    hop, whole, recipients, *first = row
    if hop == whole:
        return int(whole)
    if (recipients or 0) > len({recipient.lower() for recipient in event.recipients}):
        _split_off(transaction, event, hop, whole)
        return int(hop)
    # The milter saw a later hop: its queue ID becomes the message's, and the first one the hop's.
    transaction.execute("UPDATE message SET queue_id = ?, at_us = ? WHERE id = ?", (*first, hop))
    return int(whole)


def _split_off(transaction: Transaction, event: Accepted, hop: int, whole: int) -> None:
    """Make *hop* a message of its own again, with the deliveries of *whole* that are *event*'s.

    The mail was split for the milter (contrib/postfix/main.cf.split), which saw some of its recipients under this queue
    ID; the log alone took all parts for one mail. Without recipients *whole* is no message any more.
    """
    execute = transaction.execute
    asked = {recipient.lower() for recipient in event.recipients}
    deliveries = execute(
        "SELECT id, recipient, original_recipient FROM delivery WHERE message = ?", (whole,)
    ).fetchall()
    moved = [(row[0],) for row in deliveries if {row[1].lower(), (row[2] or row[1]).lower()} & asked]
    before = load_cohort(transaction, whole)
    recount_message(transaction, before, -1)
    recount_events(transaction, before, -1)
    execute(
        "UPDATE message SET merged_into = NULL, removed_us = (SELECT removed_us FROM message WHERE id = ?) WHERE id = ?",
        (whole, hop),
    )
    execute("UPDATE queue SET message = ? WHERE message = ? AND queue_id = ?", (hop, whole, event.queue_id))
    for (number,) in moved:
        execute("UPDATE delivery SET message = ? WHERE id = ?", (hop, number))
        execute("UPDATE event SET message = ? WHERE delivery = ? AND message = ?", (hop, number, whole))
    if (
        execute(
            "SELECT 1 FROM event WHERE message = ? AND type IN (?, ?)",
            (hop, int(EventType.ACCEPTED), int(EventType.RECEIVED)),
        ).fetchone()
        is None
    ):
        execute(
            "INSERT INTO event (at_us, type, message) VALUES (?, ?, ?)", (event.at_us, int(EventType.ACCEPTED), hop)
        )
    is_open = execute("SELECT 1 FROM queue WHERE message = ?", (whole,)).fetchone()
    kept = [hop, whole] if is_open or len(moved) < len(deliveries) else [hop]
    if whole not in kept:
        execute("UPDATE message SET merged_into = ? WHERE id = ? OR merged_into = ?", (hop, whole, whole))
    for number in kept:
        cohort = load_cohort(transaction, number)
        recount_message(transaction, cohort, 1)
        recount_events(transaction, cohort, 1)


def account_for_rest(transaction: Transaction, message: int, at_us: int) -> None:
    """Say what became of recipients that no line named, if the queue was done with *message* before its row came.

    What the log parser does at that moment for a row that came in time.
    """
    execute = transaction.execute
    waiting = execute(
        "SELECT id, recipient, idx FROM delivery WHERE message = ?1 AND state = ?2"
        " AND NOT EXISTS (SELECT 1 FROM queue WHERE queue.message = ?1) ORDER BY id",
        (message, int(State.QUEUED)),
    ).fetchall()
    if not waiting:
        return
    extra = execute(
        "SELECT id FROM delivery WHERE message = ? AND idx = 0 AND original_recipient IS NULL AND attempts > 0",
        (message,),
    ).fetchall()
    if len(waiting) == len(extra) == 1:  # one asked for, one delivered to: the same, rewritten by the MTA
        number, recipient, index = waiting[0]
        execute("UPDATE delivery SET idx = ?, original_recipient = ? WHERE id = ?", (index, recipient, extra[0][0]))
        execute("DELETE FROM delivery WHERE id = ?", (number,))
        return
    was_deleted = execute(
        "SELECT 1 FROM event WHERE message = ? AND type = ? LIMIT 1", (message, int(EventType.DELETED))
    ).fetchone()
    for number, _, _ in waiting:
        state = State.DELETED if was_deleted else State.HANDED_OVER
        execute("UPDATE delivery SET state = ? WHERE id = ?", (int(state), number))
        if not was_deleted:
            execute(
                "INSERT INTO event (at_us, type, message, delivery, detail) VALUES (?, ?, ?, ?, ?)",
                (at_us, int(EventType.HANDED_OVER), message, number, UNNAMED),
            )
