"""What the collectors say that no running service shows within a test's patience: first series, waits, lag, spools."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from postwake.errors import StoreUnavailableError
from postwake.events import Accepted, Direction
from postwake.reply.load import load_classifier
from postwake.store.connection import LockStats, WriteLock, migrate_file
from postwake.store.recorder import Recorder
from postwake.store.spool_metrics import SpoolCollector
from postwake.store.store_metrics import StoreCollector
from postwake.store.writer_metrics import RecorderCollector
from postwake.tracking_id import make_tracking_id
from postwake_logparse.correlate import Correlator
from postwake_logparse.detect import open_grammar
from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.log_metrics import LogCollector
from postwake_logparse.outcome import Outcomes
from postwake_logparse.source_file import FileSource
from postwake_milter.shared_stats import OUTCOMES, SharedStats

Ask = Callable[..., float | None]
NOON_S = 1_795_348_800.0
LINE = "2026-11-22T11:59:00.000000+00:00 mx postfix/qmgr[13]: {}: removed\n"


def registry_of(*collectors: Any) -> CollectorRegistry:
    """Return a registry with *collectors*."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store."""
    migrate_file(tmp_path / "postwake.db")
    return tmp_path / "postwake.db"


def event(number: int, domain: str) -> Accepted:
    """Return an accepted message of *domain*."""
    return Accepted(
        at_us=int(NOON_S * 1e6), tracking_id=make_tracking_id(int(NOON_S * 1e6), number.to_bytes(10, "big")),
        direction=Direction.OUTBOUND, queue_id=f"4F2A81B3C{number}", host="mx", message_id=f"{number}@{domain}",
        sender=f"news@{domain}", domain=domain, recipients=("ann@example.net",), tracked=True,
    )  # fmt: skip


def test_domains_that_nobody_configured_are_one(store: Path, tmp_path: Path) -> None:
    """Anybody can make up sender domains: only configured ones get a series, all others share one."""
    recorder = Recorder(store, tmp_path / "spool", "test")
    for number, domain in enumerate(("example.com", "made-up.example", "another.example")):
        recorder.record(event(number, domain), 20)
    recorder.close()
    registry = registry_of(StoreCollector(store, ["example.com", "silent.example"]))

    def accepted(domain: str) -> float | None:
        labels = {"sender_domain": domain, "state": "accepted"}
        return registry.get_sample_value("postwake_domain_mail_total", labels)

    domains = ("example.com", "other", "silent.example", "made-up.example")
    assert [accepted(domain) for domain in domains] == [1, 2, 0, None]


def test_unreadable_store_has_no_counters(tmp_path: Path) -> None:
    """Zeros would be taken for a restart, and everything since the beginning for news when the store is back."""
    registry = registry_of(StoreCollector(tmp_path / "postwake.db", ["example.com"], ["signed"]))

    names = {family.name for family in registry.collect()}
    assert registry.get_sample_value("postwake_store_up") == 0
    assert names == {
        f"postwake_store_{name}" for name in ("up", "bytes", "wal_bytes", "disk_free_bytes", "disk_size_bytes")
    }


def test_waits_for_other_writers(store: Path) -> None:
    """A transaction that finds another process writing is counted, with the time it waited, and so is giving up."""
    stats = LockStats()
    with closing(WriteLock(store)) as other, closing(WriteLock(store, stats)) as ours:
        with ours.held(0.0):
            assert (stats.waits, stats.wait_s) == (0, 0.0)
        with other.held(1.0), ours.held(0.02):
            pass
    assert (stats.waits, stats.timeouts) == (1, 1)
    assert 0.02 <= stats.wait_s < 10


def test_spool_of_one_service(store: Path, tmp_path: Path) -> None:
    """Each service counts its own spool files, so that the sum over services is what waits, and sees .bad files."""
    spool = tmp_path / "spool"
    recorder = Recorder(store, spool, "milter")
    recorder.spool.append([event(1, "example.com")])
    (spool / "milter-1-1.bad").write_text("not an event\n")
    ours = registry_of(SpoolCollector(spool, "milter"), RecorderCollector(recorder))
    others = registry_of(SpoolCollector(spool, "pixelserver"))
    names = ("postwake_spool_files", "postwake_spool_bad_files")
    found = [ours.get_sample_value(name) for name in names]
    theirs = [others.get_sample_value(name) for name in (*names, "postwake_spool_bytes")]
    appended = ours.get_sample_value("postwake_spool_events_total")
    recorder.close()

    assert found == [1, 1]
    assert theirs == [0, 0, 0]
    assert appended == 1


