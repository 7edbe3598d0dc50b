"""The log parser's own figures for Prometheus: lines by what became of them, lag, rotations, commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.source import SourceStats

_SOURCE_FIGURES = (
    ("files_opened", "Log files (or journal readers, or sockets) opened.", "opens"),
    ("rotations", "Times that reading went on in a newer file.", "rotations"),
    ("truncations", "Times that the file was cut or replaced in place.", "truncations"),
    ("files_lost", "Times that the file we stopped in was nowhere: its rest is lost.", "files_lost"),
    ("lines_discarded", "Lines over the bound, or datagrams that are no log.", "lines_discarded"),
    ("partial_lines", "Last lines without an end in files that are not written any more.", "partial_lines_abandoned"),
    ("discarded_bytes", "Bytes in discarded and partial lines.", "bytes_discarded"),
    ("read_errors", "Errors reading the log.", "read_errors"),
)


class LogCollector(Collector):
    """Reads the counters of a follower and its ingester; all of them start at 0 with the process."""

    def __init__(self, follower: Follower, ingester: Ingester, now_s: Callable[[], float]) -> None:
        """Take what is followed, what writes, and the clock (seconds since 1970)."""
        self._follower = follower
        self._ingester = ingester
        self._now_s = now_s
        self._started_s = now_s()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: collect() is cheap."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        yield from self._reading()
        yield from self._writing()
        source = self._follower.source
        stats = SourceStats() if source is None else source.stats
        for name, text, attribute in _SOURCE_FIGURES:
            yield CounterMetricFamily(f"postwake_log_{name}", text, value=getattr(stats, attribute))

    def _reading(self) -> Iterator[Metric]:
        tally = self._follower.grammar.tally
        lines = CounterMetricFamily("postwake_log_lines", "Log lines by what became of them.", labels=("result",))
        lines.add_metric(("parsed",), sum(tally.records.values()))
        lines.add_metric(("no_fate",), sum(tally.shapes.values()))
        lines.add_metric(("unparsed",), tally.unparsed)
        yield lines
        lag_bytes = self._follower.lag_bytes()
        newest_s = self._ingester.stats.last_line_us / 1e6
        # A log that was never read is as late as we have been at it.
        lag_s = max(0.0, self._now_s() - (newest_s or self._started_s)) if lag_bytes else 0.0
        for name, text, value in (
            ("last_line_timestamp_seconds", "When the newest line read was written; 0 before the first.", newest_s),
            ("lag_bytes", "Bytes of the log that are not in the store yet.", lag_bytes),
            ("lag_seconds", "Age of the newest line read while there are unread bytes, else 0.", lag_s),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"postwake_log_{name}", text, value=value)

    def _writing(self) -> Iterator[Metric]:
        # Names and meanings as in postwake.store.writer_metrics; a block of lines is one transaction.
        stats = self._ingester.stats
        for name, text, value in (
            ("commits", "Transactions committed.", stats.commits),
            ("events", "Events committed.", stats.records),
            ("failures", "Transactions that failed.", stats.failures),
            ("lock_waits", "Transactions that found another process writing.", stats.lock.waits),
            ("lock_wait_seconds", "Time waited for other processes' writing.", stats.lock.wait_s),
            ("lock_timeouts", "Waits for other processes' writing that were given up.", stats.lock.timeouts),
        ):
            yield CounterMetricFamily(f"postwake_writer_{name}", text, value=value)
