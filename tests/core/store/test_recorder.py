"""What is acknowledged is in the store exactly once in the end: through locks, kills and restarts."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.events import Requeued
from postwake.store.apply import apply_event
from postwake.store.recorder import Recorder
from postwake.store.spool import Spool
from postwake.store.transaction import Transactions

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Any]

# Records events without end, and says the number of each when it is safe.
_RECORDER = """
import os, sys
from pathlib import Path
from postwake.events import Accepted, Direction
from postwake.store.recorder import Recorder
from postwake.tracking_id import make_tracking_id
directory, start = Path(sys.argv[1]), int(sys.argv[2])
recorder = Recorder(directory / "postwake.db", directory / "spool", "test", busy_timeout_ms=50)
for n in range(start, start + 1_000_000):
    at_us = 1_795_348_800_000_000 + n
    tracking_id = make_tracking_id(at_us, n.to_bytes(10, "big"))
    event = Accepted(at_us, tracking_id, Direction.OUTBOUND, f"Q{n}", "", "", "a@b", "b", ("c@d",))
    stored = recorder.record(event, 0.1)
    os.write(1, f"{n} {int(stored)}\\n".encode())
"""

# Replays a spool and dies as it is about to remove a file whose events are committed.
_DYING_REPLAY = """
import os, signal, sys
from pathlib import Path
Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from postwake.store.recorder import Recorder
directory = Path(sys.argv[1])
Recorder(directory / "postwake.db", directory / "spool", "test")
signal.pause()
"""


@pytest.fixture
def recorder(store: Path) -> Iterator[Recorder]:
    """A recorder that waits long for a lock, so that only record()'s own timeout bounds it."""
    found = Recorder(store, store.parent / "spool", "test", busy_timeout_ms=20_000)
    yield found
    found.close()


