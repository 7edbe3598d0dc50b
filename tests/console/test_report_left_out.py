"""A report that somebody waits for leaves out lists that would read too many deliveries, and says how to get them."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from postwake.store.connection import open_reader
from postwake_console.report_data import READ_AT_MOST, gather
from postwake_console.report_text import WIDTH

DAY_US = 86_400_000_000
LAST_DAY_US = 1_795_305_600_000_000
WEEK = ("--since", "2026-11-16", "--until", "2026-11-23")
COMMANDS = {
    "dead": "postwake report --list dead --since 2026-11-16 --until 2026-11-23",
    "inactive": "postwake report --list inactive --until 2026-11-23 --inactive-days 90",
}


@pytest.fixture
def say_more(two_weeks: Path) -> Callable[..., None]:
    """Let the rollups say of a day that so many more deliveries were sent."""

    def write(count: int, day_us: int = LAST_DAY_US - DAY_US, dimension: str = "all") -> None:
        with closing(sqlite3.connect(two_weeks)) as connection, connection:
            connection.executemany(
                "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
                " VALUES ('cohort', ?, ?, ?, '', 'sent', ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
                [("day", dimension, day_us, count), ("hour", dimension, day_us, count)],
            )

    return write


def left_out(store: Path, inactive_days: int, read_at_most: int | None = READ_AT_MOST) -> list[str]:
    """Return the lists that the week's report leaves out; it has the others."""
    until_us = LAST_DAY_US + DAY_US
    with closing(open_reader(store)) as connection:
        data = gather(
            connection,
            until_us - 7 * DAY_US,
            until_us,
            until_us,
            {},
            inactive_days=inactive_days,
            read_at_most=read_at_most,
        )
    assert data.people is not None
    assert [name for name in COMMANDS if getattr(data.people, name) is None] == list(data.people.left_out)
    return list(data.people.left_out)


def commands(text: str) -> list[str]:
    """Return the commands that a report names."""
    return re.findall(r"postwake report --list [^\n<]*", unescape(text))


@pytest.mark.parametrize("form", [("--text",), ("--html", "-")], ids=["text", "html"])
@pytest.mark.parametrize("dimension", ["all", "inbound"])
def test_what_reads_much_is_left_out(form: tuple[str, ...], dimension: str, run: Any, say_more: Any) -> None:
    """The dead and the inactive are left out, whichever way the mail went; the command is named, and lists them."""
    before = run(*WEEK, *form).stdout
    assert commands(before) == []
    say_more(READ_AT_MOST, dimension=dimension)
    page = run(*WEEK, *form).stdout
    assert commands(page) == list(COMMANDS.values())
    assert "Unsubscribed: " in re.sub("<[^>]*>", "", page)
    assert "Dead: left out" in page
    assert "Inactive: left out" in page
    assert "x0@example.net" in run(*shlex.split(commands(page)[0])[2:]).stdout
    assert run(*shlex.split(commands(page)[1])[2:]).returncode == 0


def test_text_of_what_is_left_out_fits(run: Any, say_more: Any) -> None:
    """The sentence keeps to the width; the command stands on a line of its own."""
    say_more(READ_AT_MOST)
    text = run(*WEEK, "--text").stdout
    people = text.partition("Addresses to think about")[2]
    assert max(map(len, people.splitlines())) <= WIDTH
    assert f"    {COMMANDS['dead']}\n" in people


@pytest.mark.parametrize(
    ("day_us", "expected"),
    [
        pytest.param(LAST_DAY_US - 5 * DAY_US, ["dead", "inactive"], id="in-the-period"),
        pytest.param(LAST_DAY_US - 12 * DAY_US, ["dead", "inactive"], id="may-have-been-queued-then"),
        pytest.param(LAST_DAY_US - 60 * DAY_US, ["inactive"], id="in-the-days-of-inactivity"),
        pytest.param(LAST_DAY_US - 120 * DAY_US, [], id="long-before"),
    ],
)
def test_what_each_list_would_read_counts(day_us: int, expected: list[str], two_weeks: Path, say_more: Any) -> None:
    """A list is left out by the deliveries that it would read itself: those of its own time."""
    say_more(READ_AT_MOST, day_us)
    assert left_out(two_weeks, 90) == expected


def test_as_many_as_may_be_are_read(two_weeks: Path, say_more: Any) -> None:
    """The limit itself is read; one more is not."""
    with closing(sqlite3.connect(two_weeks)) as connection:
        (known,) = connection.execute("SELECT count(*) FROM delivery").fetchone()
    say_more(READ_AT_MOST - known)
    assert left_out(two_weeks, 30) == []
    say_more(1)
    assert left_out(two_weeks, 30) == ["dead", "inactive"]
    assert left_out(two_weeks, 30, None) == []


def test_period_to_the_hour(run: Any, say_more: Any) -> None:
    """A period that is not of whole days is named to the hour, as the report takes it; one that goes on has no end."""
    say_more(READ_AT_MOST)
    text = run("--since", "2026-11-16T05:30", "--until", "2026-11-22T07:10", "--text").stdout
    assert commands(text)[0].endswith("--list dead --since 2026-11-16T05:00 --until 2026-11-22T08:00")
    assert commands(run("--since", "2026-11-16", "--text").stdout)[0].endswith("--list dead --since 2026-11-16")
