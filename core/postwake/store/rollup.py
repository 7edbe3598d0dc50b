"""Rollups: counts by hour, day and longer spans, so that reports cost the same at 10⁴ and 10⁸ events.

Two bases:

``event``
    when it happened. The counters of Prometheus and the time series come from here.
``cohort``
    when the message was accepted, and what has become of it since: moves with each delivery's state, so that
    queued + sent + deferred + bounced + expired (+ handed over + deleted) is the number of deliveries at any moment,
    and rates are rates of the same mail.

Dimensions: ``all``, ``sender_domain``, ``recipient_domain``, ``tag``, ``category``, ``kind``, ``reason`` (untracked),
``reply`` (of failed attempts, whichever way the mail went; the key is its number), and ``inbound``, where mail that comes
in is counted and nowhere else but there.

Each is counted by hour and by day. Where keys are many, by four weeks too, for a year has too many days of them to read;
where Prometheus wants a counter, for all time.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

from postwake.store.schema import DAY_US, FOUR_WEEKS_US, HOUR_US

Key = tuple[str, str, int, str, str]
MailKey = tuple[str, int, str, bool, str, str, str]

MANY_KEYS = frozenset({"sender_domain", "recipient_domain", "tag", "reply"})
"""The dimensions that are counted by four weeks."""
_NO_TOTAL = MANY_KEYS - {"sender_domain"}
"""Those that are not counted for all time."""

_COLUMNS = 7
_ROWS_AT_ONCE = (512, 64, 16, 4, 1)
"""Not executemany: in a server whose other threads want the interpreter's lock, each row would give it up and wait for it.
Few sizes, so that the connection keeps their statements prepared; 512 rows of seven values stay under SQLite's old limit
of 32,766 a statement."""
_UPSERTS = {
    rows: "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)
    + " ON CONFLICT DO UPDATE SET n = n + excluded.n"
    for rows in _ROWS_AT_ONCE
}


class Rollup:
    """The counts of one transaction, added up in memory and written at its end."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._cells: Counter[Key] = Counter()
        self.mail: Counter[MailKey] = Counter()
        """Mail counted once, under (basis, hour, measure, inbound, sender domain, tag, recipient domain), and spread
        over its dimensions at the end: the log parser counts a million times a minute."""
        self.counted: list[MailKey] = []
        """The same, each once: a list is quicker to add to, and a Counter takes a whole one at once."""

    def add(self, basis: str, at_us: int, measure: str, n: int = 1, *, dimension: str = "all", key: str = "") -> None:
        """Count *n* of *measure* at *at_us* under one dimension's key."""
        self._cells[basis, dimension, at_us // HOUR_US, key, measure] += n

    def gather(self) -> None:
        """Add up what was counted one by one, which takes memory each."""
        self.mail.update(self.counted)
        self.counted.clear()

    def merge(self, other: Rollup) -> None:
        """Add what *other* counted."""
        self._cells.update(other._cells)
        self.mail.update(other.mail)
        self.counted += other.counted

    def flush(self, connection: sqlite3.Connection) -> None:
        """Add the counts to the table."""
        self._spread()
        if not self._cells:
            return
        by_day: Counter[Key] = Counter()
        by_weeks: Counter[Key] = Counter()
        by_all: Counter[Key] = Counter()
        hours_a_day, hours_four_weeks = DAY_US // HOUR_US, FOUR_WEEKS_US // HOUR_US
        for (basis, dimension, hour, key, measure), n in self._cells.items():
            by_day[basis, dimension, hour // hours_a_day, key, measure] += n
            if dimension in MANY_KEYS:
                by_weeks[basis, dimension, hour // hours_four_weeks, key, measure] += n
            if dimension not in _NO_TOTAL:
                by_all[basis, dimension, 0, key, measure] += n
        values: list[str | int] = []
        for span, unit_us, counts in (
            ("hour", HOUR_US, self._cells),
            ("day", DAY_US, by_day),
            ("4weeks", FOUR_WEEKS_US, by_weeks),
            ("all", 1, by_all),
        ):
            for (basis, dimension, start, key, measure), n in sorted(counts.items()):
                if n:
                    values += (basis, span, dimension, start * unit_us, key, measure, n)
        at = 0
        for rows in _ROWS_AT_ONCE:
            while len(values) - at >= rows * _COLUMNS:
                connection.execute(_UPSERTS[rows], values[at : at + rows * _COLUMNS])
                at += rows * _COLUMNS
        self._cells.clear()

    def _spread(self) -> None:
        cells = self._cells
        self.gather()
        for (basis, hour, measure, inbound, domain, tag, recipient_domain), n in self.mail.items():
            if inbound:
                cells[basis, "inbound", hour, "", measure] += n
                continue
            cells[basis, "all", hour, "", measure] += n
            if domain:
                cells[basis, "sender_domain", hour, domain, measure] += n
            if tag:
                cells[basis, "tag", hour, tag, measure] += n
            if recipient_domain:
                cells[basis, "recipient_domain", hour, recipient_domain, measure] += n
        self.mail.clear()
