"""What people and machines ask of the store. Each function takes a read-only connection and returns plain values."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from postwake.events import EventType, State
from postwake.store.counting import ENGAGED
from postwake.store.rollup import MANY_KEYS
from postwake.store.schema import DAY_US, FOUR_WEEKS_US, HOUR_US
from postwake.tracking_id import parse_tracking_id

Row = dict[str, Any]

_MAX_HOPS = 20
ASKED_FOR_AMONG = 2_000_000
"""An address that an alias led away from stands in no index: it is looked for in so many of the newest deliveries, 0.12 µs
each."""
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
        at_us = _delivered_to(connection, bare, limit) | _asked_for(connection, bare, limit)
        found = sorted(at_us, key=lambda number: (at_us[number], number), reverse=True)
    return _last_hops(connection, found)[:limit]


def _delivered_to(connection: sqlite3.Connection, address: str, limit: int) -> dict[int, int]:
    """Return the newest messages with a delivery to *address*, and when."""
    found: dict[int, int] = {}
    for hour in _hours(connection, "delivery", "delivery_recipient"):
        rows = connection.execute(
            "SELECT message, max(at_us) FROM delivery WHERE at_us / 3600000000 = ? AND recipient = ? COLLATE NOCASE"
            " GROUP BY message ORDER BY message DESC LIMIT ?",
            (hour, address, limit),
        )
        for number, at_us in rows:
            found.setdefault(number, at_us)
        if len(found) >= limit:
            break
    return found


def _asked_for(connection: sqlite3.Connection, address: str, limit: int) -> dict[int, int]:
    """Return the newest messages for *address* that an alias led elsewhere, and when."""
    found: dict[int, int] = {}
    rows = connection.execute(
        "SELECT message, at_us FROM delivery NOT INDEXED WHERE id > (SELECT max(id) FROM delivery) - ?"
        " AND original_recipient = ? COLLATE NOCASE ORDER BY id DESC",
        (ASKED_FOR_AMONG, address),
    )
    for number, at_us in rows:
        found.setdefault(number, at_us)
        if len(found) >= limit:
            break
    return found


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


BASES = ("cohort", "event")


def report(
    connection: sqlite3.Connection,
    since_us: int,
    until_us: int,
    dimension: str = "all",
    bases: tuple[str, ...] = BASES,
) -> dict[str, Report]:
    """Return a :class:`Report` for each key of *dimension* (``all`` has one, the empty one).

    The period is taken in whole hours. Without the basis ``event`` reports have no hits and no attempts, and cost half.
    """
    sums = {basis: _sums(connection, basis, dimension, since_us, until_us) for basis in bases}
    # A key may have come with four weeks and gone with the days that were taken off.
    reports = {key: Report() for counts in sums.values() for (key, _), n in counts.items() if n}
    for basis, counts in sums.items():
        for (key, measure), n in counts.items():
            if key in reports:
                _add(reports[key], basis, measure, n)
    for found in reports.values():
        found.recipients = sum(n for state, n in found.states.items() if state != "handed_over")
    return reports


def count_deliveries(connection: sqlite3.Connection, since_us: int, until_us: int) -> int:
    """Return how many deliveries mail of a period of whole hours had, whichever way it went; purged ones are counted."""
    return sum(
        n
        for dimension in ("all", "inbound")
        for (_, measure), n in _sums(connection, "cohort", dimension, since_us, until_us).items()
        if measure in _STATES
    )


def _sums(
    connection: sqlite3.Connection, basis: str, dimension: str, since_us: int, until_us: int
) -> Counter[tuple[str, str]]:
    """Return the count of each (key, measure) in a period, which is taken in whole hours; some may be 0."""
    pieces = _pieces(since_us, until_us, by_weeks=dimension in MANY_KEYS)
    # One statement, so that all is read at one moment: what is added and taken off must be the same.
    selects = [
        f"SELECT key, measure, {sign} * n AS n FROM rollup WHERE basis = ?1 AND dimension = ?2 AND span = '{span}'"
        f" AND start_us >= {start_us} AND start_us < {end_us}"
        for span, start_us, end_us, sign in pieces
    ]
    if not selects:
        return Counter()
    rows = connection.execute(
        f"SELECT key, measure, sum(n) FROM ({' UNION ALL '.join(selects)}) GROUP BY key, measure", (basis, dimension)
    )
    return Counter({(key, measure): n for key, measure, n in rows})


def _pieces(since_us: int, until_us: int, *, by_weeks: bool) -> list[tuple[str, int, int, int]]:
    """Cut a period into spans of the rollups: which, from, to before when, and +1 or, to be taken off again, -1.

    Whole days are read as such, and with *by_weeks* whole four weeks. Where a period begins or ends within four weeks,
    either its days are added or the others are taken off, whichever are fewer: a year is 13 or 14 four weeks and 28 days
    at most. Hours are never taken off: retention removes old ones.
    """
    since_us -= since_us % HOUR_US
    until_us += -until_us % HOUR_US
    first_day, last_day = since_us + -since_us % DAY_US, until_us - until_us % DAY_US
    if first_day >= last_day:
        return [("hour", since_us, until_us, 1)]
    start_us, end_us = ((day + FOUR_WEEKS_US // 2) // FOUR_WEEKS_US * FOUR_WEEKS_US for day in (first_day, last_day))
    if start_us >= end_us or not by_weeks:
        days = [("day", first_day, last_day, 1)]
    else:
        days = [
            ("day", min(start_us, first_day), max(start_us, first_day), 1 if first_day < start_us else -1),
            ("4weeks", start_us, end_us, 1),
            ("day", min(end_us, last_day), max(end_us, last_day), 1 if end_us < last_day else -1),
        ]
    pieces = [("hour", since_us, first_day, 1), *days, ("hour", last_day, until_us, 1)]
    return [piece for piece in pieces if piece[1] < piece[2]]


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
    """Return the commonest replies of failed attempts in a period of whole hours, with their verdicts and counts.

    ``text`` is what they have in common, ``example`` the newest as it was said: what varies can be most of a reply.
    What was purged is counted, as long as a reply is still known.
    """
    until_us += -until_us % HOUR_US
    counts: Counter[int] = Counter()
    for (key, _), n in _sums(connection, "event", "reply", since_us, until_us).items():
        counts[int(key)] += n
    found: list[Row] = []
    for number, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(found) >= limit or n <= 0:
            break
        row = connection.execute(
            "SELECT text, code, dsn, kind, fault, category, provider, rule FROM reply WHERE id = ?", (number,)
        ).fetchone()
        if row is not None:  # else every attempt with it was purged
            text, *verdict = row
            found.append(
                {
                    "text": text,
                    "example": _as_said(text, _newest(connection, number, until_us)),
                    **dict(zip(row.keys()[1:], verdict, strict=True)),
                    "n": n,
                }
            )
    return found


def unclassified_replies(connection: sqlite3.Connection, limit: int = 100) -> list[Row]:
    """Return the replies of failed attempts that no rule knew, of all time, commonest first."""
    rows = connection.execute(
        "SELECT text, sum(n) AS n, group_concat(DISTINCT reply.id) AS numbers"
        " FROM rollup JOIN reply ON reply.id = CAST(key AS INTEGER) WHERE basis = 'event' AND span = '4weeks'"
        " AND dimension = 'reply' AND category = 'unclassified' GROUP BY text ORDER BY n DESC, text LIMIT ?",
        (limit,),
    )
    found = []
    for text, n, numbers in rows:
        newest = max((_newest(connection, int(number)) for number in numbers.split(",")), key=lambda row: row[:2])
        found.append({"text": text, "example": _as_said(text, newest), "n": n})
    return found


_Attempt = tuple[int, int, "str | None"]


def _newest(connection: sqlite3.Connection, reply: int, until_us: int = 2**63 - 1) -> _Attempt:
    """Return time, number and the reply's variable part of the newest failed attempt with *reply*; zeros if there is none."""
    row = connection.execute(
        f"SELECT at_us, id, reply_part FROM event INDEXED BY event_reply WHERE type IN ({_FAILED}) AND reply = ?"
        " AND at_us < ? ORDER BY at_us DESC, id DESC LIMIT 1",
        (reply, until_us),
    ).fetchone()
    return (0, 0, None) if row is None else (row[0], row[1], row[2])


def _as_said(text: str, attempt: _Attempt) -> str:
    return text if attempt[2] is None else text.replace("{}", attempt[2])
