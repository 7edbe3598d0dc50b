"""The HTML report: strict HTML, nothing from outside, no stranger's markup, the numbers of the report's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import click
import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.errors import CannotCreateError
from postwake.events import EventType, Who
from postwake.reply.load import load_classifier
from postwake.store.connection import open_reader
from postwake.store.queries import Report
from postwake.store.schema import DAY_US, HOUR_US
from postwake_cli.main import cli
from postwake_cli.report import last_whole
from postwake_console.report_data import MAX_LINES, MAX_SLICES, Line, ReportData, choose_slice, cut, gather
from postwake_console.report_html import render
from postwake_console.svg import Series, lines, nice_ceiling, stacked_bars

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
WEEK = ("--since", "2026-11-16", "--until", "2026-11-23")
LAST_DAY_US = 1_795_305_600_000_000


def parse(page: str) -> Element:
    """Return the page's tree; raises at the first thing that is not HTML as it should be."""
    tree: Element = html5lib.HTMLParser(strict=True).parse(page)
    return tree


@pytest.fixture
def week(two_weeks: Path) -> str:
    """The page about the second of the two weeks."""
    advice = {rule.id: rule.advice for rule in load_classifier(None).rules}
    with closing(open_reader(two_weeks)) as connection:
        data = gather(connection, LAST_DAY_US - 6 * DAY_US, LAST_DAY_US + DAY_US, LAST_DAY_US + DAY_US, advice)
    return render(data)


def measures(tree: Element) -> dict[str, int]:
    """Return the exact counts that the page's cards show."""
    found = {}
    for element in tree.iter():
        name = element.get("data-measure")
        if name:
            found[name] = int(re.sub(r"\D", "", "".join(element.itertext())))
    return found


def table(tree: Element, heading: str) -> list[list[str]]:
    """Return the cells of the table under *heading*."""
    body = tree.find(f"{HTML}body")
    assert body is not None
    elements = list(body)
    start = next(n for n, element in enumerate(elements) if "".join(element.itertext()).startswith(heading))
    return [
        ["".join(cell.itertext()) for cell in row.iter(f"{HTML}td")] for row in elements[start + 1].iter(f"{HTML}tr")
    ][1:]


def test_numbers_are_the_reports(run: Any, tmp_path: Path) -> None:
    """Every count on the page is the one that `report --json` says of the same period."""
    assert run(*WEEK, "--html", str(tmp_path / "report.html")).returncode == 0
    said = json.loads(run(*WEEK, "--json").stdout)
    tree = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    states, engaged = said["states"], said["engaged"]

    assert measures(tree) == {
        "messages": said["messages"],
        "recipients": said["recipients"],
        "sent": states["sent"],
        "bounced": states["bounced"] + states.get("expired", 0),
        "waiting": states.get("queued", 0) + states["deferred"],
        "opened_human": engaged["opened_human"],
        "clicked_human": engaged["clicked_human"],
        "unsubscribed": 0,
    }
    assert (said["messages"], states) == (24, {"queued": 0, "sent": 14, "deferred": 7, "bounced": 3})
    replies = table(tree, "What refused mail said")
    assert [int(row[3]) for row in replies] == [reply["n"] for reply in said["worst_replies"]]


@pytest.mark.parametrize(
    ("by", "heading"),
    [("sender-domain", "Sender domains"), ("tag", "Tags"), ("recipient-domain", "Recipient domains")],
)
def test_tables_are_the_reports(by: str, heading: str, run: Any, week: str) -> None:
    """Each line of a table has the counts of `report --by … --json`, and none is missing."""
    said = json.loads(run(*WEEK, "--by", by, "--json").stdout)
    columns = (1, 2, 3, 6, 8)
    shown = {row[0]: tuple(int(row[column]) for column in columns) for row in table(parse(week), heading)}

    def counts(value: dict[str, Any]) -> tuple[int, ...]:
        states, engaged = value["states"], value["engaged"]
        bounced = states.get("bounced", 0) + states.get("expired", 0)
        found = (value["recipients"], states.get("sent", 0), bounced)
        return (*found, engaged.get("opened_human", 0), engaged.get("clicked_human", 0))

    def printable(key: str) -> str:
        return "".join(char if char.isprintable() else "\ufffd" for char in key)

    assert shown == {printable(key): counts(value) for key, value in said.items()}


