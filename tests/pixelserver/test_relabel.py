"""The relabeling thread, on a real store with a real writer."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from postwake.events import EventType, Hit, Who
from postwake.store.apply import apply_event
from postwake.store.connection import migrate_file, open_reader
from postwake.store.writer import Writer
from postwake.tracking_id import make_tracking_id
from postwake_pixelserver.relabel import SETTLE_US, Relabeler

T0_US = 1_795_000_000_000_000


@pytest.fixture
def store(tmp_path: Path):
    """A store's path and a writer on it."""
    path = tmp_path / "postwake.db"
    migrate_file(path)
    writer = Writer(path)
    yield path, writer
    writer.close()


def sweep(writer: Writer, tracking_id: bytes, at_us: int) -> None:
    """Store a scanner's sweep over four links."""
    for link in range(1, 5):
        hit = Hit(
            hit_id=make_tracking_id(at_us, os.urandom(10)),
            at_us=at_us + link * 100_000,
            type=EventType.CLICKED,
            tracking_id=tracking_id,
            recipient=1,
            link=link,
            url="https://example.com/",
            who=Who.HUMAN,
            reason="browser",
            client="198.51.100.9",
        )
        writer.submit(lambda transaction, hit=hit: apply_event(transaction, hit)).result(10)


def verdicts(path: Path) -> list[int]:
    """Return every verdict in the store, in order."""
    connection = open_reader(path)
    try:
        return [row[0] for row in connection.execute("SELECT who FROM event ORDER BY id")]
    finally:
        connection.close()


def wait_for(condition) -> None:
    """Poll until *condition* holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_thread_relabels_what_has_settled(store) -> None:
    """A sweep is left alone until it has settled, then relabeled, and told to the counter."""
    path, writer = store
    sweep(writer, os.urandom(16), T0_US)
    now_us = [T0_US]
    counted: list[int] = []
    turns = threading.Semaphore(0)

    def clock() -> int:
        turns.release()
        return now_us[0]

    relabeler = Relabeler(writer, path, clock, counted.append, every_s=0.01)
    try:
        for _ in range(3):
            assert turns.acquire(timeout=10)
        assert verdicts(path) == [Who.HUMAN] * 4
        now_us[0] = T0_US + 2 * SETTLE_US
        wait_for(lambda: sum(counted) == 4)
        assert verdicts(path) == [Who.MACHINE] * 4
    finally:
        relabeler.close()


def test_a_clock_that_was_wrong_holds_nothing_up(store) -> None:
    """Behind a hit that seems to be of next year, what has settled is judged all the same, and so is that one."""
    path, writer = store
    sweep(writer, os.urandom(16), T0_US + 366 * 86_400_000_000)
    sweep(writer, os.urandom(16), T0_US)
    counted: list[int] = []
    relabeler = Relabeler(writer, path, lambda: T0_US + 2 * SETTLE_US, counted.append, every_s=0.01)
    try:
        wait_for(lambda: sum(counted) == 8)
    finally:
        relabeler.close()
    assert verdicts(path) == [Who.MACHINE] * 8


def test_only_one_process_relabels(store) -> None:
    """Of two relabelers on one store one works; when it is gone the other takes over."""
    path, writer = store
    first_counted: list[int] = []
    second_counted: list[int] = []
    later_us = T0_US + 10 * SETTLE_US
    first = Relabeler(writer, path, lambda: later_us, first_counted.append, every_s=0.01)
    wait_for(lambda: first_counted)
    second = Relabeler(writer, path, lambda: later_us, second_counted.append, every_s=0.01)
    try:
        sweep(writer, os.urandom(16), T0_US)
        wait_for(lambda: sum(first_counted) == 4)
        assert second_counted == []
        first.close()
        sweep(writer, os.urandom(16), T0_US)
        wait_for(lambda: sum(second_counted) == 4)
        assert sum(first_counted) == 4
    finally:
        first.close()
        second.close()


def test_a_hammered_message_is_judged_to_its_end(store) -> None:
    """Thousands of hits of a machine on one message: every one is found, in bounded time."""
    path, writer = store
    tracking_id = os.urandom(16)

    def hammer(transaction) -> None:
        for number in range(3000):
            hit = Hit(
                hit_id=os.urandom(16),
                at_us=T0_US + number * 1000,
                type=EventType.CLICKED,
                tracking_id=tracking_id,
                recipient=1,
                link=number % 7,
                url="https://example.com/",
                who=Who.HUMAN,
                client="198.51.100.9",
            )
            apply_event(transaction, hit)

    writer.submit(hammer).result(30)
    counted: list[int] = []
    started = time.monotonic()
    relabeler = Relabeler(writer, path, lambda: T0_US + 10 * SETTLE_US, counted.append, every_s=0.01)
    wait_for(lambda: len(counted) >= 4)
    relabeler.close()
    assert verdicts(path) == [Who.MACHINE] * 3000
    assert time.monotonic() - started < 8
