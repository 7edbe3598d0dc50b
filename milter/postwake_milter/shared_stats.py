"""Counters that worker processes write and the parent serves: one block of shared memory.

``prometheus_client``'s own multi-process mode puts files on the disk and disables custom collectors; these few
numbers need neither. Each worker writes only its own slots, so no lock is needed across processes.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake.store.recorder import Recorder
from postwake.store.writer_metrics import WRITER_FIGURES, writer_families

OUTCOMES = ("tracked", "untracked", "requeued", "unrecorded", "failed", "tempfailed")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SUM = len(OUTCOMES) + len(BUCKETS_S) + 1  # behind the outcomes and the buckets, +Inf among them
_CONTROLS = _SUM + 1
_WRITER = _CONTROLS + 1
_SLOTS = _WRITER + len(WRITER_FIGURES)


class WorkerStats:
    """The slots of one worker. ``count`` is safe from any thread of it."""

    def __init__(self, slots: memoryview[float]) -> None:
        """Take *slots*, a view of :data:`_SLOTS` doubles."""
        self._slots = slots
        self._lock = threading.Lock()

    def count(self, outcome: str, seconds: float, malformed_controls: int = 0) -> None:
        """Count a message that ended as *outcome* after *seconds* at end-of-message, and its unreadable fields."""
        bucket = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._slots[OUTCOMES.index(outcome)] += 1
            self._slots[len(OUTCOMES) + bucket] += 1
            self._slots[_SUM] += seconds
            self._slots[_CONTROLS] += malformed_controls

    def note(self, recorder: Recorder) -> None:
        """Copy the worker's *recorder*'s figures; only one thread may do so."""
        for slot, figure in enumerate(WRITER_FIGURES, _WRITER):
            self._slots[slot] = figure.read(recorder)


class SharedStats(Collector):
    """The slots of all workers; made before they are forked."""

    def __init__(self, workers: int) -> None:
        """Make room for *workers* workers."""
        self._memory = mmap.mmap(-1, workers * _SLOTS * 8)
        self._view = memoryview(self._memory).cast("d")
        self._workers = workers
        self.restarts = 0
        """Workers that died and were started anew; written by the parent."""

    def worker(self, number: int) -> WorkerStats:
        """Return the slots of worker *number*; a worker started anew goes on counting where the last stopped."""
        return WorkerStats(self._view[number * _SLOTS : (number + 1) * _SLOTS])

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: collect() is cheap."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sums over the workers."""
        sums = [sum(self._view[slot::_SLOTS]) for slot in range(_SLOTS)]
        messages = CounterMetricFamily(
            "postwake_milter_messages", "Messages by how the milter left them.", labels=("outcome",)
        )
        for outcome, n in zip(OUTCOMES, sums, strict=False):
            messages.add_metric((outcome,), n)
        yield messages
        cumulated, buckets = 0.0, []
        for bound, n in zip((*map(str, BUCKETS_S), "+Inf"), sums[len(OUTCOMES) : _SUM], strict=True):
            cumulated += n
            buckets.append((bound, cumulated))
        yield HistogramMetricFamily(
            "postwake_milter_duration_seconds",
            "Time from end-of-message to our verdict.",
            buckets=buckets,
            sum_value=sums[_SUM],
        )
        yield CounterMetricFamily(
            "postwake_milter_malformed_controls",
            "Control fields of tracked senders that could not be read, and were ignored.",
            value=sums[_CONTROLS],
        )
        yield GaugeMetricFamily("postwake_milter_workers", "Worker processes there should be.", value=self._workers)
        yield CounterMetricFamily(
            "postwake_milter_worker_restarts", "Workers that died and were started anew.", value=self.restarts
        )
        yield from writer_families(sums[_WRITER:])
