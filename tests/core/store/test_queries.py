"""What is asked of the store: found whatever the day, and equal to counting by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postwake.events import EventType, State, Who
from postwake.store import queries
from postwake.store.bulk import Bulk
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.dictionary import StoredReply, cut_variable
from postwake.store.rollup import Rollup
from postwake.store.transaction import Transactions

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Any]
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


@pytest.fixture
def reader(store: Path) -> Iterator[Any]:
    """A connection as the commands have it."""
    with closing(open_reader(store)) as connection:
        yield connection


def test_finding(apply: Make, accepted: Make, reader: Any, noon_us: int) -> None:
    """A message is found by each of its names, newest first, across days, with years and wild clocks between them."""
    times = [noon_us - 4000 * DAY_US, -1, noon_us - DAY_US, noon_us, 2**62]
    events = [
        accepted(n, at_us=at_us, queue_id="SAME", message_id="same@example.com", recipients=(f"r{n % 2}@example.net",))
        for n, at_us in enumerate(times, 1)
    ]
    apply(*events)
    for name in ("SAME", " SAME ", "same@example.com", "<same@example.com>"):
        assert queries.find_messages(reader, name) == [5, 4, 3, 1, 2]
    assert queries.find_messages(reader, "SAME", limit=2) == [5, 4]
    assert queries.find_messages(reader, "R1@EXAMPLE.NET") == [5, 3, 1]
    for number, event in enumerate(events, 1):
        assert queries.find_messages(reader, event.tracking_id.hex().upper()) == [number]
    for nothing in ("", "none", "none@example.com", "0" * 32, "%", "'"):
        assert queries.find_messages(reader, nothing) == []


def test_finding_a_delivery_of_a_later_day(apply: Make, accepted: Make, ask: Ask, reader: Any, noon_us: int) -> None:
    """A recipient that the log named on a day on which no message was accepted is found."""
    apply(accepted())
    ask("UPDATE delivery SET at_us = ?", noon_us + 3 * DAY_US)
    assert queries.find_messages(reader, "ann@example.net") == [1]


def test_finding_by_the_address_asked_for(apply: Make, accepted: Make, ask: Ask, reader: Any, noon_us: int) -> None:
    """Mail that an alias led elsewhere is found by the alias, among mail to the very address, newest first."""
    apply(*(accepted(n, recipients=("team@example.net",), at_us=noon_us + n * DAY_US) for n in range(1, 6)))
    ask("UPDATE delivery SET original_recipient = recipient, recipient = 'x@example.org' WHERE message IN (2, 4)")
    ask(
        "INSERT INTO delivery (message, recipient, original_recipient, idx, state, attempts, at_us)"
        " SELECT message, 'y@example.org', original_recipient, 1, 1, 1, at_us FROM delivery WHERE message = 4"
    )
    for name in ("team@example.net", "<Team@EXAMPLE.net>"):
        assert queries.find_messages(reader, name) == [5, 4, 3, 2, 1]
    assert queries.find_messages(reader, "team@example.net", limit=2) == [5, 4]
    ask("DELETE FROM delivery WHERE message IN (1, 3, 5)")
    assert queries.find_messages(reader, "team@example.net") == [4, 2]
    assert queries.find_messages(reader, "x@example.org") == [4, 2]


def test_an_alias_is_looked_for_among_the_newest(
    apply: Make, accepted: Make, ask: Ask, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index has it, so the look ends somewhere: a huge store is not read whole."""
    apply(*(accepted(n, recipients=("team@example.net",)) for n in range(1, 6)))
    ask("UPDATE delivery SET original_recipient = recipient, recipient = 'x@example.org'")
    monkeypatch.setattr(queries, "ASKED_FOR_AMONG", 3)
    assert queries.find_messages(reader, "team@example.net") == [5, 4, 3]


def test_looking_costs_a_step_an_hour(reader: Any) -> None:
    """Each look is a search of an index, never a scan of a table."""
    for table, index in (
        ("message", "message_queue_id"),
        ("message", "message_message_id"),
        ("delivery", "delivery_recipient"),
    ):
        seen: list[str] = []
        reader.set_trace_callback(seen.append)
        list(queries._hours(reader, table, index))
        reader.set_trace_callback(None)
        plan = " ".join(row["detail"] for row in reader.execute(f"EXPLAIN QUERY PLAN {seen[0]}"))
        assert f"SEARCH {table} USING" in plan
        assert index in plan
        assert "TEMP B-TREE" not in plan


