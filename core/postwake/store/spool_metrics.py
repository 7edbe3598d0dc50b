"""What one service has waiting in the spool directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class SpoolCollector(Collector):
    """Files and bytes that begin with one service's name, so that the services' figures add up."""

    def __init__(self, directory: Path, service: str) -> None:
        """Take the directory, which need not be there, and the service."""
        self._directory = directory
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the directory may not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        waiting, bad = self._sizes("spool"), self._sizes("bad")
        yield GaugeMetricFamily("postwake_spool_files", "Spool files waiting to be replayed.", value=len(waiting))
        yield GaugeMetricFamily("postwake_spool_bytes", "Bytes in spool files.", value=sum(waiting))
        yield GaugeMetricFamily(
            "postwake_spool_bad_files", "Files of spool lines that could not be replayed.", value=len(bad)
        )

    def _sizes(self, suffix: str) -> list[int]:
        sizes = []
        with contextlib.suppress(OSError):
            for path in self._directory.glob(f"{self._service}-*.{suffix}"):
                with contextlib.suppress(FileNotFoundError):  # replayed between the listing and now
                    sizes.append(path.stat().st_size)
        return sizes
