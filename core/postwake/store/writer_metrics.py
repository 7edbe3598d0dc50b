"""How the writing of one process goes, for Prometheus: the same names and meanings in every service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake.store.recorder import Recorder


class Figure(NamedTuple):
    """One number of a recorder."""

    name: str
    help: str
    is_counter: bool
    read: Callable[[Recorder], float]

    def family(self, value: float) -> Metric:
        """Return the metric with *value*."""
        kind = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        return kind(self.name, self.help, value=value)


WRITER_FIGURES = (
    Figure("postwake_writer_queue_depth", "Writes waiting for a commit.", False, lambda r: r.writer.depth),
    Figure("postwake_writer_commits", "Transactions committed.", True, lambda r: r.writer.stats.commits),
    Figure("postwake_writer_events", "Events committed.", True, lambda r: r.writer.stats.jobs),
    Figure("postwake_writer_failures", "Transactions that failed.", True, lambda r: r.writer.stats.failed_groups),
    Figure("postwake_writer_lock_waits", "Transactions that found another process writing.", True,
           lambda r: r.writer.stats.lock.waits),
    Figure("postwake_writer_lock_wait_seconds", "Time waited for other processes' writing.", True,
           lambda r: r.writer.stats.lock.wait_s),
    Figure("postwake_writer_lock_timeouts", "Waits for other processes' writing that were given up.", True,
           lambda r: r.writer.stats.lock.timeouts),
    Figure("postwake_spool_events", "Events written to the spool.", True, lambda r: r.spool.appended),
    Figure("postwake_spool_replayed", "Events replayed from the spool.", True, lambda r: r.spool.replayed),
    Figure("postwake_spool_bad_lines", "Spool lines that were no events, or that the store refused.", True,
           lambda r: r.spool.bad_lines),
)  # fmt: skip
"""Everything that is said of a recorder, in order."""


def writer_families(values: Sequence[float]) -> Iterator[Metric]:
    """Yield the metrics of :data:`WRITER_FIGURES` with *values*."""
    for figure, value in zip(WRITER_FIGURES, values, strict=True):
        yield figure.family(value)


class RecorderCollector(Collector):
    """The figures of one recorder."""

    def __init__(self, recorder: Recorder) -> None:
        """Take the recorder."""
        self._recorder = recorder

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: collect() is cheap, but need not run at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        yield from writer_families([figure.read(self._recorder) for figure in WRITER_FIGURES])