def test_days_add_up(week: str) -> None:
    """The days of the period, each with its own mail, add up to the total."""
    *days, total = table(parse(week), "In numbers")

    assert [row[0] for row in days] == [f"{day} Nov" for day in range(16, 23)]
    for column in (1, 2, 3, 5, 6, 8):
        assert sum(int(row[column]) for row in days) == int(total[column])


def test_trend_against_the_week_before(week: str) -> None:
    """A week that opens more and bounces more than the last says so, in points, and which way is good."""
    tree = parse(week)
    cards = [card for card in tree.iter(f"{HTML}div") if card.get("class") == "card"]
    opened = next(card for card in cards if (card.text or "").startswith("Opened"))
    bounced = next(card for card in cards if (card.text or "").startswith("Bounced"))

    # People opened 14 of 14 sent, the week before 7 of 21; 3 of 24 bounced, none before; 24 messages, 21 before.
    assert "+66.7 points" in "".join(opened.itertext())
    assert "+12.5 points" in "".join(bounced.itertext())
    assert any("+14 %" in "".join(card.itertext()) for card in cards)
    assert [span.get("class") for span in opened.iter(f"{HTML}span")][-1] == "up"
    assert [span.get("class") for span in bounced.iter(f"{HTML}span")][-1] == "down"


def test_strangers_words_are_only_words(week: str) -> None:
    """Markup, quotes and direction overrides in a reply, a tag or a domain stay visible text."""
    tree = parse(week)
    elements = list(tree.iter())
    names = {str(element.tag).rpartition("}")[2] for element in elements}
    texts = "\n".join(text for text in tree.itertext())

    assert not names & {"script", "img", "iframe", "object", "link", "a", "form"}
    assert not [name for element in elements for name in element.attrib if name.startswith("on")]
    assert "<script>alert(1)</script>" in texts
    assert '"><img src=x onerror=alert(3)>\ufffd' in texts
    assert "\u202e" not in week


