"""The pixel server's events: opens, clicks, unsubscribing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from postwake.events import Direction, EventType, Hit, State, Who
from postwake.store.counting import ENGAGED, Cohort, count_cohort, count_event, domain_shared, load_cohort
from postwake.store.transaction import Transaction
from postwake.tracking_id import made_at_us

JUDGED_UP_TO = "relabeled_up_to_event"
"""Key in ``meta``: up to which event the hits' first verdicts were looked at again."""
_COUNTER = {
    (EventType.OPENED, Who.HUMAN): "opens_human",
    (EventType.OPENED, Who.MACHINE): "opens_machine",
    (EventType.OPENED, Who.UNKNOWN): "opens_unknown",
    (EventType.CLICKED, Who.HUMAN): "clicks_human",
    (EventType.CLICKED, Who.MACHINE): "clicks_machine",
    (EventType.CLICKED, Who.UNKNOWN): "clicks_unknown",
}
_SELECT_ENGAGED = (
    f"SELECT domain, {', '.join(ENGAGED.values())} FROM engagement WHERE message = ? AND recipient_idx = ?"
)


def apply_hit(transaction: Transaction, hit: Hit) -> None:
    """Write the hit, once however often it is applied."""
    message = find_or_make_message(transaction, hit)
    delivery = None
    if message is not None and hit.recipient:
        # An alias may have led to several, who share the token: which of them it was is unknown.
        row = transaction.execute(
            "SELECT min(id) FROM delivery WHERE message = ? AND idx = ? HAVING count(*) = 1", (message, hit.recipient)
        ).fetchone()
        delivery = row and row[0]
    inserted = transaction.execute(
        "INSERT INTO event (at_us, type, message, delivery, who, reason, link, url, user_agent, client, recipient_idx, hit_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
        (
            hit.at_us,
            hit.type,
            message,
            delivery,
            hit.who,
            hit.reason or None,
            hit.link,
            transaction.urls.id(hit.url),
            transaction.user_agents.id(hit.user_agent),
            hit.client or None,
            hit.recipient,
            hit.hit_id,
        ),
    ).fetchone()
    if inserted is None:
        return
    cohort = load_cohort(transaction, message) if message is not None else None
    measure = hit.type.label
    if hit.type in (EventType.OPENED, EventType.CLICKED):
        measure = f"{measure}.{hit.who.label}"
    count_event(transaction.rollup, hit.at_us, measure, cohort)
    if cohort is not None:
        with_engagement(transaction, cohort, hit.recipient, lambda: _engage(transaction, cohort, hit))


def relabel(transaction: Transaction, event: int, who: Who, reason: str, at_us: int) -> None:
    """Change the verdict on a stored open or click, keeping the earlier one in ``relabel``."""
    row = transaction.execute(
        "SELECT at_us, type, message, who, reason, recipient_idx FROM event WHERE id = ?", (event,)
    ).fetchone()
    if row is None or row[3] == who:
        return
    hit_at_us, kind, message, before, reason_before, recipient = row
    transaction.execute(
        "INSERT INTO relabel (event, at_us, who_before, reason_before) VALUES (?, ?, ?, ?)",
        (event, at_us, before, reason_before),
    )
    transaction.execute("UPDATE event SET who = ?, reason = ? WHERE id = ?", (who, reason, event))
    cohort = load_cohort(transaction, message) if message is not None else None
    label = EventType(kind).label
    count_event(transaction.rollup, hit_at_us, f"{label}.{Who(before).label}", cohort, n=-1)
    count_event(transaction.rollup, hit_at_us, f"{label}.{who.label}", cohort)
    if cohort is None:
        return
    old, new = _COUNTER[EventType(kind), Who(before)], _COUNTER[EventType(kind), who]
    with_engagement(
        transaction,
        cohort,
        recipient or 0,
        lambda: transaction.execute(
            f"UPDATE engagement SET {old} = {old} - 1, {new} = {new} + 1 WHERE message = ? AND recipient_idx = ?",
            (cohort.message, recipient or 0),
        ),
    )


def with_engagement(transaction: Transaction, cohort: Cohort, recipient: int, change: Callable[[], object]) -> None:
    """Run *change* on the engagement row and count in the cohort what it made true or untrue."""
    key = (cohort.message, recipient)
    before = transaction.execute(_SELECT_ENGAGED, key).fetchone() or (None,) + (0,) * len(ENGAGED)
    change()
    domain, *after = transaction.execute(_SELECT_ENGAGED, key).fetchone()
    for measure, was, is_now in zip(ENGAGED, before[1:], after, strict=True):
        if was != is_now:
            count_cohort(transaction.rollup, measure, cohort, recipient_domain=domain, n=is_now - was)