@pytest.fixture
def following(store: Path, tmp_path: Path) -> Callable[[], tuple[Follower, Ask, list[float]]]:
    """Make a follower of a log with one line, a function that asks its metrics, and the clock they use."""
    log = tmp_path / "mail.log"
    log.write_text(LINE.format("4F2A81B3C5"))

    def make() -> tuple[Follower, Ask, list[float]]:
        correlator = Correlator(Outcomes(load_classifier(None)), lambda _: True)
        ingester = Ingester(store, correlator)
        follower = Follower(
            lambda cursor: FileSource(log, cursor), open_grammar("postfix"), ingester,
            timezone="UTC", now_us=lambda: int(NOON_S * 1e6), name=f"file:{log}",
        )  # fmt: skip
        clock = [NOON_S]
        registry = registry_of(LogCollector(follower, ingester, lambda: clock[0]))
        return follower, lambda name: registry.get_sample_value(f"postwake_log_{name}"), clock

    return make


def test_lag(following: Any, tmp_path: Path) -> None:
    """While there are unread bytes the lag is the age of the newest line read; when all is read there is none."""
    follower, ask, clock = following()
    assert (ask("lag_bytes"), ask("lag_seconds"), ask("last_line_timestamp_seconds")) == (0, 0, 0)
    assert ask("files_lost_total") == 0, "there before the log is opened"

    while follower.step(0.0):
        pass
    assert (ask("lag_bytes"), ask("lag_seconds")) == (0, 0)
    assert ask("last_line_timestamp_seconds") == NOON_S - 60

    line = LINE.format("5D4C3B2A10")
    with (tmp_path / "mail.log").open("a") as log:
        log.write(line)
    clock[0] += 30
    assert (ask("lag_bytes"), ask("lag_seconds")) == (len(line), 90)
    follower.close()

    restarted, ask, _ = following()
    restarted._open()
    assert ask("last_line_timestamp_seconds") == NOON_S - 3600, "known from the cursor, to the hour"
    restarted.close()


def test_a_block_that_cannot_be_written_is_lag(following: Any, store: Path, tmp_path: Path) -> None:
    """Lines that were read and are not in the store yet are not done."""
    follower, ask, clock = following()
    follower._open()
    follower._ingester.close()
    store.rename(tmp_path / "away")
    with pytest.raises(StoreUnavailableError):
        follower.step(0.0)
    clock[0] += 5

    assert ask("lag_bytes") == len(LINE.format("4F2A81B3C5"))
    assert ask("lag_seconds") == 5, "nothing was ever read: as late as this process"


def test_milter_workers_add_up(store: Path, tmp_path: Path) -> None:
    """Outcomes, latency and writing of all workers are summed; the sum of seconds is not mistaken for a bucket."""
    stats = SharedStats(2)
    for number, outcome in enumerate(OUTCOMES):
        stats.worker(number % 2).count(outcome, 0.02)
    recorder = Recorder(store, tmp_path / "spool", "milter")
    recorder.record(event(1, "example.com"), 20)
    stats.worker(0).note(recorder)
    recorder.record(event(2, "example.com"), 20)
    stats.worker(1).note(recorder)
    recorder.close()
    stats.restarts += 1
    ask = registry_of(stats).get_sample_value

    assert [ask("postwake_milter_messages_total", {"outcome": outcome}) for outcome in OUTCOMES] == [1] * len(OUTCOMES)
    assert ask("postwake_milter_duration_seconds_sum") == pytest.approx(0.02 * len(OUTCOMES))
    assert ask("postwake_milter_duration_seconds_bucket", {"le": "0.01"}) == 0
    assert ask("postwake_milter_duration_seconds_bucket", {"le": "0.025"}) == len(OUTCOMES)
    assert ask("postwake_writer_events_total") == 3
    assert (ask("postwake_milter_workers"), ask("postwake_milter_worker_restarts_total")) == (2, 1)
