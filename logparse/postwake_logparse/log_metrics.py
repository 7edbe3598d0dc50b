"""The log parser's own figures for Prometheus: lines by what became of them, lag, rotations, commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester


class LogCollector(Collector):
    """Reads the counters of a follower and its ingester; all of them start at 0 with the process."""

    def __init__(self, follower: Follower, ingester: Ingester) -> None:
        """Take what is followed and what writes."""
        self._follower = follower
        self._ingester = ingester

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: collect() is cheap."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        tally = self._follower.grammar.tally
        lines = CounterMetricFamily("postwake_log_lines", "Log lines by what became of them.", labels=("result",))
        lines.add_metric(("parsed",), sum(tally.records.values()))
        lines.add_metric(("no_fate",), sum(tally.shapes.values()))
        lines.add_metric(("unparsed",), tally.unparsed)
        yield lines
        stats = self._ingester.stats
        yield CounterMetricFamily("postwake_log_commits", "Blocks committed.", value=stats.commits)
        yield CounterMetricFamily("postwake_log_commit_failures", "Blocks the store refused.", value=stats.failures)
        yield GaugeMetricFamily(
            "postwake_log_last_line_timestamp_seconds",
            "When the newest line was written.",
            value=stats.last_line_us / 1e6,
        )
        source = self._follower.source
        if source is None:
            return
        yield GaugeMetricFamily("postwake_log_lag_bytes", "Bytes of the log not read yet.", value=source.lag_bytes())
        for name, text in (
            ("opens", "Files opened."),
            ("rotations", "Times that reading went on in a newer file."),
            ("truncations", "Times that the file was cut or replaced in place."),
            ("files_lost", "Times that the file we stopped in was nowhere: its rest is lost."),
            ("lines_discarded", "Lines over the bound."),
            ("read_errors", "Errors reading the log."),
        ):
            yield CounterMetricFamily(f"postwake_log_{name}", text, value=getattr(source.stats, name))
