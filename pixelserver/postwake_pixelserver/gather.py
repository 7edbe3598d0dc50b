"""One ``/metrics`` for several worker processes.

Each worker writes what its registry says to a file of its own every second; the parent, which serves the listener,
adds the files up when it is scraped. ``prometheus_client``'s own multi-process mode would have to be chosen before
the first import and forbids custom collectors. What a worker that died had counted stays in the sums: Prometheus takes
a sum that goes down for one that began anew, and all that the other workers ever counted for news.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

log = logging.getLogger("postwake.pixelserver")

_SUFFIX = ".metrics"
_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_COUNTS = ("counter", "histogram")


class Publisher:
    """In a worker: writes its registry's state to *directory* every *every_s* seconds, and once more at the end."""

    def __init__(self, registry: CollectorRegistry, directory: Path, every_s: float = 1.0) -> None:
        """Start the thread."""
        self._registry = registry
        self._path = directory / f"{os.getpid()}{_SUFFIX}"
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop and take our figures away."""
        self._stop.set()
        self._thread.join(5.0)
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        while True:
            try:
                self.publish()
            except OSError as error:
                log.warning("metrics=unpublished error=%s", error)
            if self._stop.wait(self._every_s):
                return

    def publish(self) -> None:
        """Write the state now, in one rename, so that no scrape sees half of it."""
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(generate_latest(self._registry))
        partial.replace(self._path)


class Gathered(Collector):
    """In the parent: the sum of what the workers published, that of dead ones as far as it only ever grows."""

    def __init__(self, directory: Path) -> None:
        """Take the directory the workers publish to."""
        self._directory = directory
        self._lock = threading.Lock()
        self._dead: dict[str, _Samples] = {}

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: there may be no worker yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, samples with the same name and labels added up."""
        with self._lock:
            yield from self._sum()

    def _sum(self) -> list[Metric]:
        families: dict[str, Metric] = {}
        sums: dict[str, _Samples] = {}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            alive = _alive(path)
            try:
                text = path.read_text(encoding="utf-8")
                if not alive:
                    path.unlink()
            except OSError:
                continue  # it ended between the listing and now
            for family in text_string_to_metric_families(text):
                families.setdefault(family.name, family)
                if alive:
                    _add(sums.setdefault(family.name, {}), family)
                elif family.type in _COUNTS:
                    _add(self._dead.setdefault(family.name, {}), family)
        found = []
        for name, family in families.items():
            total = Metric(family.name, family.documentation, family.type)
            samples = dict(self._dead.get(name, {}))
            for key, value in sums.get(name, {}).items():
                samples[key] = samples.get(key, 0.0) + value
            total.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in samples.items()]
            found.append(total)
        return found


def _add(samples: _Samples, family: Metric) -> None:
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue  # times cannot be added up, and help nobody here
        key = (sample.name, tuple(sample.labels.items()))
        samples[key] = samples.get(key, 0.0) + sample.value


def _alive(path: Path) -> bool:
    """Whether the process that wrote *path* lives."""
    try:
        os.kill(int(path.name.removesuffix(_SUFFIX)), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass
    return True