def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* holds; it must within 20 s."""
    deadline = time.monotonic() + 20
    never = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        never.wait(0.01)


def test_straight_into_the_store(recorder: Recorder, accepted: Make, ask: Ask) -> None:
    """While the store can be written, record() returns when the event is in it."""
    assert recorder.record(accepted(1), 20) is True
    assert ask("SELECT count(*) FROM message") == [(1,)]
    assert not recorder.spool.pending()


def test_while_the_store_is_locked(
    store: Path, recorder: Recorder, accepted: Make, hit: Make, sit_on: Make, ask: Ask
) -> None:
    """record() answers within its timeout, then straight from the spool; unlocked, everything is in the store once."""
    sitter = sit_on(store)
    started = time.monotonic()
    assert recorder.record(accepted(1), 0.2) is False
    assert time.monotonic() - started < 2
    assert not recorder.available
    started = time.monotonic()
    for number in range(2, 7):
        assert recorder.record(accepted(number), 10) is False
    assert time.monotonic() - started < 5  # had each waited, fifty seconds
    assert recorder.record(hit(1), 10) is False
    assert ask("SELECT count(*) FROM message") == [(0,)]
    sitter.let_go()
    until(lambda: recorder.available and not recorder.spool.pending())
    assert ask("SELECT count(*), count(DISTINCT tracking_id) FROM message") == [(6, 6)]
    assert ask("SELECT count(*) FROM event") == [(7,)]
    assert recorder.record(accepted(7), 20) is True


def test_neither_store_nor_spool(tmp_path: Path, accepted: Make) -> None:
    """When neither can be written record() says so; it never pretends."""
    (tmp_path / "file").touch()
    recorder = Recorder(tmp_path / "none.db", tmp_path / "file" / "spool", "test")
    with pytest.raises(StoreUnavailableError, match="cannot write the spool"):
        recorder.record(accepted(1), 1)
    recorder.close()


def test_a_store_that_is_away_for_long(store: Path, accepted: Make, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    """However often it is looked for, what comes meanwhile waits in one file; back again, everything is in it once."""
    monkeypatch.setattr("postwake.store.recorder.RETRY_S", 0.001)
    away = store.rename(store.with_name("away.db"))
    spool_dir = store.parent / "spool"
    recorder = Recorder(store, spool_dir, "test")
    looks = recorder.writer.stats
    for n in range(1, 9):
        assert recorder.record(accepted(n), 20) is False
        seen = looks.failed_groups
        until(lambda seen=seen: looks.failed_groups >= seen + 2)
    assert len(list(spool_dir.iterdir())) == 1
    away.rename(store)
    until(lambda: not list(spool_dir.iterdir()))
    assert ask("SELECT count(*) FROM message") == [(8,)]
    recorder.close()


def test_what_an_earlier_process_left(store: Path, accepted: Make, ask: Ask) -> None:
    """A recorder replays at its start what is in the spool, from whatever service."""
    spool = Spool(store.parent / "spool", "other")
    spool.append([accepted(n) for n in range(1, 4)])
    spool.close()
    recorder = Recorder(store, store.parent / "spool", "test")
    until(lambda: not recorder.spool.pending())
    recorder.close()
    assert ask("SELECT count(*) FROM message") == [(3,)]


def test_a_message_that_comes_back_waits_for_its_row(
    store: Path, accepted: Make, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """The store is back, the row is still in the spool: what is known by that row goes behind it."""
    monkeypatch.setattr("postwake.store.recorder.RETRY_S", 60)
    first = accepted(1)
    away = store.rename(store.with_name("away.db"))
    recorder = Recorder(store, store.parent / "spool", "test")
    assert recorder.record(first, 20) is False
    until(lambda: recorder.writer.stats.failed_groups >= 2)  # the replay has given up for the next minute
    away.rename(store)
    assert recorder.writer.submit(lambda transaction: None).result(20) is None
    assert recorder.writer.healthy
    assert recorder.record(Requeued(first.at_us + 1, first.tracking_id, "SECOND"), 20) is False
    assert recorder.record(accepted(2), 20) is True
    recorder.close()
    recorder = Recorder(store, store.parent / "spool", "test")
    until(lambda: not recorder.spool.pending())
    recorder.close()
    assert ask(
        "SELECT m.subject FROM queue AS q JOIN message AS m ON m.id = q.message WHERE q.queue_id = 'SECOND'"
    ) == [(first.subject,)]


def test_an_event_the_store_refuses_holds_up_nothing(store: Path, accepted: Make, ask: Ask) -> None:
    """An event that no store can take is kept in a .bad file; the replay goes on, the recorder lives."""
    ask(
        "CREATE TRIGGER refuse BEFORE INSERT ON message WHEN new.queue_id = 'refused'"
        " BEGIN SELECT raise(ABORT, 'no'); END"
    )
    spool = Spool(store.parent / "spool", "other")
    spool.append([accepted(1), accepted(2, queue_id="refused"), accepted(3)])
    spool.close()
    recorder = Recorder(store, store.parent / "spool", "test")
    until(lambda: not recorder.spool.pending())
    assert recorder.record(accepted(4), 20) is True
    recorder.close()
    assert ask("SELECT subject FROM message ORDER BY id") == [("Subject 1",), ("Subject 3",), ("Subject 4",)]
    (bad,) = (store.parent / "spool").glob("*.bad")
    assert '"queue_id":"refused"' in bad.read_text()


def test_closing_with_a_locked_store(store: Path, accepted: Make, sit_on: Make) -> None:
    """Closing does not wait for the lock to go; what is in the spool stays there for the next."""
    recorder = Recorder(store, store.parent / "spool", "test", busy_timeout_ms=100)
    sit_on(store)
    assert recorder.record(accepted(1), 0.05) is False
    started = time.monotonic()
    recorder.close()
    assert time.monotonic() - started < 10
    assert recorder.spool.pending()


def replay_rest(directory: Path, transactions: Transactions) -> None:
    """Put into the store what waits."""

    def apply(events: Any) -> None:
        with transactions.begin() as transaction:
            for event in events:
                apply_event(transaction, event)

    spool = Spool(directory / "spool", "rest")
    spool.replay(apply)
    assert not spool.pending()
    assert spool.bad_lines == 0


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_point(seed: int, store: Path, transactions: Transactions, sit_on: Make, ask: Ask) -> None:
    """Processes that record, spool and replay are killed at random: each acknowledged event is in the store, once."""
    chance = random.Random(seed)
    acknowledged: list[int] = []
    spooled = 0
    for turn in range(4):
        sitter = sit_on(store) if turn % 2 == seed % 2 else None
        start = turn * 1_000_000
        child = subprocess.Popen([sys.executable, "-c", _RECORDER, store.parent, str(start)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        until_kill, until_release = chance.randrange(1, 120), chance.randrange(1, 60)
        for count in range(until_kill):
            number, stored = child.stdout.readline().split()
            acknowledged.append(int(number))
            spooled += stored == b"0"
            if sitter is not None and count == until_release:
                sitter.let_go()
        child.kill()
        rest = child.communicate()[0].split(b"\n")[:-1]
        acknowledged += [int(line.split()[0]) for line in rest]
        if sitter is not None:
            sitter.kill()
    replay_rest(store.parent, transactions)
    rows = [int(queue_id[1:]) for (queue_id,) in ask("SELECT queue_id FROM message")]
    assert len(rows) == len(set(rows))
    assert set(acknowledged) <= set(rows)
    assert spooled
    for table in ("delivery", "event", "queue"):
        assert ask(f"SELECT count(*) FROM {table}") == [(len(rows),)]
    assert ask(
        "SELECT n FROM rollup WHERE basis = 'cohort' AND span = 'all' AND dimension = 'all' AND measure = 'queued'"
    ) == [(len(rows),)]


def test_killed_between_commit_and_unlink(store: Path, accepted: Make, transactions: Transactions, ask: Ask) -> None:
    """A crash after the commit and before the spool file is removed replays it again, which changes nothing."""
    spool = Spool(store.parent / "spool", "other")
    spool.append([accepted(n) for n in range(1, 4)])
    spool.close()
    done = subprocess.run([sys.executable, "-c", _DYING_REPLAY, store.parent], timeout=60)
    assert done.returncode == -9
    before = ask("SELECT * FROM event"), ask("SELECT * FROM rollup"), ask("SELECT * FROM delivery")
    assert len(before[0]) == 3
    assert spool.pending()
    replay_rest(store.parent, transactions)
    assert (ask("SELECT * FROM event"), ask("SELECT * FROM rollup"), ask("SELECT * FROM delivery")) == before
