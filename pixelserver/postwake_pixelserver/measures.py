"""The pixel server's own metrics: requests by what came of them, hits by where they went, and how long it took."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from postwake_pixelserver.forward import Result

Endpoint = Literal["open", "click", "unsubscribe"]
Outcome = Literal["good", "bad_token", "limited", "denied", "unusable", "error"]
Fate = Literal["stored", "spooled", "unrecorded", "lost"]


class Measures:
    """Counters and the latency histogram, with every label combination there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything in *registry*."""
        requests = Counter(
            "postwake_pixel_requests",
            "Requests by endpoint and outcome. bad_token: not signed by us; limited: too many of those from one source;"
            " denied: on the deny list; unusable: signed, but not a URL that can be gone to.",
            ("endpoint", "outcome"),
            registry=registry,
        )
        hits = Counter(
            "postwake_pixel_hits",
            "Hits by fate. unrecorded: privacy mode off; lost: neither store nor spool could be written.",
            ("fate",),
            registry=registry,
        )
        self.seconds = Histogram(
            "postwake_pixel_request_seconds",
            "Time from request to answer of good requests, the recording included.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
            registry=registry,
        )
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
        self._requests = {
            (endpoint, outcome): requests.labels(endpoint, outcome)
            for endpoint in get_args(Endpoint)
            for outcome in get_args(Outcome)
        }
        self._hits = {fate: hits.labels(fate) for fate in get_args(Fate)}

    def request(self, endpoint: Endpoint, outcome: Outcome) -> None:
        """Count one request."""
        self._requests[endpoint, outcome].inc()

    def hit(self, fate: Fate) -> None:
        """Count one hit."""
        self._hits[fate].inc()

    def forwarded(self, result: Result) -> None:
        """Count one unsubscription that was, or was not, passed on."""
        self._forwards[result].inc()
