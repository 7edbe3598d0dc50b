"""The pixel server's own metrics: requests by what came of them, hits by where they went, and how long it took.

Requests and hits are counted on the event loop only, in plain numbers that a scrape reads: counters with a lock of
their own cost a tenth of a request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake_pixelserver.forward import Result

Endpoint = Literal["open", "click", "unsubscribe"]
Outcome = Literal["good", "bad_token", "limited", "denied", "unusable", "error"]
Fate = Literal["stored", "spooled", "unrecorded", "lost"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BUCKETS_US = tuple(round(bound * 1e6) for bound in BUCKETS_S)


def _clock_us() -> int:
    return time.time_ns() // 1000


class Measures(Collector):
    """Counters and the latency histogram, with every label combination there from the start."""

    def __init__(self, registry: CollectorRegistry, now_us: Callable[[], int] = _clock_us) -> None:
        """Register everything in *registry*."""
        self._now_us = now_us
        self._requests = {(endpoint, outcome): 0 for endpoint in get_args(Endpoint) for outcome in get_args(Outcome)}
        self._hits: dict[str, int] = dict.fromkeys(get_args(Fate), 0)
        self._in_bucket = [0] * (len(_BUCKETS_US) + 1)
        self._sum_us = 0
        registry.register(self)
        self.relabeled = Counter(
            "postwake_pixel_relabeled", "Hits that time or a burst turned out to be a machine's.", registry=registry
        )
        forwards = Counter(
            "postwake_pixel_unsubscribe_forwards",
            "Unsubscriptions passed on to the sender's own target, by what came of it.",
            ("result",),
            registry=registry,
        )
        self._forwards = {result: forwards.labels(result) for result in get_args(Result)}

    def request(self, endpoint: Endpoint, outcome: Outcome) -> None:
        """Count one request."""
        self._requests[endpoint, outcome] += 1

    def hit(self, fate: Fate) -> None:
        """Count one hit."""
        self._hits[fate] += 1

    def good(self, endpoint: Endpoint, started_us: int) -> None:
        """Count one good request that came at *started_us* and is being answered now."""
        self._requests[endpoint, "good"] += 1
        took_us = max(0, self._now_us() - started_us)
        self._in_bucket[bisect_left(_BUCKETS_US, took_us)] += 1
        self._sum_us += took_us

    def recorded(self, endpoint: Endpoint, fate: Fate, started_us: int) -> None:
        """Count one good request and where its hit is."""
        self._hits[fate] += 1
        self.good(endpoint, started_us)

    def forwarded(self, result: Result) -> None:
        """Count one unsubscription that was, or was not, passed on; from any thread."""
        self._forwards[result].inc()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: nobody else uses these names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the counters and the histogram."""
        requests = CounterMetricFamily(
            "postwake_pixel_requests",
            "Requests by endpoint and outcome. bad_token: not signed by us; limited: too many of those from one source;"
            " denied: on the deny list; unusable: signed, but not a URL that can be gone to.",
            labels=("endpoint", "outcome"),
        )
        for labels, n in self._requests.items():
            requests.add_metric(labels, n)
        hits = CounterMetricFamily(
            "postwake_pixel_hits",
            "Hits by fate. unrecorded: privacy mode off; lost: neither store nor spool could be written.",
            labels=("fate",),
        )
        for fate, n in self._hits.items():
            hits.add_metric((fate,), n)
        seconds = HistogramMetricFamily(
            "postwake_pixel_request_seconds",
            "Time from request to answer of good requests, the recording included.",
        )
        bounds = (*map(str, BUCKETS_S), "+Inf")
        seconds.add_metric((), list(zip(bounds, accumulate(self._in_bucket), strict=True)), self._sum_us / 1e6)
        yield from (requests, hits, seconds)