def test_merged_messages(apply: Make, accepted: Make, ask: Ask, reader: Any) -> None:
    """A message that became part of another, through several hops, is found as the last."""
    apply(*(accepted(n) for n in range(1, 6)))
    ask("UPDATE message SET merged_into = id + 1 WHERE id < 3")
    ask("UPDATE message SET merged_into = 99 WHERE id = 5")
    assert queries.find_messages(reader, "4F2A81B3C1") == [3]
    assert queries.find_messages(reader, "ann@example.net") == [4, 3]
    assert queries.message(reader, 3)["subject"] == "Subject 3"


def test_one_messages_story(apply: Make, accepted: Make, hit: Make, reader: Any) -> None:
    """A message's row, deliveries and timeline, JSON decoded, times in order, empty columns left out."""
    apply(
        accepted(metadata={"order": "7"}, links_skipped={"mailto": 1}),
        hit(1, EventType.CLICKED, url="https://example.com/", who=Who.HUMAN, reason="r"),
    )
    found = queries.message(reader, 1)
    assert (found["metadata"], found["links_skipped"], found["tracked"]) == ({"order": "7"}, {"mailto": 1}, True)
    assert [(row["recipient"], row["state"]) for row in queries.deliveries(reader, 1)] == [
        ("ann@example.net", "queued")
    ]
    first, second = queries.timeline(reader, 1)
    assert (first["type"], second["type"], second["url"]) == ("accepted", "clicked", "https://example.com/")
    assert "reply" not in first


def test_paging(apply: Make, accepted: Make, hit: Make, reader: Any, noon_us: int) -> None:
    """Events page by number without gaps or repetitions, and can be narrowed by type and time."""
    apply(accepted(), *(hit(n, at_us=noon_us + n) for n in range(1, 10)))
    pages, after = [], 0
    while page := list(queries.events(reader, after_id=after, limit=4)):
        pages.append([row["id"] for row in page])
        after = page[-1]["id"]
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [row["id"] for row in queries.events(reader, types=(EventType.ACCEPTED,))] == [1]
    assert [row["id"] for row in queries.events(reader, since_us=noon_us + 8, types=(EventType.OPENED,))] == [9, 10]


def nonzero(report: queries.Report) -> queries.Report:
    """Return *report* without what it says there was none of."""
    counts = {name: getattr(report, name) for name in ("states", "engaged", "hits", "attempts")}
    return replace(report, **{name: {key: n for key, n in said.items() if n} for name, said in counts.items()})


MEASURES = ["messages", "sent", "bounced", "deferred", "handed_over", "opened_human", "opened.human", "clicked.machine"]
KEYS = {
    "all": [""],
    "tag": ["weekly", "x"],
    "recipient_domain": ["a.example", "b.example", "c.example"],
    "reply": ["1", "2"],
}
hours = st.one_of(st.integers(-50, 50), st.integers(-500 * 24, 500 * 24), st.integers(-50 * 365 * 24, -49 * 365 * 24))
cells = st.lists(
    st.tuples(
        st.sampled_from(["cohort", "event"]),
        st.sampled_from([(dimension, key) for dimension, keys in KEYS.items() for key in keys]),
        hours,
        st.sampled_from(MEASURES),
        st.integers(-2, 3),
    ),
    max_size=60,
)
minutes = st.one_of(st.integers(0, 100 * 60), st.integers(0, 3 * 365 * 24 * 60), st.just(60 * 365 * 24 * 60))


