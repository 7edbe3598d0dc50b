"""What waits in the spool directory, whoever put it there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake.store.spool import Spool


class SpoolCollector(Collector):
    """Files and bytes of one spool directory."""

    def __init__(self, spool: Spool) -> None:
        """Take the spool; only its directory is looked at."""
        self._spool = spool

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the directory may not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        files, size_bytes = self._spool.depth()
        yield GaugeMetricFamily("postwake_spool_files", "Spool files waiting to be replayed.", value=files)
        yield GaugeMetricFamily("postwake_spool_bytes", "Bytes in spool files.", value=size_bytes)
