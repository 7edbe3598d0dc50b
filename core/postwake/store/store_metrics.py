"""What happened to mail since the store began, and the store's own state, for Prometheus.

Counters come from the all-time rollups and so survive restarts. A store that cannot be read gives no counters at all:
zeros would be taken for a restart, and everything since the beginning for news when it is back. For the same reason no counter
goes down: what is counted elsewhere later (a filter took the mail, the milter's row came after the log's) stays in the figure
until it is caught up with.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake.errors import PostwakeError
from postwake.events import State
from postwake.reply.rules import CATEGORIES, KINDS
from postwake.store.connection import file_identity, open_reader
from postwake.store.schema import HOUR_US

CACHE_S = 5.0
"""Scrapes within this share one look at the store."""

_Key = TypeVar("_Key", bound=tuple[str, ...])

OTHER = "other"
"""The ``sender_domain`` of everything that is not in ``tracking.sender_domains``: anybody may write an address."""

_ATTEMPTS = ("sent", "deferred", "bounced", "expired")
_FAILURES = ("deferred", "bounced", "expired")
_READERS = ("unsubscribed", "resubscribed", "complained")
_OUTBOUND = ("accepted", *_ATTEMPTS, "deleted", *_READERS)
_INBOUND = ("received", *_ATTEMPTS, "deleted")
_WHO = ("human", "machine", "unknown")

Row = tuple[str, str, str, str, int]
"""basis, dimension, key, measure, count."""

_QUERY = """
SELECT basis, dimension, key, measure, n FROM rollup WHERE span = 'all' AND (
  (basis = 'event' AND dimension IN ('all', 'sender_domain', 'inbound', 'kind', 'category', 'reason'))
  OR (basis = 'cohort' AND dimension = 'all'))
"""

# Not a rollup: it costs what failed within the hour, and old logs that are read in today do not look like news.
_PROVIDERS = """
SELECT reply.provider, reply.category, sum(n) FROM
  (SELECT reply, count(*) AS n FROM event INDEXED BY event_failed WHERE type IN (4, 5, 6) AND at_us > ? AND at_us <= ? GROUP BY reply) AS failed
JOIN reply ON reply.id = failed.reply WHERE reply.provider IS NOT NULL GROUP BY reply.provider, reply.category
"""


class StoreCollector(Collector):
    """The all-time rollups, and the sizes of the files."""

    def __init__(
        self,
        path: Path,
        sender_domains: Iterable[str] = (),
        reasons: Iterable[str] = (),
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Take the store's path, the configured sender domains, the untracked reasons that begin at 0, the clock."""
        self._path = path
        self._domains = tuple(sender_domains)
        self._reasons = tuple(reasons)
        self._now_us = now_us
        self._lock = threading.Lock()
        self._at_us: int | None = None
        self._metrics: list[Metric] = []
        self._identity: tuple[int, int] | None = None
        self._highest: dict[tuple[str, tuple[str, ...]], float] = {}

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the store may not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures, at most :data:`CACHE_S` old."""
        with self._lock:
            now_us = self._now_us()
            # A clock that was put back must not keep old figures alive.
            if self._at_us is None or not 0 <= now_us - self._at_us <= CACHE_S * 1e6:
                self._metrics = [self._never_down(metric) for metric in self._read(now_us)]
                self._at_us = now_us
            yield from self._metrics

    def _never_down(self, metric: Metric) -> Metric:
        """Return *metric*, a counter's samples at least as high as they have been said of this store."""
        if metric.type == "counter":
            highest = self._highest
            for number, sample in enumerate(metric.samples):
                key = sample.name, tuple(sample.labels.values())
                highest[key] = max(sample.value, highest.get(key, 0.0))
                metric.samples[number] = sample._replace(value=highest[key])
        return metric

    def _read(self, now_us: int) -> Iterator[Metric]:
        yield from _sizes(self._path)
        identity = file_identity(self._path)
        if identity != self._identity:  # another store, such as one that was restored: it has its own figures
            self._identity = identity
            self._highest.clear()
        up = GaugeMetricFamily("postwake_store_up", "Whether the store could be read.")
        try:
            with closing(open_reader(self._path)) as connection:
                rows = [tuple(row) for row in connection.execute(_QUERY)]
                providers = connection.execute(_PROVIDERS, (now_us - HOUR_US, now_us)).fetchall()
        except (PostwakeError, sqlite3.Error):
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from mail_families(rows, self._domains, self._reasons)
        yield _gauge(
            "provider_recent_failures",
            "Failed attempts of the past hour, by provider (of those the rules name) and category.",
            ("provider", "category"),
            {(provider, category): n for provider, category, n in providers},
        )