def test_page_needs_nothing_from_outside(week: str) -> None:
    """No attribute leads anywhere, the style has no url() or @import, and the page forbids itself the rest."""
    tree = parse(week)
    for element in tree.iter():
        assert not {"src", "href", "srcset", "style", "action"} & set(element.attrib)
    style = next(element.text or "" for element in tree.iter(f"{HTML}style"))
    assert not re.search(r"url\(|@import|expression", style)
    policies = [meta.get("content") for meta in tree.iter(f"{HTML}meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_replies_come_with_advice(week: str) -> None:
    """A reply is followed by a sentence on what to do."""
    rows = table(parse(week), "What refused mail said")
    greylisted = next(row for row in rows if "Greylisted" in row[0])

    rule = next(rule for rule in load_classifier(None).rules if rule.category == "greylisted")
    assert greylisted[1:] == ["greylisted", "soft", "7"]
    assert any(advice in greylisted[0] for advice in {rule.advice for rule in load_classifier(None).rules})
    assert rule.advice
    assert "host mx.example.net[192.0.2.8] said: 450 4.2.1 Greylisted" in greylisted[0], "as it was said, not cut"


def test_replies_name_nobody(make_store: Any) -> None:
    """A reply that repeats the recipient's address is shown without the person."""
    path = make_store([("ann.secret@example.net", "550 5.1.1 <ann.secret@example.net>: User unknown")])
    with closing(open_reader(path)) as connection:
        page = render(gather(connection, LAST_DAY_US, LAST_DAY_US + DAY_US, LAST_DAY_US + DAY_US, {}))

    assert "ann.secret" not in page
    assert "\N{HORIZONTAL ELLIPSIS}@example.net&gt;: User unknown" in page


@pytest.mark.parametrize("with_addresses", [False, True], ids=["domains-only", "with-addresses"])
def test_people_to_think_about(with_addresses: bool, make_store: Any, mail: Any) -> None:
    """Each kind is counted, its domains named, its addresses only if asked for, and they are those of `--list`."""
    human, no = (EventType.OPENED, Who.HUMAN), "550 5.1.1 <{0}>: User unknown"
    gone = (EventType.UNSUBSCRIBED, Who.HUMAN)
    path = make_store(
        [mail(day, "quiet@example.net") for day in (3, 2, 1)]
        + [mail(day, "reader@example.net", hits=(human,)) for day in (3, 2, 1)]
        + [mail(1, "dead@example.org", no.format("dead@example.org")), mail(1, "left@example.org", hits=(gone,))]
        + [mail(1, "back@example.org", no.format("back@example.org")), mail(0, "back@example.org")]
    )
    with closing(open_reader(path)) as connection:
        until_us = LAST_DAY_US + DAY_US
        options = {"inactive_days": 30, "with_addresses": with_addresses}
        page = render(gather(connection, until_us - 7 * DAY_US, until_us, until_us, {}, **options))
    tree = parse(page)
    counts = {
        element.get("data-people"): "".join(element.itertext()) for element in tree.iter() if element.get("data-people")
    }
    assert counts == {"unsubscribed": "1", "dead": "1", "inactive": "1"}
    people = page.partition("Addresses to think about")[2]
    for name in ("quiet@example.net", "dead@example.org", "left@example.org"):
        assert (name in people) == with_addresses
    assert "reader@" not in people
    assert "back@" not in people
    assert "example.org 1" in people


def test_one_message(make_store: Any) -> None:
    """A store with one message makes a whole page."""
    path = make_store([("ann@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "250 2.0.0 Ok")])
    with closing(open_reader(path)) as connection:
        page = render(gather(connection, LAST_DAY_US, LAST_DAY_US + DAY_US, LAST_DAY_US + DAY_US, {}, inactive_days=9))
    assert measures(parse(page))["sent"] == 1
    (line,) = table(parse(page), "Recipient domains")
    assert line[:2] == ["b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "1"]


def plots(page: str) -> Iterator[Element]:
    """Yield the page's plots, legends not among them."""
    return (svg for svg in parse(page).iter(f"{SVG}svg") if svg.get("role") == "img")


def test_plots_show_the_numbers(week: str) -> None:
    """Each bar says its day and count; a stack's heights are in the proportion of its counts."""
    delivery, _rates, opens, clicks = plots(week)
    titles = [title.text for title in delivery.iter(f"{SVG}title")]
    assert "22 Nov: bounced 3" in titles
    assert "16 Nov: sent 2" in titles
    heights = {
        (rect.find(f"{SVG}title").text): float(rect.get("height", "0"))  # type: ignore[union-attr]
        for rect in delivery.iter(f"{SVG}rect")
    }
    assert heights["22 Nov: bounced 3"] == pytest.approx(1.5 * heights["22 Nov: sent 2"], rel=0.01)
    assert "22 Nov: machine 1" in [title.text for title in opens.iter(f"{SVG}title")]
    assert "22 Nov: human 1" in [title.text for title in clicks.iter(f"{SVG}title")]


def test_period_without_mail(two_weeks: Path) -> None:
    """An empty period is a page that says so, not an error."""
    with closing(open_reader(two_weeks)) as connection:
        page = render(gather(connection, 0, DAY_US, LAST_DAY_US, {}))

    assert "Nothing was refused" in page
    assert set(measures(parse(page)).values()) == {0}


def test_long_tables_say_what_they_leave_out() -> None:
    """At most so many lines, and a sentence on how many more there are."""
    found = tuple(
        Line(f"d{n}.example", Report(recipients=1, states={"sent": 1}), Report()) for n in range(MAX_LINES + 3)
    )
    data = ReportData(0, DAY_US, DAY_US, DAY_US, Report(), Report(), (), {"recipient_domain": found})

    page = render(data)
    assert len(table(parse(page), "Recipient domains")) == MAX_LINES
    assert "3 more are left out" in page


@settings(max_examples=40, deadline=None)  # html5lib's strict reading takes its time
@given(st.text(), st.text())
def test_any_text_is_html(key: str, reply: str) -> None:
    """Whatever stands in a key or a reply, the page stays strict HTML with the same elements."""
    row = {"example": reply, "category": key, "kind": "soft", "provider": reply, "rule": "r", "n": 1}
    data = ReportData(
        0, DAY_US, DAY_US, DAY_US, Report(), Report(), (),
        {"tag": (Line(key, Report(recipients=1), Report()),)}, (row,), {"r": key},
    )  # fmt: skip
    names = [str(element.tag) for element in parse(render(data)).iter()]
    assert names.count(f"{HTML}code") == 1
    assert f"{HTML}script" not in names


@given(st.integers(0, 10_000), st.integers(1, 200_000))
def test_slices_add_up_to_the_period(start_hours: int, length_hours: int) -> None:
    """The slices of any period touch, begin and end with it, and are not too many for a plot."""
    since_us, until_us = start_hours * HOUR_US, (start_hours + length_hours) * HOUR_US
    pieces = cut(since_us, until_us, choose_slice(until_us - since_us))

    assert pieces[0][0] == since_us
    assert pieces[-1][1] == until_us
    assert all(left[1] == right[0] for left, right in pairwise(pieces))
    assert all(start < end for start, end in pieces)
    assert len(pieces) <= MAX_SLICES + 2


@given(st.floats(1e-6, 1e12))
def test_axis_ends_at_a_round_number(value: float) -> None:
    """Everything fits under the axis' end, which is not twice as high."""
    assert value <= nice_ceiling(value) * (1 + 1e-6) <= 2 * value


def test_lines_break_where_there_is_nothing_to_say() -> None:
    """A rate of nothing is a gap, not a zero."""
    plot = lines("Rates", ["1", "2", "3", "4"], [Series("opened", [1.0, None, 2.0, 3.0], 1)], str)
    path = re.search(r' d="([^"]*)"', plot)
    assert path is not None
    assert re.findall("[ML]", path[1]) == ["M", "M", "L"]
    assert plot.count("<circle") == 3
    assert "<rect" not in stacked_bars("Bars", ["1"], [Series("sent", [0], 1)], str).partition("</svg>")[0]


def test_options_that_contradict_each_other(run: Any, two_weeks: Path, tmp_path: Path) -> None:
    """One form at a time, a period with an end, a file that can be written: else it says what is wrong."""
    page, config = str(tmp_path / "report.html"), tmp_path / "postwake.toml"

    def refused(*arguments: str) -> Exception | None:
        with pytest.raises((click.UsageError, CannotCreateError)) as caught:
            cli.main(["--config", str(config), "report", *arguments], standalone_mode=False)
        return caught.value

    assert "expected one of them" in str(refused("--json", "--html", page))
    assert "expected no --by" in str(refused("--by", "tag", "--html", page))
    assert "expected one of them" in str(refused("--by", "tag", "--list", "dead"))
    assert "--last week with --since" in str(refused("--last", "week", "--since", "7d"))
    assert "end after" in str(refused("--since", "2026-11-23", "--until", "2026-11-22", "--html", page))
    assert isinstance(refused(*WEEK, "--html", str(tmp_path / "none" / "report.html")), CannotCreateError)
    assert run(*WEEK, "--html", "-").stdout.startswith("<!DOCTYPE html>")


MEASURES = {
    "messages": "SELECT count(*) FROM messages WHERE direction = 'outbound' AND at >= :since AND at < :until",
    "recipients": "SELECT count(*) FROM deliveries WHERE at >= :since AND at < :until AND state <> 'handed_over'",
    "sent": "SELECT count(*) FROM deliveries WHERE at >= :since AND at < :until AND state = 'sent'",
    "bounced": "SELECT count(*) FROM deliveries WHERE at >= :since AND at < :until AND state IN ('bounced', 'expired')",
    "waiting": "SELECT count(*) FROM deliveries WHERE at >= :since AND at < :until AND state IN ('queued', 'deferred')",
    "opened_human": "SELECT count(DISTINCT o.message || ' ' || coalesce(recipient, '')) FROM"
    " (SELECT message, recipient, who FROM opens UNION ALL SELECT message, recipient, who FROM clicks) AS o"
    " JOIN messages ON messages.id = o.message WHERE who = 'human' AND at >= :since AND at < :until",
    "clicked_human": "SELECT count(DISTINCT o.message || ' ' || coalesce(recipient, '')) FROM clicks AS o"
    " JOIN messages ON messages.id = o.message WHERE who = 'human' AND messages.at >= :since AND messages.at < :until",
    "unsubscribed": "SELECT count(DISTINCT e.message || ' ' || coalesce(recipient, '')) FROM events AS e"
    " JOIN messages ON messages.id = e.message WHERE type = 'unsubscribed'"
    " AND messages.at >= :since AND messages.at < :until",
}
"""Each figure at the head once more, asked of the people's views in plain SQL."""


@pytest.mark.parametrize("measure", MEASURES)
def test_numbers_are_what_plain_sql_says(measure: str, week: str, two_weeks: Path) -> None:
    """Every figure on the page is the number of rows that the views have."""
    with closing(open_reader(two_weeks)) as connection:
        period = {"since": "2026-11-16", "until": "2026-11-23"}
        assert measures(parse(week))[measure] == connection.execute(MEASURES[measure], period).fetchone()[0]


def test_recipient_domains_are_what_plain_sql_says(week: str, two_weeks: Path) -> None:
    """Opens and clicks by recipient domain are the readers that the views name."""
    query = (
        "SELECT substr(d.recipient, instr(d.recipient, '@') + 1), count(*),"
        " count(*) FILTER (WHERE d.state = 'sent'),"
        " count(*) FILTER (WHERE EXISTS (SELECT 1 FROM opens AS o WHERE o.message = d.message AND o.who = 'human')"
        "  OR EXISTS (SELECT 1 FROM clicks AS c WHERE c.message = d.message AND c.who = 'human')),"
        " count(*) FILTER (WHERE EXISTS (SELECT 1 FROM clicks AS c WHERE c.message = d.message AND c.who = 'human'))"
        " FROM deliveries AS d WHERE d.at >= '2026-11-16' AND d.at < '2026-11-23' GROUP BY 1"
    )
    with closing(open_reader(two_weeks)) as connection:
        expected = {row[0]: tuple(row)[1:] for row in connection.execute(query)}
    shown = {row[0]: tuple(int(row[n]) for n in (1, 2, 6, 8)) for row in table(parse(week), "Recipient domains")}
    assert shown == expected
    assert shown["example.net"][2] > 0


def test_weeks_and_months_are_whole_ones() -> None:
    """The last day, week (Monday to Sunday) and month are over; across a year's end, too."""
    at = {
        "wednesday": datetime(2026, 11, 25, 18, 47, tzinfo=UTC),
        "monday, 00:00": datetime(2026, 11, 23, tzinfo=UTC),
        "new year": datetime(2027, 1, 1, 0, 1, tzinfo=UTC),
    }

    def last(unit: str, when: str) -> tuple[str, str]:
        found = last_whole(unit, int(at[when].timestamp()) * 1_000_000)
        first, end = (datetime.fromtimestamp(at_us / 1e6, tz=UTC) for at_us in found)
        assert not any((end.hour, end.minute, first.hour, first.minute))
        return f"{first:%Y-%m-%d}", f"{end:%Y-%m-%d}"

    assert last("day", "wednesday") == ("2026-11-24", "2026-11-25")
    assert last("week", "wednesday") == last("week", "monday, 00:00") == ("2026-11-16", "2026-11-23")
    assert last("month", "wednesday") == ("2026-10-01", "2026-11-01")
    assert last("month", "new year") == ("2026-12-01", "2027-01-01")
    assert last("week", "new year") == ("2026-12-21", "2026-12-28")
