"""What people and machines ask of the store. Each function takes a read-only connection and returns plain values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from postwake.events import EventType, State
from postwake.store.counting import ENGAGED
from postwake.store.schema import DAY_US
from postwake.tracking_id import parse_tracking_id

Row = dict[str, Any]

_MAX_HOPS = 20
_FAILED = "4, 5, 6"
"""DEFERRED, BOUNCED, EXPIRED, written as the partial index writes them, or SQLite would not see that it applies."""


def find_messages(connection: sqlite3.Connection, what: str, limit: int = 20) -> list[int]:
    """Return the messages that *what* names, newest first: tracking ID, queue ID, Message-ID or an address."""
    what = what.strip()
    tracking_id = parse_tracking_id(what)
    if tracking_id is not None:
        row = connection.execute("SELECT id FROM message WHERE tracking_id = ?", (tracking_id,)).fetchone()
        if row:
            return _last_hops(connection, [row[0]])
    bare = what.strip("<>")
    found = [*_probe(connection, "queue_id", what, limit), *_probe(connection, "message_id", bare, limit)]
    if "@" in bare and not found:
        for hour in _hours(connection, "delivery", "delivery_recipient"):
            named = connection.execute(
                "SELECT DISTINCT message FROM delivery WHERE at_us / 3600000000 = ? AND recipient = ? COLLATE NOCASE"
                " ORDER BY message DESC LIMIT ?",
                (hour, bare, limit),
            )
            found += [row[0] for row in named]
            if len(found) >= limit:
                break
    return _last_hops(connection, found)[:limit]


def _probe(connection: sqlite3.Connection, column: str, value: str, limit: int) -> list[int]:
    # One look an hour: the index begins with it (see the schema), newest first.
    found: list[int] = []
    for hour in _hours(connection, "message", f"message_{column}"):
        rows = connection.execute(
            f"SELECT id FROM message WHERE at_us / 3600000000 = ? AND {column} = ? AND {column} IS NOT NULL ORDER BY id DESC LIMIT ?",
            (hour, value, limit),
        )
        found += [row[0] for row in rows]
        if len(found) >= limit:
            break
    return found


def _hours(connection: sqlite3.Connection, table: str, index: str) -> Iterator[int]:
    """Yield the hours that *table* has rows of, newest first, in one step of its index each.

    Not a range from the first to the last: one line with a wild year in it would make that millions of hours long.
    """
    condition = " AND message_id IS NOT NULL" if index == "message_message_id" else ""
    before = 2**62
    while True:
        row = connection.execute(
            f"SELECT at_us / 3600000000 FROM {table} INDEXED BY {index} WHERE at_us / 3600000000 < ?{condition}"
            " ORDER BY at_us / 3600000000 DESC LIMIT 1",
            (before,),
        ).fetchone()
        if row is None:
            return
        before = row[0]
        yield before


def _last_hops(connection: sqlite3.Connection, messages: list[int]) -> list[int]:
    """Replace messages that turned out to be part of another by that other; keep the order, drop repetitions."""
    found: dict[int, None] = {}
    for number in messages:
        last = number
        for _ in range(_MAX_HOPS):
            row = connection.execute("SELECT merged_into FROM message WHERE id = ?", (last,)).fetchone()
            if row is None or row[0] is None:
                break
            last = row[0]
        if row is not None:  # else what it was merged into was purged
            found[last] = None
    return list(found)


def message(connection: sqlite3.Connection, number: int) -> Row:
    """Return message *number* as the ``messages`` view has it, JSON columns decoded."""
    row = dict(connection.execute("SELECT * FROM messages WHERE id = ?", (number,)).fetchone())
    for name in ("metadata", "links_skipped"):
        row[name] = json.loads(row[name]) if row[name] else {}
    row["tracked"] = bool(row["tracked"])
    return row


def deliveries(connection: sqlite3.Connection, number: int) -> list[Row]:
    """Return the deliveries of message *number*, as the ``deliveries`` view has them."""
    return [
        dict(row) for row in connection.execute("SELECT * FROM deliveries WHERE message = ? ORDER BY id", (number,))
    ]


def timeline(connection: sqlite3.Connection, number: int) -> list[Row]:
    """Return every event of message *number*, oldest first, those of its other queue IDs included.

    A hit whose verdict was changed has the first one, too: ``who_first``, ``reason_first``.
    """
    rows = connection.execute(
        "SELECT events.*, who.name AS who_first, reason_before AS reason_first FROM events"
        " LEFT JOIN relabel ON relabel.id = (SELECT min(id) FROM relabel WHERE event = events.id)"
        " LEFT JOIN who ON who.id = who_before WHERE events.message = ?1 OR"
        " events.message IN (SELECT id FROM message WHERE merged_into = ?1) ORDER BY events.at_us, events.id",
        (number,),
    )
    return [_event(row) for row in rows]


def engagement(connection: sqlite3.Connection, number: int) -> list[Row]:
    """Return what readers of message *number* did, by recipient (None: of a body that several share), as judged so far.

    Where an alias led to several it is the recipient that was asked for: whose token it is.
    """
    rows = connection.execute(
        "SELECT (SELECT CASE WHEN count(*) = 1 THEN min(recipient) ELSE min(original_recipient) END FROM delivery"
        "  WHERE delivery.message = engagement.message AND idx = recipient_idx AND idx > 0) AS recipient,"
        " opens_human, opens_unknown, opens_machine, clicks_human, clicks_unknown, clicks_machine"
        " FROM engagement WHERE engagement.message = ? ORDER BY recipient_idx",
        (number,),
    )
    return [dict(row) for row in rows]


def events(
    connection: sqlite3.Connection,
    *,
    after_id: int = 0,
    since_us: int | None = None,
    types: tuple[EventType, ...] = (),
    limit: int = 1000,
) -> Iterator[Row]:
    """Yield up to *limit* events with numbers above *after_id*, oldest first."""
    clauses, values = ["event.id > ?"], [after_id]
    if since_us is not None:
        clauses.append("event.at_us >= ?")
        values.append(since_us)
    if types:
        clauses.append(f"event.type IN ({', '.join('?' * len(types))})")
        values += types
    rows = connection.execute(
        f"SELECT * FROM events WHERE id IN (SELECT id FROM event WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?) ORDER BY id",
        (*values, limit),
    ).fetchall()
    for row in rows:
        yield _event(row)


def _event(row: sqlite3.Row) -> Row:
    """Return an event without its empty columns."""
    found = {key: value for key, value in dict(row).items() if value not in (None, "") and key != "at_us"}
    if "detail" in found:
        found["detail"] = json.loads(found["detail"])
    return found


@dataclass(slots=True)
class Report:
    """What became of the mail accepted in a period, from the cohort rollups, with raw counts of hits beside."""

    messages: int = 0
    recipients: int = 0
    states: dict[str, int] = field(default_factory=dict)
    engaged: dict[str, int] = field(default_factory=dict)
    """Deliveries (shared messages count once) by what a reader did: opened_human, opened_possible (human or unknown),
    opened_any (machines, too), clicked_…, unsubscribed."""
    hits: dict[str, int] = field(default_factory=dict)
    """Every open and click by who made it, in the period."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Delivery events in the period: sent, deferred, bounced, expired."""

    def rate(self, part: int, whole: int) -> float | None:
        """Return *part* of *whole*, None if there is nothing to be a part of."""
        return part / whole if whole else None

    def as_json(self) -> Row:
        """Return the report as one JSON document."""
        bounced = self.states.get("bounced", 0) + self.states.get("expired", 0)
        sent = self.states.get("sent", 0)
        return {
            "messages": self.messages,
            "recipients": self.recipients,
            "states": self.states,
            "engaged": self.engaged,
            "hits": self.hits,
            "attempts": self.attempts,
            "rates": {
                "sent": self.rate(sent, self.recipients),
                "bounced": self.rate(bounced, self.recipients),
                "opened": self.rate(self.engaged.get("opened_human", 0), sent),
                "clicked": self.rate(self.engaged.get("clicked_human", 0), sent),
            },
        }