def mail_families(rows: Iterable[Row], domains: Iterable[str], reasons: Iterable[str]) -> Iterator[Metric]:
    """Turn all-time rollup *rows* into metrics; every series whose labels are known beforehand is there, at 0."""
    cells: Counter[tuple[str, str, str, str]] = Counter()
    known = frozenset(domains)
    for basis, dimension, key, measure, n in rows:
        if dimension == "sender_domain" and key not in known:
            key = OTHER
        cells[basis, dimension, key, measure] += n

    mail = {("outbound", state): cells["event", "all", "", state] for state in _OUTBOUND}
    mail |= {("inbound", state): cells["event", "inbound", "", state] for state in _INBOUND}
    yield _counter("mail", "Mail events by what happened.", ("direction", "state"), mail)
    refused = cells["event", "all", "", "rejected"] + cells["event", "inbound", "", "rejected"]
    yield _counter("rejected", "What the MTA refused before it was queued, whichever way it went.", (), {(): refused})
    yield _counter(
        "domain_mail",
        "Outbound mail events by configured sender domain.",
        ("sender_domain", "state"),
        {
            (domain, state): cells["event", "sender_domain", domain, state]
            for domain, state in product((*sorted(known), OTHER), _OUTBOUND)
        },
    )
    for dimension, values, title in (
        ("kind", (*sorted(KINDS), "unknown"), "failures_by_kind"),
        ("category", sorted(CATEGORIES), "failures_by_category"),
    ):
        yield _counter(
            title,
            f"Failed outbound attempts by {dimension}.",
            ("state", dimension),
            {(state, key): cells["event", dimension, key, state] for state, key in product(_FAILURES, values)},
        )
    yield from _reader_families(cells)
    why = {("no", reason): 0 for reason in reasons}
    why |= {("no", key): n for (_, dimension, key, measure), n in cells.items() if dimension == "reason" and key}
    why["yes", ""] = cells["event", "reason", "", "tracked"]
    yield _counter("messages", "Messages the milter saw, and why not tracked.", ("tracked", "reason"), why)
    yield _gauge(
        "deliveries",
        "Deliveries of outbound mail by what has become of them.",
        ("state",),
        {(state.label,): cells["cohort", "all", "", state.label] for state in State},
    )


def _reader_families(cells: Counter[tuple[str, str, str, str]]) -> Iterator[Metric]:
    verdicts = {
        (kind, who): cells["event", "all", "", f"{kind}.{who}"] for kind, who in product(("opened", "clicked"), _WHO)
    }
    hits: Counter[tuple[str, ...]] = Counter()
    for (kind, _), n in verdicts.items():
        hits[kind,] += n
    yield _counter("engagement", "Opens and clicks, whoever made them.", ("type",), hits)
    # No counters: a verdict is revised, and Prometheus takes a counter that goes down for one that began anew.
    yield _gauge(
        "engagement_verdicts",
        "Opens and clicks by who made them, as judged so far: revised up and down.",
        ("type", "who"),
        verdicts,
    )
    yield _gauge(
        "engaged_recipients",
        "Recipients (a shared message counts once) who opened or clicked at all, as judged so far.",
        ("type", "who"),
        {
            (kind, who): cells["cohort", "all", "", f"{kind}_{who}"]
            for kind, who in product(("opened", "clicked"), ("human", "possible", "any"))
        },
    )


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Metric:
    family = CounterMetricFamily(f"postwake_{name}", text, labels=labels)
    for key, n in values.items():
        family.add_metric(key, n)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Metric:
    family = GaugeMetricFamily(f"postwake_{name}", text, labels=labels)
    for key, n in values.items():
        family.add_metric(key, n)
    return family


def _sizes(path: Path) -> Iterator[Metric]:
    for suffix, name, text in (
        ("", "store_bytes", "The store's main file."),
        ("-wal", "store_wal_bytes", "The store's write-ahead log."),
    ):
        try:
            size_bytes = path.with_name(path.name + suffix).stat().st_size
        except OSError:
            size_bytes = 0
        yield _gauge(name, text, (), {(): size_bytes})
    try:
        disk = shutil.disk_usage(path.parent)
    except OSError:
        return
    yield _gauge("store_disk_free_bytes", "What the store's file system has left for us.", (), {(): disk.free})
    yield _gauge("store_disk_size_bytes", "The store's file system.", (), {(): disk.total})