def _engage(transaction: Transaction, cohort: Cohort, hit: Hit) -> None:
    key = (cohort.message, hit.recipient)
    if transaction.execute("SELECT 1 FROM engagement WHERE message = ? AND recipient_idx = ?", key).fetchone() is None:
        transaction.execute(
            "INSERT INTO engagement (message, recipient_idx, domain) VALUES (?, ?, ?)",
            (*key, domain_of_reader(transaction, *key)),
        )
    value: int | None
    if hit.type in (EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED):
        change, value = "unsubscribed_us = ?3", _unsubscribed_us(transaction, *key)
    else:
        counter = _COUNTER[hit.type, hit.who]
        first = "first_open_us" if hit.type is EventType.OPENED else "first_click_us"
        change, value = f"{counter} = {counter} + 1, {first} = min(coalesce({first}, ?3), ?3)", hit.at_us
    transaction.execute(f"UPDATE engagement SET {change} WHERE message = ?1 AND recipient_idx = ?2", (*key, value))


def domain_of_reader(transaction: Transaction, message: int, recipient: int) -> str | None:
    """Return the recipient domain that a reader counts under: that of whom the token is for.

    Of a body that several share (*recipient* 0), the domain that all of them have; None if they have several.
    """
    rows = transaction.execute(
        "SELECT recipient FROM delivery WHERE message = ?1 AND (?2 = 0 OR idx = ?2)", (message, recipient)
    ).fetchall()
    return domain_shared(row[0] for row in rows)


def _unsubscribed_us(transaction: Transaction, message: int, recipient: int) -> int | None:
    """Return since when the reader has been unsubscribed, None if they are not.

    From all that happened, in the order it happened: what a spool brings comes late, and the last word counts.
    """
    since_us: int | None = None
    for at_us, kind in transaction.execute(
        "SELECT at_us, type FROM event WHERE message = ? AND recipient_idx = ? AND type IN (?, ?) ORDER BY at_us, id",
        (message, recipient, EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED),
    ):
        if kind == EventType.RESUBSCRIBED:
            since_us = None
        elif since_us is None:
            since_us = at_us
    return since_us


def find_or_make_message(transaction: Transaction, hit: Hit) -> int | None:
    """Return the message of *hit*; make a stub if it is not there yet; None if it was purged."""
    row = transaction.execute("SELECT id FROM message WHERE tracking_id = ?", (hit.tracking_id,)).fetchone()
    if row is not None:
        return int(row[0])
    at_us = made_at_us(hit.tracking_id)
    purged = transaction.execute("SELECT value FROM meta WHERE key = 'purged_before_us'").fetchone()
    if purged is not None and at_us < int(purged[0]):
        return None
    # The milter's row waits in a spool; what it says is filled in when it arrives.
    message = int(
        transaction.execute(
            "INSERT INTO message (at_us, direction, tracking_id, tracked, privacy) VALUES (?, ?, ?, 1, ?) RETURNING id",
            (at_us, Direction.OUTBOUND, hit.tracking_id, hit.privacy),
        ).fetchone()[0]
    )
    cohort = Cohort(message, at_us, Direction.OUTBOUND, "", "")
    count_cohort(transaction.rollup, "messages", cohort)
    return message


def delivered_at_us(connection: sqlite3.Connection, message: int, recipient: int) -> int | None:
    """Return since when *recipient* of *message* (0: the first of all) may have had it; None before any 250.

    An attempt that broke off after the end of the data counts: the other side may have kept what it got (RFC 5321
    section 4.5.3.2.6), and its reader has it while our server tries again. Postfix's words for it are "while sending
    end of data -- message may be sent more than once", Exim's "in response to end of data" and "after end of data".
    """
    taken = connection.execute(
        "SELECT min(last_attempt_us) FROM delivery WHERE message = ? AND state = ? AND (? = 0 OR idx = ?)",
        (message, State.SENT, recipient, recipient),
    ).fetchone()[0]
    if taken is None:
        return None
    broken = connection.execute(
        "SELECT min(event.at_us) FROM event JOIN reply ON reply.id = event.reply"
        " LEFT JOIN delivery ON delivery.id = event.delivery WHERE event.message = ? AND event.type = ? AND"
        " reply.code IS NULL AND reply.text LIKE '%end of data%' AND (? = 0 OR delivery.idx = ?)",
        (message, EventType.DEFERRED, recipient, recipient),
    ).fetchone()[0]
    return int(taken if broken is None else min(taken, broken))