_STATES = tuple(state.label for state in State)
_ATTEMPTS = ("sent", "deferred", "bounced", "expired")


def report(connection: sqlite3.Connection, since_us: int, until_us: int, dimension: str = "all") -> dict[str, Report]:
    """Return a :class:`Report` for each key of *dimension* (``all`` has one, the empty one).

    The period is taken in whole hours; whole days within it are read from the daily rollups, so that a year costs
    some hundred rows a key.
    """
    reports: dict[str, Report] = {}
    for basis in ("cohort", "event"):
        for span, start_us, end_us in _spans(since_us, until_us):
            rows = connection.execute(
                "SELECT key, measure, sum(n) FROM rollup WHERE basis = ? AND span = ? AND dimension = ? AND start_us >= ?"
                " AND start_us < ? GROUP BY key, measure",
                (basis, span, dimension, start_us, end_us),
            )
            for key, measure, n in rows:
                _add(reports.setdefault(key, Report()), basis, measure, n)
    for found in reports.values():
        found.recipients = sum(n for state, n in found.states.items() if state != "handed_over")
    return reports


def _spans(since_us: int, until_us: int) -> list[tuple[str, int, int]]:
    """Cut a period into hours, whole days, hours."""
    hour_us = 3_600_000_000
    since_us -= since_us % hour_us
    until_us += -until_us % hour_us
    first_day = since_us + -since_us % DAY_US
    last_day = until_us - until_us % DAY_US
    if first_day >= last_day:
        return [("hour", since_us, until_us)]
    return [("hour", since_us, first_day), ("day", first_day, last_day), ("hour", last_day, until_us)]