@given(cells=cells, flushes=st.integers(1, 4), start_hour=hours, start_minute=st.integers(0, 59), minutes=minutes)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_report_equals_the_sum(
    cells: list[Any], flushes: int, start_hour: int, start_minute: int, minutes: int, store: Path, noon_us: int
) -> None:
    """A report of any period, by anything, equals the sum of its hourly rows, however it was cut into longer spans."""
    minute_us = 60_000_000
    since_us = noon_us + start_hour * HOUR_US + start_minute * minute_us
    until_us = since_us + minutes * minute_us
    with closing(open_writer(store)) as connection:
        connection.execute("DELETE FROM rollup")
        for start in range(flushes):
            rollup = Rollup()
            for basis, (dimension, key), hour, measure, n in cells[start::flushes]:
                rollup.add(basis, noon_us + hour * HOUR_US + 17, measure, n, dimension=dimension, key=key)
            rollup.flush(connection)
    for dimension in KEYS:
        with closing(open_reader(store)) as connection:
            hourly = connection.execute(
                "SELECT basis, key, measure, sum(n) FROM rollup WHERE span = 'hour' AND dimension = ?"
                " AND start_us >= ? AND start_us < ? GROUP BY 1, 2, 3 HAVING sum(n) <> 0",
                (dimension, since_us - since_us % HOUR_US, until_us + -until_us % HOUR_US),
            ).fetchall()
            found = queries.report(connection, since_us, until_us, dimension)
            without_events = queries.report(connection, since_us, until_us, dimension, ("cohort",))
        expected: dict[str, queries.Report] = {}
        for basis, key, measure, n in hourly:
            report = expected.setdefault(key, queries.Report())
            if basis == "cohort" and measure == "messages":
                report.messages = n
            elif basis == "cohort" and measure in queries._STATES:
                report.states[measure] = n
                report.recipients += n if measure != "handed_over" else 0
            elif basis == "cohort" and measure == "opened_human":
                report.engaged[measure] = n
            elif basis == "event" and "." in measure:
                report.hits[measure] = n
            elif basis == "event" and measure in ("sent", "bounced", "deferred"):
                report.attempts[measure] = n
        assert {key: nonzero(report) for key, report in found.items()} == expected
        of_cohorts = {key for basis, key, *_ in hourly if basis == "cohort"}
        assert {key: nonzero(report) for key, report in without_events.items()} == {
            key: replace(report, hits={}, attempts={}) for key, report in expected.items() if key in of_cohorts
        }


@pytest.mark.parametrize("start_hour", range(0, 28 * 24 * 2, 31))
def test_a_year_is_few_pieces(start_hour: int, noon_us: int) -> None:
    """Whenever a year begins, it is read as at most 28 days and 46 hours beside its four weeks, which add up to it."""
    since_us = noon_us + start_hour * HOUR_US
    until_us = since_us + 365 * DAY_US
    units = {"hour": HOUR_US, "day": DAY_US, "4weeks": 28 * DAY_US}
    rows: Counter[str] = Counter()
    length_us = 0
    for span, start_us, end_us, sign in queries._pieces(since_us, until_us, by_weeks=True):
        assert start_us % units[span] == end_us % units[span] == 0
        assert sign == 1 or span == "day"
        rows[span] += (end_us - start_us) // units[span]
        length_us += sign * (end_us - start_us)
    assert length_us == until_us - since_us
    assert (rows["4weeks"], rows["day"], rows["hour"]) <= (14, 28, 46)
    assert rows["day"] <= 28


def test_rates() -> None:
    """Rates are of the same mail; of no mail there is none."""
    assert queries.Report().as_json()["rates"] == dict.fromkeys(("sent", "bounced", "opened", "clicked"))
    report = queries.Report(recipients=8, states={"sent": 4, "bounced": 1, "expired": 1}, engaged={"opened_human": 1})
    assert report.as_json()["rates"] == {"sent": 0.5, "bounced": 0.25, "opened": 0.25, "clicked": 0.0}


def test_worst_replies(store: Path, reader: Any, noon_us: int) -> None:
    """Replies of failed attempts are counted by the hour they were said in, though an older log was read later."""
    transactions = Transactions(open_writer(store), WriteLock(store))
    with transactions.begin() as transaction:
        bulk = Bulk(transaction)
        replies = {
            name: transaction.replies.id(StoredReply(name, 550, category="unclassified" if name == "odd" else "spam"))
            for name in ("spam", "odd", "fine")
        }
        for at_us, name, kind in (
            (noon_us, "spam", EventType.BOUNCED),
            (noon_us + 1, "odd", EventType.DEFERRED),
            (noon_us + 2, "fine", EventType.SENT),
            (noon_us - 300 * DAY_US, "spam", EventType.BOUNCED),
            (noon_us + 3, "odd", EventType.EXPIRED),
            (noon_us - 300 * DAY_US, "odd", EventType.EXPIRED),
        ):
            bulk.new_event(at_us, kind, None, reply=replies[name])
        bulk.flush()
    transactions.close()
    found = [(row["text"], row["n"]) for row in queries.worst_replies(reader, noon_us, noon_us + 10)]
    assert found == [("odd", 2), ("spam", 1)]
    assert queries.worst_replies(reader, noon_us + HOUR_US, noon_us + 2 * HOUR_US) == []
    assert [(row["text"], row["n"]) for row in queries.worst_replies(reader, 0, noon_us + 10, limit=1)] == [("odd", 3)]
    assert [(row["text"], row["n"]) for row in queries.unclassified_replies(reader)] == [("odd", 3)]


