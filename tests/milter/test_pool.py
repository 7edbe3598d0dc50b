"""The rewriting threads, on a real store: recorded once, in time or as what it is, and never at a mail's cost."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postwake.store.connection import migrate_file, open_reader
from postwake.store.recorder import Recorder
from postwake.store.transaction import Transaction
from postwake_milter.handle import Envelope, Handled, Handler
from postwake_milter.pool import Pool

Make = Callable[..., Envelope]


class Held:
    """A handler that handles when it is told to; everything else is the real one's."""

    def __init__(self, handler: Handler, error: Exception | None = None) -> None:
        self._handler = handler
        self._error = error
        self.go = threading.Event()
        self.begun = threading.Event()
        self.handled = 0

    def handle(self, envelope: Envelope) -> Handled:
        self.begun.set()
        assert self.go.wait(20)
        self.handled += 1
        if self._error is not None:
            raise self._error
        return self._handler.handle(envelope)

    def unchanged(self, envelope: Envelope, reason: str) -> Handled:
        return self._handler.unchanged(envelope, reason)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A recorder on a real store."""
    migrate_file(tmp_path / "postwake.db")
    recorder = Recorder(tmp_path / "postwake.db", tmp_path / "spool", "milter")
    yield recorder
    recorder.close()


def rows(tmp_path: Path) -> list[tuple[Any, ...]]:
    """Return what the store says of messages."""
    with closing(open_reader(tmp_path / "postwake.db")) as connection:
        return [tuple(row) for row in connection.execute("SELECT tracked, untracked_reason FROM messages")]


@pytest.fixture
def make_pool(recorder: Recorder) -> Iterator[Callable[..., Pool]]:
    """Make pools whose threads have ended before the recorder closes."""
    pools: list[Pool] = []

    def make(threads: int = 1, store_timeout_s: float = 5.0) -> Pool:
        pools.append(Pool(threads, recorder, store_timeout_s))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_handled_and_recorded(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path
) -> None:
    """When the verdict is there, the row is in the store, with how long the rewriting took."""
    handled = make_pool().process(make_handler(), make_envelope(), 10)

    assert handled.outcome == "tracked"
    assert rows(tmp_path) == [(1, None)]
    with closing(open_reader(tmp_path / "postwake.db")) as connection:
        assert connection.execute("SELECT rewrite_us FROM message").fetchone()[0] > 0


def test_one_line_a_message(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, caplog: Any
) -> None:
    """Each message is one line in the log: queue ID first, outcome, tracking ID, reason; nobody's address."""
    pool, handler = make_pool(), make_handler()
    with caplog.at_level("INFO"):
        for envelope in (
            make_envelope(),
            make_envelope(sender=""),
            make_envelope((b"X-Postwake-ID", b" " + b"0a" * 16)),
        ):
            pool.process(handler, envelope, 10)
    tracked, untracked, requeued = caplog.messages
    assert re.fullmatch(r"4Q1: outcome=tracked tracking_id=[0-9a-f]{32} recipients=1 links=\d+ us=\d+", tracked)
    assert re.fullmatch(
        r"4Q1: outcome=untracked tracking_id=[0-9a-f]{32} reason=null-sender recipients=1 links=0 us=\d+", untracked
    )
    assert requeued == f"4Q1: outcome=requeued tracking_id={'0a' * 16}"


def test_too_slow(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path
) -> None:
    """A message that takes too long goes out unchanged, recorded once as rewrite-timeout, even if it is done later."""
    handler: Any = Held(make_handler())
    pool = make_pool()

    handled = pool.process(handler, make_envelope(), 0.05)
    handler.go.set()
    pool.close()

    assert (handled.body, handled.header_changes, handled.outcome) == (None, (), "untracked")
    assert handler.handled == 1
    assert rows(tmp_path) == [(0, "rewrite-timeout")]


def test_what_timed_out_in_the_queue_is_not_begun(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make
) -> None:
    """A thread that was busy too long does not spend its time on messages that have gone out meanwhile."""
    slow: Any = Held(make_handler())
    waiting: Any = Held(make_handler())
    pool = make_pool()
    first = threading.Thread(target=pool.process, args=(slow, make_envelope(), 10))
    first.start()
    assert slow.begun.wait(20)

    pool.process(waiting, make_envelope(), 0.01)
    slow.go.set()
    first.join()
    pool.close()

    assert (slow.handled, waiting.handled) == (1, 0)