def _add(found: Report, basis: str, measure: str, n: int) -> None:
    if basis == "cohort":
        if measure == "messages":
            found.messages += n
        elif measure in _STATES:
            found.states[measure] = found.states.get(measure, 0) + n
        elif measure in ENGAGED:
            found.engaged[measure] = found.engaged.get(measure, 0) + n
    elif "." in measure:
        found.hits[measure] = found.hits.get(measure, 0) + n
    elif measure in _ATTEMPTS:
        found.attempts[measure] = found.attempts.get(measure, 0) + n


def worst_replies(connection: sqlite3.Connection, since_us: int, until_us: int, limit: int = 10) -> list[Row]:
    """Return the commonest replies of failed attempts in a period, with their verdicts and counts.

    ``text`` is what they have in common, ``example`` the newest as it was said: what varies can be most of a reply.
    """
    rows = connection.execute(
        "SELECT reply.text, replace(reply.text, '{}', coalesce(latest.reply_part, '{}')) AS example, reply.code, reply.dsn,"
        " reply.kind, reply.fault, reply.category, reply.provider, reply.rule, n"
        " FROM (SELECT reply, count(*) AS n, max(id) AS latest FROM event INDEXED BY event_failed"
        f"  WHERE type IN ({_FAILED}) AND at_us >= ? AND at_us < ? AND reply IS NOT NULL GROUP BY reply"
        "  ORDER BY n DESC, reply LIMIT ?) AS failed"
        " JOIN reply ON reply.id = failed.reply JOIN event AS latest ON latest.id = failed.latest ORDER BY n DESC, reply.id",
        (since_us, until_us, limit),
    )
    return [dict(row) for row in rows]


def unclassified_replies(connection: sqlite3.Connection, limit: int = 100) -> list[Row]:
    """Return the replies of failed attempts that no rule knew, commonest first."""
    rows = connection.execute(
        "SELECT reply.text, replace(reply.text, '{}', coalesce(latest.reply_part, '{}')) AS example, sum(failed.n) AS n,"
        " max(failed.latest) FROM (SELECT reply, count(*) AS n, max(id) AS latest FROM event INDEXED BY event_failed"
        f"  WHERE type IN ({_FAILED}) GROUP BY reply) AS failed"
        " JOIN reply ON reply.id = failed.reply JOIN event AS latest ON latest.id = failed.latest"
        " WHERE reply.category = 'unclassified' GROUP BY reply.text ORDER BY 3 DESC, reply.text LIMIT ?",
        (limit,),
    )
    return [{"text": row["text"], "example": row["example"], "n": row["n"]} for row in rows]
