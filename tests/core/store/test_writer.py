"""The writing thread: groups, failures that stay with whom they belong to, a store that comes and goes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import ConfigError, StoreUnavailableError
from postwake.events import Event, Hit, Requeued
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, migrate_file, open_writer
from postwake.store.transaction import Transaction, Transactions
from postwake.store.writer import MAX_GROUP, MAX_WAITING, Writer, wait

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def writer(store: Path) -> Iterator[Writer]:
    """A writer that waits a tenth of a second for others."""
    found = Writer(store, busy_timeout_ms=100)
    yield found
    found.close()


def note(key: str) -> Callable[[Transaction], str]:
    """Return a job that leaves a mark."""

    def job(transaction: Transaction) -> str:
        transaction.execute("INSERT INTO meta VALUES (?, '')", (key,))
        transaction.rollup.add("event", 0, key)
        return key

    return job


class Blocker:
    """A job that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _: Transaction) -> None:
        """Wait."""
        self.begun.set()
        assert self.go_on.wait(20)


def test_group_commit(writer: Writer, ask: Ask) -> None:
    """What many threads submit while the writer is busy is committed together, in groups, each with its result."""
    blocker = Blocker()
    first = writer.submit(blocker)
    assert blocker.begun.wait(20)
    threads, futures = [], []

    def submit(name: str) -> None:
        futures.extend((f"{name}.{n}", writer.submit(note(f"{name}.{n}"))) for n in range(50))

    for number in range(8):
        threads.append(threading.Thread(target=submit, args=(str(number),)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert writer.depth == 400
    blocker.go_on.set()
    wait(first, 20)
    assert all(wait(future, 20) == key for key, future in futures)
    assert writer.stats.commits <= 2 + 400 // MAX_GROUP + 1
    assert writer.stats.jobs == 401
    assert ask("SELECT count(*) FROM meta") == [(400,)]
    assert ask("SELECT sum(n) FROM rollup WHERE span = 'all'") == [(400,)]


def nonsense(transaction: Transaction) -> None:
    """Ask for a table that is not there."""
    transaction.execute("SELECT * FROM nowhere")


FAILURES = {
    "python": lambda transaction: {}["missing"],
    "constraint": lambda transaction: transaction.execute("INSERT INTO state VALUES (0, 'again')"),
    "binding-a-list": lambda transaction: transaction.execute("INSERT INTO meta VALUES (?, '')", ([],)),
    "too-few-values": lambda transaction: transaction.execute("INSERT INTO meta VALUES (?, ?)", ("a",)),
    "too-big": lambda transaction: transaction.execute("SELECT zeroblob(2000000000)").fetchone(),
    "beyond-64-bits": lambda transaction: transaction.execute("SELECT ?", (2**63,)),
    "surrogate": lambda transaction: transaction.execute("SELECT ?", ("\ud800",)),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failing_job_takes_nothing_with_it(failure: Callable[[Transaction], Any], writer: Writer, ask: Ask) -> None:
    """A job that raises is undone alone; those of the same transaction, rollups included, are committed."""

    def halfway(transaction: Transaction) -> None:
        note("halfway")(transaction)
        failure(transaction)

    blocker = Blocker()
    writer.submit(blocker)
    assert blocker.begun.wait(20)
    before, failed, after = writer.submit(note("before")), writer.submit(halfway), writer.submit(note("after"))
    blocker.go_on.set()
    assert (wait(before, 20), wait(after, 20)) == ("before", "after")
    error = failed.exception(20)
    assert error is not None
    assert not isinstance(error, StoreUnavailableError)
    assert writer.healthy
    assert ask("SELECT key FROM meta ORDER BY key") == [("after",), ("before",)]
    assert ask("SELECT measure, n FROM rollup WHERE span = 'all'") == [("after", 1), ("before", 1)]


def test_counts_that_cannot_be_written(writer: Writer, ask: Ask) -> None:
    """A rollup that fails at the commit fails the group, and the writer lives on."""

    def job(transaction: Transaction) -> None:
        transaction.rollup.add("event", 0, "\ud800")

    with pytest.raises(StoreUnavailableError):
        wait(writer.submit(job), 20)
    assert wait(writer.submit(note("next")), 20) == "next"
    assert ask("SELECT key FROM meta") == [("next",)]


def test_the_store_fails(writer: Writer, ask: Ask) -> None:
    """An error that is the store's fails every job of the group with StoreUnavailableError, and none stands."""
    blocker = Blocker()
    writer.submit(blocker)
    assert blocker.begun.wait(20)
    futures = [writer.submit(note("a")), writer.submit(nonsense), writer.submit(note("b"))]
    blocker.go_on.set()
    for future in futures:
        assert isinstance(future.exception(20), StoreUnavailableError)
    assert not writer.healthy
    assert "no such table" in writer.stats.last_error
    assert ask("SELECT * FROM meta") == []
    assert wait(writer.submit(note("c")), 20) == "c"
    assert writer.healthy


@pytest.mark.parametrize("polite", [True, False], ids=["with-the-lock-file", "without-it"])
def test_locked_by_another_process(polite: bool, writer: Writer, store: Path, sit_on: Any, ask: Ask) -> None:
    """A store locked for longer than the busy timeout is unavailable; when it is free again writing goes on."""
    sitter = sit_on(store, polite=polite)
    with pytest.raises(StoreUnavailableError, match="locked"):
        wait(writer.submit(note("early")), 20)
    sitter.let_go()
    assert wait(writer.submit(note("late")), 20) == "late"
    assert ask("SELECT key FROM meta") == [("late",)]


def test_a_killed_holder_holds_nothing(writer: Writer, store: Path, sit_on: Any) -> None:
    """The lock of a process that was killed is free."""
    sit_on(store).kill()
    assert wait(writer.submit(note("a")), 20) == "a"


def test_immediate_under_contention(store: Path, ask: Ask) -> None:
    """Two writers that read and then write never meet SQLITE_BUSY_SNAPSHOT: no update is lost or refused."""

    def increment(transaction: Transaction) -> None:
        row = transaction.execute("SELECT value FROM meta WHERE key = 'n'").fetchone()
        transaction.execute("INSERT OR REPLACE INTO meta VALUES ('n', ?)", (str(int(row[0] if row else 0) + 1),))

    def run() -> None:
        with closing(open_writer(store)) as connection:
            transactions = Transactions(connection, WriteLock(store))
            for _ in range(50):
                with transactions.begin() as transaction:
                    increment(transaction)
            transactions.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask("SELECT value FROM meta WHERE key = 'n'") == [("150",)]


def test_deleted_under_us(writer: Writer, store: Path) -> None:
    """A store that is deleted is unavailable at once, not written to as a ghost; a new one in its place is used."""
    wait(writer.submit(note("a")), 20)
    store.unlink()
    with pytest.raises(StoreUnavailableError, match="no store there"):
        wait(writer.submit(note("b")), 20)
    assert not store.exists()
    for file in store.parent.glob("postwake.db-*"):
        file.unlink()
    migrate_file(store)
    wait(writer.submit(note("c")), 20)
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT key FROM meta").fetchall() == [("c",)]


def test_a_foreign_store(empty_store: Path, tmp_path: Path) -> None:
    """A store whose schema is another release's fails each job and is told from the others by the text."""
    path = Path(shutil.copy(empty_store, tmp_path / "other.db"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    writer = Writer(path)
    with pytest.raises(StoreUnavailableError, match="newer"):
        wait(writer.submit(note("a")), 20)
    writer.close()
    with pytest.raises(ConfigError):
        open_writer(path)


def test_a_corrupt_store(store: Path, writer: Writer) -> None:
    """A file whose pages are garbage is unavailable, not an exception that ends the thread."""
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(store.stat().st_size - 4096))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="malformed"):
            wait(writer.submit(note("a")), 20)


def test_a_store_that_is_cut_short_while_nobody_writes(
    store: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tidying up finds the damage first: it is told to the next who writes, and a restored store is written again."""
    monkeypatch.setattr("postwake.store.writer.IDLE_S", 0.01)
    idle = threading.Event()
    writer = Writer(store)

    def much(transaction: Transaction) -> None:
        transaction.executemany("INSERT INTO meta VALUES (?, ?)", [(f"{n}", "x" * 8000) for n in range(40)])

    def more(transaction: Transaction) -> None:
        transaction.execute("UPDATE meta SET value = value || 'y' WHERE key = '1'")
        os.truncate(store, 0)

    checkpoint = Transactions.checkpoint

    def noting(self: Transactions, mode: Any) -> None:
        try:
            checkpoint(self, mode)
        finally:
            idle.set()

    monkeypatch.setattr(Transactions, "checkpoint", noting)
    wait(writer.submit(much), 20)
    assert idle.wait(20)
    idle.clear()
    wait(writer.submit(more), 20)
    assert idle.wait(20)
    with pytest.raises(StoreUnavailableError):
        wait(writer.submit(note("a")), 20)
    for path in store.parent.glob("postwake.db*"):
        path.unlink()
    shutil.copy(empty_store, store)
    wait(writer.submit(note("b")), 20)
    writer.close()


def test_a_cancelled_job_is_not_run(writer: Writer, ask: Ask) -> None:
    """A job whose caller gave up before it began is left out; one that has begun stands."""
    blocker = Blocker()
    running = writer.submit(blocker)
    assert blocker.begun.wait(20)
    waiting = writer.submit(note("waiting"))
    for future in (waiting, running):
        with pytest.raises(StoreUnavailableError, match="has not committed within"):
            wait(future, 0.01)
    blocker.go_on.set()
    assert running.result(20) is None
    wait(writer.submit(note("next")), 20)
    assert ask("SELECT key FROM meta") == [("next",)]


class Noted:
    """A batch of events; it notes who told it what became of them."""

    def __init__(self, *events: Event) -> None:
        self.events = events
        self.told = threading.Event()
        self.outcome: object = None
        self.teller = ""

    def take(self) -> tuple[Event, ...]:
        return self.events

    def written(self, problems: Mapping[int, Exception]) -> None:
        self._hear(dict(problems))

    def refused(self, error: StoreUnavailableError) -> None:
        self._hear(error)

    def _hear(self, outcome: object) -> None:
        self.outcome, self.teller = outcome, threading.current_thread().name
        self.told.set()


def test_rows_gather(writer: Writer, accepted: Callable[..., Any], ask: Ask) -> None:
    """As long as others are on their way rows wait for each other, and are written in one commit."""
    wait(writer.submit(note("opened")), 20)
    batches = [Noted(accepted(number)) for number in (1, 2, 3)]
    last = threading.Event()

    def gather_s() -> float:  # asked when the first has come: the others come now
        assert last.wait(20)
        return 0.0

    writer.gather_s = gather_s
    for batch in batches:
        writer.submit_batch(batch, 1)
    last.set()
    assert all(batch.told.wait(20) for batch in batches)
    assert (writer.stats.commits, writer.stats.jobs) == (2, 4)
    assert ask("SELECT count(*) FROM message") == [(3,)]


@pytest.mark.parametrize("faulty", [False, True], ids=["all-well", "one-at-fault"])
def test_a_group_of_all_kinds(
    faulty: bool, writer: Writer, accepted: Callable[..., Any], hit: Callable[..., Hit], ask: Ask
) -> None:
    """New messages, one that came back and a hit wait together: all are written, and a problem is told to its own."""
    first, second = accepted(1), accepted(2)
    third = accepted(3, size_bytes=2**64 if faulty else 1)
    again = Requeued(first.at_us, first.tracking_id, "AGAIN")
    batches = [Noted(first), Noted(again), Noted(second, third), Noted(hit())]
    blocker = Blocker()
    writer.submit(blocker)
    assert blocker.begun.wait(20)
    for batch in batches:
        writer.submit_batch(batch, len(batch.events))
    blocker.go_on.set()
    assert all(batch.told.wait(20) for batch in batches)
    assert [list(batch.outcome) for batch in batches] == [[], [], [1] if faulty else [], []]  # type: ignore[call-overload]
    assert ask("SELECT count(*) FROM message WHERE sender IS NOT NULL") == [(2 if faulty else 3,)]
    assert ask("SELECT queue_id FROM message WHERE merged_into IS NOT NULL") == [("AGAIN",)]
    assert ask("SELECT count(*) FROM event WHERE hit_id IS NOT NULL") == [(1,)]
    assert writer.stats.commits == 2


def test_what_came_back_is_written_behind_what_a_spool_held(
    writer: Writer, accepted: Callable[..., Any], ask: Ask
) -> None:
    """A message that comes back as its own row is replayed from a spool is found, though both are in one group."""
    event = accepted(1)
    again = Noted(Requeued(event.at_us, event.tracking_id, "AGAIN"))
    blocker = Blocker()
    writer.submit(blocker)
    assert blocker.begun.wait(20)
    replay = writer.submit(lambda transaction: apply_event(transaction, event))
    writer.submit_batch(again, 1)
    blocker.go_on.set()
    wait(replay, 20)
    assert again.told.wait(20)
    assert ask("SELECT queue_id FROM message WHERE merged_into IS NOT NULL") == [("AGAIN",)]


def test_a_full_queue(writer: Writer) -> None:
    """When too many writes wait, further ones are refused at once."""
    blocker = Blocker()
    writer.submit(blocker)
    assert blocker.begun.wait(20)
    futures = [writer.submit(lambda transaction: None) for _ in range(MAX_WAITING)]
    with pytest.raises(StoreUnavailableError, match="are waiting already"):
        writer.submit(note("one too many"))
    for future in futures:
        future.cancel()
    blocker.go_on.set()


def test_closing_while_busy(store: Path, ask: Ask) -> None:
    """Everything submitted before close() is committed, everything after is refused, nothing is left unresolved."""
    writer = Writer(store)
    accepted, refused = [], []
    begun = threading.Event()

    def submit() -> None:
        for number in range(3000):
            try:
                accepted.append(writer.submit(note(f"{number}")))
            except StoreUnavailableError:
                refused.append(number)
                return
            begun.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert begun.wait(20)
    writer.close()
    thread.join()
    assert [future.done() for future in accepted] == [True] * len(accepted)
    assert ask("SELECT count(*) FROM meta") == [(len(accepted),)]
    with pytest.raises(StoreUnavailableError, match="the writer is closed"):
        writer.submit(note("late"))
    writer.close()


def test_closing_moves_the_log_into_the_file(store: Path) -> None:
    """After close() there is nothing in a write-ahead log: the one file is the whole store."""
    writer = Writer(store)
    wait(writer.submit(note("a")), 20)
    writer.close()
    wal = store.with_name(store.name + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0
    shutil.copy(store, store.with_name("copy.db"))
    with closing(sqlite3.connect(store.with_name("copy.db"))) as connection:
        assert connection.execute("SELECT key FROM meta").fetchall() == [("a",)]


def test_strings_that_sqlite_cannot_hold(
    writer: Writer, accepted: Callable[..., Any], hit: Callable[..., Hit], ask: Ask
) -> None:
    """NULs and lone surrogates in what strangers write become U+FFFD; the event is recorded like any other."""
    strange = "a\ud800b\0c"
    event = accepted(
        subject=strange,
        sender=strange,
        tag=strange,
        recipients=(strange, "ann@example.net"),
        metadata={strange: strange},
        links_skipped={strange: 1},
    )
    reader = hit(user_agent=strange, url=strange, reason=strange)
    for one in (event, reader, event, reader):
        wait(writer.submit(lambda transaction, one=one: apply_event(transaction, one)), 20)
    clean = "a\ufffdb\ufffdc"
    assert ask("SELECT subject, sender, tag, metadata FROM message") == [
        (clean, clean, clean, f'{{"{clean}": "{clean}"}}')
    ]
    assert ask("SELECT recipient FROM delivery ORDER BY idx") == [(clean,), ("ann@example.net",)]
    assert ask("SELECT text FROM user_agent UNION SELECT text FROM url") == [(clean,)]
    assert ask("SELECT count(*) FROM event") == [(2,)]
