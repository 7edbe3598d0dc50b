"""What a report for people is made of, read from the store: a period, cut into slices, and the period before it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import Any

from postwake.store import queries, recipients
from postwake.store.queries import Report
from postwake.store.recipients import TRIED_AT_MOST_US, Group, summarise
from postwake.store.schema import DAY_US, HOUR_US

DIMENSIONS = ("sender_domain", "tag", "recipient_domain")
_COHORT = ("cohort",)
_LOCAL_PART = re.compile(r"""[^\s<>@"'(),:;]+@(?=[\w.-])""")
MAX_SLICES = 100
MAX_LINES = 25
"""Lines of a table; what is left out is said."""
READ_AT_MOST = 250_000
"""Deliveries that a list may read while somebody waits: 2 to 3 µs each are most of a second; the rest takes half."""
MONDAY_US = 4 * DAY_US
"""1970-01-05, the first Monday of the epoch: slices of weeks begin on Mondays."""


@dataclass(frozen=True, slots=True)
class Slice:
    """An hour, a day or some weeks of the period."""

    start_us: int
    report: Report


@dataclass(frozen=True, slots=True)
class Line:
    """One sender domain, tag or recipient domain: now, and in the period before."""

    key: str
    now: Report
    """Without hits and attempts, as :attr:`before`: the tables show none, and they cost as much again."""
    before: Report


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows."""

    since_us: int
    until_us: int
    made_at_us: int
    slice_us: int
    """How long a slice is (the first and the last may be shorter), microseconds."""
    total: Report
    before: Report
    """The period of the same length that ended where this one began."""
    slices: tuple[Slice, ...]
    lines: Mapping[str, tuple[Line, ...]]
    """By dimension, most recipients first."""
    replies: tuple[Mapping[str, Any], ...] = ()
    advice: Mapping[str, str] = field(default_factory=dict)
    """By rule, a sentence on what to do."""
    people: People | None = None


@dataclass(frozen=True, slots=True)
class People:
    """Recipients to think about."""

    unsubscribed: Group
    """In the period, and not come back."""
    dead: Group | None
    """Whose mail of the period bounced for good by the address's own fault, and was taken by nobody since; None if left
    out."""
    inactive: Group | None
    """Who took mail of the past :attr:`inactive_days` and opened none; None if nobody asked, or left out."""
    inactive_days: int
    left_out: Mapping[str, int]
    """By list, how many deliveries it would have to read."""
    with_addresses: bool
    """Whether the report names them. It is passed on: by default it names domains only."""


def gather(
    connection: sqlite3.Connection,
    since_us: int,
    until_us: int,
    made_at_us: int,
    advice: Mapping[str, str],
    *,
    inactive_days: int = 0,
    with_addresses: bool = False,
    read_at_most: int | None = None,
) -> ReportData:
    """Read a report's figures; the period is taken in whole hours, as :func:`postwake.store.queries.report` does.

    *inactive_days*: over how many days before the period's end a recipient is looked at for signs of life. That reads
    every delivery of those days; 0 leaves it out. *with_addresses*: name these recipients, not only their domains.
    *read_at_most*: leave out lists that would read more deliveries than that.
    """
    since_us -= since_us % HOUR_US
    until_us += -until_us % HOUR_US
    before_us = since_us - (until_us - since_us)
    slice_us = choose_slice(until_us - since_us)
    return ReportData(
        since_us=since_us,
        until_us=until_us,
        made_at_us=made_at_us,
        slice_us=slice_us,
        total=_whole(connection, since_us, until_us),
        before=_whole(connection, before_us, since_us),
        slices=tuple(
            Slice(start_us, _whole(connection, start_us, end_us))
            for start_us, end_us in cut(since_us, until_us, slice_us)
        ),
        lines={name: _lines(connection, name, before_us, since_us, until_us) for name in DIMENSIONS},
        replies=tuple(
            {**row, "example": _LOCAL_PART.sub("…@", row["example"])}  # a page is passed on: it names nobody
            for row in queries.worst_replies(connection, since_us, until_us)
        ),
        advice=dict(advice),
        people=_people(connection, since_us, until_us, made_at_us, inactive_days, with_addresses, read_at_most),
    )


def _people(
    connection: sqlite3.Connection,
    since_us: int,
    until_us: int,
    made_at_us: int,
    inactive_days: int,
    with_addresses: bool,
    read_at_most: int | None,
) -> People:
    alive_us = until_us - inactive_days * DAY_US
    dead = inactive = None
    left_out = {}
    if read_at_most is not None:
        read = {"dead": (since_us - TRIED_AT_MOST_US, made_at_us), "inactive": (alive_us, until_us)}
        counts = {name: queries.count_deliveries(connection, *span) for name, span in read.items()}
        left_out = {name: n for name, n in counts.items() if n > read_at_most}
    if "dead" not in left_out:
        dead = summarise(recipients.dead(connection, since_us, until_us), MAX_LINES, itemgetter("at"))
    if inactive_days and "inactive" not in left_out:
        found = recipients.inactive(connection, alive_us, until_us)
        inactive = summarise(found, MAX_LINES, itemgetter("messages", "recipient"))
    return People(
        unsubscribed=summarise(recipients.unsubscribed(connection, since_us, until_us), MAX_LINES, itemgetter("at")),
        dead=dead,
        inactive=inactive,
        inactive_days=inactive_days,
        left_out=left_out,
        with_addresses=with_addresses,
    )


def choose_slice(length_us: int) -> int:
    """Return how long slices are: hours up to two days, then days, weeks, four weeks, years."""
    if length_us <= 2 * DAY_US:
        return HOUR_US
    return next((days * DAY_US for days in (1, 7, 28) if length_us <= MAX_SLICES * days * DAY_US), 364 * DAY_US)


def cut(since_us: int, until_us: int, slice_us: int) -> list[tuple[int, int]]:
    """Cut a period at whole hours, midnights (UTC) or Mondays; the pieces add up to it."""
    offset_us = MONDAY_US if slice_us > DAY_US else 0
    edges = [since_us]
    while edges[-1] < until_us:
        next_us = edges[-1] + slice_us - (edges[-1] - offset_us) % slice_us
        edges.append(min(next_us, until_us))
    return list(pairwise(edges))


def _whole(connection: sqlite3.Connection, since_us: int, until_us: int) -> Report:
    return queries.report(connection, since_us, until_us).get("", Report())


def _lines(
    connection: sqlite3.Connection, dimension: str, before_us: int, since_us: int, until_us: int
) -> tuple[Line, ...]:
    now = queries.report(connection, since_us, until_us, dimension, _COHORT)
    before = queries.report(connection, before_us, since_us, dimension, _COHORT)
    found = (Line(key, report, before.get(key, Report())) for key, report in now.items())
    return tuple(sorted(found, key=lambda line: (-line.now.recipients, line.key)))
