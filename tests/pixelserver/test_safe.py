"""Between the event loop, the writer and the spool: every hit's request hears exactly one true thing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postwake.events import EventType, Hit
from postwake.store.connection import migrate_file, open_reader
from postwake.store.recorder import Recorder
from postwake.store.writer import MAX_GROUP
from postwake.tracking_id import make_tracking_id
from postwake_pixelserver.safe import Safe


def make_hit(link: int = 0) -> Hit:
    """Return a click of now."""
    now_us = time.time_ns() // 1000
    return Hit(
        make_tracking_id(now_us, os.urandom(10)), now_us, EventType.CLICKED, bytes(16), 1, link, "https://a.example/"
    )


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A recorder on a store of its own."""
    migrate_file(tmp_path / "postwake.db")
    found = Recorder(tmp_path / "postwake.db", tmp_path / "spool", "test", busy_timeout_ms=50, synchronous="FULL")
    yield found
    found.close()


def stored_links(recorder: Recorder) -> list[int]:
    """Return the stored clicks' link numbers, in order."""
    with contextlib.closing(open_reader(recorder.writer.path)) as connection:
        return [link for (link,) in connection.execute("SELECT link FROM event ORDER BY link")]


def record(safe: Safe, hits: list[Hit]) -> list[bool | BaseException]:
    """Return what became of *hits*, recorded in one turn of a loop."""

    async def run() -> list[bool | BaseException]:
        safe.loop = asyncio.get_running_loop()
        return await asyncio.wait_for(
            asyncio.gather(*[safe.record(hit) for hit in hits], return_exceptions=True), timeout=30
        )

    return asyncio.run(run())


def test_more_hits_than_a_group_in_one_turn(recorder: Recorder) -> None:
    """All are stored, each once, in groups of bounded size."""
    count = 2 * MAX_GROUP + 3
    assert record(Safe(recorder, 20), [make_hit(link) for link in range(count)]) == [True] * count
    assert stored_links(recorder) == list(range(count))
    assert recorder.writer.stats.jobs == count
    assert recorder.writer.depth == 0


def test_one_unstorable_hit_takes_nobody_with_it(recorder: Recorder) -> None:
    """What SQLite refuses of one hit is told to that one; the others of its batch are stored."""
    hits = [make_hit(link) for link in range(5)]
    hits[2].link = 2**70
    outcomes = record(Safe(recorder, 20), hits)
    assert [outcome is True for outcome in outcomes] == [True, True, False, True, True]
    assert isinstance(outcomes[2], OverflowError)
    assert stored_links(recorder) == [0, 1, 3, 4]


def test_the_same_hit_twice_is_stored_once(recorder: Recorder) -> None:
    """A batch in which a hit is there already is written all the same."""
    hit = make_hit(1)
    assert record(Safe(recorder, 20), [hit, make_hit(2), hit]) == [True] * 3
    assert stored_links(recorder) == [1, 2]


def test_the_stores_refusal_says_nothing_about_what_the_spool_has(recorder: Recorder) -> None:
    """A hit that has gone to a slow spool is spooled, not lost, though the store refuses it in the meantime."""
    gate = threading.Event()
    spool_events = recorder.spool_events

    def slowly(events: list[Hit]) -> None:
        assert gate.wait(20)
        spool_events(events)

    recorder.spool_events = slowly  # type: ignore[method-assign,assignment]

    def open_gate() -> None:
        deadline = time.monotonic() + 20
        while not recorder.writer.stats.failed_groups and time.monotonic() < deadline:
            time.sleep(0.005)
        gate.set()

    blocker = sqlite3.connect(recorder.writer.path, isolation_level=None, check_same_thread=False)
    with contextlib.closing(blocker):
        blocker.execute("BEGIN IMMEDIATE")
        opener = threading.Thread(target=open_gate)
        opener.start()
        assert record(Safe(recorder, 0.01), [make_hit(1)]) == [False]
        opener.join()