def test_a_bug_costs_no_mail(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path
) -> None:
    """An exception while rewriting lets the message out unchanged, recorded as error, and the thread lives on."""
    handler: Any = Held(make_handler(), RuntimeError("a bug"))
    handler.go.set()
    pool = make_pool()

    broken = pool.process(handler, make_envelope(), 10)
    fine = pool.process(make_handler(), make_envelope(), 10)

    assert (broken.body, broken.header_changes) == (None, ())
    assert fine.outcome == "tracked"
    assert rows(tmp_path)[0] == (0, "error")


def test_a_bug_in_what_is_recorded_costs_no_thread(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path
) -> None:
    """Where not even the failure can be described, the message's own thread hears of it at once; ours lives on."""

    class Broken:
        def handle(self, envelope: Envelope, reason: str = "") -> Handled:
            raise RuntimeError("a bug")

        unchanged = handle

    broken: Any = Broken()
    pool = make_pool()
    with pytest.raises(RuntimeError, match="a bug"):
        pool.process(broken, make_envelope(), 600)
    assert pool.process(make_handler(), make_envelope(), 10).outcome == "tracked"
    assert rows(tmp_path) == [(1, None)]


def test_spooled_while_the_store_is_away(
    make_pool: Callable[..., Pool],
    make_handler: Callable[..., Handler],
    make_envelope: Make,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    """While the store cannot be written a message is tracked all the same: its row waits in the spool."""
    (tmp_path / "postwake.db").rename(tmp_path / "gone")

    handled = make_pool().process(make_handler(), make_envelope(), 10)

    assert handled.outcome == "tracked"
    assert handled.body is not None
    assert recorder.spool.pending()
    assert not recorder.available


def test_a_store_that_is_known_to_be_away_is_not_asked(
    make_pool: Callable[..., Pool],
    make_handler: Callable[..., Handler],
    make_envelope: Make,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for a store that did not take the last write: the row goes straight to the spool."""
    asked: list[object] = []
    monkeypatch.setattr(recorder.writer, "submit_batch", lambda *batch: asked.append(batch))
    recorder.writer.healthy = False

    handled = make_pool(store_timeout_s=0.05).process(make_handler(), make_envelope(), 10)

    assert (handled.outcome, asked) == ("tracked", [])


def test_spooled_when_the_store_takes_too_long(
    make_pool: Callable[..., Pool],
    make_handler: Callable[..., Handler],
    make_envelope: Make,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    """A store that does not commit in time holds up no mail: the row goes to the spool, and is in the store once."""
    go = threading.Event()

    def block(_: Transaction) -> None:
        assert go.wait(20)

    blocked = recorder.writer.submit(block)
    handled = make_pool(store_timeout_s=0.05).process(make_handler(), make_envelope(), 10)
    spooled = recorder.spool.pending()
    go.set()
    blocked.result(20)
    recorder.close()

    assert handled.outcome == "tracked"
    assert spooled
    recovered = Recorder(tmp_path / "postwake.db", tmp_path / "spool", "milter")
    try:
        recovered.spool.replay(recovered._commit)
    finally:
        recovered.close()
    assert rows(tmp_path) == [(1, None)]


def test_recorded_nowhere(make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path) -> None:
    """Where neither store nor spool can be written the message goes out unchanged: its links would say nothing."""
    (tmp_path / "file").touch()
    recorder = Recorder(tmp_path / "absent.db", tmp_path / "file" / "spool", "milter")
    pool = Pool(1, recorder, 1.0)
    try:
        for _ in range(2):  # the store found to be away, and known to be
            handled = pool.process(make_handler(), make_envelope(), 10)
            assert (handled.outcome, handled.body, handled.header_changes) == ("unrecorded", None, ())
    finally:
        pool.close()
        recorder.close()


def test_many_at_once(
    make_pool: Callable[..., Pool], make_handler: Callable[..., Handler], make_envelope: Make, tmp_path: Path
) -> None:
    """Every one of many messages at once gets its own verdict, and each is in the store once."""
    pool, handler = make_pool(threads=3), make_handler()
    verdicts: list[bytes | None] = []

    def send(number: int) -> None:
        for n in range(10):
            identity = bytes([number, n]) * 8
            envelope = replace(make_envelope(), tracking_id=identity, queue_id=f"4Q{number}x{n}")
            change = pool.process(handler, envelope, 20).header_changes[-1]
            assert change.value == identity.hex().encode()
            verdicts.append(change.value)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(verdicts)) == 80
    assert rows(tmp_path) == [(1, None)] * 80
