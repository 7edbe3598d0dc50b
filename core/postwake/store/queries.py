"""What people and machines ask of the store. Each function takes a read-only connection and returns plain values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from postwake.events import EventType, State
from postwake.store.schema import DAY_US
from postwake.tracking_id import parse_tracking_id

Row = dict[str, Any]


def find_messages(connection: sqlite3.Connection, what: str, limit: int = 20) -> list[int]:
    """Return the messages that *what* names, newest first: tracking ID, queue ID, Message-ID or an address."""
    what = what.strip()
    tracking_id = parse_tracking_id(what)
    if tracking_id is not None:
        rows = connection.execute("SELECT id FROM message WHERE tracking_id = ?", (tracking_id,)).fetchall()
        if rows:
            return _last_hops(connection, [row[0] for row in rows])
    days = _days(connection)
    bare = what.strip("<>")
    found = [
        *_probe(connection, "message", "queue_id", what, days, limit),
        *_probe(connection, "message", "message_id", bare, days, limit),
    ]
    if "@" in bare and not found:
        found = [
            row[0]
            for day in days
            for row in connection.execute(
                "SELECT DISTINCT message FROM delivery WHERE at_us / 86400000000 = ? AND recipient = ? COLLATE NOCASE"
                " ORDER BY message DESC LIMIT ?",
                (day, bare, limit),
            )
        ][:limit]
    return _last_hops(connection, found)[:limit]


def _probe(
    connection: sqlite3.Connection, table: str, column: str, value: str, days: list[int], limit: int
) -> list[int]:
    # One look a day: the index begins with it (see the schema), newest first.
    found: list[int] = []
    for day in days:
        rows = connection.execute(
            f"SELECT id FROM {table} WHERE at_us / 86400000000 = ? AND {column} = ? AND {column} IS NOT NULL ORDER BY id DESC LIMIT ?",
            (day, value, limit),
        )
        found += [row[0] for row in rows]
        if len(found) >= limit:
            break
    return found


def _days(connection: sqlite3.Connection) -> list[int]:
    first, last = connection.execute(
        "SELECT min(at_us / 86400000000), max(at_us / 86400000000) FROM message"
    ).fetchone()
    if first is None:
        return []
    return list(range(last, first - 1, -1))


def _last_hops(connection: sqlite3.Connection, messages: list[int]) -> list[int]:
    """Replace messages that turned out to be part of another by that other; keep the order, drop repetitions."""
    found: dict[int, None] = {}
    for number in messages:
        row = connection.execute("SELECT merged_into FROM message WHERE id = ?", (number,)).fetchone()
        found[row[0] if row and row[0] is not None else number] = None
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
    """Return every event of message *number*, oldest first, those of its other queue IDs included."""
    rows = connection.execute(
        "SELECT * FROM events WHERE message = ?1 OR message IN (SELECT id FROM message WHERE merged_into = ?1) ORDER BY at_us, id",
        (number,),
    )
    return [_event(row) for row in rows]


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
    """Deliveries (shared messages count once) by what a reader did: opened_human, opened_any, clicked_…, unsubscribed."""
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
_ENGAGED = ("opened_human", "opened_any", "clicked_human", "clicked_any", "unsubscribed", "complained")
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
        elif measure in _ENGAGED:
            found.engaged[measure] = found.engaged.get(measure, 0) + n
    elif "." in measure:
        found.hits[measure] = found.hits.get(measure, 0) + n
    elif measure in _ATTEMPTS:
        found.attempts[measure] = found.attempts.get(measure, 0) + n


def worst_replies(connection: sqlite3.Connection, since_us: int, until_us: int, limit: int = 10) -> list[Row]:
    """Return the commonest replies of failed attempts in a period, with their verdicts and counts."""
    first, last = _event_range(connection, since_us, until_us)
    rows = connection.execute(
        "SELECT reply.text, reply.code, reply.dsn, reply.kind, reply.fault, reply.category, reply.provider, reply.rule, count(*) AS n"
        " FROM event JOIN reply ON reply.id = event.reply"
        " WHERE event.id BETWEEN ? AND ? AND event.at_us >= ? AND event.at_us < ? AND event.type IN (?, ?, ?)"
        " GROUP BY reply.id ORDER BY n DESC LIMIT ?",
        (first, last, since_us, until_us, EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED, limit),
    )
    return [dict(row) for row in rows]


def _event_range(connection: sqlite3.Connection, since_us: int, until_us: int) -> tuple[int, int]:
    """Return event numbers that a period lies between: numbers grow with time, but for lines that came late."""
    highest = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
    margin_us = DAY_US

    def at(number: int) -> int:
        row = connection.execute("SELECT at_us FROM event WHERE id >= ? ORDER BY id LIMIT 1", (number,)).fetchone()
        return int(row[0]) if row else until_us

    def first_after(time_us: int) -> int:
        low, high = 0, highest + 1
        while low < high:
            middle = (low + high) // 2
            if at(middle) < time_us:
                low = middle + 1
            else:
                high = middle
        return low

    return first_after(since_us - margin_us), first_after(until_us + margin_us)


def unclassified_replies(connection: sqlite3.Connection, limit: int = 100) -> list[Row]:
    """Return the replies of failed attempts that no rule knew, commonest first."""
    rows = connection.execute(
        "SELECT reply.text, count(*) AS n FROM event JOIN reply ON reply.id = event.reply WHERE reply.category = 'unclassified'"
        " GROUP BY reply.text ORDER BY n DESC LIMIT ?",
        (limit,),
    )
    return [dict(row) for row in rows]
