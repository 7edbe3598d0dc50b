"""The metrics every service serves: one loopback listener, our own registry, and what the store says.

Names start ``postwake_``, base units, bounded labels only: never an address, a recipient's domain, a queue ID or
a URL. Counters of what happened to mail come from the store's rollups and so survive restarts; process health
comes from the process.

Security: ``prometheus_client.start_http_server`` listens on every address unless told; here the address is always
told.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from wsgiref.simple_server import WSGIServer

# Read when prometheus_client is imported: a series of creation times beside every counter helps nobody here.
os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "True")

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake import __version__
from postwake.config import parse_listener
from postwake.errors import PostwakeError, UnavailableError
from postwake.store.connection import open_reader
from postwake.store.recorder import Recorder
from postwake.store.spool_metrics import SpoolCollector

CACHE_S = 5.0
"""Scrapes within this share one look at the store."""


def serve(listener: str, registry: CollectorRegistry) -> Callable[[], None] | None:
    """Serve *registry* on ``HOST:PORT``; return what stops it, or None if *listener* is empty."""
    if not listener:
        return None
    host, port = parse_listener(listener)
    try:
        server, thread = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise UnavailableError(f"metrics listener {listener}: {error.strerror}: expected a free address") from None
    return _Stopper(server, thread)


class _Stopper:
    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread

    def __call__(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def new_registry(service: str) -> CollectorRegistry:
    """Return a registry that says which release of which service this is."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Build(service))
    return registry


class _Build(Collector):
    def __init__(self, service: str) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("postwake_build_info", "The running release.", labels=("service", "version"))
        build.add_metric((self._service, __version__), 1)
        yield build


class RecorderCollector(Collector):
    """How the writing of one process goes: queue, commits, failures, spool."""

    def __init__(self, recorder: Recorder) -> None:
        """Take the recorder."""
        self._recorder = recorder

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: collect() is cheap, but need not run at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        writer, spool = self._recorder.writer, self._recorder.spool
        yield GaugeMetricFamily("postwake_writer_queue_depth", "Writes waiting for a commit.", value=writer.depth)
        yield CounterMetricFamily("postwake_writer_commits", "Transactions committed.", value=writer.stats.commits)
        yield CounterMetricFamily("postwake_writer_events", "Events committed.", value=writer.stats.jobs)
        yield CounterMetricFamily(
            "postwake_writer_failures", "Transactions the store refused.", value=writer.stats.failed_groups
        )
        yield CounterMetricFamily("postwake_spool_events", "Events written to the spool.", value=spool.appended)
        yield CounterMetricFamily("postwake_spool_replayed", "Events replayed from the spool.", value=spool.replayed)
        yield CounterMetricFamily("postwake_spool_bad_lines", "Spool lines that were no events.", value=spool.bad_lines)
        yield from SpoolCollector(spool).collect()


class StoreCollector(Collector):
    """What happened to mail since the store began, from the all-time rollups, and the file's sizes."""

    def __init__(self, path: Path) -> None:
        """Take the store's path."""
        self._path = path
        self._lock = threading.Lock()
        self._at = 0.0
        self._metrics: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the store may not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures, at most :data:`CACHE_S` old."""
        with self._lock:
            if not self._metrics or time.monotonic() - self._at > CACHE_S:
                self._metrics = list(self._read())
                self._at = time.monotonic()
            yield from self._metrics

    def _read(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("postwake_store_up", "Whether the store could be read.")
        try:
            with closing(open_reader(self._path)) as connection:
                rows = connection.execute(
                    "SELECT dimension, key, measure, n FROM rollup WHERE basis = 'event' AND span = 'all'"
                    " AND dimension IN ('all', 'sender_domain', 'inbound', 'kind', 'category', 'reason')"
                ).fetchall()
        except (PostwakeError, sqlite3.Error):
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from _families(rows)
        yield from _sizes(self._path)


_MAIL = {"accepted", "received", "sent", "deferred", "bounced", "expired", "rejected", "unsubscribed", "complained"}


def _families(rows: Iterable[tuple[str, str, str, int]]) -> Iterator[Metric]:
    mail = CounterMetricFamily("postwake_mail", "Mail events by what happened.", labels=("state", "direction"))
    domains = CounterMetricFamily(
        "postwake_domain_mail", "Outbound mail events by configured sender domain.", labels=("sender_domain", "state")
    )
    engagement = CounterMetricFamily("postwake_engagement", "Opens and clicks, whoever made them.", labels=("type",))
    # No counter: a verdict is revised, and Prometheus takes a counter that goes down for one that began anew.
    verdicts = GaugeMetricFamily(
        "postwake_engagement_verdicts",
        "Opens and clicks by who made them, as judged so far: revised up and down.",
        labels=("type", "who"),
    )
    hits: Counter[str] = Counter()
    kinds = CounterMetricFamily("postwake_failures_by_kind", "Deferrals and bounces by kind.", labels=("state", "kind"))
    categories = CounterMetricFamily(
        "postwake_failures_by_category", "Deferrals and bounces by category.", labels=("state", "category")
    )
    tracked = CounterMetricFamily(
        "postwake_messages", "Messages the milter saw, by why they were not tracked.", labels=("tracked", "reason")
    )
    for dimension, key, measure, n in rows:
        kind, _, who = measure.partition(".")
        if dimension == "all" and who:
            verdicts.add_metric((kind, who), n)
            hits[kind] += n
        elif dimension == "all" and measure in _MAIL:
            mail.add_metric((measure, "outbound"), n)
        elif dimension == "inbound" and measure in _MAIL:
            mail.add_metric((measure, "inbound"), n)
        elif dimension == "sender_domain" and measure in _MAIL:
            domains.add_metric((key, measure), n)
        elif dimension == "kind":
            kinds.add_metric((measure, key), n)
        elif dimension == "category":
            categories.add_metric((measure, key), n)
        elif dimension == "reason":
            tracked.add_metric(("yes" if measure == "tracked" else "no", key), n)
    for kind, n in hits.items():
        engagement.add_metric((kind,), n)
    yield from (mail, domains, engagement, verdicts, kinds, categories, tracked)


def _sizes(path: Path) -> Iterator[Metric]:
    for suffix, name, text in (
        ("", "store", "The store's main file."),
        ("-wal", "wal", "The store's write-ahead log."),
    ):
        file = path.with_name(path.name + suffix)
        size_bytes = file.stat().st_size if file.exists() else 0
        yield GaugeMetricFamily(f"postwake_{name}_bytes", text, value=size_bytes)
