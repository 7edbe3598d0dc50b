"""The report as text: the page's numbers, in columns that hold, of nothing, of little, of strange names."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import pytest

from postwake.store.connection import open_reader
from postwake_console.report_data import ReportData, gather
from postwake_console.report_text import WIDTH, render

DAY_US = 86_400_000_000
LAST_DAY_US = 1_795_305_600_000_000
WEEK = ("--since", "2026-11-16", "--until", "2026-11-23")


def read(store: Path, **options: Any) -> ReportData:
    """Return the figures of the week."""
    with closing(open_reader(store)) as connection:
        until_us = LAST_DAY_US + DAY_US
        return gather(connection, until_us - 7 * DAY_US, until_us, until_us, {}, **options)


def test_numbers_are_the_reports(run: Any) -> None:
    """The figures at the head are those that `report --json` says."""
    said, text = json.loads(run(*WEEK, "--json").stdout), run(*WEEK, "--text").stdout
    head = text.split("\n\n")[1]
    shown = {line[:18].strip(): int(re.sub(r"\D", "", line[18:30])) for line in head.splitlines()}
    states, engaged = said["states"], said["engaged"]
    assert {name: shown[name] for name in ("Messages", "Recipients", "Sent", "Bounced", "Opened", "Clicked")} == {
        "Messages": said["messages"],
        "Recipients": said["recipients"],
        "Sent": states["sent"],
        "Bounced": states["bounced"] + states.get("expired", 0),
        "Opened": engaged["opened_human"],
        "Clicked": engaged["clicked_human"],
    }
    assert "+66.7 points" in text


def test_tables_hold_their_columns(make_store: Any) -> None:
    """Very long domains are cut in the middle, wide letters count twice: no line of ours is wider than a mail's."""
    long = ".".join(["label-of-some-length"] * 10) + ".example"
    store = make_store([
        ("ann@" + long, "250 2.0.0 Ok", "\N{CJK UNIFIED IDEOGRAPH-90F5}" * 30),
        ("bob@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "550 5.1.1 No such user"),
    ])  # fmt: skip
    tables = render(read(store, inactive_days=90)).partition("What refused")[0].splitlines()

    def columns(line: str) -> int:
        return sum(2 if east_asian_width(char) == "W" else 1 for char in line)

    (cut,) = [line for line in tables if line.startswith("label-of")]
    (whole,) = [line for line in tables if line.startswith("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example")]
    (wide,) = [line for line in tables if line.startswith("\N{CJK UNIFIED IDEOGRAPH-90F5}")]
    assert "\N{HORIZONTAL ELLIPSIS}" in cut
    assert re.match(r"\S+\.example +1 ", cut), "a domain is known by its end"
    assert cut.index(" 1 ") == whole.index(" 1 ")
    assert max(map(columns, tables)) <= WIDTH
    assert columns(wide) <= WIDTH


def test_strangers_words_move_no_cursor(two_weeks: Path) -> None:
    """Controls and direction overrides in tags, domains and replies are replaced."""
    text = render(read(two_weeks))
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in text
    assert not [char for char in text if not char.isprintable() and char != "\n"]


@pytest.mark.parametrize("mails", [[], [("ann@example.net", "250 2.0.0 Ok")]], ids=["no-mail", "one-message"])
def test_little_is_no_error(mails: list[Any], make_store: Any) -> None:
    """A store with nothing, or with one message, makes a whole report."""
    text = render(read(make_store(mails), inactive_days=90))
    assert re.search(rf"^Messages +{len(mails)} ", text, re.MULTILINE)
    assert "Nothing was refused" in text
    assert "Dead: 0" in text


def test_addresses_only_if_asked_for(make_store: Any) -> None:
    """A report names domains; addresses only where it is told to."""
    store = make_store([("ann.secret@example.net", "550 5.1.1 <ann.secret@example.net>: User unknown")])
    assert "ann.secret" not in (text := render(read(store)))
    assert "Dead: 1" in text
    assert "example.net 1" in text
    assert "ann.secret@example.net" in render(read(store, with_addresses=True))