def test_replies_are_shown_as_they_were_said(store: Path, reader: Any, noon_us: int) -> None:
    """A reply whose first and last words vary is stored as little more than its frame: the example has the words."""
    said = (
        "host mx.example.net[192.0.2.8] said: 554 5.7.1 blocked using zen.example; see 192.0.2.9 (in reply to RCPT TO)"
    )
    text, part = cut_variable(said)
    transactions = Transactions(open_writer(store), WriteLock(store))
    with transactions.begin() as transaction:
        number = transaction.replies.id(StoredReply(text, 554, category="unclassified"))
        bulk = Bulk(transaction)
        bulk.new_event(noon_us, EventType.BOUNCED, None, reply=number, reply_part="another")
        bulk.new_event(noon_us, EventType.BOUNCED, None, reply=number, reply_part=part)
        bulk.flush()
    transactions.close()
    assert "blocked" not in text
    for found in (queries.worst_replies(reader, noon_us, noon_us + 1), queries.unclassified_replies(reader)):
        assert [(row["text"], row["example"], row["n"]) for row in found] == [(text, said, 2)]


def test_an_example_is_of_the_period(store: Path, reader: Any, noon_us: int) -> None:
    """The example is the newest of the period's; of all that have the text where several replies have."""
    transactions = Transactions(open_writer(store), WriteLock(store))
    with transactions.begin() as transaction:
        bulk = Bulk(transaction)
        first, second = (
            transaction.replies.id(StoredReply("no {}", 550, category="unclassified", provider=provider))
            for provider in ("one", "two")
        )
        for hour, reply, part in (
            (5, first, "e"),
            (0, first, "a"),
            (9, second, "z"),
            (4, first, "d"),
            (1, second, "b"),
        ):
            bulk.new_event(noon_us + hour * HOUR_US, EventType.BOUNCED, None, reply=reply, reply_part=part)
        bulk.flush()
    transactions.close()
    found = queries.worst_replies(reader, noon_us, noon_us + 5 * HOUR_US)
    assert [(row["provider"], row["example"], row["n"]) for row in found] == [("one", "no d", 2), ("two", "no b", 1)]
    assert [(row["example"], row["n"]) for row in queries.unclassified_replies(reader)] == [("no z", 5)]


def asked(reader: Any, question: Callable[[], object]) -> list[str]:
    """Return the statements that *question* runs."""
    seen: list[str] = []
    reader.set_trace_callback(seen.append)
    question()
    reader.set_trace_callback(None)
    return seen


def test_asking_for_replies_reads_no_attempts_but_examples(reader: Any) -> None:
    """However many attempts failed, each statement searches the rollups or takes one step of an index."""
    for question, index in (
        (lambda: queries.worst_replies(reader, 0, 400 * DAY_US), "SEARCH rollup USING PRIMARY KEY"),
        (lambda: queries.unclassified_replies(reader), "SEARCH rollup USING PRIMARY KEY"),
        (lambda: queries._newest(reader, 1), "SEARCH event USING INDEX event_reply (reply=? AND at_us<?)"),
    ):
        for statement in asked(reader, question):
            plan = [row["detail"] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert any(step.startswith(index) for step in plan), plan
            assert all("SCAN" not in step or step.startswith("SCAN (") for step in plan), plan


@pytest.mark.parametrize("dimension", ["all", "tag"])
def test_a_period_is_read_at_one_moment(dimension: str, reader: Any, noon_us: int) -> None:
    """What is added and what is taken off again is one statement: nobody writes in between."""
    for days in (0, 1, 40, 365):
        since_us, until_us = noon_us - 3 * HOUR_US, noon_us + days * DAY_US
        statements = asked(reader, lambda a=since_us, b=until_us: queries._sums(reader, "cohort", dimension, a, b))
        assert len(statements) == 1


def test_states_cover_the_vocabulary(apply: Make, accepted: Make, ask: Ask) -> None:
    """The report knows every state there is."""
    assert tuple(state.label for state in State) == queries._STATES
