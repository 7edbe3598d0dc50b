"""What is asked of the store: found whatever the day, and equal to counting by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
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


cells = st.lists(
    st.tuples(
        st.sampled_from(["cohort", "event"]),
        st.integers(-50, 50),
        st.sampled_from(["messages", "sent", "bounced", "deferred", "opened_human", "opened.human", "clicked.machine"]),
        st.integers(1, 3),
    ),
    max_size=30,
)


@given(cells=cells, start_minutes=st.integers(-60 * 60, 60 * 60), minutes=st.integers(0, 100 * 60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_report_equals_the_sum(cells: list[Any], start_minutes: int, minutes: int, store: Path, noon_us: int) -> None:
    """A report of any period equals the sum of its hours, however it was cut into hours and days."""
    minute_us = 60_000_000
    since_us = noon_us + start_minutes * minute_us
    until_us = since_us + minutes * minute_us
    first_us, last_us = since_us - since_us % HOUR_US, until_us + -until_us % HOUR_US
    expected: Counter[tuple[str, str]] = Counter()
    with closing(open_writer(store)) as connection:
        connection.execute("DELETE FROM rollup")
        rollup = Rollup()
        for basis, hour, measure, n in cells:
            at_us = noon_us + hour * HOUR_US + 17
            rollup.add(basis, at_us, measure, n)
            if first_us <= at_us < last_us:
                expected[basis, measure] += n
        rollup.flush(connection)
    with closing(open_reader(store)) as connection:
        found = queries.report(connection, since_us, until_us).get("", queries.Report())

    def nonzero(basis: str, *measures: str) -> dict[str, int]:
        return {measure: expected[basis, measure] for measure in measures if expected[basis, measure]}

    assert found.messages == expected["cohort", "messages"]
    assert found.recipients == sum(expected["cohort", state] for state in ("sent", "bounced", "deferred"))
    assert found.states == nonzero("cohort", "sent", "bounced", "deferred")
    assert found.engaged.get("opened_human", 0) == expected["cohort", "opened_human"]
    assert found.hits == nonzero("event", "opened.human", "clicked.machine")
    assert found.attempts == nonzero("event", "sent", "bounced", "deferred")


def test_rates() -> None:
    """Rates are of the same mail; of no mail there is none."""
    assert queries.Report().as_json()["rates"] == dict.fromkeys(("sent", "bounced", "opened", "clicked"))
    report = queries.Report(recipients=8, states={"sent": 4, "bounced": 1, "expired": 1}, engaged={"opened_human": 1})
    assert report.as_json()["rates"] == {"sent": 0.5, "bounced": 0.25, "opened": 0.25, "clicked": 0.0}


def test_worst_replies(store: Path, reader: Any, noon_us: int) -> None:
    """Replies of failed attempts are counted by when they were said, though an older log was read later."""
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
    assert queries.worst_replies(reader, noon_us + 4, noon_us + 10) == []
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


def test_states_cover_the_vocabulary(apply: Make, accepted: Make, ask: Ask) -> None:
    """The report knows every state there is."""
    assert tuple(state.label for state in State) == queries._STATES
